"""Which images the mirror answers for, by two lists of patterns; and which patterns had no effect yet."""

from collections.abc import Callable, Iterable

from agent.oci.patterns import ANY, Pattern
from agent.oci.patterntext import parse_pattern
from agent.oci.reference import Addressed, Named


class Filter:
    """Admits what at least one pattern includes and no pattern excludes. The lists may be replaced."""

    def __init__(self, include: Iterable[Pattern], exclude: Iterable[Pattern]) -> None:
        self._matched: set[Pattern] = set()
        self._listeners: list[Callable[[], None]] = []
        self.replace(include, exclude)

    def replace(self, include: Iterable[Pattern], exclude: Iterable[Pattern]) -> None:
        """Use these lists from now on. Patterns that stay keep what is known of them."""
        self._include, self._exclude = tuple(dict.fromkeys(include)), tuple(dict.fromkeys(exclude))
        listed = {*self._include, *self._exclude}
        self._matched &= listed
        self._unmatched = listed - self._matched
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call this each time that the lists were replaced."""
        self._listeners.append(listener)

    def admits(self, target: Named | Addressed) -> bool:
        """Whether the mirror answers for ``target``."""
        if self._unmatched:
            self._learn(target)
        return any(pattern.matches(target) for pattern in self._include) and not any(
            pattern.excludes(target) for pattern in self._exclude
        )

    @property
    def admits_all_digests(self) -> bool:
        """Whether digests are admitted whatever their repository is."""
        return any(pattern.name == ANY for pattern in self._include) and all(
            pattern.tag != ANY for pattern in self._exclude
        )

    @property
    def unmatched(self) -> tuple[Pattern, ...]:
        """The patterns that have matched no image so far."""
        listed = dict.fromkeys((*self._include, *self._exclude))
        return tuple(pattern for pattern in listed if pattern in self._unmatched)

    @property
    def cancelled(self) -> tuple[tuple[Pattern, Pattern], ...]:
        """Included patterns without effect, each with the excluded pattern that takes all of it away."""
        pairs = ((one, other) for one in self._include for other in self._exclude if other.covers(one))
        return tuple(pairs)

    def _learn(self, target: Named | Addressed) -> None:
        found = {pattern for pattern in self._unmatched if pattern.matches(target)}
        self._matched |= found
        self._unmatched -= found


def parse_filter(include: Iterable[str], exclude: Iterable[str]) -> Filter:
    """A `Filter` from two lists of texts. Raises `PatternInvalid`."""
    return Filter(parse_patterns(include), parse_patterns(exclude))


def parse_patterns(texts: Iterable[str]) -> tuple[Pattern, ...]:
    """The patterns in a list of texts. Raises `PatternInvalid`."""
    return tuple(parse_pattern(text) for text in texts)

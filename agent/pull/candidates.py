"""Whom one pull may still try, and whom it tried. Pure.

Does not decide when to ask: that is the machine's. Order is the ranking's; a newer answer of the index
comes before an older one.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable

from topology.placement import NodeName
from topology.ranking import Ranked


def is_well(holder: Ranked) -> bool:
    """Whether the holder neither failed nor refused a moment ago."""
    return not (holder.condition.cooling or holder.condition.saturated)


class Candidates:
    """The holders of one pull. Each is asked once, until something gives it another chance."""

    def __init__(self) -> None:
        self._waiting: deque[Ranked] = deque()
        self._second_chance: deque[Ranked] = deque()
        self._tried: set[NodeName] = set()

    def __bool__(self) -> bool:
        """Whether somebody was not tried yet."""
        return bool(self._waiting)

    @property
    def any_well(self) -> bool:
        """Whether one of those that were not tried yet is well."""
        return any(map(is_well, self._waiting))

    def found(self, holders: Iterable[Ranked]) -> None:
        """The index answered. Its newer answer comes first: it knows whom to avoid by now."""
        newest = tuple(holders)
        newer = {holder.node for holder in newest}
        merged = (*newest, *(holder for holder in self._waiting if holder.node not in newer))
        self._waiting = deque(holder for holder in merged if holder.node not in self._tried)

    def next(self) -> Ranked:
        """The best that was not tried yet; it counts as tried. Raises IndexError if there is none."""
        return self._try(self._waiting)

    def next_second_chance(self) -> Ranked | None:
        """One that broke off after it had given plenty, if there is any; it counts as tried."""
        return self._try(self._second_chance) if self._second_chance else None

    def next_matching(self, most: int, fits: Callable[[Ranked], bool]) -> tuple[Ranked, ...]:
        """The best ``most`` that were not tried yet and that fit; they count as tried."""
        chosen = [holder for holder in self._waiting if fits(holder)][: max(0, most)]
        self._tried.update(holder.node for holder in chosen)
        self._waiting = deque(holder for holder in self._waiting if holder not in chosen)
        return tuple(chosen)

    def give_back(self, holders: Collection[Ranked]) -> None:
        """These are as good as before: try them first, in this order."""
        self._tried.difference_update(holder.node for holder in holders)
        self._waiting.extendleft(reversed([*holders]))

    def put_last(self, holder: Ranked) -> None:
        """Try this one again, behind those that were not tried yet."""
        self._tried.discard(holder.node)
        self._waiting.append(holder)

    def forgive(self, holder: Ranked) -> None:
        """Give this one a second chance, when nobody else is left."""
        self._second_chance.append(holder)

    def forget_tried(self) -> None:
        """All may be tried again; the index has to find them anew."""
        self._tried.clear()

    def _try(self, queue: deque[Ranked]) -> Ranked:
        holder = queue.popleft()
        self._tried.add(holder.node)
        return holder

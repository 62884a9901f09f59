"""The holders that one pull may still try, and those that it tried. Pure.

The machine decides when to ask one. The order comes from the ranking. If the index answers again, the holders
of its newer answer come first.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable

from topology.placement import NodeName
from topology.ranking import Ranked


def is_well(holder: Ranked) -> bool:
    """Whether the holder has neither failed nor refused recently, and is not suspected of wrong bytes."""
    condition = holder.condition
    return not (condition.cooling or condition.saturated or condition.doubted)


class Candidates:
    """The holders of one pull. Each is tried once, unless the machine gives it another chance."""

    def __init__(self) -> None:
        self._waiting: deque[Ranked] = deque()
        self._second_chance: deque[Ranked] = deque()
        self._tried: set[NodeName] = set()

    def __bool__(self) -> bool:
        """Whether there is a holder that was not tried yet."""
        return bool(self._waiting)

    @property
    def any_well(self) -> bool:
        """Whether a holder that was not tried yet is well."""
        return any(map(is_well, self._waiting))

    @property
    def upcoming(self) -> Ranked | None:
        """The holder that `next` would give. None: there is none."""
        return self._waiting[0] if self._waiting else None

    def best(self, fits: Callable[[Ranked], bool]) -> Ranked | None:
        """The best holder that was not tried yet, is well, and fits. It is not tried by this."""
        return next((holder for holder in self._waiting if is_well(holder) and fits(holder)), None)

    def first(self, holders: Iterable[Ranked]) -> None:
        """Try these next, in this order: those that were not tried yet, and the last one in any case.

        What is known of a holder from a look-up counts.
        """
        *others, last = holders
        self._tried.discard(last.node)
        known = {holder.node: holder for holder in self._waiting}
        chosen = {
            holder.node: known.get(holder.node, holder)
            for holder in (*others, last)
            if holder.node not in self._tried
        }
        rest = (holder for holder in self._waiting if holder.node not in chosen)
        self._waiting = deque((*chosen.values(), *rest))

    def found(self, holders: Iterable[Ranked]) -> None:
        """The index answered. The holders of this newer answer come first: it knows of recent failures."""
        newest = tuple(holders)
        newer = {holder.node for holder in newest}
        merged = (*newest, *(holder for holder in self._waiting if holder.node not in newer))
        self._waiting = deque(holder for holder in merged if holder.node not in self._tried)

    def next(self) -> Ranked:
        """The best holder that was not tried yet. It now counts as tried. Raises IndexError if none is."""
        return self._try(self._waiting)

    def next_second_chance(self) -> Ranked | None:
        """A holder that may be tried a second time, if there is any. It now counts as tried."""
        return self._try(self._second_chance) if self._second_chance else None

    def next_matching(self, most: int, fits: Callable[[Ranked], bool]) -> tuple[Ranked, ...]:
        """The best ``most`` of the holders that were not tried yet and fit. They now count as tried."""
        chosen = [holder for holder in self._waiting if fits(holder)][: max(0, most)]
        self._tried.update(holder.node for holder in chosen)
        self._waiting = deque(holder for holder in self._waiting if holder not in chosen)
        return tuple(chosen)

    def give_back(self, holders: Collection[Ranked]) -> None:
        """These holders did not fail. Try them first, in this order."""
        self._tried.difference_update(holder.node for holder in holders)
        self._waiting.extendleft(reversed([*holders]))

    def again(self, holders: Iterable[Ranked]) -> None:
        """Try these holders first, also those that were tried: they have more by now."""
        first = tuple(holders)
        nodes = {holder.node for holder in first}
        self._tried -= nodes
        self._waiting = deque((*first, *(holder for holder in self._waiting if holder.node not in nodes)))

    def put_last(self, holder: Ranked) -> None:
        """Try this holder again, after those that were not tried yet."""
        self._tried.discard(holder.node)
        self._waiting.append(holder)

    def forgive(self, holder: Ranked) -> None:
        """Try this holder a second time when no other is left."""
        self._second_chance.append(holder)

    def forget_tried(self) -> None:
        """Let every holder be tried again, once the index has found it again."""
        self._tried.clear()

    def _try(self, queue: deque[Ranked]) -> Ranked:
        holder = queue.popleft()
        self._tried.add(holder.node)
        return holder

"""What this node's containerd is fetching, and under which names. Pure.

containerd commits the content of an image first and writes its name last, which takes as long as the pull.
But it asks this mirror for each content before it asks anybody else. So a content that it asked for, and that
came then, is of the image that it asked under. That is all that is known of it until the name is there.
"""

from collections import OrderedDict
from collections.abc import Set

from agent.content.audience import Place
from agent.content.references import Key

FETCH_S = 3600.0
"""A pull that takes longer is not known any more. Its content is offered when its name is there."""

_FETCHES_MAX = 8192  # contents; a thousand pulls at once have some thousand


class Fetches:
    """The contents that were asked for while they were not here. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._asked: OrderedDict[Key, dict[Place | None, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asked)

    def __contains__(self, key: Key) -> bool:
        return key in self._asked

    def add(self, key: Key, place: Place | None, now_s: float) -> None:
        """containerd asked for a content that is not here. None: it named no registry."""
        self._asked.setdefault(key, {})[place] = now_s
        self._asked.move_to_end(key)
        while len(self._asked) > _FETCHES_MAX:
            self._asked.popitem(last=False)

    def places(self, key: Key) -> tuple[Place | None, ...]:
        """Under which names it was asked for."""
        return tuple(self._asked.get(key, ()))

    def named(self, key: Key, place: Place) -> None:
        """A name of this place reaches the content now: nothing has to be assumed any longer."""
        asked = self._asked.get(key)
        if asked is not None:
            asked.pop(place, None)
            if not asked:
                del self._asked[key]

    def expire(self, now_s: float) -> Set[Key]:
        """Forget what was asked for too long ago. Returns the contents that this is about."""
        expired: set[Key] = set()
        while self._asked:
            key, asked = next(iter(self._asked.items()))
            if now_s - max(asked.values()) < FETCH_S:
                break
            del self._asked[key]
            expired.add(key)
        return expired

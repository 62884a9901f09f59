"""To how many nodes this node gives a content at once, and whom it sends to each other. Pure.

When many nodes want the same content at the same moment, the link of whoever has it is the narrowest place.
So it gives the content to a few of them, and tells the others from whom to take it while it arrives there.
These do the same. So the nodes form a tree by themselves, and each link carries the content a few times.

- A node that has all of a content gives it to one node of each zone. Then that one has it, and is named to
  the others of its zone for a while.
- A node where it still arrives gives it to ``followers_max`` nodes at a time, and to one node of each further
  zone. Only nodes of the asker's own zone are named to it.

A node that was refused and asks again within `AGAIN_S` is given it: those that it was told of did not help.
So a wrong word costs a round trip, and never a pull. How many bodies are sent in all is for
`agent.pull.admission` to decide. Times are seconds of one monotonic clock.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from agent.oci.digest import Digest
from agent.pull.arrival import SHARED_MAX
from topology.placement import NodeName, ZoneKey

LEAST_BYTES = 4 << 20
"""A smaller content is given to everybody: a further round trip takes as long as sending it."""

AGAIN_S = 10.0
"""A node that was refused and asks again so soon is given the content."""

_LATELY_S = 30.0  # for so long whoever got a content whole is named to others of its zone
_REFUSED_MAX = 1 << 14  # a thousand nodes that want 16 layers each within `AGAIN_S`; some 3 MB
_LATELY_MAX = 256  # contents; each has as many nodes as were given it in that time


def is_shared_out(size_bytes: int, *, part: bool, in_flight: bool) -> bool:
    """Whether to ask `Fanout` before a body of this size is sent.

    ``part``: a range of a content was asked for that is complete here. Its asker has other parts already, and
    comes back for the rest. ``in_flight``: the content still arrives here.
    """
    return in_flight or (not part and size_bytes >= LEAST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Admitted:
    """The content is given to this node. Tell `Fanout.ended` when that is over."""

    digest: Digest
    node: NodeName
    zone: ZoneKey | None
    in_flight: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """These nodes of the asker's zone are given the content already: take it from them."""

    nodes: tuple[NodeName, ...]


class Fanout:
    """Whom one node gives which content. ``followers_max``: see `ColdStartSettings`."""

    def __init__(self, *, followers_max: int) -> None:
        self._followers_max = followers_max
        self._given: dict[Digest, list[Admitted]] = {}
        self._refused_s: OrderedDict[tuple[Digest, NodeName], float] = OrderedDict()
        self._lately: OrderedDict[Digest, dict[NodeName, tuple[ZoneKey | None, float]]] = OrderedDict()

    def ask(
        self, digest: Digest, node: NodeName, zone: ZoneKey | None, now_s: float, *, in_flight: bool
    ) -> Admitted | Shared:
        """Whether to give ``node`` the content now. ``in_flight``: it still arrives here."""
        admitted = Admitted(digest=digest, node=node, zone=zone, in_flight=in_flight)
        others = self._in_the_way(admitted, now_s)
        if others and not self._asks_again(digest, node, now_s):
            self._refused_s[digest, node] = now_s
            self._refused_s.move_to_end((digest, node))
            if len(self._refused_s) > _REFUSED_MAX:
                self._refused_s.popitem(last=False)
            return Shared(nodes=others)
        self._given.setdefault(digest, []).append(admitted)
        return admitted

    def ended(self, admitted: Admitted, now_s: float, *, whole: bool) -> None:
        """The body ended. ``whole``: the node was sent all of the content."""
        given = self._given[admitted.digest]
        given.remove(admitted)
        if not given:
            del self._given[admitted.digest]
        if whole:
            nodes = self._lately.setdefault(admitted.digest, {})
            nodes.pop(admitted.node, None)
            nodes[admitted.node] = (admitted.zone, now_s)  # the last one is the newest
            while now_s - next(iter(nodes.values()))[1] >= _LATELY_S:
                del nodes[next(iter(nodes))]
            self._lately.move_to_end(admitted.digest)
            if len(self._lately) > _LATELY_MAX:
                self._lately.popitem(last=False)

    def followers(self, digest: Digest) -> tuple[NodeName, ...]:
        """The nodes that are given the content now, each once."""
        return tuple(dict.fromkeys(each.node for each in self._given.get(digest, ())))

    def __len__(self) -> int:
        """How many nodes are given content that still arrives here; each once for each content."""
        return sum(len({each.node for each in given if each.in_flight}) for given in self._given.values())

    def _in_the_way(self, asker: Admitted, now_s: float) -> tuple[NodeName, ...]:
        """The nodes to take it from instead. Empty: there is room."""
        given = [each for each in self._given.get(asker.digest, ()) if each.node != asker.node]
        near = dict.fromkeys(each.node for each in given if each.zone == asker.zone)
        if not asker.in_flight:
            return (*near, *islice(self._given_lately(asker, now_s), SHARED_MAX))[:SHARED_MAX]
        # A node of another zone is nobody whom the asker could take it from. So the first one of each zone
        # is given it, however many are: else all of a zone would come back for it, and be given it then.
        is_full = len({each.node for each in given}) >= self._followers_max
        return tuple(near)[:SHARED_MAX] if is_full else ()

    def _given_lately(self, asker: Admitted, now_s: float) -> Iterator[NodeName]:
        """The nodes of the asker's zone that have it by now, the newest first."""
        for node, (zone, at_s) in reversed(self._lately.get(asker.digest, {}).items()):
            if now_s - at_s >= _LATELY_S:
                return
            if node != asker.node and zone == asker.zone:
                yield node

    def _asks_again(self, digest: Digest, node: NodeName, now_s: float) -> bool:
        refused_s = self._refused_s.get((digest, node))
        return refused_s is not None and now_s - refused_s < AGAIN_S

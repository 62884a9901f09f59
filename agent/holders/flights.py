"""Who is fetching what at the moment, as peers said in their replies. Short-lived, bounded. No I/O.

An answer is out of date as soon as it is there: the content arrives, or the fetch fails. So it is kept only
as long as the requests of one pull take. It never says that nobody has the content, or that somebody has all
of it.
"""

from collections import OrderedDict
from collections.abc import Container

from agent.holders.index import InFlight
from agent.holders.wire import Flying
from agent.oci.digest import Digest
from topology.placement import NodeName

KEPT_S = 0.25
"""For so long an answer is used again."""

_DIGESTS_MAX = 4096


class Flights:
    """The newest answer of each peer on each digest."""

    def __init__(self) -> None:
        self._heard: OrderedDict[Digest, dict[NodeName, tuple[InFlight, float]]] = OrderedDict()

    def heard(self, digest: Digest, node: NodeName, flying: Flying, now_s: float) -> None:
        """The peer said that it is fetching the content."""
        in_flight = InFlight(node=node, available_bytes=flying.available_bytes, size_bytes=flying.size_bytes)
        self._heard.setdefault(digest, {})[node] = in_flight, now_s
        self._heard.move_to_end(digest)
        if len(self._heard) > _DIGESTS_MAX:
            self._heard.popitem(last=False)

    def of(
        self, digest: Digest, now_s: float, *, complete: Container[NodeName] = (), kept_s: float = KEPT_S
    ) -> tuple[InFlight, ...]:
        """Who is fetching it, as far as this was said in the last ``kept_s``.

        ``complete``: peers that have all of it by now.
        """
        heard = self._heard.get(digest)
        if heard is None:
            return ()
        return tuple(
            in_flight
            for in_flight, at_s in heard.values()
            if now_s - at_s < kept_s and in_flight.node not in complete
        )

    def forget(self, digest: Digest, node: NodeName) -> None:
        """The peer gave nothing: leave it out until it is heard again."""
        heard = self._heard.get(digest)
        if heard is not None:
            heard.pop(node, None)
            if not heard:
                del self._heard[digest]

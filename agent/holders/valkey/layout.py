"""The names of all keys on the server, and how long they live. Pure.

Every key begins with the prefix and the version of the layout, and has a time to live. The names of the
digests of one ``{xx}`` are in one slot of a Cluster. To change what a key means, raise `VERSION`: agents of
both versions can then use one server.
"""

from dataclasses import dataclass

from agent.oci.digest import Digest

VERSION = 1

EPOCH_S = 3600
"""The holders are announced anew in each epoch, by the server's clock. A bit lives two epochs at the most.

An hour: a node with 2,000 digests then announces one in two seconds. What a dead node had is gone after two.
"""

_SLACK_S = 600  # clocks of servers differ after a failover, and a write may be under way
BITMAP_TTL_S = 2 * EPOCH_S + _SLACK_S
"""From the first bit of an epoch on: the end of the next epoch is at most two epochs away."""

NUMBER_TTL_S = 2 * EPOCH_S + 2 * _SLACK_S
"""A number stays its node's own for so long after the last sign of it. No bit that it set lives longer."""

ALIVE_S = 15
"""So long is a period in which each node whose announcements the server takes says so once."""

ALIVE_TTL_S = 4 * ALIVE_S

FLIGHT_TTL_S = 30
"""A bit of a node that is fetching lives so long, if nobody renews any of them."""


PROBE_TTL_MS = 60_000


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of the keys of one cluster. ``prefix``: of all of them."""

    prefix: str

    @property
    def _base(self) -> str:
        return f"{self.prefix}:{VERSION}"

    def number(self, number: int) -> str:
        """Whose a node number is: the node's name and its agent."""
        return f"{self._base}:n:{number}"

    @property
    def names(self) -> str:
        """All numbers in one value: see `agent.holders.valkey.numbers`."""
        return f"{self._base}:names"

    @property
    def marker(self) -> str:
        """Whose the keys are, and since when they are there: see `agent.holders.valkey.marker`."""
        return f"{self._base}:cluster"

    @property
    def probe(self) -> str:
        """Written to see whether the server can be. Nobody reads it."""
        return f"{self._base}:probe"

    def alive(self, period: int) -> str:
        """Which nodes said in this period that the server takes their announcements."""
        return f"{self._base}:a:{period}"

    def bitmap(self, epoch: int, digest: Digest) -> str:
        """Which nodes have all of a digest, by what they said in an epoch."""
        return f"{self._base}:b:{epoch}:{_slot(digest)}:{digest}"

    def flight(self, digest: Digest) -> str:
        """Which nodes are fetching a digest."""
        return f"{self._base}:f:{_slot(digest)}:{digest}"

    def claim(self, scope: str, realm: str, digest: Digest) -> str:
        """Which node of a scope fetches a digest from the registry. See `agent.holders.claims.ClaimKey`."""
        return f"{self._base}:c:{_slot(digest)}:{scope}:{realm}:{digest}"


def slot_of(digest: Digest) -> str:
    """What the slot of a digest's keys is made from: two hexadecimal digits."""
    return digest.partition(":")[2][:2]


def _slot(digest: Digest) -> str:
    return f"{{{slot_of(digest)}}}"

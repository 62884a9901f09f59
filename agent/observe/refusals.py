"""Why a client is turned away before anything is done for it. The values are labels of metrics.

Whoever can't prove anything is told nothing: a refusal has words only for those who know the cluster's key.
"""

from dataclasses import dataclass
from enum import Enum

from topology.placement import NodeName


class Reason(Enum):
    """Why a client is turned away. `Metrics.turned_away` counts each."""

    NO_PROOF = "no_proof"  # nothing that proves who asks: no signature, no token
    MALFORMED = "malformed"  # what should prove it is none: not one header, or not of its form
    UNKNOWN_KEY = "unknown_key"  # made with a key that this node does not have
    WRONG_PROOF = "wrong_proof"  # a signature or token that does not fit
    CLOCK = "clock"  # signed at another time: too old, or in the future
    OTHER_NODE = "other_node"  # signed for another node
    NOT_A_MEMBER = "not_a_member"  # signed by a node that is not in this node's list of members
    OTHER_ADDRESS = "other_address"  # signed in the name of one member, sent from another one's address
    REPLAYED = "replayed"  # it came before
    TOO_MANY = "too_many"  # more than one client may ask for
    USER = "user"  # the maker of the client's socket is another user than those who are answered
    CGROUP = "cgroup"  # its maker is not in containerd's cgroup
    CLOSED = "closed"  # nobody has the client's socket any more, so nobody can say who made it
    CERTIFICATE = "certificate"  # the certificate that it showed is of no member, or not of who asks
    UNKNOWN = "unknown"  # the kernel does not tell who made it
    CONNECTIONS = "connections"  # it has too many connections, or all strangers together do
    CPU = "cpu"  # it used up its share of the processor, and connects again
    UNFINISHED = "unfinished"  # its unfinished heads or messages take too much memory, or too long
    FRAMES = "frames"  # its WebSocket breaks the rules of agents


LISTENERS = ("hostport", "nodeport", "peer", "admin")
"""The listeners that turn clients away, by their names in the settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A client is turned away.

    ``message``, ``hint``: for a client that knows the key, and for the log; empty: it is told nothing.
    ``node``: who it proved to be. None: nobody.
    """

    reason: Reason
    message: str = ""
    hint: str = ""
    node: NodeName | None = None

    @property
    def knows_key(self) -> bool:
        """Whether the client proved that it knows the cluster's key."""
        return bool(self.message)

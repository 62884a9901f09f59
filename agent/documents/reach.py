"""Whether this node and its peers reach each other, tried at the moment of the question: ``/api/reach``."""

from dataclasses import dataclass
from typing import ClassVar

SILENT, REFUSED, NO_TLS, OTHER, OWN = "silent", "refused", "no_tls", "other", "own"
"""How a peer could not be reached: no answer to a SYN; refused; TLS ended the connection; in another way;
this node could not ask.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachEntry:
    """One peer that was asked. ``address``: as it is listed.

    ``reached``: a connection was opened. ``kind``: how it failed, one of silent, refused, no_tls, other, own;
    empty if it did not. ``how``: the same in words. ``returns``: whether the peer, asked for it, could
    connect to this node's peer listener; None: it did not say. ``returned``: how that failed, or why it is
    not known. ``returned_kind``: as ``kind``. ``called``: the name that the agent there gives itself; None:
    none. ``own``: this very agent answered. ``ahead_s``: by how many seconds its clock is ahead of this
    node's.
    """

    node: str
    address: str
    reached: bool
    kind: str = ""
    how: str = ""
    returns: bool | None = None
    returned_kind: str = ""
    returned: str = ""
    called: str | None = None
    own: bool = False
    ahead_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachDocument:
    """Some peers of every zone, tried both ways. ``peers``: how many peers there are in all.

    ``time``: when the document was made, UTC.
    """

    PATH: ClassVar[str] = "/api/reach"

    time: str
    node: str
    peers: int
    asked: tuple[ReachEntry, ...]

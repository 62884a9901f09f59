"""Who fetches from the registry what nobody has, as one node knows it: ``/api/claims``."""

from dataclasses import dataclass, field
from typing import ClassVar

from agent.documents.codec import json_key


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldClaimEntry:
    """A content that this node fetches for others. ``scope``: for its ``zone``, or for the ``cluster``.

    ``received_bytes``: how much of it this node's containerd has written. ``size_bytes``: how large it is;
    None: that is not known yet.
    """

    digest: str
    scope: str
    received_bytes: int = field(metadata=json_key("bytes"))
    size_bytes: int | None = field(default=None, metadata=json_key("size"))
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedClaimEntry:
    """A content for which a request of this node waits. ``arbiter``: the node that decides who fetches it."""

    digest: str
    scope: str
    arbiter: str
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneWayEntry:
    """From which zone to which a content travels."""

    source_zone: str
    destination_zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedClaimEntry:
    """A content on which this node decides. ``node``: who fetches it, or did so a moment ago.

    ``received_bytes``: how much it says that it has. ``complete``: it has all of it. ``waiting``: how many
    requests of other nodes wait for it. ``ways``: with the scope ``cluster``, what its gateways were told.
    """

    digest: str
    scope: str
    node: str
    received_bytes: int = field(metadata=json_key("bytes"))
    complete: bool
    waiting: int
    ways: tuple[ZoneWayEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsDocument:
    """The claims in which this node has a part.

    ``time``: when the document was made, UTC. ``mode`` and ``scope``: ``cold_start`` of the settings.
    ``followers``: how many bodies peers are being sent of contents that still arrive here. The lists have up
    to 256 entries each, ``decided`` the youngest of them.
    """

    PATH: ClassVar[str] = "/api/claims"

    time: str
    node: str
    mode: str
    scope: str
    held: tuple[HeldClaimEntry, ...]
    awaited: tuple[AwaitedClaimEntry, ...]
    decided: tuple[DecidedClaimEntry, ...]
    followers: int

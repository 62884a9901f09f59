"""Where a node would get an image or a blob from, and why: ``/api/explain``."""

from dataclasses import dataclass
from typing import ClassVar

from agent.documents.requests import TagEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderEntry:
    """A peer that has the content, or is still fetching it: then ``reason`` says how much of it there is.

    ``rank``: 1 for the one that a pull tries first.

    ``load``: how many bodies the peer reported to send, or how many this node fetches from it: the larger of
    the two. ``source``: how the round trip is known.
    """

    node: str
    tier: str
    rank: int
    rtt_us: float | None
    source: str | None
    load: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReasonEntry:
    """A peer, and why it is treated differently."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFailureEntry:
    """A peer's last failure, whatever it was asked for, in words. ``age_s``: how long ago it was.

    ``answered_since``: it answered something since, so it is there again. It may cool off all the same.
    """

    node: str
    failure: str
    age_s: float
    answered_since: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentEntry:
    """One blob of an image. ``choice``: the node it would come from; None: the registry.

    ``kind``: manifest, config or layer. ``learnt``: who named its holders, one of
    `agent.documents.index.IndexSource`; None: every peer was asked, or nobody.
    """

    digest: str
    kind: str
    size_bytes: int | None
    local: bool
    choice: str | None
    reason: str
    learnt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainDocument:
    """The choice for one digest, and for each blob that an image's manifest names.

    ``image``: None if the question was a digest. ``choice``: as in `ContentEntry`. ``holders``: those that a
    pull may try, in its order. ``not_asked_in_full``: peers that may have the content although they are not
    among ``holders``. ``passed_over``: holders that no pull of this digest tries now, each with the reason.
    ``failures``: the last failures of peers, the newest first, up to 100.
    ``time``: when the document was made, UTC.
    ``tag``: whose word says that the image's tag is this digest. ``flaw``: why this node does not use its own
    copy; None: it has none, or uses it.
    ``claim``: who fetches what no node has all of, as far as this node knows; None: some node has it, or this
    node takes no part in claims.
    ``given``: under which names this node gives its copy; None: it has none.
    ``learnt``: who named the holders, in words; None: the peers, as there is no server that knows them.
    ``arriving``: how far this node's containerd is with fetching it, and from whom; None: it is not.
    """

    PATH: ClassVar[str] = "/api/explain"

    time: str
    node: str
    image: str | None
    digest: str
    local: bool
    choice: str | None
    holders: tuple[HolderEntry, ...]
    not_asked_in_full: tuple[PeerReasonEntry, ...] = ()
    passed_over: tuple[PeerReasonEntry, ...] = ()
    failures: tuple[PeerFailureEntry, ...] = ()
    content: tuple[ContentEntry, ...] = ()
    tag: TagEntry | None = None
    flaw: str | None = None
    given: str | None = None
    arriving: str | None = None
    claim: str | None = None
    learnt: str | None = None

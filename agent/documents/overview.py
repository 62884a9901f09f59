"""One node at a glance: ``/api/overview``. Every figure names its unit and over which time it counts."""

from dataclasses import dataclass, field
from typing import ClassVar

from agent.documents.codec import json_key
from agent.documents.sums import SumsEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentEntry:
    """A part of the agent. ``problem``: why it does not work; null: it works. ``state``: a few words if so.

    ``key``: as ``shorthaul_component_problem`` names it. ``required``: without it the agent is not ready.
    ``hint``: what to do; may be empty.
    """

    key: str
    name: str
    ok: bool
    required: bool
    problem: str | None
    hint: str
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleEntry:
    """Something that is wrong now. ``grave``: pulls suffer. ``what``: the part or the subject.

    ``node``: the node that it is about; null: this one. ``hint``: what to do; may be empty.
    """

    grave: bool
    what: str
    node: str | None
    problem: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCountEntry:
    """Clients' requests for content, by listener and result."""

    path: str
    result: str
    in_window: int
    since_start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessEntry:
    """How many of the requests on one listener the mirror answered, in the window.

    ``asked``: without those whose client left or made a mistake, and those that the settings leave to the
    registry. ``missed``: no node has it, so the registry is asked, and nobody is to blame. ``failed``: a
    fault. ``share``: ``served`` of ``asked``, from 0 to 1; null: nobody asked.
    """

    path: str
    asked: int
    served: int
    missed: int
    failed: int
    share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantilesEntry:
    """How long something took, in the window; within 6 % of the true values. null: it did not happen.

    ``source``: local, peer, or all. ``tier``: of the node that gave the bytes.
    """

    source: str
    tier: str | None
    count: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryBriefEntry:
    """The last connection that the probe made itself to one endpoint, and its verdict."""

    endpoint: str
    verdict: str
    sent_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofEntry:
    """Whether the local path is proved. ``probe``: a probe reports flows. ``why``: the reason, in words."""

    probe: bool
    proved: bool
    why: str
    canaries: tuple[CanaryBriefEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexBriefEntry:
    """The index in short; see IndexDocument."""

    index: str
    state: str
    words: str
    problem: str | None
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsBriefEntry:
    """How many claims this node holds, waits for and decides on now, and how many bodies it passes on."""

    held: int
    awaited: int
    decided: int
    followers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransfersBriefEntry:
    """Bodies under way now. ``uploads_refused``: since the start, because there was no room."""

    downloads: int
    uploads: int
    uploads_refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentBriefEntry:
    """This node's content now. ``corrupt``: blobs that were found wrong and not written again since.

    ``unreadable``: blobs that the agent can't read. ``scrub``: the state of the check of all content.
    """

    blobs: int
    size_bytes: int = field(metadata=json_key("bytes"))
    unreadable: int
    corrupt: int
    scrub: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewDocument:
    """The asked node at a glance.

    ``instance``: a word that only this process uses. ``since``: when the agent started. ``phase``: of its
    life, in words. ``problems``: what is wrong now, the gravest first, at most 40. ``own_trouble``: why this
    node could not ask others a moment ago, in words: then what it says of them is doubtful; empty: it could.
    ``members``: nodes of the cluster, this one included. ``peers_silent``: those that gave no sign of life
    since they failed. ``window_s``: over how long ``window`` and all that is said to be in the window counts;
    shorter while the agent is young. ``total``: since the agent started. ``first_byte``: from a client's
    request to its first byte. ``lookup``: to find out who holds a content. ``tabs``: open streams of
    ``/api/events``.
    """

    PATH: ClassVar[str] = "/api/overview"

    time: str
    node: str
    region: str | None
    zone: str | None
    version: str
    instance: str
    since: str
    uptime_s: float
    ready: bool
    why_not_ready: str | None
    phase: str
    components: tuple[ComponentEntry, ...]
    problems: tuple[TroubleEntry, ...]
    own_trouble: str
    members: int
    peers_reachable: int
    peers_cooling: int
    peers_silent: int
    window_s: float
    window: SumsEntry
    total: SumsEntry
    requests: tuple[RequestCountEntry, ...]
    success: tuple[SuccessEntry, ...]
    first_byte: tuple[QuantilesEntry, ...]
    lookup: QuantilesEntry
    proof: ProofEntry
    index: IndexBriefEntry
    claims: ClaimsBriefEntry
    transfers: TransfersBriefEntry
    content: ContentBriefEntry
    tabs: int

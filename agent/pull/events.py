"""What a pull is told and what it commands: the vocabulary of the state machine. No I/O.

Events say what happened, commands what to do about it. `agent.pull.machine` turns the former into the latter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.pull.meter import Rate
from topology.placement import NodeName, Tier
from topology.ranking import Ranked

PROGRESS_BYTES = 1 << 20
"""A holder that gave so much before it failed had begun well; a body that got so much further begins anew."""


class Failure(Enum):
    """Why an attempt gave nothing, or not all. The value is its label in metrics."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"
    SLOW = "slow"  # below what is worth waiting for
    LAGGING = "lagging"  # far below what is usual in its tier, and another has it
    BROKEN = "broken"  # the connection ended early
    INVALID = "invalid"  # an answer that can't be right: a length, a range, a digest
    UNSATISFIABLE = "unsatisfiable"  # 416: the range selects nothing, says this peer
    EXHAUSTED = "exhausted"  # no descriptor left here
    OTHER_SIZE = "other_size"  # than a manifest says, or the peer before: either may be wrong
    MISSING = "missing"  # 404: the index was out of date
    BUSY = "busy"  # 429
    ERROR = "error"  # any other status

    @property
    def is_peers_fault(self) -> bool:
        """Whether the peer should be avoided for a while."""
        return self not in _INNOCENT


_INNOCENT = frozenset(
    (
        Failure.LAGGING,
        Failure.EXHAUSTED,
        Failure.OTHER_SIZE,
        Failure.MISSING,
        Failure.BUSY,
        Failure.UNSATISFIABLE,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """See `PullSettings` and `TransferSettings` for most fields.

    ``hedge_s``: for each tier, the wait for a first byte after which a second holder is asked (none:
    ``patience_s``). ``stubborn_s``, and ``stubborn_begun_s`` once a body began: for how long to look again
    when nobody is left, for a client that takes that badly.
    """

    patience_s: float
    deadline_s: float
    attempts_max: int
    stall_s: float = 3.0
    floor_bytes_per_s: float = 0.0
    floor_ratio: float = 0.0
    hedge_s: Mapping[Tier, float] = field(default_factory=dict)
    stripe_min_bytes: int = 0
    stubborn_s: float = 0.0
    stubborn_begun_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The index answered. ``exhaustive``: every peer was asked, so there is no use in asking more."""

    holders: tuple[Ranked, ...]
    exhaustive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Responded:
    """The attempt has its headers checked and its first bytes in hand."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt ended before its first bytes. ``wait_s``: what a busy peer says."""

    attempt: int
    failure: Failure
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """What was being delivered ended early; ``offset`` bytes of the body have reached the client in all."""

    failure: Failure
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A part of the body was delivered, with ``left_bytes`` to come.

    ``expected_bytes_per_s``: of a body of this tier, when so many are under way. ``lanes_max``: from how many
    holders it may be fetched at once now.
    """

    left_bytes: int
    rate: Rate
    expected_bytes_per_s: float
    lanes_max: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFailed:
    """One of several holders that a body comes from failed; the others go on. ``given_bytes``: by it."""

    holder: Ranked
    failure: Failure
    given_bytes: int
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Several holders ended what they had begun, at ``offset``: only one is left, or they were no faster
    than one (``useless``).
    """

    offset: int
    useless: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The body was delivered whole; ``given_bytes``: of it, by whom."""

    given_bytes: Mapping[NodeName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """The time asked for by `WakeAt` has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGone:
    """Nobody waits for this pull any more."""


Event = (
    Found | Responded | Failed | Broke | Progressed | LaneFailed | Gathered | Completed | Ticked | ClientGone
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Ask the index; with ``everyone`` all peers, passing by its cache. Answered by `Found`."""

    everyone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Start an attempt at the body from ``offset`` on. Answered by `Responded` or `Failed`.

    ``hedge``: another one is open, and only slower than usual so far.
    """

    attempt: int
    holder: Ranked
    offset: int = 0
    hedge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """End an attempt; no answer is expected. ``failure``: why, where it is to blame itself."""

    attempt: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Report `Ticked` at this time; replaces an earlier wish."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoid:
    """The peer failed: avoid it for a while, in all pulls."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Commend:
    """The peer gave so much that it is well: no longer avoid it, in all pulls."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Shun:
    """Do not ask the peer for this content at all, for some cool-offs (`agent.pull.policy.SHUN_COOLOFFS`)."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Relieve:
    """The peer has no capacity left: prefer others for ``wait_s``, in all pulls."""

    node: NodeName
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The peer does not have the digest, or can't give it: rate it up anew next time."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Send this attempt's bytes to the client. Answered by `Progressed`, `Completed`, `Broke` or
    `ClientGone`.
    """

    attempt: int
    holder: Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripe:
    """Go on from these holders as well as from the one that delivers. Answered by `LaneFailed`,
    `Gathered`, `Completed`, `Broke` or `ClientGone`.
    """

    holders: tuple[Ranked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """End what is being delivered. Answered by `Broke` with this failure."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """Nobody can serve it: answer 404. ``attempts``: how many were made."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """End the response visibly short, so that the client resumes elsewhere."""


PeerFinding = Avoid | Commend | Shun | Relieve
"""What a pull found out about a peer, for all pulls."""

Command = (
    Lookup
    | Fetch
    | Abandon
    | WakeAt
    | Avoid
    | Commend
    | Shun
    | Relieve
    | Forget
    | Deliver
    | Stripe
    | GiveUp
    | NotFound
    | Cut
)
Commands = tuple[Command, ...]

"""The events and the commands of a pull's state machine. No I/O.

Events say what happened. Commands say what to do. `agent.pull.machine` turns events into commands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from agent.pull.meter import Rate
from topology.placement import NodeName, Tier
from topology.ranking import Ranked

PROGRESS_BYTES = 1 << 20
"""This many bytes count as progress.

A holder that gave them before it failed may be tried again. A pull that got so much further gets all its
attempts again.
"""


class Failure(Enum):
    """Why an attempt gave nothing, or not everything. The value is its label in metrics."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"
    SLOW = "slow"  # below `floor_bytes_per_s`
    LAGGING = "lagging"  # far below its tier's median rate, and another holder is there
    BROKEN = "broken"  # the connection ended early
    INVALID = "invalid"  # the answer can't be right: its length, range or digest
    UNSATISFIABLE = "unsatisfiable"  # 416: this peer says that the range selects nothing
    EXHAUSTED = "exhausted"  # this node has no descriptor or memory left
    CUT_OFF = "cut_off"  # this node has no network, or was suspended
    OTHER_SIZE = "other_size"  # not the size that a manifest or an earlier peer said; either may be wrong
    MISSING = "missing"  # 404: the index was out of date
    WITHHELD = "withheld"  # 404: the peer has it, but gives it under other names only
    BUSY = "busy"  # 429
    SHARED = "shared"  # 429: it gives the content to others now, and said from whom to take it instead
    STARVED = "starved"  # it is still fetching the content, and had nothing more for a while
    ERROR = "error"  # any other status

    @property
    def is_peers_fault(self) -> bool:
        """Whether the peer should be avoided for a while."""
        return self not in _INNOCENT

    @property
    def is_own(self) -> bool:
        """Whether it is this node that failed, so that it says nothing about the peer."""
        return self in (Failure.EXHAUSTED, Failure.CUT_OFF)

    @property
    def is_silence(self) -> bool:
        """Whether nothing came from the peer."""
        return self in (Failure.UNREACHABLE, Failure.SILENT)

    @property
    def is_answer(self) -> bool:
        """Whether the peer answered, though not with what was wanted."""
        return self in _ANSWERS


_INNOCENT = frozenset(
    (
        Failure.LAGGING,
        Failure.EXHAUSTED,
        Failure.CUT_OFF,
        Failure.OTHER_SIZE,
        Failure.MISSING,
        Failure.WITHHELD,
        Failure.BUSY,
        Failure.SHARED,
        Failure.STARVED,
        Failure.UNSATISFIABLE,
    )
)

_ANSWERS = frozenset(
    (
        Failure.UNSATISFIABLE,
        Failure.OTHER_SIZE,
        Failure.MISSING,
        Failure.BUSY,
        Failure.SHARED,
        Failure.ERROR,
    )
)  # all of them are an HTTP status, or a head that was understood


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one pull. See `PullSettings` and `TransferSettings` for most fields.

    ``hedge_s``: for each tier, how long to wait for a first byte before a second holder is asked as well
    (``patience_s`` if the tier is missing). ``stubborn_s``: for how long to repeat the look-up when no holder
    is left; it is above 0 for a client that handles a failure badly. ``stubborn_begun_s``: the same once a
    body began. ``claim_wait_s``: how long in all to wait for another node that fetches the content from the
    registry; 0: nobody is asked. ``claim_look_s``: how often all peers are asked meanwhile.
    ``border_wait_s``: how long to wait for a node of the own zone that is about to fetch it, before one of
    another zone is asked; 0:
    nobody is waited for.
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
    claim_wait_s: float = 0.0
    claim_look_s: float = 5.0
    border_wait_s: float = 0.0

    def is_too_slow(self, bytes_per_s: float, *, over_s: float) -> bool:
        """Whether to give up a holder whose rate was ``bytes_per_s`` for the last ``over_s``."""
        return over_s >= self.stall_s and bytes_per_s < self.floor_bytes_per_s


class Neighbours(NamedTuple):
    """How many other nodes of the own zone have all of a content, and how many are still fetching it."""

    complete: int
    arriving: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The index answered. ``exhaustive``: it had asked every peer, so asking more peers is useless.

    ``neighbours``: how far the own zone is with it, from an answer of now; None: not known.
    """

    holders: tuple[Ranked, ...]
    exhaustive: bool
    neighbours: Neighbours | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Responded:
    """The attempt has received the first bytes, and the headers are valid.

    ``holder``: the holder by what it says now, whether it has all of the content; None: as it was known.
    """

    attempt: int
    holder: Ranked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt ended before its first bytes. ``wait_s``: when a busy peer says to come back.

    ``instead``: from whom to take it, if the failure is SHARED. They are in flight, the best first.
    """

    attempt: int
    failure: Failure
    wait_s: float = 0.0
    instead: tuple[Ranked, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """The delivery ended early. The client has ``offset`` bytes of the body in all.

    ``wait_s``: when a busy peer says to come back.
    """

    failure: Failure
    offset: int
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A part of the body was delivered, and ``left_bytes`` are left.

    ``expected_bytes_per_s``: the rate to expect from this tier while this many pulls share the link.
    ``lanes_max``: from how many holders at once the body may be fetched now.
    """

    left_bytes: int
    rate: Rate
    expected_bytes_per_s: float
    lanes_max: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFailed:
    """One of the holders of a striped body failed. The others go on. ``given_bytes``: what it had given."""

    holder: Ranked
    failure: Failure
    given_bytes: int
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Striping ended, and the client has ``offset`` bytes of the body.

    Only one holder is left, or several holders were no faster than one (``useless``).
    """

    offset: int
    useless: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The body was delivered whole. ``given_bytes``: how much of it each peer gave."""

    given_bytes: Mapping[NodeName, int] = field(default_factory=dict)


class Turn(Enum):
    """Who fetches from the registry what nobody has."""

    OWN = "own"  # this node
    OTHER = "other"  # another node: it has bytes by now
    NOBODYS = "nobody's"  # nobody was found who does: the client goes to the registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAnswered:
    """What came of `AskClaim`. ``holders``: for another node's turn, whom to fetch from, the best first.

    ``complete``: the first of them has all of it.
    """

    turn: Turn
    holders: tuple[Ranked, ...] = ()
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """The time that `WakeAt` asked for has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGone:
    """The client left, so nobody waits for this pull any more."""


Event = (
    Found
    | Responded
    | Failed
    | Broke
    | Progressed
    | LaneFailed
    | Gathered
    | Completed
    | ClaimAnswered
    | Ticked
    | ClientGone
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Ask the index. `Found` follows. ``everyone``: ask all peers, and do not use the index's cache."""

    everyone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Start an attempt at the body from ``offset`` on. `Responded` or `Failed` follows.

    ``hedge``: another attempt is still open. It did not fail, but it is slower than usual.
    """

    attempt: int
    holder: Ranked
    offset: int = 0
    hedge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskClaim:
    """Ask whose turn it is to fetch from the registry, or from another zone. `ClaimAnswered` follows.

    ``wait_s``: after this time at most, or three times as long if that node is busy with other contents.
    ``offset``: the client has so many bytes of the body. ``despite``: whose turn it was said to be, and who
    gave nothing. The question ends with `Deliver`, and with the pull.
    """

    offset: int
    wait_s: float
    despite: NodeName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """End an attempt. No event follows. ``failure``: what its holder did wrong; None: nothing."""

    attempt: int
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Report `Ticked` at this time. Replaces an earlier `WakeAt`."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoid:
    """The peer failed: avoid it for a while, in all pulls."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Commend:
    """The peer gave enough to show that it works: no longer avoid it, in all pulls."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Shun:
    """Do not ask the peer for this digest at all, for `agent.pull.policy.SHUN_COOLOFFS` cool-offs."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Relieve:
    """The peer has no capacity left: prefer others for ``wait_s``, in all pulls."""

    node: NodeName
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The peer does not have the digest or can't give it: remove it from the index's cached answer."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Send this attempt's bytes to the client. `Progressed`, `Completed`, `Broke` or `ClientGone` follows."""

    attempt: int
    holder: Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class Stripe:
    """Fetch from these holders as well as from the one that delivers.

    `LaneFailed`, `Gathered`, `Completed`, `Broke` or `ClientGone` follows.
    """

    holders: tuple[Ranked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """End the delivery. `Broke` with this failure follows."""

    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """No peer can serve it: answer 404. ``attempts``: how many were made."""

    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """End the response before its announced length, so that the client resumes."""


PeerFinding = Avoid | Commend | Shun | Relieve
"""What one pull found out about a peer. It matters to all pulls (`agent.pull.policy.Policy.apply`)."""

Command = (
    Lookup
    | AskClaim
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

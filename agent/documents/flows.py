"""Whether containerd's connections reach this node's agent directly: ``/api/flows``."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEntry:
    """A connection that the probe made itself. ``answered_by``: the node that answered; may be empty.

    ``sent_at``: when it was made, UTC. ``age_s``: how many seconds ago that was.
    """

    sent_at: str
    endpoint: str
    address: str
    verdict: str
    reason: str
    went: str
    answered_by: str
    rtt_us: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEntry:
    """A connection that has a verdict. ``judged_at``: when the agent learned the verdict, UTC.

    ``client``: its source on the wire. ``asked``: the destination of connect(). ``went``: its destination on
    the wire, if that is known. ``cookie``: the kernel's number of the client's socket. ``made_by``:
    ``containerd``, ``canary`` (the probe itself) or ``other``, which proves and disproves nothing. Where
    containerd's cgroup is not known, ``containerd`` is any process of root.
    """

    judged_at: str
    endpoint: str
    verdict: str
    reason: str
    made_by: str
    client: str
    asked: str
    went: str | None
    process: str
    pid: int
    rtt_us: int
    cookie: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowsDocument:
    """The state of the proof, the last canaries, and the last flows, newest first.

    ``probe``: whether a probe is connected. ``proved``: whether the local path is proved to be direct.
    ``why``: the reason for that. ``time``: when the document was made, UTC. ``foreign``: connections of other
    network namespaces (pods) to the watched ports since the probe started; nothing else is known of them.
    """

    PATH: ClassVar[str] = "/api/flows"

    time: str
    probe: bool
    proved: bool
    why: str
    foreign: int
    canaries: tuple[CanaryEntry, ...]
    flows: tuple[FlowEntry, ...]

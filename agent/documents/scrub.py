"""The progress of the scrub, which checks this node's own content: ``/api/scrub``."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry:
    """The present round through all content: ``done`` of ``of`` blobs. ``finished``: the rounds before it."""

    done: int
    of: int
    finished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableEntry:
    """A blob that is there but that the agent can't read, and why."""

    digest: str
    reason: str


OFF, PAUSED, READING, QUEUED, WAITING = "off", "paused", "reading", "queued", "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubDocument:
    """The state of the scrub. ``bytes_per_s``: its rate; 0: it is off.

    ``state``: off, paused, reading; queued: a round is due, and begins as soon as the store works; waiting:
    for the time of the next round. ``held_up``: the store's problem, for which it waits meanwhile.

    ``reading``: the digest of the blob that is being read. ``withdrawn``: the digests whose blobs were found
    corrupt and were not written again since. ``unreadable``: blobs that can't be read, up to 100 of
    ``unreadable_blobs``. ``time``: when the document was made, UTC.
    """

    PATH: ClassVar[str] = "/api/scrub"
    START_PATH: ClassVar[str] = "/api/scrub/start"
    PAUSE_PATH: ClassVar[str] = "/api/scrub/pause"
    RESUME_PATH: ClassVar[str] = "/api/scrub/resume"

    time: str
    bytes_per_s: int
    state: str
    held_up: str | None
    paused: bool
    reading: str | None
    round: RoundEntry
    withdrawn: tuple[str, ...]
    unreadable: tuple[UnreadableEntry, ...]
    unreadable_blobs: int

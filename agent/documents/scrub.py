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
class ScrubDocument:
    """The state of the scrub. ``bytes_per_s``: its rate; 0: it is off.

    ``reading``: the digest of the blob that is being read. ``withdrawn``: the digests whose blobs were found
    corrupt and were not written again since. ``time``: when the document was made, UTC.
    """

    PATH: ClassVar[str] = "/api/scrub"
    START_PATH: ClassVar[str] = "/api/scrub/start"
    PAUSE_PATH: ClassVar[str] = "/api/scrub/pause"
    RESUME_PATH: ClassVar[str] = "/api/scrub/resume"

    time: str
    bytes_per_s: int
    paused: bool
    reading: str | None
    round: RoundEntry
    withdrawn: tuple[str, ...]

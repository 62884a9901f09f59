"""How far the check of this node's own content is: ``/api/scrub``."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry:
    """One reading of all content: ``done`` blobs of ``of``. ``finished``: rounds since the start."""

    done: int
    of: int
    finished: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubDocument:
    """``bytes_per_s`` 0: the scrub is off. ``reading``: the digest of the blob that is being read.

    ``withdrawn``: the digests that were found corrupt and were not written anew since.
    """

    PATH: ClassVar[str] = "/api/scrub"
    PAUSE_PATH: ClassVar[str] = "/api/scrub/pause"
    RESUME_PATH: ClassVar[str] = "/api/scrub/resume"

    bytes_per_s: int
    paused: bool
    reading: str | None
    round: RoundEntry
    withdrawn: tuple[str, ...]

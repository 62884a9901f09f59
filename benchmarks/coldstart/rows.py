"""What a row of the tables is: how nodes pull, what fetches, what happens to the node that is ahead. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from benchmarks.chunks.rows import UNCHUNKED, Chunks
from benchmarks.lab.containerd import VERSIONS

CHUNKED = "2.1"
"""The version that can fetch a layer in chunks."""


class Way(Enum):
    """What is between the containerds and the registry."""

    DIRECT = "no mirror"
    OFF = "claims off"
    ZONE = "claims, scope zone"
    CLUSTER = "claims, scope cluster"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The agents' settings of cold starts."""
        if self in (Way.DIRECT, Way.OFF):
            return {"mode": "off"}
        return {"mode": "claims", "scope": "zone" if self is Way.ZONE else "cluster"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Which containerd pulls, and how it fetches a layer."""

    version: str
    chunks: Chunks = UNCHUNKED

    @classmethod
    def parse(cls, text: str) -> "Client":
        """``2.1``, or ``2.1/8x4``: in eight chunks of 4 MiB. Raises ValueError."""
        version, _, words = text.partition("/")
        chunks = Chunks.parse(words or "off")
        if version not in VERSIONS or (chunks != UNCHUNKED and version != CHUNKED):
            raise ValueError(text)
        return cls(version=version, chunks=chunks)

    def __str__(self) -> str:
        return self.version if self.chunks == UNCHUNKED else f"{self.version}/{self.chunks}"


class Blow(Enum):
    """What happens to a node: its processes end, or stand still, or the registry is silent to it."""

    KILLED = "killed"
    FROZEN = "frozen"
    CUT_OFF = "cut-off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What happens to the node that gets the largest layer from the registry, at this share of it.

    From then on its own pull does not count.
    """

    blow: Blow
    at: float

    @classmethod
    def parse(cls, text: str) -> "Trouble | None":
        """``killed@50``, ``frozen@50``, ``cut-off@50`` (per cent), or ``none``. Raises ValueError."""
        if text == "none":
            return None
        blow, _, percent = text.partition("@")
        return cls(blow=Blow(blow), at=float(percent) / 100)

    def __str__(self) -> str:
        return f"{self.blow.value} at {100 * self.at:.0f} %"

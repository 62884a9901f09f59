"""What one node's clients got, step by step: ``/api/history``."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryDocument:
    """Columns of equal length, the oldest step first: one value for each step of ``step_s``.

    Steps run on a clock that nobody sets, so a change of the time of day makes no hole. ``started_at``: when
    the first step began, by the time of day as it is now. ``ended_at``: when the last one ended. Money and
    bytes are what was added in the step. What the quantiles are of: clients' first bytes in the step; null:
    there was none.
    """

    PATH: ClassVar[str] = "/api/history"

    time: str
    node: str
    step_s: float
    points: int
    started_at: str
    ended_at: str
    node_bytes: tuple[int, ...]
    rack_bytes: tuple[int, ...]
    zone_bytes: tuple[int, ...]
    region_bytes: tuple[int, ...]
    remote_bytes: tuple[int, ...]
    saved_bytes: tuple[int, ...]
    crossing_bytes: tuple[int, ...]
    usd: tuple[float, ...]
    usd_saved: tuple[float, ...]
    requests: tuple[int, ...]
    served: tuple[int, ...]
    failed: tuple[int, ...]
    first_byte_p50_s: tuple[float | None, ...]
    first_byte_p95_s: tuple[float | None, ...]

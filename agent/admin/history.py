"""Columns of the tally's steps: ``/api/history``."""

from collections.abc import Sequence

from agent.admin.sums import usd_of
from agent.documents.history import HistoryDocument
from agent.documents.times import Moment
from agent.observe.tally import STEP_S, Sum, Tally, Track
from topology.placement import NodeName


def history_view(
    own: NodeName, tally: Tally, track: Track, moment: Moment, *, last: int | None = None
) -> HistoryDocument:
    """The last so many steps of a track; None: all that are kept."""
    points = track.points if last is None else min(last, track.points)
    ended_s = tally.ended_s
    if track is tally.minutes:  # the minute that is not over is not in it
        ended_s -= tally.steps.added % round(track.step_s / STEP_S) * STEP_S
    middle_s, high_s = track.quantiles(points)

    def whole(which: Sum) -> tuple[int, ...]:
        return _whole(track.column(which, points))

    return HistoryDocument(
        time=moment.text,
        node=own,
        step_s=track.step_s,
        points=points,
        started_at=moment.text_of(ended_s - points * track.step_s),
        ended_at=moment.text_of(ended_s),
        node_bytes=whole(Sum.NODE),
        rack_bytes=whole(Sum.RACK),
        zone_bytes=whole(Sum.ZONE),
        region_bytes=whole(Sum.REGION),
        remote_bytes=whole(Sum.REMOTE),
        saved_bytes=whole(Sum.SAVED),
        crossing_bytes=whole(Sum.CROSSING),
        usd=_money(track.column(Sum.USD, points)),
        usd_saved=_money(track.column(Sum.USD_SAVED, points)),
        requests=whole(Sum.REQUESTS),
        served=whole(Sum.SERVED),
        failed=whole(Sum.FAILED),
        first_byte_p50_s=tuple(middle_s),
        first_byte_p95_s=tuple(high_s),
    )


def _whole(values: Sequence[float]) -> tuple[int, ...]:
    return tuple([round(value) for value in values])


def _money(values: Sequence[float]) -> tuple[float, ...]:
    return tuple([usd_of(value) for value in values])

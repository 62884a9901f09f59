"""Whether this node's store was able to commit what containerd was sent."""

import dataclasses

import pytest

from agent.pull.wellness import StoreLook, Wellness

GIB = 1 << 30
WELL = StoreLook(works=True, outages=0, free_bytes=10 * GIB, free_files=100_000, pending_bytes=0)


def judge(*looks: StoreLook, times_s: tuple[float, ...] = (0.0, 1.0, 2.0, 3.0)) -> list[bool]:
    wellness = Wellness(look_s=1.0)
    return [wellness.well_since_last(look, now_s) for look, now_s in zip(looks, times_s, strict=False)]


def look(**changes: object) -> StoreLook:
    return dataclasses.replace(WELL, **changes)  # type: ignore[arg-type]


def test_store_that_works_and_has_room_is_well() -> None:
    assert judge(WELL, WELL) == [True, True]


def test_store_that_does_not_answer_is_not_well() -> None:
    assert judge(WELL, look(works=False), WELL) == [True, False, True]


def test_outage_between_two_looks_is_noticed_once() -> None:
    """containerd was killed and is back: its event stream broke."""
    assert judge(WELL, look(outages=1), look(outages=1)) == [True, False, True]


@pytest.mark.parametrize(
    ("changes", "well"),
    [
        ({"free_bytes": 0}, False),
        ({"free_bytes": 15 << 20}, False),
        ({"free_bytes": 16 << 20}, True),
        ({"free_bytes": 4 * GIB - 1, "pending_bytes": GIB}, False),  # unpacked it is larger
        ({"free_bytes": 4 * GIB, "pending_bytes": GIB}, True),
        ({"free_files": 0}, False),
        ({"free_files": 64}, True),
        (
            {"free_bytes": None, "free_files": None, "pending_bytes": GIB},
            True,
        ),  # a store that can't be looked at
    ],
)
def test_disk_without_room_for_what_is_pending_is_not_well(
    changes: dict[str, int | None], well: bool
) -> None:
    assert judge(look(**changes)) == [well]


def test_look_that_comes_late_shows_that_this_node_was_suspended() -> None:
    assert judge(WELL, WELL, WELL, times_s=(0.0, 1.5, 60.0)) == [True, True, False]

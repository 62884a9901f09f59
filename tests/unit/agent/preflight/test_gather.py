"""Looks run side by side, with one deadline, and none harms another."""

import threading
import time

from agent.preflight.gather import Unknown, gather


def test_a_look_that_hangs_or_fails_harms_no_other() -> None:
    released = threading.Event()

    def fail() -> None:
        raise OSError(13, "Permission denied")

    def bug() -> None:
        raise AssertionError

    started_s = time.monotonic()
    found = gather(
        {"hangs": lambda: released.wait(60), "fails": fail, "bug": bug, "works": lambda: 7}, at_most_s=0.5
    )
    released.set()
    assert found == {
        "hangs": Unknown(why="no answer within 0.5 s"),
        "fails": Unknown(why="Permission denied"),
        "bug": Unknown(why="AssertionError"),
        "works": 7,
    }
    assert time.monotonic() - started_s < 30


def test_looks_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=30)
    assert gather({"one": both.wait, "other": both.wait}, at_most_s=30).keys() == {"one", "other"}
    assert not both.broken

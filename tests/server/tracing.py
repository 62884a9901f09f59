"""What holds for the steps of every request that has ended, whatever happened to it."""

from typing import Any

_LATE_S = 0.001  # times are rounded, and a request's end is taken a moment after that of its last step


def steps_of(record: dict[str, Any], *kinds: str) -> list[dict[str, Any]]:
    """The steps of these kinds, or all."""
    steps: list[dict[str, Any]] = record["steps"]
    assert [step["start_s"] for step in steps] == sorted(step["start_s"] for step in steps)
    assert all(step["start_s"] >= 0 and step["seconds"] >= 0 for step in steps)
    assert all(step["start_s"] + step["seconds"] <= record["seconds"] + _LATE_S for step in steps)
    assert "under_way" not in {step["outcome"] for step in steps}
    told = sum(step["bytes"] or 0 for step in steps)
    if record["steps_left_out"]:
        assert told <= record["bytes"]
    else:
        assert told == record["bytes"]
    return [step for step in steps if not kinds or step["kind"] in kinds]

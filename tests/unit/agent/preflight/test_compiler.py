"""What is said of BCC and libbpf."""

import json
import sys

import pytest

from agent.preflight import Status
from agent.preflight.compiler import compiler, judge_compiler
from agent.preflight.reading import Reading


def answer(**said: object) -> Reading:
    return Reading(text="noise\n" + json.dumps(said) + "\n")


@pytest.mark.parametrize(
    ("said", "bcc", "libbpf"),
    [
        (answer(version="0.26.0", file="/x", bpf=True, libbpf=""), Status.GOOD, Status.GOOD),
        (answer(version="0.31.0+ds", file="/x", bpf=True, libbpf="no"), Status.GOOD, Status.BAD),
        (answer(version="0.18.0", file="/x", bpf=True, libbpf=""), Status.WARN, Status.GOOD),
        (answer(version="EVER", file="/x", bpf=True, libbpf=""), Status.WARN, Status.GOOD),
        (answer(error="ModuleNotFoundError: bcc", libbpf=""), Status.BAD, Status.GOOD),
        (answer(version="1.0", file="/site-packages/bcc", bpf=False, libbpf=""), Status.BAD, Status.GOOD),
        (Reading(problem="python3 did not end within 2 s"), Status.WARN, Status.WARN),
        (Reading(text="[1]"), Status.WARN, Status.WARN),
        (Reading(text="{}"), Status.BAD, Status.BAD),
    ],
)
def test_bcc_and_libbpf_are_judged_each_by_itself(said: Reading, bcc: Status, libbpf: Status) -> None:
    checks = judge_compiler(said)
    assert [one.status for one in checks] == [bcc, libbpf]
    assert [bool(one.hint) for one in checks] == [one.status is not Status.GOOD for one in checks]


def test_pypis_bcc_is_told_from_debians() -> None:
    check, _ = judge_compiler(answer(version="1.0", file="/site-packages/bcc/__init__.py", bpf=False))
    assert "another package of that name" in check.detail
    assert "pip uninstall bcc" in check.hint
    assert "python3-bpfcc" in check.hint


def test_the_real_bcc_is_asked_in_a_child() -> None:
    assert [one.status for one in compiler()] == [Status.GOOD, Status.GOOD]
    assert "bcc" not in sys.modules

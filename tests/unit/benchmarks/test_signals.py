"""A benchmark that is told to end cleans up, says nothing, and tells the signal by its exit status."""

import signal
import subprocess
import sys

import pytest

from tests.unit.twins import REPOSITORY_ROOT

_BENCHMARK = """
import sys, time
from benchmarks.arguments import make_parser, parse
parse(make_parser("benchmarks.test", None))
try:
    print("runs", flush=True)
    time.sleep(600)
finally:
    print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_benchmark_cleans_up_and_ends_quietly(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _BENCHMARK],
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "runs\n"
        child.send_signal(number)
        try:
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (child.returncode, out, err) == (128 + number, "cleaned up\n", "")


def test_hang_up_that_is_ignored_stays_ignored() -> None:
    command = f'trap "" HUP; exec {sys.executable} -c "$0"'
    with subprocess.Popen(
        ["/bin/sh", "-c", command, _BENCHMARK],
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "runs\n"
        child.send_signal(signal.SIGHUP)  # as nohup has it
        child.send_signal(signal.SIGTERM)
        try:
            child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 128 + signal.SIGTERM

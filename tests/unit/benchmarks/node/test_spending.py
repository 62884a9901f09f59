"""What a process has used, as the kernel says."""

import os
import threading

import pytest

from benchmarks.node.spending import Used, used, voluntary_switches


def test_thread_that_sleeps_is_counted_as_woken() -> None:
    before, event = used(os.getpid()), threading.Event()
    for _ in range(20):
        event.wait(0.001)
    assert used(os.getpid()).since(before).wakes >= 20


def test_work_is_counted() -> None:
    before = used(os.getpid())
    while used(os.getpid()).since(before).cpu_s < 0.005:
        sum(range(1000))


def test_difference_is_what_came_since() -> None:
    assert Used(cpu_s=3.0, wakes=7).since(Used(cpu_s=1.0, wakes=2)) == Used(cpu_s=2.0, wakes=5)


def test_process_that_is_gone_is_said_to_be() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        used(pid)


def test_status_without_switches_is_refused() -> None:
    assert voluntary_switches("Name:\tx\nvoluntary_ctxt_switches:\t12\n") == 12
    with pytest.raises(ValueError, match="voluntary"):
        voluntary_switches("Name:\tx\n")

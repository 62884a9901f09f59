"""Rounds of cases, and what is said of the client itself."""

import io
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import pytest
from rich.console import Console

from benchmarks.latency.cases import Case, Load, Tally, measure_rounds, tell
from benchmarks.latency.openloop import Ask, Outcome, Server
from benchmarks.reporting.histogram import from_text
from benchmarks.reporting.recorder import Recorder
from benchmarks.reporting.rows import rows


def _recorder() -> Recorder:
    recorder = Recorder(Console(file=io.StringIO()))
    recorder.begin("latency")
    return recorder


def _outcome(*, late: int = 0, failed: int = 0) -> Outcome:
    failures = Counter({"status 404": failed} if failed else {})
    return Outcome(due=1000, late=late, latest_s=0.05 if late else 0.0, failed=failures)


def _told(outcome: Outcome) -> Recorder:
    recorder, tally = _recorder(), Tally()
    tally.add("same zone", outcome)
    tell(recorder, tally)
    return recorder


def test_client_that_is_the_bottleneck_says_so() -> None:
    (verdict,) = _told(_outcome(late=200)).sections[0].verdicts
    assert "The client itself was the bottleneck: 20.0% of its requests" in verdict
    assert _told(_outcome(late=2)).sections[0].verdicts == ()


@pytest.mark.parametrize(("failed", "is_problem"), [(5, False), (50, True)])
def test_requests_that_fail_are_said_and_many_are_a_problem(failed: int, is_problem: bool) -> None:
    recorder = _told(_outcome(failed=failed))
    words = f"{failed} of 1,000 requests failed, same zone: status 404"
    assert recorder.problems == ([words] if is_problem else [])
    assert recorder.sections[0].verdicts == (() if is_problem else (words,))


def test_case_whose_server_is_gone_is_left_out_of_the_rounds_that_follow() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    recorder, tally = _recorder(), Tally()
    case = Case(name="gone", server=Server(host="127.0.0.1", port=port), asks=[Ask(target="/")])
    load = Load(rate_per_s=500.0, seconds=0.2, repeats=50)
    measure_rounds(recorder, [case], load, tally, warm=True, whole=False)
    assert tally.gone == {"gone"}
    (series,) = recorder.sections[0].figures[0].series
    assert len(series.histograms) == 50  # each round has its place
    assert sum(tally.failed.values()) < 100
    tell(recorder, tally)
    assert any("nothing answered 20 times in a row" in each for each in recorder.problems)


def test_rounds_end_when_they_may_not_go_on() -> None:
    recorder, tally = _recorder(), Tally()
    case = Case(name="never", server=Server(host="127.0.0.1", port=1), asks=[Ask(target="/")])
    load = Load(rate_per_s=10.0, seconds=1.0, repeats=5)
    measure_rounds(recorder, [case], load, tally, warm=True, whole=True, go_on=lambda: False)
    assert tally.begun == 0
    assert recorder.sections[0].figures == ()


def test_round_without_an_answer_has_its_place_and_the_others_keep_their_partners() -> None:
    """Nobody answers in the first two rounds, and a server that does from the third on."""
    statuses = iter(["500 Broken"] * 2 + ["200 OK"] * 3)
    said = {"status": ""}

    def next_round() -> bool:
        said["status"] = next(statuses)
        return True

    recorder = _recorder()
    with _serving(said) as server:
        case = Case(name="ours", server=server, asks=[Ask(target="/")])
        load = Load(rate_per_s=50.0, seconds=0.2, repeats=5)
        measure_rounds(recorder, [case], load, Tally(), warm=False, whole=True, go_on=next_round)
    (row,) = rows(recorder.sections[0])
    assert (row.repeats, row.failed) == (5, 2)
    (series,) = recorder.sections[0].figures[0].series
    assert [from_text(each).get_total_count() > 0 for each in series.histograms] == [False] * 2 + [True] * 3


@contextmanager
def _serving(said: Mapping[str, str]) -> Iterator[Server]:
    """Gives each request the status that is said at that moment."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as connection, suppress(OSError):
                    if connection.recv(65536):
                        head = f"HTTP/1.1 {said['status']}\r\nContent-Length: 1\r\n\r\n"
                        connection.sendall(head.encode() + b"x")

    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Server(host="127.0.0.1", port=listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()

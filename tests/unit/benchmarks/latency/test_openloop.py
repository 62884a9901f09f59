"""The open loop, against servers that are slow, die, lie or stay silent."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from benchmarks.latency.openloop import Ask, Limits, Outcome, Server, run_open_loop
from benchmarks.reporting.histogram import quantile_s

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
_Serve = Callable[[socket.socket, str], None]


@contextmanager
def _serving(serve: _Serve) -> Iterator[tuple[Server, list[str]]]:
    """A server with a thread for each connection. Gives it, and the paths that it was asked for."""
    asked: list[str] = []

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while head := connection.recv(65536).decode():
                asked.append(head.split()[1])
                serve(connection, head)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Server(host="127.0.0.1", port=listener.getsockname()[1]), asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _good(connection: socket.socket, _: str) -> None:
    connection.sendall(_ANSWER)


def _run(
    server: Server, number: int, *, apart_s: float = 0.002, warm: bool = True, limits: Limits | None = None
) -> Outcome:
    asks = [Ask(target=f"/{each}") for each in range(number)]
    return run_open_loop(server, asks, [each * apart_s for each in range(number)], warm=warm, limits=limits)


@pytest.mark.parametrize("warm", [True, False])
def test_every_request_is_asked_once_and_answered(warm: bool) -> None:
    with _serving(_good) as (server, asked):
        outcome = _run(server, 50, warm=warm)
    assert sorted(asked) == sorted(f"/{each}" for each in range(50))
    assert (outcome.answered, outcome.failed, outcome.bytes) == (50, {}, 150)
    assert outcome.first.get_total_count() == 50
    assert (outcome.connections == 50) is not warm or outcome.connections <= 50


def test_new_connections_are_new_for_every_request() -> None:
    with _serving(_good) as (server, _):
        assert _run(server, 30, warm=False).connections == 30


def test_server_that_stands_still_is_in_the_latency_of_all_that_were_due_meanwhile() -> None:
    """A loop that waits for its answers would count one slow request. Here twenty were due in the pause."""
    pause_s, until_s = 0.4, [0.0]
    lock = threading.Lock()

    def pausing(connection: socket.socket, head: str) -> None:
        if head.startswith("GET /10 "):
            until_s[0] = time.monotonic() + pause_s
        with lock:
            time.sleep(max(0.0, until_s[0] - time.monotonic()))
        connection.sendall(_ANSWER)

    with _serving(pausing) as (server, _):
        outcome = _run(server, 40, apart_s=0.02)
    assert outcome.answered == 40
    slow = sum(1 for each in range(1, 41) if quantile_s(outcome.whole, each / 40) > 0.2 * pause_s)
    assert slow >= 10


def test_latency_counts_from_the_due_time_where_all_connections_are_busy() -> None:
    def slow(connection: socket.socket, _: str) -> None:
        time.sleep(0.05)
        connection.sendall(_ANSWER)

    with _serving(slow) as (server, _):
        outcome = _run(server, 10, apart_s=0.001, limits=Limits(connections=1))
    assert outcome.answered == 10
    assert outcome.waited >= 8
    assert quantile_s(outcome.whole, 1.0) > 0.4  # the last waited for all nine before it


def test_first_byte_is_earlier_than_the_last() -> None:
    def halves(connection: socket.socket, _: str) -> None:
        connection.sendall(_ANSWER[:-1])
        time.sleep(0.1)
        connection.sendall(_ANSWER[-1:])

    with _serving(halves) as (server, _):
        outcome = _run(server, 3, apart_s=0.01)
    assert quantile_s(outcome.whole, 0.0) - quantile_s(outcome.first, 0.0) > 0.08


def test_other_status_is_a_failure_in_words_and_no_latency() -> None:
    def refuse(connection: socket.socket, _: str) -> None:
        connection.sendall(_ANSWER.replace(b"200 OK", b"404 No"))

    with _serving(refuse) as (server, _):
        outcome = _run(server, 30)
    assert (outcome.answered, outcome.failed, outcome.gone) == (0, {"status 404": 30}, False)


def test_nobody_at_the_port_ends_the_run_early_and_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = _run(Server(host="127.0.0.1", port=port), 1000)
    assert outcome.gone
    assert outcome.skipped > 900
    assert [*outcome.failed] == ["refused: nobody listens there"]


def test_server_that_dies_in_the_middle_is_noticed_and_what_came_before_counts() -> None:
    def dying(connection: socket.socket, head: str) -> None:
        number = int(head.split()[1][1:])
        if number >= 20:
            connection.close()
        else:
            connection.sendall(_ANSWER)

    with _serving(dying) as (server, _):
        outcome = _run(server, 400)
    assert outcome.answered == 20
    assert outcome.gone
    assert set(outcome.failed) <= {
        "closed before the end of the answer",
        "reset by the other end",
        "under way when this client gave up",
    }


def test_silent_server_costs_the_deadline_and_no_more() -> None:
    with _serving(lambda *_: None) as (server, _):
        outcome = _run(server, 5, limits=Limits(deadline_s=0.3))
    assert outcome.failed == {"no whole answer within 0.3 s": 5}
    assert outcome.seconds < 30


def test_request_to_a_server_that_is_gone_is_counted_once() -> None:
    asks, limits = [Ask(target="/")] * 300, Limits(deadline_s=0.3, connections=64)
    with _serving(lambda *_: None) as (server, _):
        outcome = run_open_loop(server, asks, [0.0] * 300, warm=True, limits=limits)
    assert outcome.gone
    assert outcome.failed.total() + outcome.skipped == outcome.due == 300


def test_bytes_are_a_limit() -> None:
    with _serving(_good) as (server, _):
        outcome = _run(server, 100, limits=Limits(bytes=30))
    assert 10 <= outcome.answered <= 60
    assert outcome.answered + outcome.skipped == 100


def test_what_is_no_http_is_told() -> None:
    with _serving(lambda connection, _: connection.sendall(b"SSH-2.0\r\n\r\n")) as (server, _):
        assert _run(server, 3).failed == {"no HTTP/1 answer": 3}


def test_client_that_is_late_counts_it_as_its_own_fault() -> None:
    asks = [Ask(target="/") for _ in range(5)]
    with _serving(_good) as (server, _):
        outcome = run_open_loop(server, asks, [-1.0] * 5, warm=True)
    assert outcome.late == 5
    assert outcome.latest_s >= 1.0
    assert outcome.late_share == 1.0
    assert quantile_s(outcome.whole, 0.0) > 0.99  # the histogram has three digits


def test_no_request_is_no_run() -> None:
    with _serving(_good) as (server, asked):
        assert _run(server, 0).answered == 0
    assert asked == []

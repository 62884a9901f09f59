"""The benchmark of a node's own agent, against a server and an agent's answers that are made up."""

import io
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from rich.console import Console

from benchmarks.latency.local import Bounds, measure_local
from benchmarks.latency.openloop import Server
from benchmarks.reporting.format import Section
from benchmarks.reporting.recorder import Recorder
from benchmarks.reporting.rows import rows
from benchmarks.running import BenchmarkFailed

_SIZE = 1000
_BOUNDS = Bounds(seconds=1.0, bytes=10_000_000, rate_per_s=20.0, repeats=1)
_IMAGE = "registry.test/app:v1"


@contextmanager
def _serving(status: str = "206 Partial", whole: str = "200 OK") -> Iterator[Server]:
    """A HostPort: ranges get one status, whole blobs the other."""

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while head := connection.recv(65536).decode():
                said = status if "Range: " in head else whole
                connection.sendall(
                    f"HTTP/1.1 {said}\r\nContent-Length: {_SIZE}\r\n\r\n".encode() + bytes(_SIZE)
                )

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Server(host="127.0.0.1", port=listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _entry(
    number: int, *, local: bool = False, choice: str | None = None, size: int = _SIZE
) -> dict[str, Any]:
    return {
        "digest": f"sha256:{number:064x}",
        "kind": "layer",
        "size_bytes": size,
        "local": local,
        "choice": choice,
        "reason": "",
    }


def _agent(*content: dict[str, Any], tier: str = "zone") -> Any:
    """What an agent says of an image, and of each of its blobs."""
    explained = {
        "time": "",
        "node": "a1",
        "digest": "sha256:" + "0" * 64,
        "local": True,
        "choice": None,
        "reason": "",
    }
    holder = {"node": "a2", "tier": tier, "rank": 1, "rtt_us": 1.0, "source": None, "load": 0, "reason": ""}

    def ask(path: str, query: Mapping[str, str]) -> Any:
        if "digest" in query:
            return {**explained, "image": None, "holders": [holder]}
        return {**explained, "image": _IMAGE, "holders": [], "content": [*content]}

    return ask


def _measured(
    agent: Any, bounds: Bounds = _BOUNDS, *, clock: Callable[[], float] = lambda: 0.0, **answers: str
) -> Recorder:
    """``clock``: stands still, so that no busy machine spends the seconds of the bounds."""
    recorder = Recorder(Console(file=io.StringIO()))
    with _serving(**answers) as server:
        measure_local(recorder, server, agent, [_IMAGE], bounds, clock=clock)
    return recorder


def _ways(sections: tuple[Section, ...], name: str) -> set[str]:
    (section,) = (each for each in sections if each.name == name)
    return {series.way for figure in section.figures for series in figure.series} - {""}


def _words(recorder: Recorder) -> str:
    return "\n".join(words for section in recorder.sections for words in section.verdicts)


def test_blobs_are_measured_by_the_agents_word_where_they_are() -> None:
    recorder = _measured(_agent(_entry(1, local=True), _entry(2, choice="a2"), _entry(3)))
    assert recorder.problems == []
    for name in ("latency: first byte", "latency: whole blob"):
        assert _ways(recorder.sections, name) == {"this node", "same zone"}


def test_without_peers_it_says_that_none_was_measured() -> None:
    recorder = _measured(_agent(_entry(1, local=True)))
    assert "how long a peer takes was not measured" in _words(recorder)
    assert _ways(recorder.sections, "latency: first byte") == {"this node"}


def test_image_of_which_nobody_has_anything_is_an_error_with_a_hint() -> None:
    with pytest.raises(BenchmarkFailed, match="neither this node nor any peer has a blob") as failed:
        _measured(_agent(_entry(1)))
    assert "--image" in failed.value.hint


def _pulled(*references: str) -> dict[str, Any]:
    """What an agent says of its last pulls: one of each of these tags."""
    pull = {
        "id": "1",
        "path": "hostport",
        "client": "",
        "started_at": "",
        "seconds": 1.0,
        "under_way": False,
        "requests": [],
        "request_count": 1,
        "bytes": 0,
        "bytes_by_tier": [],
        "not_found": 1,
        "failed": 0,
        "verdict": None,
        "slowest": None,
        "running": [],
    }
    images = [each.rpartition(":") for each in references]
    return {
        "time": "",
        "node": "a1",
        "pulls": [{**pull, "image": image, "references": [tag]} for image, _, tag in images],
    }


def _measured_last(*references: str) -> Recorder:
    """With the images that were pulled last. Of ``registry.test/gone`` nobody has anything."""
    known = _agent(_entry(1, local=True))

    def ask(path: str, query: Mapping[str, str]) -> Any:
        if "limit" in query:
            return _pulled(*references)
        if "gone" in query.get("image", ""):
            raise BenchmarkFailed("nobody saw this tag", "pull it")
        return known(path, query)

    recorder = Recorder(Console(file=io.StringIO()))
    with _serving() as server:
        measure_local(recorder, server, ask, (), _BOUNDS, clock=lambda: 0.0)
    return recorder


def test_last_pull_of_an_image_that_does_not_exist_is_passed_over() -> None:
    recorder = _measured_last("registry.test/gone:v1", _IMAGE, "registry.test/gone:v2")
    assert recorder.problems == []
    assert _ways(recorder.sections, "latency: whole blob") == {"this node"}


def test_last_pulls_of_nothing_but_images_that_do_not_exist_are_an_error() -> None:
    with pytest.raises(BenchmarkFailed, match="nobody saw this tag"):
        _measured_last("registry.test/gone:v1")


def test_name_that_is_no_image_is_an_error_with_a_hint() -> None:
    with pytest.raises(BenchmarkFailed, match="is no image's name"):
        measure_local(
            Recorder(Console(file=io.StringIO())), Server(host="", port=1), _agent(), ["A b"], _BOUNDS
        )


def test_answer_of_another_agent_than_expected_is_an_error_in_words() -> None:
    with pytest.raises(BenchmarkFailed, match="the agent's answer is not as expected"):
        _measured(lambda *_: {"node": 1})


def test_stranger_is_told_that_it_is_refused() -> None:
    recorder = _measured(_agent(_entry(1, local=True)), status="403 No", whole="403 No")
    assert any("this node: status 403" in problem for problem in recorder.problems)


def test_blob_that_is_too_large_for_the_bound_is_said() -> None:
    bounds = Bounds(seconds=1.0, bytes=20_000_000, rate_per_s=5.0, repeats=1)
    recorder = _measured(_agent(_entry(1, local=True, size=10**9), _entry(2, choice="a2")), bounds)
    assert "this node: none is within the" in _words(recorder)


def test_bound_of_bytes_that_allows_no_request_is_a_problem() -> None:
    recorder = _measured(_agent(_entry(1, local=True)), Bounds(seconds=5.0, bytes=1000, rate_per_s=20.0))
    assert "--bytes is too little for even one request each time" in recorder.problems


def test_seconds_that_are_over_are_a_problem_and_end_it() -> None:
    bounds, ticks = Bounds(seconds=1.0, bytes=10**7, rate_per_s=20.0), itertools.count(0.0, 0.3)
    recorder = _measured(_agent(_entry(1, local=True)), bounds, clock=lambda: next(ticks))
    assert any("of --seconds were over before all was measured" in each for each in recorder.problems)


def test_whole_blob_that_nobody_gave_has_its_place_among_the_repeats() -> None:
    recorder = _measured(_agent(_entry(1, local=True)), whole="500 Broken")
    (section,) = (each for each in recorder.sections if each.name == "latency: whole blob")
    row = next(rows(section))
    assert (row.unit, row.repeats, row.failed, row.median) == ("ms", 1, 1, None)

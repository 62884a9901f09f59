"""``/api/events`` and what a page that stays open shows, over real sockets and with real agents."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from .agents import ADMIN, AT_MOST_S, REPLY_S, Node, Site, wait_for
from .wire import connected

Data = Any


class Stream:
    """One open stream, read as a browser does."""

    def __init__(self, node: Node, *, headers: Mapping[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(node.address, ADMIN, timeout=REPLY_S)
        self._connection.request("GET", "/api/events", headers=dict(headers or {}))
        self.reply = self._connection.getresponse()
        self.status = self.reply.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reply.close()
        self._connection.close()

    def next(self) -> tuple[str, Data] | None:
        """The next event and its document. None: the stream ended."""
        event = ""
        while line := self.reply.readline():
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                event = text[7:]
            elif text.startswith("data: "):
                return event, json.loads(text[6:])
        return None

    def until(self, sought: str, condition: Callable[[Data], bool] = lambda _: True) -> Data:
        """The document of the first event of that name for which the condition holds."""
        until_s = time.monotonic() + AT_MOST_S
        while time.monotonic() < until_s:
            found = self.next()
            assert found is not None, "the stream ended"
            if found[0] == sought and condition(found[1]):
                return found[1]
        raise AssertionError(f"no such {sought} within {AT_MOST_S} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Three:
    """A node that is looked at, one in its zone, one in another."""

    looked: Node
    near: Node
    far: Node


@contextmanager
def _three(**settings: Any) -> Iterator[Three]:
    with Site() as made:
        three = Three(
            looked=made.add("looked", zone="a", **settings),
            near=made.add("near", zone="a", **settings),
            far=made.add("far", zone="b", **settings),
        )
        three.looked.put(b"own")
        three.far.put(b"far has it")
        made.start()
        three.looked.wait_for_holders(b"far has it", {"far"})
        yield three


@pytest.fixture(name="three", scope="module")
def _site() -> Iterator[Three]:
    with _three() as three:
        yield three


def overview(node: Node) -> Data:
    return node.ask("/api/overview", port=ADMIN).json()


def nobody_looks(node: Node) -> None:
    """Wait until the tabs of another test are gone."""
    wait_for(lambda: overview(node)["tabs"] == 0, "no tab is open")


def test_stream_begins_with_hello_and_the_whole_picture(three: Three) -> None:
    with Stream(three.looked) as stream:
        assert stream.reply.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        assert stream.reply.getheader("Content-Encoding") is None
        assert stream.reply.getheader("Cache-Control") == "no-store"
        names = []
        while "index" not in names:
            found = stream.next()
            assert found is not None
            names.append(found[0])
    assert names[0] == "hello"
    assert {"overview", "map", "requests", "history", "claims", "transfers", "flows"} <= {*names}


def test_pull_is_told_while_the_page_is_open(three: Three) -> None:
    with Stream(three.looked) as stream:
        before = stream.until("overview")["total"]["requests"]
        three.looked.blob(b"far has it")
        told = stream.until("requests", lambda data: any(one["node"] == "far" for one in data))
        assert told[-1]["tier"] == "region"
        total = stream.until("overview", lambda data: data["total"]["requests"] > before)["total"]
    assert {each["tier"]: each["bytes"] for each in total["bytes_by_tier"]}["region"] >= 10


def test_overview_agrees_with_the_metrics(three: Three) -> None:
    three.looked.blob(b"own")
    three.looked.blob(b"nobody has it")
    found = overview(three.looked)
    served = sum(
        three.looked.metric("shorthaul_requests_total", path="hostport", kind="blob", result=result)
        for result in ("ok", "redirected")
    )
    saved = three.looked.metric("shorthaul_registry_saved_bytes_total", path="hostport")
    assert found["total"]["served"] == served
    assert found["total"]["saved_bytes"] == saved
    (hostport,) = (each for each in found["success"] if each["path"] == "hostport")
    assert hostport["asked"] > hostport["served"] == served
    assert (found["members"], found["zone"], found["ready"]) == (3, "a", True)
    assert found["window"]["requests"] == found["total"]["requests"]


def test_map_has_every_node_in_its_zone_and_this_nodes_choice(three: Three) -> None:
    found = three.looked.ask("/api/map", port=ADMIN).json()
    zones = [found["zones"][place]["zone"] for place in found["zone_index"]]
    assert dict(zip(found["names"], zones, strict=True)) == {"looked": "a", "near": "a", "far": "b"}
    assert found["chosen"][0]["node"] == "near"


@pytest.mark.parametrize("step", ["", "?step=5", "?step=60"])
def test_history_has_columns_of_one_length(three: Three, step: str) -> None:
    found = three.looked.ask(f"/api/history{step}", port=ADMIN).json()
    assert {len(value) for value in found.values() if isinstance(value, list)} == {found["points"]}


@pytest.mark.parametrize("query", ["?step=", "?step=61", "?step=5&step=5", "?limit=3"])
def test_step_that_is_none_is_400_with_a_hint(three: Three, query: str) -> None:
    reply = three.looked.ask(f"/api/history{query}", port=ADMIN)
    assert (reply.status, reply.json()["code"]) == (400, "QUERY_INVALID")
    assert reply.json()["hint"]


def test_head_of_the_stream_has_no_body_and_takes_no_place(three: Three) -> None:
    reply = three.looked.ask("/api/events", port=ADMIN, method="HEAD")
    assert (reply.status, reply.body) == (200, b"")
    nobody_looks(three.looked)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://localhost:9090", "Sec-Fetch-Site": "same-origin", "Host": "localhost:9090"}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(three: Three, headers: dict[str, str], status: int) -> None:
    with Stream(three.looked, headers=headers) as stream:
        assert stream.status == status
        assert stream.reply.getheader("Access-Control-Allow-Origin") is None


def test_one_tab_too_many_is_503_with_a_hint_and_a_closed_one_makes_room(three: Three) -> None:
    nobody_looks(three.looked)
    with ExitStack() as open_now:
        tabs = [open_now.enter_context(Stream(three.looked)) for _ in range(64)]
        for tab in tabs:
            tab.until("overview")
        with Stream(three.looked) as stream:
            assert stream.status == 503
            error = json.loads(stream.reply.read())
        assert (error["code"], bool(error["hint"])) == ("STREAMS_MAX", True)
        assert overview(three.looked)["tabs"] == 64
        tabs[0].__exit__()
        wait_for(lambda: overview(three.looked)["tabs"] == 63, "the closed tab is noticed")
        with Stream(three.looked) as stream:
            assert stream.status == 200
    nobody_looks(three.looked)


def test_tab_that_does_not_read_holds_up_neither_the_others_nor_pulls(three: Three) -> None:
    with connected(three.looked.address, ADMIN) as deaf, Stream(three.looked) as stream:
        deaf.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(3):
            assert three.looked.blob(b"own").status == 200
            stream.until("requests", lambda data: data[-1]["path"] == "hostport")
    nobody_looks(three.looked)


def test_cluster_is_gathered_from_all_nodes(three: Three) -> None:
    three.far.blob(b"far has it")

    def found_now() -> Data:
        return three.looked.ask("/api/cluster", port=ADMIN).json()

    def far_tells() -> bool:  # what a node tells may be a second old
        return bool(found_now()["zones"][1]["total"]["requests"] >= 1)

    wait_for(far_tells, "the pull is told")
    found = found_now()
    assert {line["node"]: line["says"] for line in found["nodes"]} == {
        "looked": "told",
        "near": "told",
        "far": "told",
    }
    assert (found["members"], found["asked"], found["told"], found["sampled"]) == (3, 3, 3, False)
    zones = {zone["zone"]: zone for zone in found["zones"]}
    assert (zones["a"]["nodes"], zones["a"]["told"], zones["b"]["told"]) == (2, 2, 1)
    sums = [zone["total"]["requests"] for zone in found["zones"]]
    assert sum(sums) == found["total"]["requests"]


def test_status_shows_the_node_and_all_zones_from_the_same_documents(three: Three) -> None:
    url = f"http://{three.looked.address}:{ADMIN}"
    command = [str(Path(sys.executable).parent / "shorthaul"), "status", "--url", url]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("node looked in r/a, agent ")
    assert "the sums are those of all 3 nodes" in shown
    told = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert (told["overview"]["node"], told["cluster"]["told"]) == ("looked", 3)


def test_node_that_did_not_run_for_a_while_calls_nobody_silent(three: Three) -> None:
    with Stream(three.looked) as stream:
        stream.until("cluster", lambda data: data["told"] == 3)
        three.looked.process.signal(signal.SIGSTOP)
        time.sleep(3.0)  # longer than it waits for an answer
        three.looked.process.signal(signal.SIGCONT)
        asked = stream.until("cluster")["time"]
        stream.until("history", lambda data: data["step_s"] == 5 and data["ended_at"] > asked)
        states = three.looked.ask("/api/map", port=ADMIN).json()["states"]
    assert "silent" not in states


def test_node_that_is_killed_is_told_as_silent_and_as_well_again_when_it_is_back() -> None:
    with _three() as three, Stream(three.looked) as stream:
        drawn = stream.until("map")
        stream.until("cluster", lambda data: data["told"] == 3)
        place = drawn["names"].index("far")

        def is_so(state: str) -> Callable[[Data], bool]:
            return lambda data: (
                state in [one for at, one in zip(data["indexes"], data["states"], strict=True) if at == place]
            )

        three.far.stop()
        stream.until("nodes", is_so("silent"))
        stream.until("cluster", lambda data: data["silent"] == 1)
        assert not overview(three.looked)["own_trouble"]
        problems = [each["problem"] for each in overview(three.looked)["problems"]]
        assert "1 peer does not answer" in problems
        three.far.launch()
        three.far.wait()
        stream.until("nodes", lambda data: is_so("ok")(data) or is_so("unmeasured")(data))


def test_stream_ends_when_the_agent_stops_and_another_instance_says_hello() -> None:
    with _three() as three:
        with Stream(three.looked) as stream:
            before = stream.until("hello")["instance"]
            began_s = time.monotonic()
            three.looked.process.signal(signal.SIGTERM)
            while stream.next() is not None:
                pass
            assert time.monotonic() - began_s < AT_MOST_S
        three.looked.stop()
        three.looked.launch()
        three.looked.wait()
        with Stream(three.looked) as stream:
            assert stream.until("hello")["instance"] != before

"""Where the time of a request went, as ``/api/requests`` and ``/api/pulls`` tell it: real agents."""

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.prometheus.server import Prometheus
from tests.promtool import complaints

from .agents import ADMIN, LOCAL, Node, Reply, Site, digest_of, fresh_address, log_lines, make_image, wait_for
from .faults import Fault, Holder, Kind
from .impostor import Impostor
from .tracing import steps_of
from .wire import connected, request_bytes

_HEADER = "Shorthaul-Request"


@dataclass
class Stage:
    """The asking node, an honest one of another zone, and two addresses of its own zone."""

    asking: Node
    honest: Node
    addresses: tuple[str, ...]
    _seeds: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    def fresh(self, size_bytes: int = 3_000_000) -> bytes:
        """Content that no other test has."""
        return Random(f"steps {next(self._seeds)}").randbytes(size_bytes)

    def traced(self, reply: Reply) -> dict[str, Any]:
        """The record of a request that was answered so."""
        return self.found(reply.headers[_HEADER])

    def found(self, request_id: str) -> dict[str, Any]:
        """The record with this id, once its request has ended."""

        def record() -> dict[str, Any]:
            (one,) = self.asking.ask(f"/api/requests?id={request_id}", port=ADMIN).json()
            return one  # type: ignore[no-any-return]

        wait_for(lambda: not record()["under_way"], "the request has ended")
        return record()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The agents that all tests share."""
    with Site() as site:
        pull = {"deadline_s": 8.0, "stall_s": 1.0, "connect_s": 2.0, "patience_s": 0.3, "cooloff_s": 0}
        settings: dict[str, Any] = {"pull": pull, "latency": {"measure": False}}
        asking = site.add("asking", **settings)
        honest = site.add("honest", zone="b")
        addresses = tuple(fresh_address() for _ in range(2))
        for name, address in zip(("one", "two"), addresses, strict=True):
            site.add_member(name, address)
        site.start()
        yield Stage(asking=asking, honest=honest, addresses=addresses)


def test_local_hit_is_one_step_with_all_bytes(stage: Stage) -> None:
    content = stage.fresh()
    stage.asking.put(content)
    (step,) = steps_of(stage.traced(stage.asking.blob(content)))
    assert (step["kind"], step["node"], step["tier"], step["outcome"]) == ("local", "asking", "node", "ok")
    assert step["bytes"] == len(content)


def test_slow_client_is_named_as_what_took_the_time(stage: Stage) -> None:
    content = stage.fresh(24 << 20)  # more than the buffers of both sockets take
    stage.asking.put(content)
    path = f"/v2/library/held/blobs/{digest_of(content)}?ns=registry.test"
    with connected(stage.asking.address, LOCAL) as client:
        client.sendall(request_bytes(path, Connection="close"))
        head = client.recv(1000)
        time.sleep(0.5)  # the claim is that the client, and nobody else, took this time
        while client.recv(1 << 20):
            pass
    (request_id,) = re.findall(rb"Shorthaul-Request: (\w+)", head)
    (step,) = steps_of(stage.found(request_id.decode()))
    assert step["kind"] == "local"
    assert "the client took no more" in step["why"]


def test_pull_from_a_peer_is_a_look_up_a_head_and_bytes_and_leads_to_the_peers_own_record(
    stage: Stage,
) -> None:
    content = stage.fresh()
    stage.honest.put(content)
    reply = stage.asking.blob(content)
    assert reply.body == content
    steps = steps_of(stage.traced(reply))
    kinds = [step["kind"] for step in steps]
    assert [*dict.fromkeys(kinds)] == ["lookup", "headers", "bytes"]
    headers, sent = steps[kinds.index("headers")], steps[kinds.index("bytes")]
    assert (sent["node"], sent["tier"], sent["bytes"], sent["resume"]) == (
        "honest",
        "region",
        len(content),
        False,
    )
    (there,) = stage.honest.ask(f"/api/requests?id={headers['request']}", port=ADMIN).json()
    assert (there["path"], there["digest"]) == ("peer", digest_of(content))


def test_manifest_from_a_peer_by_tag_has_all_its_bytes_in_the_steps(stage: Stage) -> None:
    image = make_image(stage.fresh(1000))
    stage.honest.put_image(image, "registry.test/library/steps:v1")
    stage.honest.wait_for_holders(image.manifest, set())
    path = "/v2/library/steps/manifests/v1?ns=registry.test"
    wait_for(lambda: stage.asking.ask(path).status == 200, "the tag is found")
    steps = steps_of(stage.traced(stage.asking.ask(path)))
    assert [*dict.fromkeys(step["kind"] for step in steps)] == ["resolve", "lookup", "headers"]
    assert "honest saw it at the registry" in steps[0]["why"]


def test_hedge_is_a_second_head_beside_the_first_which_lost(stage: Stage) -> None:
    content = stage.fresh()
    silent = Holder()
    silent.put(content, answers_from=len(content))
    stage.honest.put(content)
    with Impostor(stage.addresses[0], silent.serve, questioned=silent.claim):
        stage.asking.wait_for_holders(content, {"one", "honest"})
        reply = stage.asking.blob(content)
    assert reply.body == content
    first, hedge, *_ = steps_of(stage.traced(reply), "headers")
    assert (first["node"], first["outcome"], first["hedge"]) == ("one", "lost", False)
    assert (hedge["node"], hedge["outcome"], hedge["hedge"]) == ("honest", "ok", True)
    assert hedge["why"].startswith("hedge after ")
    assert first["start_s"] < hedge["start_s"] < first["start_s"] + first["seconds"]


@pytest.mark.parametrize(
    ("kind", "outcome"), [(Kind.CLOSES, "failed"), (Kind.STALLS, "timeout")], ids=lambda each: str(each)
)
def test_source_that_fails_is_told_and_the_next_one_goes_on(stage: Stage, kind: Kind, outcome: str) -> None:
    content = stage.fresh()
    holder = Holder()
    fault = Fault(kind=kind, at=1 << 20)
    holder.put(content, faults=(fault,), afterwards=Fault(kind=Kind.MISSING))
    stage.honest.put(content)
    with Impostor(stage.addresses[0], holder.serve, questioned=holder.claim):
        stage.asking.wait_for_holders(content, {"one", "honest"})
        reply = stage.asking.blob(content)
    assert reply.body == content
    record = stage.traced(reply)
    broken, *_, rest = steps_of(record, "bytes")
    assert (broken["node"], broken["outcome"], broken["resume"]) == ("one", outcome, False)
    assert "after 1.0 MB" in broken["why"]
    assert (rest["node"], rest["outcome"], rest["resume"]) == ("honest", "ok", True)
    assert rest["start_s"] >= broken["start_s"] + broken["seconds"]
    *_, heads = steps_of(record, "headers")
    assert (heads["node"], heads["resume"]) == ("honest", True)
    assert record["resumes"] >= 1


def test_busy_peer_is_waited_for_and_the_wait_says_so(stage: Stage) -> None:
    content = stage.fresh()
    holder = Holder()
    holder.put(content, faults=(Fault(kind=Kind.BUSY),))
    with Impostor(stage.addresses[0], holder.serve, questioned=holder.claim):
        stage.asking.wait_for_holders(content, {"one"})
        reply = stage.asking.blob(content)
    assert reply.body == content
    steps = steps_of(stage.traced(reply), "headers", "wait")
    assert [(step["kind"], step["outcome"]) for step in steps][:2] == [("headers", "failed"), ("wait", "ok")]
    assert steps[0]["why"].startswith("busy")
    assert "one is busy" in steps[1]["why"]


def test_request_under_way_is_found_and_its_pull_tells_what_is_known_so_far(stage: Stage) -> None:
    content = stage.fresh(48 << 20)
    stage.honest.put(content)
    path = f"/v2/library/slow/blobs/{digest_of(content)}?ns=registry.test"
    with connected(stage.asking.address, LOCAL) as client:
        client.sendall(request_bytes(path))
        assert client.recv(1000)
        stage_pull = _pull(stage.asking, "registry.test/library/slow")
        wait_for(
            lambda: bool(_pull(stage.asking, "registry.test/library/slow")["bytes"]), "bytes of it are told"
        )
        pull = _pull(stage.asking, "registry.test/library/slow")
        (running,) = pull["running"]
        assert pull["under_way"]
        assert running["id"] == stage_pull["id"]
        assert [(step["kind"], step["outcome"]) for step in running["steps"]][-1] == ("bytes", "under_way")
        assert running["steps"][-1]["bytes"] == running["bytes"] > 0
        assert [each["tier"] for each in pull["bytes_by_tier"]] == ["region"]
        (found,) = stage.asking.ask(f"/api/requests?id={running['id']}", port=ADMIN).json()
        assert found["under_way"]
    record = stage.found(running["id"])
    assert record["result"] == "client_gone"
    (sent,) = steps_of(record, "bytes")
    assert sent["outcome"] == "left"
    wait_for(lambda: not _pull(stage.asking, "registry.test/library/slow")["under_way"], "it has ended")
    assert _pull(stage.asking, "registry.test/library/slow")["failed"] == 1


def _pull(node: Node, image: str) -> dict[str, Any]:
    document = node.ask("/api/pulls", port=ADMIN).json()
    assert document["node"] == node.name
    (pull,) = (each for each in document["pulls"] if each["image"] == image)
    return pull  # type: ignore[no-any-return]


def test_pull_of_an_image_is_one_entry_with_all_its_requests(stage: Stage) -> None:
    image = make_image(stage.fresh(400_000), stage.fresh(400_001))
    stage.honest.put_image(image, "registry.test/library/whole:v1")
    base = "/v2/library/whole"
    wait_for(lambda: stage.asking.ask(f"{base}/manifests/v1?ns=registry.test").status == 200, "the tag")
    replies = [stage.asking.ask(f"{base}/manifests/{image.digest}?ns=registry.test")]
    for content in (image.config, *image.layers):
        replies.append(stage.asking.ask(f"{base}/blobs/{digest_of(content)}?ns=registry.test"))
    assert {reply.status for reply in replies} == {200}
    pull = _pull(stage.asking, "registry.test/library/whole")
    assert pull["references"] == ["v1"]
    assert pull["requests"][-4:] == [reply.headers[_HEADER] for reply in replies]
    records = [stage.found(each) for each in pull["requests"]]
    assert pull["bytes"] == sum(record["bytes"] for record in records)
    assert pull["bytes"] == sum(each["bytes"] for each in pull["bytes_by_tier"])
    assert pull["slowest"]["request"] in pull["requests"]
    assert not [
        each for each in stage.honest.ask("/api/pulls", port=ADMIN).json()["pulls"] if each["path"] == "peer"
    ]


def test_each_request_has_an_id_of_its_own_in_its_answer_and_in_the_log(stage: Stage) -> None:
    content = stage.fresh(1000)
    stage.asking.put(content)
    ids: list[str] = []

    def ask() -> None:
        for _ in range(25):
            ids.append(stage.asking.blob(content).headers[_HEADER])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    others = [
        stage.asking.ask(path)
        for path in ("/v2/", "/v2/library/app/blobs/sha256:short", "/v2/a/tags/list", "/nothing", "/v2/../x")
    ]
    ids += [reply.headers[_HEADER] for reply in others]
    assert len({each for each in ids if len(each) == 16}) == 105

    def logged() -> set[str]:
        return {json.loads(line).get("id") for line in log_lines(stage.asking.log)}

    wait_for(lambda: set(ids) <= logged(), "all of them are logged")


@pytest.mark.parametrize("wanted", ["", "0", "f" * 16, "F" * 16, "../..", "%00", "%22%3E%3Cscript%3E"])
def test_id_that_nobody_gave_is_not_found_in_words(stage: Stage, wanted: str) -> None:
    reply = stage.asking.ask(f"/api/requests?id={wanted}", port=ADMIN)
    assert (reply.status, reply.json()["code"]) == (404, "REQUEST_UNKNOWN")
    assert "512" in reply.json()["hint"]


def test_question_for_one_request_and_for_the_last_ones_at_once_is_refused(stage: Stage) -> None:
    reply = stage.asking.ask(f"/api/requests?id={'0' * 16}&limit=3", port=ADMIN)
    assert (reply.status, reply.json()["code"]) == (400, "QUERY_INVALID")


def test_peer_that_tells_no_id_or_a_wrong_one_is_believed_nothing(stage: Stage) -> None:
    content = stage.fresh(300_000)

    def serve(_: Impostor, connection: Any, __: Any) -> None:
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(content)}\r\n"
        connection.sendall((head + f"{_HEADER}: <script>alert(1)</script>\r\n\r\n").encode() + content)

    with Impostor(stage.addresses[0], serve, questioned=Holder(content).claim):
        stage.asking.wait_for_holders(content, {"one"})
        reply = stage.asking.blob(content)
    assert reply.body == content
    assert [step["request"] for step in steps_of(stage.traced(reply), "headers")] == [None]


_FIRST_BYTE = "shorthaul_first_byte_seconds"
_PROMETHEUS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
_EXEMPLAR = re.compile(
    r'^shorthaul_(?P<name>\w+)_bucket\{.*\} [0-9.]+ # \{request_id="(?P<id>\w{16})"\} (?P<value>[0-9.e-]+) ',
    re.MULTILINE,
)


def _scraped(node: Node, accept: str) -> str:
    reply = node.ask("/metrics", port=ADMIN, headers={"Accept": accept})
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8" if accept else "text/plain;"
    assert reply.headers["Content-Type"].startswith(kind)
    return reply.body.decode()


def test_request_that_an_exemplar_names_is_found_and_took_as_long_as_the_exemplar_says(stage: Stage) -> None:
    content = stage.fresh()
    holder = Holder()
    holder.put(content, answers_from=len(content))  # so that one request is slow
    stage.honest.put(content)
    with Impostor(stage.addresses[0], holder.serve, questioned=holder.claim):
        stage.asking.wait_for_holders(content, {"one", "honest"})
        slow = stage.traced(stage.asking.blob(content))
    named = [found.groupdict() for found in _EXEMPLAR.finditer(_scraped(stage.asking, _PROMETHEUS))]
    assert {each["name"] for each in named} >= {
        "first_byte_seconds",
        "request_duration_seconds",
        "lookup_seconds",
    }
    for each in named:
        record = stage.found(each["id"])
        key = {"first_byte_seconds": "first_byte_s", "request_duration_seconds": "seconds"}.get(each["name"])
        if key is not None:
            assert record[key] == pytest.approx(float(each["value"]), abs=1e-5)
    assert slow["id"] in {each["id"] for each in named if each["name"] == "first_byte_seconds"}
    assert "request_id" not in _scraped(stage.asking, "")


def test_real_prometheus_keeps_the_exemplars_and_each_leads_to_its_request(
    stage: Stage, tmp_path: Path
) -> None:
    content = stage.fresh(1000)
    stage.asking.put(content)
    stage.traced(stage.asking.blob(content))
    prometheus = Prometheus(tmp_path, fresh_address(), {"groups": []})
    try:
        prometheus.wait()
        prometheus.scrape({"asking": f"{stage.asking.address}:{ADMIN}"})
        kept: set[str] = set()

        def has_exemplars() -> bool:
            kept.update(each["request_id"] for each in prometheus.exemplars(f"{_FIRST_BYTE}_bucket"))
            return bool(kept)

        wait_for(has_exemplars, "it has scraped the agent")
    finally:
        prometheus.stop()
    assert {stage.found(each)["id"] for each in kept} == kept


def test_what_agents_expose_passes_promtool_and_is_valid_openmetrics(stage: Stage) -> None:
    for node in (stage.asking, stage.honest):
        assert complaints(_scraped(node, "").encode()) == ""
        families = text_string_to_metric_families(_scraped(node, _PROMETHEUS))  # type: ignore[no-untyped-call]
        assert {family.name for family in families} >= {"shorthaul_requests", "shorthaul_first_byte_seconds"}

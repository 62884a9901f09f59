"""Who is told, when something could not be had from a peer: who was not asked, and why."""

import signal
import socket
import threading
import time
from random import Random
from typing import Any

import pytest

from agent.latency.wire import PATH as LATENCY_PATH

from .agents import ADMIN, Node, Reply, Site, digest_of, fresh_address, wait_for
from .faults import Fault, Holder, Kind
from .impostor import Asked, Behaviour, Impostor, then_silent

_SIZE_BYTES = 400_000
_PULL = {"deadline_s": 1.0, "stall_s": 1.0, "cooloff_s": 60.0}


def _bytes_of(seed: str) -> bytes:
    return Random(seed).randbytes(_SIZE_BYTES)


def _message(reply: Reply) -> str:
    (error,) = reply.json()["errors"]
    return str(error["message"])


def _asking_beside(site: Site, address: str, **pull: Any) -> Node:
    asking = site.add("asking", pull={**_PULL, **pull}, lookup={"timeout_s": 0.5, "patience_s": 0.2})
    site.add_member("near", address)
    site.start()
    return asking


def test_404_says_what_the_holder_did_and_later_that_it_was_not_asked_in_full(site: Site) -> None:
    content, address = _bytes_of("silent"), fresh_address()
    holder = Holder()
    holder.put(content, afterwards=Fault(kind=Kind.IS_SILENT))
    asking = _asking_beside(site, address)
    with Impostor(address, holder.serve, questioned=holder.claim):
        first = asking.blob(content)
        assert (first.status, first.oci_code()) == (404, "BLOB_UNKNOWN")
        assert "near (" in _message(first)
    later = _message(asking.blob(_bytes_of("other")))
    assert "no peer that was asked in full" in later
    assert "not asked in full: near (" in later
    assert " s ago)" in later
    assert asking.newest(_bytes_of("other"))["reason"] in later


def test_tag_that_nobody_vouched_for_is_not_said_to_be_unknown_to_those_that_were_silent(site: Site) -> None:
    address = fresh_address()
    asking = _asking_beside(site, address)
    with Impostor(address, then_silent(), questioned=then_silent()):
        for _ in range(2):  # the first question finds out that it is silent
            reply = asking.ask("/v2/library/app/manifests/v1?ns=registry.test")
        assert reply.status == 404
        assert "nobody saw this tag" in _message(reply)
        assert "not asked in full: near (no " in _message(reply)


def test_explain_keeps_the_last_failure_in_words_and_topology_shows_who_does_not_answer(site: Site) -> None:
    address = fresh_address()
    asking = _asking_beside(site, address)
    digest = digest_of(b"anything")
    explained = asking.explain(digest)  # nobody listens there
    explained = asking.explain(digest)
    (failure,) = explained["failures"]
    assert failure["node"] == "near"
    assert failure["failure"] == "connection refused"
    assert failure["age_s"] >= 0
    assert [each["node"] for each in explained["not_asked_in_full"]] == ["near"]
    assert "s ago" in explained["not_asked_in_full"][0]["reason"]
    nodes = {node["name"]: node for node in asking.ask("/api/topology", port=ADMIN).json()["nodes"]}
    assert nodes["near"]["silent"]
    assert nodes["asking"]["silent"] is None
    (cooling,) = asking.transfers()["cooling"]
    assert cooling["reason"]


def _silent(node: Node, name: str) -> str | None:
    shown = {each["name"]: each for each in node.ask("/api/topology", port=ADMIN).json()["nodes"]}
    why: str | None = shown[name]["silent"]
    return why


def test_peer_that_answers_again_is_not_shown_as_silent_any_more(site: Site) -> None:
    """It is found by measuring, and would be tried again only after a wait that doubles each time."""
    asking, near = site.add("asking"), site.add("near", latency={"measure": False})
    site.start([asking])
    wait_for(lambda: _silent(asking, "near") is not None, "nobody is there")
    assert "connection refused" in str(_silent(asking, "near"))
    assert asking.metric("shorthaul_peers_reachable") == 0
    site.start([near])
    asking.explain(digest_of(b"anything"))  # everybody is asked, and it answers
    assert _silent(asking, "near") is None
    explained = asking.explain(digest_of(b"anything"))
    assert [each["answered_since"] for each in explained["failures"]] == [True]
    assert all("has answered since" in each["reason"] for each in explained["not_asked_in_full"])


def test_peer_that_shows_itself_again_is_asked_at_once_although_no_pull_needs_it(site: Site) -> None:
    """A node that does not measure would greet it after two minutes only."""
    asking = site.add("asking", latency={"measure": False})
    near = site.add("near", latency={"interval_s": 0.25, "window_s": 1.0, "report_s": 0.2})
    site.start([asking])
    asking.explain(digest_of(b"anything"))
    assert _silent(asking, "near") is not None
    site.start([near])
    wait_for(lambda: _silent(asking, "near") is None, "it reported, and was asked")


@pytest.mark.parametrize("meanwhile", ["question", "fetch"])
def test_agent_that_was_stopped_for_a_while_blames_no_peer_and_gets_what_came_meanwhile(
    site: Site, meanwhile: str
) -> None:
    """SIGSTOP, a suspended laptop: when it goes on, all its timers are over at once."""
    content, address = _bytes_of(meanwhile), fresh_address()
    holder, asked, go_on = Holder(content), threading.Event(), threading.Event()

    def late(then: Behaviour) -> Behaviour:
        def answer(impostor: Impostor, connection: socket.socket, request: Asked) -> None:
            if request.path != LATENCY_PATH:
                asked.set()
                go_on.wait(30.0)
            then(impostor, connection, request)

        return answer

    fetched = late(holder.serve) if meanwhile == "fetch" else holder.serve
    questioned = late(holder.claim) if meanwhile == "question" else holder.claim
    asking = _asking_beside(site, address, deadline_s=10.0, stall_s=3.0, patience_s=2.0)
    with Impostor(address, fetched, questioned=questioned):
        replies: list[Reply] = []
        client = threading.Thread(target=lambda: replies.append(asking.blob(content)))
        client.start()
        assert asked.wait(20.0)
        asking.process.signal(signal.SIGSTOP)
        go_on.set()
        time.sleep(4.0)  # longer than it would wait for a reply or a first byte
        asking.process.signal(signal.SIGCONT)
        client.join()
        assert replies[0].body == content
        assert asking.transfers()["cooling"] == []
        assert asking.waits() == 0

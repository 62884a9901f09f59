"""Agents that prove themselves: with a wrong key, a wrong clock, too early, twice, and in a rotation."""

import http.client
import re
import signal
import time
from typing import Any

import pytest
import yaml

from agent.cli.commands import run
from agent.keyring import new_key, read_keys
from tests.frames import accept_head

from .agents import ADMIN, PEER, REPLY_S, Node, Reply, Site, digest_of, fresh_address, wait_for
from .impostor import Asked, Impostor, response, says
from .proofs import signed
from .websocket import Closed, read_to_the_end, upgraded

_QUICK: dict[str, Any] = {"latency": {"interval_s": 0.25, "window_s": 1.0, "report_s": 0.2}}
_HOLDERS = "/shorthaul/v1/holders"


def _path(content: bytes) -> str:
    return f"/v2/library/app/blobs/{digest_of(content)}"


def _verbose(node: Node) -> str:
    return node.ask("/readyz?verbose", port=ADMIN).body.decode()


def _problems(node: Node) -> str:
    return str(node.ask("/api/topology", port=ADMIN).json()["problems"])


def _refused(node: Node, reason: str) -> float:
    return node.metric("shorthaul_refused_total", listener="peer", reason=reason)


def _ask_signed(node: Node, content: bytes, **how: Any) -> Reply:
    proof = signed(_path(content), **{"sender": "other", "receiver": node.name, **how})
    return node.ask(_path(content), port=PEER, headers=proof)


def test_node_with_another_key_is_told_that_it_is_its_own_trouble_and_blames_nobody(site: Site) -> None:
    nodes = [site.add(name, **_QUICK) for name in ("one", "two")]
    wrong_key = site.folder / "wrong.key"
    wrong_key.write_text(new_key())
    wrong = site.add("wrong", **_QUICK, peering={"key": str(wrong_key)})
    nodes[0].put(b"content")
    nodes[1].put(b"other content")
    site.start()
    assert wrong.blob(b"content").status == 404
    wait_for(lambda: "their keys differ, and 1 more refuse it; no peer accepts it" in _verbose(wrong), "told")
    assert "give this node the others' key" in _verbose(wrong).replace(
        "the key of the others", "the others' key"
    )
    assert wrong.is_ready()
    assert wrong.transfers()["cooling"] == []
    assert nodes[1].blob(b"content").body == b"content"
    assert nodes[0].blob(b"other content").body == b"other content"
    wait_for(lambda: "wrong refuses this node's signature: their keys differ" in _problems(nodes[0]), "alone")
    assert "[+] the cluster's key: " in _verbose(nodes[0])
    assert _refused(nodes[0], "unknown_key") > 0
    assert wrong_key.read_text() not in wrong.log.read_text() + nodes[0].log.read_text()


def _has_another_clock(_: Impostor, connection: Any, __: Asked) -> None:
    time_ms = str(int((time.time() + 600) * 1000))
    connection.sendall(response(401, Shorthaul_Refusal="clock", Shorthaul_Time=time_ms))


def test_wrong_clock_is_told_at_both_ends(site: Site) -> None:
    node, address = site.add("node", **_QUICK), fresh_address()
    node.put(b"content")
    site.add_member("other", address)
    with Impostor(address, _has_another_clock, questioned=_has_another_clock):
        site.start()
        # In one answer: the impostor answers the greeting as if it accepted it, which takes this back once.
        said = r"its clock is (599|600) s ahead of this node's.*by NTP"
        wait_for(lambda: re.search(said, _verbose(node)) is not None, "told where the clock is wrong")
        assert node.transfers()["cooling"] == []
    for ahead_s, differs in ((-600, "600 s behind"), (600, "600 s ahead of")):
        reply = _ask_signed(node, b"content", ahead_s=ahead_s)
        assert reply.status == 401
        message = re.sub("59[0-9] s|60[0-9] s", "600 s", reply.json()["errors"][0]["message"])
        assert message == f"the clock of other is {differs} that of node"
        assert reply.headers["Shorthaul-Refusal"] == "clock"
    assert _refused(node, "clock") == 2
    assert "the clock of other is" in node.log.read_text()


def test_same_request_counts_once_and_a_changed_one_never(site: Site) -> None:
    node = site.add("node")
    node.put(b"content")
    site.add_member("other", fresh_address())
    site.start()
    path = _path(b"content")
    proof = signed(path, sender="other", receiver="node")
    assert node.ask(path, port=PEER, headers=proof).body == b"content"
    again = node.ask(path, port=PEER, headers=proof)
    assert (again.status, again.headers["Shorthaul-Refusal"]) == (401, "replayed")
    for method, target, more in (
        ("HEAD", path, {}),
        ("GET", path + "?ns=x", {}),
        ("GET", path, {"Range": "bytes=1-"}),
    ):
        fresh = signed(path, sender="other", receiver="node")
        refused = node.ask(target, method=method, port=PEER, headers={**fresh, **more})
        assert (refused.status, refused.headers["Shorthaul-Refusal"]) == (401, None)
        assert refused.headers["Shorthaul-Node"] is None
    for how, reason in (({"sender": "nobody"}, "not_a_member"), ({"receiver": "third"}, "other_node")):
        assert _ask_signed(node, b"content", **how).headers["Shorthaul-Refusal"] == reason
        assert _refused(node, reason) == 1
    bare = node.ask(_HOLDERS, port=PEER)
    assert (bare.status, bare.body) == (
        401,
        b'{"errors": [{"code": "UNAUTHORIZED", "message": "not authorized"}]}',
    )
    assert "WWW-Authenticate" not in bare.headers
    assert _ask_signed(node, b"content").body == b"content"


def _accepts_without_proof(_: Impostor, connection: Any, asked: Asked) -> None:
    connection.sendall(accept_head(asked.headers["Sec-WebSocket-Key"]))
    while connection.recv(1000):
        pass


def test_who_answers_without_a_proof_is_not_asked(site: Site) -> None:
    node = site.add("node", **_QUICK, pull={"cooloff_s": 60.0})
    honest, address = site.add("honest"), fresh_address()
    honest.put(b"content")
    site.add_member("liar", address)
    with Impostor(address, says(response(200, b"lies")), questioned=_accepts_without_proof) as liar:
        site.start()
        assert node.blob(b"content").body == b"content"
        wait_for(lambda: "it answers without the cluster's key" in _problems(node), "told")
        assert {"liar"} == {each["node"] for each in node.transfers()["cooling"]}
        assert [each.path for each in liar.fetches] == []


def test_node_that_is_not_listed_yet_blames_nobody_and_pulls_once_it_is(site: Site) -> None:
    old, new = site.add("old", **_QUICK), site.add("new", **_QUICK)
    old.put(b"content")
    both = site.members.read_text()
    mine = site.folder / "of-the-new-one.yaml"
    mine.write_text(both)
    document = yaml.safe_load(new.config.read_text())
    new.config.write_text(yaml.safe_dump({**document, "membership": {"static": str(mine)}}))
    site.members.write_text(yaml.safe_dump([each for each in yaml.safe_load(both) if each["name"] == "old"]))
    site.start()
    assert new.blob(b"content").status == 404
    assert _refused(old, "not_a_member") > 0
    assert new.transfers()["cooling"] == []
    assert "[+] the cluster's key: " in _verbose(new)
    assert _problems(new) == "[]"
    site.members.write_text(both)
    wait_for(lambda: new.blob(b"content").body == b"content", "it is listed")


def test_no_pull_fails_while_the_key_is_replaced_at_one_node_after_the_other(site: Site) -> None:
    keys = [site.folder / name for name in ("one.key", "two.key")]
    for path in keys:
        path.write_bytes(site.key.read_bytes())
    one, two = (
        site.add(name, **_QUICK, peering={"key": str(path)})
        for name, path in zip(("one", "two"), keys, strict=True)
    )
    site.start()
    (before,), number = read_keys(keys[0]).ids, 0
    for step in ("add", "first", "keep-first"):
        assert run(["key", step, str(keys[0])]) == 0
        for node, path in ((one, keys[0]), (two, keys[1])):
            path.write_bytes(keys[0].read_bytes())
            node.process.signal(signal.SIGHUP)
            names = ", ".join(read_keys(path).ids)
            wait_for(lambda node=node, names=names: f"the cluster's key: {names}" in _verbose(node), "read")  # type: ignore[misc]
            for holder, asker in ((one, two), (two, one)):
                number += 1
                content = f"content {number}".encode()
                holder.put(content)
                assert asker.blob(content).body == content
    assert before not in read_keys(keys[0]).ids
    for node in (one, two):
        assert node.transfers()["cooling"] == []
        assert all(_refused(node, reason) == 0 for reason in ("unknown_key", "wrong_proof", "clock"))


def test_standing_connection_ends_when_the_key_goes_that_opened_it(site: Site) -> None:
    path = site.folder / "own.key"
    path.write_bytes(site.key.read_bytes())
    node = site.add("node", peering={"key": str(path)})
    site.add_member("other", fresh_address())
    site.start()
    proof = signed(_HOLDERS, sender="other", receiver="node")
    with upgraded(node.address, _HOLDERS, **proof) as sock:
        path.write_text(f"{new_key()}\n")
        node.process.signal(signal.SIGHUP)
        with pytest.raises(Closed):
            read_to_the_end(sock)


@pytest.mark.parametrize("text", [None, "short"])
def test_agent_with_peers_and_without_a_usable_key_does_not_start_and_says_what_to_do(
    site: Site, text: str | None
) -> None:
    path = site.folder / "no.key"
    if text is not None:
        path.write_text(text)
    node = site.add("node", peering={"key": str(path)})
    node.launch()
    wait_for(lambda: not node.process.running, "the agent ends")
    assert node.process.kill() == 2
    assert "shorthaul key new FILE" in node.log.read_text()


def test_open_agent_with_a_key_is_told_how_it_gets_closed(site: Site) -> None:
    keyed, keyless = (
        site.add("keyed", peering={"open": True}),
        site.add("keyless", peering={"key": None, "open": True}),
    )
    site.start()
    close, make = "take peering.open away", "set peering.key instead"
    for node, told, other in ((keyed, close, make), (keyless, make, close)):
        said = node.log.read_text()
        assert told in said
        assert other not in said


def test_open_agent_warns_and_a_closed_one_does_not(site: Site) -> None:
    opened, closed = site.add("opened", peering={"open": True}), site.add("closed")
    site.start()
    assert "everybody who reaches listen.peer may read" in opened.log.read_text()
    assert "everybody who" not in closed.log.read_text()
    assert (opened.metric("shorthaul_peering_open"), closed.metric("shorthaul_peering_open")) == (1, 0)
    for node, status in ((opened, 200), (closed, 401)):
        connection = http.client.HTTPConnection(node.address, PEER, timeout=REPLY_S)
        connection.request("GET", "/v2/")
        assert connection.getresponse().status == status
        connection.close()

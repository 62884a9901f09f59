"""What an agent reads again while it runs, and what it says of a peers file that contradicts itself or it."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import yaml

from .agents import ADMIN, LOCAL, PEER, SERVICE, Node, Site, fresh_address, log_lines, make_image, wait_for
from .impostor import Impostor, response, says
from .proofs import OPEN


def _problems(node: Node) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = node.ask("/api/topology", port=ADMIN).json()["problems"]
    return found


def _said(node: Node) -> str:
    return "\n".join(f"{each['node']}: {each['problem']}" for each in _problems(node))


def _logged(node: Node, message: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log_lines(node.log) if line.startswith("{")]
    return [line for line in lines if message in line["message"]]


def _peers(node: Node) -> set[str]:
    nodes = node.ask("/api/topology", port=ADMIN).json()["nodes"]
    return {each["name"] for each in nodes if not each["self"]}


def _reloads(node: Node, what: str, result: str) -> int:
    return int(node.metric("shorthaul_reloads_total", what=what, result=result))


def _hang_up(node: Node) -> None:
    """Send SIGHUP, and wait until the settings were read."""
    before = _settings_read(node)
    node.process.signal(signal.SIGHUP)
    wait_for(lambda: _settings_read(node) > before, "the settings are read again")


def _settings_read(node: Node) -> int:
    return sum(_reloads(node, "settings", result) for result in ("changed", "unchanged", "failed"))


def _change(node: Node, /, **settings: Any) -> None:
    node.config.write_text(yaml.safe_dump({**yaml.safe_load(node.config.read_text()), **settings}))


def _write(site: Site, *entries: dict[str, Any]) -> None:
    new = site.members.with_suffix(".new")
    new.write_text(yaml.safe_dump([*entries]))
    new.rename(site.members)


def _entry(name: str, address: str, port: int = PEER) -> dict[str, Any]:
    return {"name": name, "address": address, "port": port, "region": "r", "zone": "a"}


def test_sighup_replaces_filters_and_log_level_and_says_what_needs_a_restart(site: Site) -> None:
    image = make_image(b"a layer")
    node = site.add("node")
    node.put_image(image, "docker.io/library/app:v1", "docker.io/library/app:latest")
    site.start()
    path = "/v2/library/app/manifests"
    assert node.ask(f"{path}/v1?ns=docker.io").status == 200
    _change(
        node,
        registries={"exclude": ["GHCR.io"]},
        tags={"exclude": ["v1"], "resolve_latest": True},
        log={"level": "debug"},
        stop={"drain_s": 1.0},
    )
    _hang_up(node)
    assert node.ask(f"{path}/v1?ns=docker.io").status == 404
    assert node.ask(f"{path}/latest?ns=docker.io").status == 200
    assert node.ask(f"{path}/{image.digest}?ns=ghcr.io").status == 404
    assert node.ask(f"{path}/{image.digest}?ns=docker.io").status == 200
    (changed,) = _logged(node, "settings changed")
    assert changed["registries.exclude"] == "ghcr.io/*"
    assert changed["log.level"] == "debug"
    (waiting,) = _logged(node, "only a restart changes")
    assert "stop.drain_s" in waiting["message"]
    assert _reloads(node, "settings", "changed") == 1
    _hang_up(node)
    assert _reloads(node, "settings", "unchanged") == 1


def test_broken_file_at_sighup_keeps_the_old_settings_and_is_logged_with_hints(site: Site) -> None:
    image = make_image(b"a layer")
    node = site.add("node", registries={"exclude": ["ghcr.io"]})
    node.put_image(image, "docker.io/library/app:v1")
    site.start()
    good = node.config.read_text()
    for broken in ("registries: [", "registries: {exclude: [https://docker.io]}\n" + good, "- a"):
        node.config.write_text(broken)
        _hang_up(node)
    node.config.unlink()
    _hang_up(node)
    assert _reloads(node, "settings", "failed") == 4
    assert all(line["hint"] for line in _logged(node, "settings can't be used"))
    assert node.ask("/v2/library/app/manifests/v1?ns=docker.io").status == 200
    assert node.ask(f"/v2/library/app/manifests/{image.digest}?ns=ghcr.io").status == 404
    node.config.write_text(good)
    _hang_up(node)
    assert _reloads(node, "settings", "unchanged") == 1


def test_sighup_reads_the_peers_file_and_the_labels_again(site: Site) -> None:
    labels = site.folder / "labels"
    labels.write_text('topology.kubernetes.io/zone="a"\n')
    node = site.add("node", placement={"labels_file": str(labels)})
    site.start()
    node.process.signal(signal.SIGHUP)
    for what in ("peers", "labels"):
        wait_for(lambda what=what: _reloads(node, what, "unchanged") == 1, f"{what} read again")  # type: ignore[misc]


def test_sighup_never_ends_an_agent_not_at_its_start_and_not_while_it_drains(site: Site) -> None:
    node = site.add("node", stop={"unready_s": 3.0})
    node.launch()
    wait_for(lambda: _outlives_hangups(node.process.pid), "the program's first line ran")
    while not node.is_ready():
        node.process.signal(signal.SIGHUP)
        assert node.process.running
        time.sleep(0.01)
    node.process.signal(signal.SIGTERM)
    wait_for(lambda: bool(_logged(node, "unready now")), "it drains")
    for _ in range(100):
        node.process.signal(signal.SIGHUP)
    until_s = time.monotonic() + 60
    while node.process.running and time.monotonic() < until_s:
        node.process.signal(signal.SIGHUP)
    assert node.process.kill() == 0
    assert node.logged_errors() == []


def _outlives_hangups(pid: int) -> bool:
    """Whether the process has SIGHUP blocked, or a handler for it."""
    with open(f"/proc/{pid}/status") as status:
        masks = dict(line.split(":") for line in status if line.startswith(("SigBlk", "SigCgt")))
    return any(int(mask, 16) & 1 << (signal.SIGHUP - 1) for mask in masks.values())


def test_own_address_under_another_name_is_not_a_peer_and_is_said(site: Site) -> None:
    node = site.add("node")
    site.add_member("alias", node.address)
    site.start()
    wait_for(lambda: bool(_problems(node)), "the problem")
    assert "alias: " in _said(node)
    assert "itself" in _said(node)
    assert _peers(node) == set()
    assert node.metric("shorthaul_problems") == 1


def test_two_members_with_one_address_are_one_peer_until_the_file_is_corrected(site: Site) -> None:
    node = site.add("node")
    address = fresh_address()
    site.add_member("one", address)
    site.add_member("two", address)
    site.start()
    wait_for(lambda: _peers(node) == {"one"}, "one peer")
    assert "two: has the address" in _said(node)
    _write(site, _entry("node", node.address), _entry("one", address), _entry("two", fresh_address()))
    wait_for(lambda: _peers(node) == {"one", "two"}, "both")
    assert _problems(node) == []
    assert len(_logged(node, "over: has the address")) == 1
    assert _logged(node, "peers changed")[-1]["came_names"] == "two"


def test_node_that_the_peers_file_has_elsewhere_or_not_at_all_says_so(site: Site) -> None:
    node = site.add("node")
    _write(site, _entry("node", fresh_address()), _entry("other", fresh_address()))
    site.start()
    wait_for(lambda: "with this node's name" in _said(node), "elsewhere")
    _write(site, _entry("other", fresh_address()))
    wait_for(lambda: "not listed" in _said(node), "missing")
    _write(site)
    wait_for(lambda: "no peers" in _said(node), "empty")
    assert _peers(node) == set()


def test_broken_or_emptied_peers_file_keeps_the_peers_and_is_counted_and_said(site: Site) -> None:
    node = site.add("node")
    site.add_member("other", fresh_address())
    site.start()
    wait_for(lambda: _peers(node) == {"other"}, "the peer")
    for number, broken in enumerate(("", "- {name: a, name: b}", "[", "- 7"), 1):
        site.members.write_text(broken)
        wait_for(lambda number=number: _reloads(node, "peers", "failed") >= number, "read")  # type: ignore[misc]
        assert _peers(node) == {"other"}
        assert "last good one stays" in _said(node)
    site.members.write_text("[]")
    wait_for(lambda: _peers(node) == set(), "an empty list is meant")


def test_labels_file_that_goes_is_counted_and_keeps_the_place(site: Site) -> None:
    labels = site.folder / "labels"
    labels.write_text('topology.kubernetes.io/zone="z"\n')
    node = site.add("node", placement={"region": "r", "labels_file": str(labels)})
    site.start()
    labels.unlink()
    wait_for(lambda: _reloads(node, "labels", "failed") == 1, "the file is gone")
    own = next(each for each in node.ask("/api/topology", port=ADMIN).json()["nodes"] if each["self"])
    assert ["zone", "z"] in own["placement"]
    labels.write_text('topology.kubernetes.io/zone="y"\n')
    wait_for(lambda: _reloads(node, "labels", "changed") == 1, "another zone")


def test_pattern_that_matched_nothing_yet_is_a_problem_until_it_does(site: Site) -> None:
    node = site.add("node", registries={"exclude": ["ghcr.io/acme/*"]})
    site.start()
    assert "'ghcr.io/acme/*' has matched nothing yet" in _said(node)
    node.ask("/v2/acme/app/manifests/v1?ns=ghcr.io")
    assert _problems(node) == []


@pytest.mark.parametrize("key", ["registries", "node"])
def test_key_that_is_there_twice_in_the_configuration_ends_the_start_with_its_line(
    site: Site, key: str
) -> None:
    node = site.add("node")
    with node.config.open("a") as config:
        config.write(f"registries: {{}}\n{key}: {{}}\n")
    node.launch()
    wait_for(lambda: not node.process.running, "the agent ends")
    assert node.process.kill() == 2
    assert f"the key '{key}' is there twice" in node.log.read_text()


_REPORTING = {"interval_s": 0.25, "window_s": 1.0, "report_s": 0.2}


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_agent_that_is_not_who_the_list_says_is_told_and_asked_only_where_nobody_proves_anything(
    site: Site, is_open: bool
) -> None:
    peering = OPEN if is_open else {}
    asking, holder = (site.add(name, latency=_REPORTING, peering=peering) for name in ("asking", "holder"))
    holder.put(b"content")
    _write(site, _entry("asking", asking.address), _entry("other", holder.address))
    site.start()
    assert asking.blob(b"content").status == (200 if is_open else 404)
    wait_for(lambda: "is listed as other, but its agent calls itself 'holder'" in _said(asking), "said")
    _write(site, _entry("asking", asking.address), _entry("holder", holder.address))
    wait_for(lambda: asking.blob(b"content").body == b"content", "its name is right")
    wait_for(lambda: _problems(asking) == [], "it is over")
    assert len(_logged(asking, "other agents: over: ")) >= 1


def test_two_agents_with_one_name_are_told_at_both_and_at_a_third(site: Site) -> None:
    """Each of the two has a file of its own, in which the other one has another name."""
    one, third = site.add("twin", latency=_REPORTING), site.add("third", latency=_REPORTING)
    lists = site.folder / "of-the-other.yaml"
    other = site.add("other", latency=_REPORTING)
    _write(site, _entry("twin", one.address), _entry("third", third.address), _entry("b", other.address))
    lists.write_text(
        yaml.safe_dump(
            [_entry("a", one.address), _entry("third", third.address), _entry("twin", other.address)]
        )
    )
    _change(other, node={"name": "twin", "address": other.address}, membership={"static": str(lists)})
    site.start()
    own = "but its agent has this node's name, twin"
    wait_for(lambda: f"is listed as b, {own}" in _said(one), "told at the one")
    wait_for(lambda: f"is listed as a, {own}" in _said(other), "told at the other")
    wait_for(lambda: "is listed as b, but its agent calls itself 'twin'" in _said(third), "told at the third")


def test_entry_that_leads_back_to_this_node_is_found_by_the_answer_and_left_out(site: Site) -> None:
    node = site.add("node", latency=_REPORTING)
    elsewhere = fresh_address()
    with _forwarding(elsewhere, node.address):
        site.add_member("alias", elsewhere)
        site.start()
        wait_for(lambda: "leads to this node (node) itself" in _said(node), "found")
        wait_for(lambda: _peers(node) == set(), "left out")


_NOT_FOR_PEERS = {"hostport": LOCAL, "nodeport": SERVICE, "admin": ADMIN}


def test_entry_with_another_port_of_a_node_says_which_listener_is_there(site: Site) -> None:
    node, other = site.add("node", latency=_REPORTING), site.add("other", latency=_REPORTING)
    own = _entry("node", node.address)
    _write(site, own, *(_entry(name, other.address, port) for name, port in _NOT_FOR_PEERS.items()))
    site.start()
    for listener in _NOT_FOR_PEERS:
        said = f"is listed as {listener}, but that is no peer listener: it is other's listen.{listener}"
        wait_for(lambda said=said: said in _said(node), said)  # type: ignore[misc]
        (logged,) = _logged(node, said)
        assert f"port of listen.peer on {listener}" in logged["hint"]

    def silent() -> list[str]:
        nodes = node.ask("/api/topology", port=ADMIN).json()["nodes"]
        return [each["name"] for each in nodes if each["silent"]]

    wait_for(lambda: silent() == [], "they answer")
    assert len(_problems(node)) == len(_NOT_FOR_PEERS)
    _write(site, own, _entry("admin", other.address))
    wait_for(lambda: _peers(node) == {"admin"}, "the port of one is corrected")
    assert node.transfers()["cooling"] == [], "what was held against the wrong port is forgotten"
    _write(site, own, _entry("other", other.address))
    wait_for(lambda: _peers(node) == {"other"} and _problems(node) == [], "it is over")
    other.put(b"content")
    assert node.blob(b"content").body == b"content"


def test_own_listeners_in_the_peers_file_are_found_by_the_list_and_by_the_answer(site: Site) -> None:
    node = site.add("node", latency=_REPORTING)
    with ExitStack() as stack:
        listed = [_entry("node", node.address)]
        for listener, port in _NOT_FOR_PEERS.items():
            elsewhere = fresh_address()
            stack.enter_context(_forwarding(elsewhere, node.address, port))
            listed += [_entry(f"{listener}-here", node.address, port), _entry(f"{listener}-there", elsewhere)]
        _write(site, *listed)
        site.start()
        for listener, port in _NOT_FOR_PEERS.items():
            own = f"no peer listener: it is this node's own (node) listen.{listener}"
            for said in (
                f"{node.address}:{port} is {own}",
                f"is listed as {listener}-there, but that is {own}",
            ):
                wait_for(lambda said=said: said in _said(node), said)  # type: ignore[misc]
        wait_for(lambda: _peers(node) == set(), "left out")
        assert len(_problems(node)) == 2 * len(_NOT_FOR_PEERS)


def test_own_entry_with_the_port_of_another_listener_says_what_to_write(site: Site) -> None:
    node = site.add("node")
    _write(site, _entry("node", node.address, SERVICE), _entry("other", fresh_address()))
    site.start()
    wait_for(lambda: "it is its listen.nodeport, which is not for peers" in _said(node), "said")
    (problem,) = (each for each in _problems(node) if each["node"] == "node")
    assert f"write {node.address}:{PEER}" in problem["hint"]


def test_what_is_no_agent_at_a_peers_address_is_said_until_an_agent_is_there(site: Site) -> None:
    node, web = site.add("node", latency=_REPORTING), fresh_address()
    _write(site, _entry("node", node.address), _entry("web", web))
    page = says(response(200, b"hello", Server="pages/1"))
    with Impostor(web, page, questioned=page):
        site.start([node])
        said = "what answers there is no shorthaul agent (it answers HTTP 200 by pages/1)"
        wait_for(lambda: said in _said(node), "said")
    wait_for(lambda: _problems(node) == [], "nobody is there any more")


def test_peer_that_answers_another_name_is_listed_once_under_the_problems(site: Site) -> None:
    """Its answers say it, and its reports do."""
    node, other = (site.add(name, latency=_REPORTING, peering=OPEN) for name in ("node", "other"))
    _write(site, _entry("node", node.address), _entry("listed", other.address))
    site.start()
    wait_for(lambda: "its agent calls itself 'other'" in _said(node), "answered")
    reports = {"result": "stranger"}
    wait_for(lambda: node.metric("shorthaul_latency_reports_total", **reports) >= 2, "reported")
    assert [each["node"] for each in _problems(node)] == ["listed"]


@contextmanager
def _forwarding(source: str, target: str, port: int = PEER) -> Iterator[None]:
    """Connections to the peer port of one address go on to a port of another, as through a load balancer."""
    ends: list[socket.socket] = [socket.create_server((source, PEER))]
    threads: list[threading.Thread] = []

    def start(work: Callable[..., None], *arguments: socket.socket) -> None:
        threads.append(threading.Thread(target=work, args=arguments))
        threads[-1].start()

    def pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                ends.append(client)
                ends.append(socket.create_connection((target, port)))
                start(pump, *ends[-2:])
                start(pump, *ends[:-3:-1])

    start(accept, ends[0])
    try:
        yield
    finally:
        with suppress(OSError):
            ends[0].shutdown(socket.SHUT_RDWR)
        threads[0].join()
        for end in ends[1:]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads[1:]:
            thread.join()
        for end in ends:
            end.close()

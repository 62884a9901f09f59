"""How an agent starts and stops: taken ports, bad settings, draining, and being told twice."""

import json
import os
import resource
import signal
import socket
import subprocess
from contextlib import ExitStack

import pytest

from tests.frames import frame

from .agents import (
    ADMIN,
    AT_MOST_S,
    LOCAL,
    PEER,
    REPLY_S,
    SERVICE,
    Node,
    Site,
    digest_of,
    make_image,
    wait_for,
)
from .proofs import OPEN
from .websocket import questioning
from .wire import Ending, connected, raw_get, read_reply, read_to_end, request_bytes

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

_BIG_BYTES = 48 << 20  # more than the kernel's buffers of both sides take
_LONG_S = 300.0  # of `stop.drain_s`: an agent that ends within `AT_MOST_S` did not drain for so long


def _start_download(node: Node, content: bytes, stack: ExitStack) -> socket.socket:
    """A download of which nothing is read yet: the agent can't be done with it."""
    sock = stack.enter_context(connected(node.address, LOCAL, receive_bytes=65_536))
    sock.sendall(request_bytes(f"/v2/library/app/blobs/{digest_of(content)}"))
    assert sock.recv(1, socket.MSG_PEEK)
    return sock


def _readiness(node: Node) -> int:
    return node.ask("/readyz", port=ADMIN).status


def _exit_status(node: Node, *, at_most_s: float = AT_MOST_S) -> int:
    wait_for(lambda: not node.process.running, "the agent ends", at_most_s=at_most_s)
    return node.process.kill()


def _refuses(node: Node, port: int) -> bool:
    try:
        with connected(node.address, port):
            return False
    except OSError:
        return True


@pytest.mark.parametrize("relayed", [False, True], ids=["local", "relayed"])
def test_sigterm_turns_unready_completes_running_downloads_and_exits_0(site: Site, relayed: bool) -> None:
    content = b"\7" * _BIG_BYTES
    node = site.add("stopping", stop={"unready_s": 0.3, "drain_s": _LONG_S})
    holder = site.add("holder") if relayed else node
    holder.put(content)
    site.start()
    with ExitStack() as stack:
        sock = _start_download(node, content, stack)
        idle = stack.enter_context(connected(node.address, LOCAL))
        idle.sendall(request_bytes("/v2/"))
        assert read_reply(idle).status == 200
        node.process.signal(signal.SIGTERM)
        wait_for(lambda: _readiness(node) == 503, "unready")
        assert node.ask("/livez", port=ADMIN).status == 200
        wait_for(lambda: _refuses(node, PEER) and _refuses(node, SERVICE), "no new connections")
        idle.sendall(request_bytes("/v2/"))
        assert read_reply(idle).status == 503
        assert read_to_end(idle) == (b"", Ending.FIN)
        assert node.process.running
        assert read_reply(sock).body == content
    assert _exit_status(node) == 0
    assert "Traceback" not in node.log.read_text()


def test_an_agent_still_serves_other_nodes_between_turning_unready_and_closing_its_listeners(
    site: Site,
) -> None:
    node = site.add("stopping", stop={"unready_s": 30.0})
    node.put(b"content")
    site.start()
    node.process.signal(signal.SIGTERM)
    wait_for(lambda: _readiness(node) == 503, "unready")
    for port in (PEER, SERVICE):
        assert node.blob(b"content", port=port).body == b"content"


def test_an_agent_that_stops_sends_new_pulls_of_its_containerd_to_the_next_host_at_once(site: Site) -> None:
    content = b"\7" * _BIG_BYTES
    node = site.add("stopping", stop={"unready_s": 0, "drain_s": _LONG_S})
    node.put(content)
    site.start()
    with ExitStack() as stack:
        sock = _start_download(node, content, stack)
        node.process.signal(signal.SIGTERM)
        wait_for(lambda: _readiness(node) == 503, "unready")
        for headers in ({}, {"Range": "bytes=0-"}):
            refused = node.blob(content, headers=headers)
            assert (refused.status, refused.oci_code()) == (503, "UNAVAILABLE")
            assert refused.headers["Connection"] == "close"
        # containerd resumes a body, or fetches it in ranges: after the first one a 503 fails the pull.
        rest = node.blob(content, headers={"Range": f"bytes={_BIG_BYTES - 5}-"})
        assert (rest.status, rest.body) == (206, content[-5:])
        assert read_reply(sock).body == content
    assert _exit_status(node) == 0


def test_draining_ends_after_drain_s(site: Site) -> None:
    content = b"\7" * _BIG_BYTES
    node = site.add("stopping", stop={"unready_s": 0, "drain_s": 4.0})
    node.put(content)
    site.start()
    with ExitStack() as stack:
        _start_download(node, content, stack)
        node.process.signal(signal.SIGTERM)
        assert _exit_status(node, at_most_s=7.9) == 0  # not drain_s twice
    assert "Traceback" not in node.log.read_text()


def test_a_peer_that_takes_no_replies_does_not_hold_up_the_end(site: Site) -> None:
    node = site.add("stopping", stop={"unready_s": 0, "drain_s": 2.0})
    names = [f"v{number}" for number in range(200)]
    node.put_image(make_image(b"layer"), *(f"registry.test/library/app:{name}" for name in names))
    site.start()
    # The reply is six times as long: it does not take a peer many questions to fill the agent's buffers.
    tags = [[None, "library/app", name] for name in names]
    asked = frame(json.dumps({"number": 1, "digests": [], "tags": tags}).encode(), masked=True)
    with questioning(node.address) as peer:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sock.settimeout(1.0)
        with pytest.raises(TimeoutError):  # neither side's buffers take any more
            _send_for_ever(peer.sock, asked)
        node.process.signal(signal.SIGTERM)
        assert _exit_status(node) == 0


def _send_for_ever(sock: socket.socket, message: bytes) -> None:
    while True:
        sock.sendall(message)


def test_a_client_that_closes_its_side_after_its_request_gets_all_of_the_answer(site: Site) -> None:
    content = b"\7" * _BIG_BYTES
    holder, relay = site.add("holder"), site.add("relay")
    holder.put(content)
    site.start()
    for node in (holder, relay):
        with connected(node.address, LOCAL) as sock:
            sock.sendall(request_bytes(f"/v2/library/app/blobs/{digest_of(content)}"))
            sock.shutdown(socket.SHUT_WR)
            received, ending = read_to_end(sock)
            assert ending is Ending.FIN
            assert received.endswith(content)


@pytest.mark.parametrize("text", ["[" * 20_000, "- {name: a, port: !!bool foo}", "- !!timestamp foo", "- {"])
def test_a_peers_file_that_turns_bad_leaves_the_last_good_list_in_force(site: Site, text: str) -> None:
    node, holder = site.add("asker"), site.add("holder")
    holder.put(b"something")
    site.start()
    site.members.write_text(text)
    wait_for(lambda: "peers can't be used" in node.log.read_text(), "the bad file is noticed")
    assert node.blob(b"something").status == 200


def test_an_index_that_is_none_makes_unready_until_it_is_mended(site: Site) -> None:
    node = site.add("nested")
    site.start()
    index = node.layout / "index.json"
    good = index.read_text()
    index.write_text("[" * 200_000)
    wait_for(lambda: _readiness(node) == 503, "unready")
    index.write_text(good)
    wait_for(lambda: _readiness(node) == 200, "ready again")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_without_work_stops_at_once(site: Site, number: signal.Signals) -> None:
    node = site.add("stopping", stop={"unready_s": 0, "drain_s": _LONG_S})
    site.start()
    node.process.signal(number)
    assert _exit_status(node) == 0


def test_sigterm_twice_exits_without_draining(site: Site) -> None:
    content = b"\7" * _BIG_BYTES
    node = site.add("stopping", stop={"drain_s": _LONG_S})
    node.put(content)
    site.start()
    with ExitStack() as stack:
        _start_download(node, content, stack)
        node.process.signal(signal.SIGTERM)
        wait_for(lambda: _readiness(node) == 503, "unready")
        node.process.signal(signal.SIGTERM)
        assert _exit_status(node) == 1


def test_a_taken_port_is_exit_1_and_names_its_owner_and_a_way_out(site: Site) -> None:
    node = site.add("late")
    with socket.create_server((node.address, PEER)):
        done = subprocess.run(node.command, capture_output=True, text=True, timeout=REPLY_S, check=False)
    assert done.returncode == 1
    assert f"listen.peer: {node.address}:{PEER} is taken by python" in done.stderr
    assert "hint: stop that process" in done.stderr
    assert "--set listen.peer=" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_the_machine_does_not_have_is_exit_1_with_a_hint(site: Site) -> None:
    node = site.add("lost")
    command = [*node.command, "--set", "listen.peer=192.0.2.1:30020"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=REPLY_S, check=False)
    assert done.returncode == 1
    assert "192.0.2.1 is no address of this machine" in done.stderr
    assert "hint:" in done.stderr


def test_a_bad_setting_is_exit_2_and_named_with_a_hint(site: Site) -> None:
    node = site.add("wrong")
    command = [*node.command, "--set", "listen.hostport=192.0.2.1:1", "--set", "pull.stall=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=REPLY_S, check=False)
    assert done.returncode == 2
    assert "listen.hostport" in done.stderr
    assert "pull.stall: unknown key" in done.stderr
    assert "did you mean stall_s?" in done.stderr


def test_an_agent_is_unready_while_its_store_is_gone_and_still_relays(site: Site) -> None:
    node, holder = site.add("node"), site.add("holder")
    node.put(b"local content")
    holder.put(b"the holder's")
    site.start()
    away = node.layout.with_suffix(".away")
    node.layout.rename(away)
    wait_for(lambda: _readiness(node) == 503, "unready")
    assert node.layout.name in node.ask("/readyz", port=ADMIN).body.decode()
    assert node.blob(b"local content").status == 404
    assert node.blob(b"the holder's").body == b"the holder's"
    away.rename(node.layout)
    wait_for(lambda: _readiness(node) == 200, "ready again")
    assert node.blob(b"local content").body == b"local content"


def test_a_store_of_100000_blobs_never_makes_an_agent_that_starts_fail_its_liveness_probe(site: Site) -> None:
    node = site.add("big")
    blobs = node.layout / "blobs/sha256"
    for number in range(100_000):
        content = b"%d" % number
        file = os.open(blobs / digest_of(content).removeprefix("sha256:"), os.O_CREAT | os.O_WRONLY)
        os.write(file, content)
        os.close(file)
    node.launch()
    node.process.wait_until(lambda: _alive(node), "the agent")
    while not node.is_ready():
        assert _alive(node)
    assert node.metric("shorthaul_store_blobs") == 100_000
    assert _alive(node)


def _alive(node: Node) -> bool:
    """What a kubelet's liveness probe finds (``timeoutSeconds: 5`` in the chart)."""
    try:
        return node.ask("/livez", port=ADMIN, timeout_s=5.0).status == 200
    except OSError:
        return False


def test_an_agent_that_can_accept_nothing_more_is_unready_and_says_which_listener(site: Site) -> None:
    node = site.add("full")
    site.start()
    pid = node.process.pid
    with ExitStack() as stack:
        admin = stack.enter_context(connected(node.address, ADMIN))
        admin.sendall(request_bytes("/livez"))
        assert read_reply(admin).status == 200  # it is accepted already
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))  # what is open stays open
        said = ""

        def unready() -> bool:
            nonlocal said
            admin.sendall(request_bytes("/readyz?verbose"))
            reply = read_reply(admin)
            said = reply.body.decode()
            return reply.status == 503

        wait_for(lambda: unready() and "[-] listen.hostport: Too many open files" in said, "unready")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        wait_for(lambda: not unready(), "ready again")


def test_a_restarted_agent_can_take_its_ports_again_at_once(site: Site) -> None:
    node = site.add("again", stop={"unready_s": 0})
    node.put(b"content")
    site.start()
    for _ in range(2):
        assert raw_get(node.address, LOCAL, f"/v2/app/blobs/{digest_of(b'content')}").status == 200
        node.stop()
        site.start([node])

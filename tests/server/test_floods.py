"""Clients that flood an agent: what they get, and that the others do not notice. Speed: benchmarks/floods."""

import json
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from agent.holders.wire import PATH, QUESTION_MAX_BYTES
from agent.latency.wire import PATH as LATENCY_PATH
from tests.frames import PING, frame

from .agents import ADMIN, LOCAL, PEER, SERVICE, Node, Site, fresh_address, wait_for
from .websocket import Closed, Questioner, read_frame, read_to_the_end, upgraded
from .wire import connected, request_bytes

_CONTENT = b"a content of the flooded node"
_FEW_FILES = 512
_CONNECTIONS_MAX = 256
_STRANGERS_MAX, _STRANGER_MAX = _CONNECTIONS_MAX // 2, _CONNECTIONS_MAX // 4  # as in agent.app.bounds
_QUICK_S = 2.0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site of its own, because floods leave bans behind."""
    with Site({"open": True}) as made:  # what comes before the proof is bounded as well
        yield made


@pytest.fixture(scope="module")
def node(site: Site) -> Node:
    """The node that is flooded."""
    made = site.add("flooded", http={"connections_max": _CONNECTIONS_MAX})
    made.put(_CONTENT)
    site.start([made])
    return made


@pytest.fixture
def member(site: Site, node: Node) -> str:
    """The address of a member that is no agent."""
    address = fresh_address()
    name = f"member-{address}"
    site.add_member(name, address)
    wait_for(lambda: f'"{name}"'.encode() in node.ask("/api/topology", port=ADMIN).body, "it is a member")
    return address


def require_others_are_served(node: Node) -> None:
    """This node's containerd, and the kubelet."""
    for _ in range(5):
        assert node.blob(_CONTENT).body == _CONTENT
        assert node.ask("/livez", port=ADMIN).status == 200


def refused(node: Node, reason: str, listener: str = "peer") -> float:
    """How many clients were refused for this reason."""
    return node.metric("shorthaul_refused_total", listener=listener, reason=reason)


def is_open(sock: socket.socket) -> bool:
    """Whether the other side has not ended a connection on which nothing comes."""
    sock.setblocking(False)
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def idle_connections(node: Node, port: int, sources: list[str], number: int) -> Iterator[list[socket.socket]]:
    """So many connections on which nothing is sent. Ones that can't be opened are left out."""
    with ExitStack() as stack:
        opened = []
        for place in range(number):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.settimeout(0.2)
            sock.bind((sources[place % len(sources)], 0))
            with suppress(OSError):
                sock.connect((node.address, port))
                opened.append(sock)
        yield opened


def held(node: Node, listener: str) -> int:
    """How many connections a listener has."""
    return int(node.metric("shorthaul_connections", listener=listener))


@pytest.mark.parametrize(("port", "listener"), [(PEER, "peer"), (SERVICE, "nodeport")])
def test_one_stranger_has_few_connections_and_nobody_else_notices(
    node: Node, port: int, listener: str
) -> None:
    before = held(node, listener)
    with idle_connections(node, port, [fresh_address()], 150):
        wait_for(lambda: refused(node, "connections", listener) > 0, "it is refused")
        assert held(node, listener) <= before + _STRANGER_MAX
        with connected(node.address, port, source=fresh_address()) as other:
            other.sendall(request_bytes("/v2/"))
            assert other.recv(12).startswith(b"HTTP/1.1 ")
        require_others_are_served(node)


def test_many_strangers_together_leave_a_member_its_connections(node: Node, member: str) -> None:
    sources = [fresh_address() for _ in range(6)]
    with idle_connections(node, PEER, sources, 6 * (_STRANGER_MAX - 4)):
        assert held(node, "peer") <= _STRANGERS_MAX + 2
        with upgraded(node.address, PATH, source=member) as sock:
            assert Questioner(sock).ask(digests=[]) == {"held": [], "tags": []}
        require_others_are_served(node)


def test_idle_clients_at_a_members_address_do_not_keep_its_agent_from_connecting(
    node: Node, member: str
) -> None:
    before, refusals = held(node, "peer"), refused(node, "connections")
    with idle_connections(node, PEER, [member], 2 * _STRANGER_MAX):
        wait_for(lambda: refused(node, "connections") > refusals, "the oldest ones give way")
        wait_for(lambda: held(node, "peer") <= before + _STRANGER_MAX, "they are gone")
        for _ in range(100):  # more than would be banned
            with upgraded(node.address, PATH, source=member) as sock:
                assert Questioner(sock).ask(digests=[]) == {"held": [], "tags": []}
        require_others_are_served(node)


def test_a_stranger_that_connects_again_and_again_is_dropped_by_the_kernel_and_nobody_else_is(
    node: Node, member: str
) -> None:
    source = fresh_address()

    def is_banned() -> bool:
        with idle_connections(node, PEER, [source], 1) as opened:
            return not opened

    with idle_connections(node, PEER, [source], _STRANGER_MAX):
        wait_for(is_banned, "its SYNs are dropped")
        with upgraded(node.address, PATH, source=member):
            require_others_are_served(node)
    wait_for(lambda: not is_banned(), "the ban ends")


def test_clients_that_leave_before_they_are_served_leave_nothing_open(node: Node) -> None:
    before, source = held(node, "peer"), fresh_address()
    for _ in range(400):
        with idle_connections(node, PEER, [source], 1) as opened:
            for sock in opened:
                sock.send(request_bytes("/v2/"))  # and reset
    assert held(node, "peer") <= before + _STRANGER_MAX
    wait_for(lambda: held(node, "peer") <= before, "all are closed")
    require_others_are_served(node)


def test_a_head_without_end_is_cut(node: Node) -> None:
    before = refused(node, "unfinished")
    with connected(node.address, PEER, source=fresh_address()) as sock, suppress(OSError):
        sock.sendall(b"GET /v2/ HTTP/1.1\r\n")
        for number in range(1000):
            sock.sendall(b"X-%d: %s\r\n" % (number, b"x" * 8000))
        pytest.fail("8 MB of head were taken")
    assert refused(node, "unfinished") == before + 1
    require_others_are_served(node)


def test_requests_that_are_sent_ahead_are_all_answered_and_hold_nobody_up(node: Node, member: str) -> None:
    many = 150
    with connected(node.address, PEER, source=member) as sock:
        sock.sendall(request_bytes("/v2/", User_Agent="shorthaul") * many)
        require_others_are_served(node)
        received = b""
        while received.count(b"HTTP/1.1 ") < many:
            more = sock.recv(1 << 16)
            assert more, f"only {received.count(b'HTTP/1.1 ')} answers"
            received += more


def test_a_body_in_single_bytes_holds_nobody_up(node: Node) -> None:
    with connected(node.address, PEER, source=fresh_address(), timeout_s=_QUICK_S) as sock:
        sock.sendall(request_bytes("/v2/", Transfer_Encoding="chunked"))
        with suppress(OSError):  # it is cut, or nothing is read any more
            for _ in range(20):
                sock.sendall(b"1\r\nx\r\n" * 10_000)
        require_others_are_served(node)


def test_a_body_is_never_decompressed(node: Node) -> None:
    with connected(node.address, LOCAL) as sock:
        sock.sendall(
            request_bytes("/v2/", method="POST", Content_Encoding="gzip", Content_Length="4") + b"bomb"
        )
        assert sock.recv(12) == b"HTTP/1.1 405"


_BREAKS_RULES = {
    "fragment": frame(b"{", masked=True, final=False),
    "empty continuation": frame(b"", opcode=0, masked=True),
    "empty continuations": frame(b"x", masked=True, final=False)
    + frame(b"", opcode=0, masked=True, final=False) * 100,
    "compressed": b"\xc2" + frame(b"x", masked=True)[1:],
    "no mask": frame(b'{"number":1}'),
    "text": frame(b'{"number":1}', opcode=1, masked=True),
    "pings": frame(b"", opcode=PING, masked=True) * 40,
    "too long": frame(b" " * (QUESTION_MAX_BYTES + 1), masked=True)[:100],
}


@pytest.mark.parametrize("sent", _BREAKS_RULES.values(), ids=_BREAKS_RULES)
def test_a_websocket_that_breaks_the_rules_is_ended_and_counted(node: Node, member: str, sent: bytes) -> None:
    before = refused(node, "frames")
    with upgraded(node.address, PATH, source=member) as sock:
        with suppress(OSError):
            sock.sendall(sent)
        with pytest.raises(Closed):
            read_to_the_end(sock)
    assert refused(node, "frames") == before + 1
    assert not node.logged_errors()


def test_a_frame_right_behind_the_request_for_the_websocket_is_guarded_as_well(
    node: Node, member: str
) -> None:
    before = refused(node, "frames")
    key = {"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec_WebSocket_Version": "13"}
    with connected(node.address, PEER, source=member) as sock:
        head = request_bytes(PATH, Upgrade="websocket", Connection="Upgrade", User_Agent="shorthaul", **key)
        sock.sendall(head + _BREAKS_RULES["empty continuations"])
        wait_for(lambda: refused(node, "frames") == before + 1, "it is refused")


def test_unfinished_messages_of_one_member_are_bounded_together(node: Node, member: str) -> None:
    before = refused(node, "unfinished")
    unfinished = frame(b" " * (QUESTION_MAX_BYTES - 1), masked=True)[:-1]
    with ExitStack() as stack:
        opened = []
        for _ in range(8):
            sock = stack.enter_context(upgraded(node.address, PATH, source=member))
            with suppress(OSError):
                sock.sendall(unfinished)
            opened.append(sock)
        wait_for(lambda: sum(map(is_open, opened)) <= 4, "no more than a megabyte is kept")
        assert refused(node, "unfinished") >= before + 4
        require_others_are_served(node)
        with upgraded(node.address, PATH, source=fresh_address()) as other:
            assert Questioner(other).ask(digests=[]) == {"held": [], "tags": []}


def full_question(number: int) -> bytes:
    """256 digests and 256 tags."""
    digests = [f"sha256:{256 * number + place:064x}" for place in range(256)]
    tags = [["registry.example.com", f"group/service-{place}", f"v{number}"] for place in range(256)]
    return frame(json.dumps({"number": number, "digests": digests, "tags": tags}).encode(), masked=True)


def test_full_questions_of_one_member_wait_their_turn_and_all_are_answered(node: Node, member: str) -> None:
    many = 40
    with ExitStack() as stack:
        opened = [stack.enter_context(upgraded(node.address, PATH, source=member)) for _ in range(4)]
        for sock in opened:
            sock.setblocking(False)
        left = {sock: b"".join(map(full_question, range(many))) for sock in opened}
        until_s = time.monotonic() + _QUICK_S
        while any(left.values()) and time.monotonic() < until_s:
            for sock in opened:
                with suppress(BlockingIOError):
                    left[sock] = left[sock][sock.send(left[sock]) :]
            require_others_are_served(node)
        first = opened[0]
        first.settimeout(60.0)
        with suppress(BlockingIOError):
            first.sendall(left[first])
        assert [json.loads(read_frame(first))["number"] for _ in range(many)] == [*range(many)]


def test_reports_back_to_back_end_the_connection(node: Node, member: str) -> None:
    report = json.dumps({"node": "m", "zones": [], "nodes": [], "load": 1}).encode()
    with upgraded(node.address, LATENCY_PATH, source=member) as sock:
        with suppress(OSError):
            for _ in range(100):
                sock.sendall(frame(report, masked=True))
        wait_for(lambda: not is_open(sock), "it is ended")
    require_others_are_served(node)


def test_with_few_descriptors_idle_clients_leave_the_hostport_and_the_admin_port_theirs(site: Site) -> None:
    node = site.add("small")
    node.before = ("prlimit", f"--nofile={_FEW_FILES}:{_FEW_FILES}")
    node.put(_CONTENT)
    site.start([node])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft >= 4 * _FEW_FILES, f"this test opens more files than {soft} of {hard}"
    sources = [fresh_address() for _ in range(8)]
    with (
        idle_connections(node, PEER, sources, 2 * _FEW_FILES),
        idle_connections(node, SERVICE, sources, _FEW_FILES),
        idle_connections(node, LOCAL, ["127.0.0.1"], 2 * _FEW_FILES),
        idle_connections(node, ADMIN, ["127.0.0.1"], _FEW_FILES),
    ):
        require_others_are_served(node)
        assert node.is_ready()
    assert not node.logged_errors()
    warnings = [line for line in node.log.read_text().splitlines() if "take too much" in line]
    assert 1 <= len(warnings) <= 2, "one line a minute for each listener"

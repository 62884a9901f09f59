"""Requests that no well-behaved client sends: they get an OCI error or a closed connection, nothing else."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.frames import frame

from .agents import ADMIN, LOCAL, PEER, SERVICE, Node, Site, digest_of, service_proof, wait_for
from .conftest import Shelf
from .proofs import OPEN
from .websocket import Closed, questioning, read_frame
from .wire import Ending, connected, read_reply, read_to_end, request_bytes

_DIGEST = digest_of(b"x")


@pytest.fixture(scope="module")
def patient() -> Iterator[Node]:
    """An agent that waits long for the rest of a head."""
    with Site(OPEN) as site:
        node = site.add("patient", http={"idle_s": 600.0})
        site.start()
        yield node


_IDLE_S = 2.0  # the shelf's http.idle_s
_MARGIN_S = 20.0  # together less than the default


def _ask_raw(shelf: Shelf, path: str) -> tuple[int, bytes]:
    """Ask on a fresh connection, and check that the connection serves the next request as well."""
    with connected(shelf.node.address, LOCAL) as sock:
        sock.sendall(request_bytes(path))
        reply = read_reply(sock)
        assert reply.ending is Ending.WHOLE
        if reply.status != 400 or reply.headers["Connection"] != "close":
            sock.sendall(request_bytes("/v2/"))
            assert read_reply(sock).status == 200
        return reply.status, reply.body


@pytest.mark.parametrize(
    "path",
    [
        f"/v2/../../etc/blobs/{_DIGEST}",
        f"/v2/a/../b/blobs/{_DIGEST}",
        f"/v2/a/./b/blobs/{_DIGEST}",
        f"/v2/a//b/blobs/{_DIGEST}",
        f"/v2/a%2fb/blobs/{_DIGEST}",
        f"/v2/a%2Fb/blobs/{_DIGEST}",
        f"/v2/a%5cb/blobs/{_DIGEST}",
        f"/v2/%2e%2e/%2e%2e/etc/blobs/{_DIGEST}",
        f"/v2/a%00b/blobs/{_DIGEST}",
        f"/v2/a%0d%0ab/blobs/{_DIGEST}",
        f"/v2/UPPER/blobs/{_DIGEST}",
        f"/v2/a%ff/blobs/{_DIGEST}",
        f"/v2/{'a' * 256}/blobs/{_DIGEST}",
        f"/v2/{'a/' * 2000}b/blobs/{_DIGEST}",
        "/v2/app/manifests/v1?ns=../../etc",
        "/v2/app/manifests/v1?ns=a%2fb",
        "/v2/app/manifests/v1?ns=",
        "/v2/app/manifests/v1?ns=a&ns=b",
    ],
)
def test_a_name_outside_of_the_grammar_is_400_name_invalid(shelf: Shelf, path: str) -> None:
    status, body = _ask_raw(shelf, path)
    assert status == 400
    assert b'"NAME_INVALID"' in body


@pytest.mark.parametrize(
    "reference",
    [
        "sha256:totallywrong",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256:..",
        "..:..",
        "nodigest",
        "sha256:" + "a" * 5000,
    ],
)
def test_a_blob_by_a_bad_digest_is_400_digest_invalid(shelf: Shelf, reference: str) -> None:
    status, body = _ask_raw(shelf, f"/v2/app/blobs/{reference}")
    assert status == 400
    assert b'"DIGEST_INVALID"' in body


@pytest.mark.parametrize("tag", ["..", "%2e%2e", "a b".replace(" ", "%20"), "t" * 129, "-x"])
def test_a_tag_outside_of_the_grammar_is_404_because_no_such_tag_can_exist(shelf: Shelf, tag: str) -> None:
    status, body = _ask_raw(shelf, f"/v2/app/manifests/{tag}")
    assert status == 404
    assert b'"MANIFEST_UNKNOWN"' in body


def test_a_request_in_absolute_form_is_accepted(shelf: Shelf) -> None:
    # RFC 9112, 3.2.2: a server MUST accept it, and a client MUST send the same host as its Host.
    assert _ask_raw(shelf, "http://localhost/v2/")[0] == 200


def test_a_request_in_absolute_form_for_another_host_than_its_host_field_is_refused(shelf: Shelf) -> None:
    with connected(shelf.node.address, LOCAL) as sock:
        sock.sendall(request_bytes("http://evil.example/v2/") + request_bytes("/v2/"))
        assert read_reply(sock).status == 400
        assert read_to_end(sock) == (b"", Ending.FIN)


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER, ADMIN])
def test_a_tunnel_to_nowhere_is_refused_and_leaves_no_connection_open(shelf: Shelf, port: int) -> None:
    with connected(shelf.node.address, port) as sock:
        sock.sendall(b"CONNECT \r\n\r\n" + request_bytes("/v2/"))
        assert read_reply(sock).status == 400
        assert read_to_end(sock)[1] is not Ending.SILENT


def test_a_body_that_says_it_is_compressed_is_never_decompressed(shelf: Shelf) -> None:
    with connected(shelf.node.address, LOCAL) as sock:
        fields = {"Content_Encoding": "gzip", "Content_Length": "3"}
        sock.sendall(request_bytes("/v2/", method="POST", **fields) + b"abc")
        assert read_reply(sock).status == 405
        sock.sendall(request_bytes("/v2/"))
        assert read_reply(sock).status == 200


def test_a_websocket_whose_peer_has_closed_its_side_already_is_closed(shelf: Shelf) -> None:
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    head = request_bytes("/shorthaul/v1/holders", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", **fields)
    with connected(shelf.node.address, PEER) as sock:
        sock.sendall(head)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock)[1] is Ending.FIN


def test_a_handshake_with_a_key_that_is_no_text_is_400(shelf: Shelf) -> None:
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    with connected(shelf.node.address, PEER) as sock:
        sock.sendall(request_bytes("/shorthaul/v1/holders", Sec_WebSocket_Key="\xff\xfe", **fields))
        assert read_reply(sock).status == 400


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER])
@pytest.mark.parametrize(
    "head",
    [
        request_bytes("/v2/" + "a" * 20_000),
        request_bytes("/v2/", X_Long="a" * 20_000),
        request_bytes("/v2/", **{"X_" + "a" * 20_000: "1"}),
    ],
    ids=["line", "value", "name"],
)
def test_an_oversize_head_gets_an_oci_error_and_is_closed(shelf: Shelf, port: int, head: bytes) -> None:
    with connected(shelf.node.address, port) as sock:
        sock.sendall(head)
        reply = read_reply(sock)
        assert reply.status == 431
        assert b'"errors"' in reply.body
        assert read_to_end(sock) == (b"", Ending.FIN)


def test_a_head_of_endlessly_many_fields_is_refused(shelf: Shelf) -> None:
    with connected(shelf.node.address, LOCAL) as sock:
        sock.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for number in range(200_000):
                sock.sendall(b"X-Field-%d: %s\r\n" % (number, b"a" * 60))
        except ConnectionError:
            return  # refused while we were still writing
        reply = read_reply(sock)
        assert reply.status in (0, 400, 431)
        assert reply.ending is not Ending.SILENT


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER, ADMIN])
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v2/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["tls", "nul", "word", "method", "version", "field", "length", "smuggle", "bytes", "http2"],
)
def test_garbage_instead_of_http_is_answered_400_or_closed_and_never_served(
    shelf: Shelf, port: int, garbage: bytes
) -> None:
    with connected(shelf.node.address, port, timeout_s=8.0) as sock:
        sock.sendall(garbage)
        reply = read_reply(sock)
        assert reply.ending is not Ending.SILENT
        assert reply.status in (0, 400, 404)
        if reply.status and port != ADMIN:
            assert b'"errors"' in reply.body
    assert shelf.node.ask("/v2/", port=port if port != ADMIN else LOCAL).status == 200


def test_a_head_that_is_never_finished_is_closed_within_idle_s(shelf: Shelf) -> None:
    starts = [b"", b"GET /v2/ HT", b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n"]
    with ExitStack() as stack:
        started_s = time.monotonic()
        socks = []
        for port in (LOCAL, SERVICE, PEER):
            for start in starts:
                socks.append(stack.enter_context(connected(shelf.node.address, port)))
                socks[-1].sendall(start)
        for sock in socks:
            _, ending = read_to_end(sock)
            assert ending is not Ending.SILENT
        assert time.monotonic() - started_s < _IDLE_S + _MARGIN_S


def test_a_head_that_only_drips_is_closed_within_idle_s(shelf: Shelf) -> None:
    with connected(shelf.node.address, LOCAL) as sock:
        assert _drips_until_closed(sock) < _IDLE_S + _MARGIN_S


def test_the_second_head_of_a_connection_that_only_drips_is_closed_within_idle_s(shelf: Shelf) -> None:
    with connected(shelf.node.address, LOCAL) as sock:
        sock.sendall(request_bytes("/v2/"))
        assert read_reply(sock).status == 200
        assert _drips_until_closed(sock) < _IDLE_S + _MARGIN_S


_HALVES = [b"", b"GET /v2/ HT", b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: "]


@pytest.mark.parametrize("before", ["nothing", "an answer"])
def test_half_a_head_of_a_client_that_closes_is_closed_at_once(patient: Node, before: str) -> None:
    with ExitStack() as stack:
        socks = []
        for port in (LOCAL, SERVICE, PEER, ADMIN):
            for half in _HALVES:
                socks.append(stack.enter_context(connected(patient.address, port)))
                if before == "an answer":
                    proof = service_proof() if port == SERVICE else {}
                    socks[-1].sendall(request_bytes("/livez" if port == ADMIN else "/v2/", **proof))
                    assert read_reply(socks[-1]).status == 200
                socks[-1].sendall(half)
                socks[-1].shutdown(socket.SHUT_WR)
        for sock in socks:
            assert read_to_end(sock) == (b"", Ending.FIN)


def test_client_that_closes_its_side_gets_the_answers_to_all_that_it_asked(patient: Node) -> None:
    for rest in _HALVES:
        with connected(patient.address, LOCAL) as sock:
            sock.sendall(request_bytes("/v2/") * 3 + rest)
            sock.shutdown(socket.SHUT_WR)
            received, ending = read_to_end(sock)
            assert received.count(b"HTTP/1.1 200 OK") == 3
            assert ending is Ending.FIN


def test_many_halves_of_heads_leave_nothing_open(patient: Node) -> None:
    def leave() -> None:
        with connected(patient.address, LOCAL) as sock:
            sock.sendall(_HALVES[1])

    for _ in range(2000):
        leave()
    wait_for(lambda: _kept(patient) == 0, "all of them are closed long before http.idle_s")
    assert patient.ask("/v2/").status == 200


def _kept(node: Node) -> int:
    """Connections to the HostPort that the agent keeps although their clients closed them."""
    source = f"{node.address}:{LOCAL}"
    listed = subprocess.run(
        ["ss", "-tnH", "state", "close-wait", "src", source], capture_output=True, text=True, check=True
    )
    return len(listed.stdout.splitlines())


def test_an_idle_connection_is_closed_after_idle_s_and_not_before(shelf: Shelf) -> None:
    with connected(shelf.node.address, LOCAL) as sock:
        sock.sendall(request_bytes("/v2/"))
        assert read_reply(sock).status == 200
        time.sleep(_IDLE_S / 2)
        started_s = time.monotonic()
        sock.sendall(request_bytes("/v2/"))
        assert read_reply(sock).status == 200
        assert read_to_end(sock) == (b"", Ending.FIN)
        assert _IDLE_S / 2 < time.monotonic() - started_s < _IDLE_S + _MARGIN_S


def test_a_body_that_is_announced_and_never_sent_does_not_hold_a_connection(shelf: Shelf) -> None:
    with connected(shelf.node.address, PEER, timeout_s=_IDLE_S + _MARGIN_S) as sock:
        sock.sendall(request_bytes("/shorthaul/v1/holders", method="POST", Content_Length="100"))
        started_s = time.monotonic()
        _, ending = read_to_end(sock)
        assert ending is not Ending.SILENT
        assert time.monotonic() - started_s < _IDLE_S + _MARGIN_S


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_question_about_holders_without_a_websocket_is_400(shelf: Shelf, method: str) -> None:
    reply = shelf.node.ask("/shorthaul/v1/holders", method=method, body=b"{}", port=PEER)
    assert reply.status == 400
    reply.oci_code()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b'{"number": "1", "digests": []}',
        b'{"number": 1, "digests": 1}',
        b'{"number": 1, "digests": ["sha256:x"]}',
        b'{"number": 1, "tags": [["a", "b"]]}',
        b'{"number": 1, "tags": [[null, "UPPER", "v1"]]}',
        b"[" * 100_000,
        b'{"number": 1, "digests": [' + b",".join([b'"' + _DIGEST.encode() + b'"'] * 5000) + b"]}",
        b" " * ((1 << 20) + 1),
    ],
    ids=[
        "empty",
        "text",
        "list",
        "none",
        "number",
        "digests",
        "digest",
        "tag",
        "name",
        "deep",
        "many",
        "long",
    ],
)
def test_a_malformed_question_about_holders_closes_its_connection(shelf: Shelf, message: bytes) -> None:
    with questioning(shelf.node.address) as questioner:
        questioner.sock.sendall(frame(message, masked=True))
        with pytest.raises(Closed) as closed:
            read_frame(questioner.sock)
        assert closed.value.code in (1003, 1007, 1009)


def test_an_endless_question_about_holders_closes_its_connection(shelf: Shelf) -> None:
    with questioning(shelf.node.address) as questioner:
        with contextlib.suppress(ConnectionError):
            for number in range(40):  # 2.5 MiB, and no end in sight
                part = frame(b" " * 0x10000, opcode=0 if number else 2, masked=True, final=False)
                questioner.sock.sendall(part)
        with pytest.raises(Closed):
            read_frame(questioner.sock)


@pytest.mark.parametrize("opcode", [1, 3, 11])
def test_a_frame_that_is_no_question_closes_its_connection(shelf: Shelf, opcode: int) -> None:
    with questioning(shelf.node.address) as questioner:
        questioner.sock.sendall(frame(b"hello", opcode=opcode, masked=True))
        with pytest.raises(Closed):
            read_frame(questioner.sock)


def test_many_questions_share_one_connection(shelf: Shelf) -> None:
    with questioning(shelf.node.address) as questioner:
        for digest, held in ((digest_of(shelf.layer), [0]), (_DIGEST, [])) * 50:
            assert questioner.ask(digests=[digest], tags=[])["held"] == held


def test_after_all_of_it_no_request_was_an_error_of_the_agents_own(shelf: Shelf) -> None:
    wait_for(lambda: shelf.node.ask("/readyz", port=ADMIN).status == 200, "ready")
    assert shelf.node.metric("shorthaul_requests_total", result="error") == 0
    for line in shelf.node.log.read_text().splitlines():
        # The admin port leaves garbage to the HTTP library, which logs it in its own way.
        assert '"aiohttp.server"' in line or "traceback" not in line


def _drips_until_closed(sock: socket.socket) -> float:
    """Seconds until the other side closes a connection on which a head arrives byte by byte."""
    started_s = time.monotonic()
    head = b"GET /v2/ HTTP/1.1\r\nX: " + b"a" * 4000
    sock.settimeout(0.1)
    for byte in head:
        try:
            sock.send(bytes((byte,)))
            if sock.recv(100) == b"":
                break
        except TimeoutError:
            pass
        except ConnectionError:
            break
        assert time.monotonic() - started_s < _IDLE_S + _MARGIN_S, "a dripping head is kept for ever"
    return time.monotonic() - started_s

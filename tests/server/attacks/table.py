"""The table: every attack, at every door, and what it gets. docs/attacks.md is made from it.

An attack that sends bytes gets the status of the answer, and whether the connection is open behind it. The
bytes of an attack that tries to smuggle end with a request that an honest client could send: if that were
answered, the connection would count as open.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from benchmarks.fuzz.proofs import KEY, Signed, admin_token, key_id, service_token
from tests.frames import frame

from .doors import MEMBER, OTHER_KEY, STRANGER, Door, Place


class Source(Enum):
    """From which address a client comes to a peer door."""

    FRIEND = "the member's"
    ELSEWHERE = "another"
    OTHER_MEMBER = "another member's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What is sent, and what is expected by door. A door that is not there is not attacked in this way.

    Of several requests that ``send`` returns, each is sent when the one before is answered.
    """

    group: str
    name: str
    send: Callable[[Place], bytes | tuple[bytes, ...]]
    expected: Mapping[Door, str]
    source: Source = Source.FRIEND


PULL = (Door.HOSTPORT, Door.NODEPORT, Door.PEER, Door.PEER_TLS)
EVERY = tuple(Door)
PEERS = (Door.PEER, Door.PEER_TLS)
REFUSED = "400, closed"
_DOUBTS = "a message whose end is in doubt"
_TARGETS = "what is asked for"
_BROWSER = "a web page"
_PROOF = "proof of a peer"
_TOKEN = "token"
_FRAME = "a standing connection"


def at(doors: tuple[Door, ...], expected: str, **others: str) -> dict[Door, str]:
    """The same at some doors."""
    return dict.fromkeys(doors, expected) | {Door[name]: value for name, value in others.items()}


def _with(*fields: tuple[str, str], body: str = "") -> Callable[[Place], bytes]:
    return lambda place: place.honest(*fields) + body.encode("latin-1") + place.honest()


def _swapped(old: bytes, new: bytes) -> Callable[[Place], bytes]:
    return lambda place: place.honest().replace(old, new, 1) + place.honest()


def _asks(target: str) -> Callable[[Place], bytes]:
    return lambda place: place.honest(target=target)


def _of_1_0(sent: bytes) -> bytes:
    return sent.replace(b"HTTP/1.1", b"HTTP/1.0")


CHUNKED = ("Transfer-Encoding", "chunked")
SMUGGLING = (
    ("Content-Length and Transfer-Encoding", _with(("Content-Length", "4"), CHUNKED, body="0\r\n\r\n")),
    ("two Content-Lengths", _with(("Content-Length", "0"), ("Content-Length", "9"))),
    ("a list of Content-Lengths", _with(("Content-Length", "0, 0"))),
    ("Content-Length with a sign", _with(("Content-Length", "+0"))),
    ("Content-Length that no number holds", _with(("Content-Length", "9" * 30))),
    ("Transfer-Encoding: xchunked", _with(("Transfer-Encoding", "xchunked"), body="0\r\n\r\n")),
    ("Transfer-Encoding: chunked, identity", _with(("Transfer-Encoding", "chunked, identity"))),
    ("Transfer-Encoding: gzip, chunked", _with(("Transfer-Encoding", "gzip, chunked"), body="0\r\n\r\n")),
    ("Transfer-Encoding twice", _with(CHUNKED, CHUNKED, body="0\r\n\r\n")),
    ("empty Transfer-Encoding", _with(("Transfer-Encoding", ""))),
    ("a vertical tab before chunked", _with(("Transfer-Encoding", "\x0bchunked"))),
    ("a blank before the colon", _swapped(b"Host:", b"Transfer-Encoding : chunked\r\nHost:")),
    ("a folded field (obs-fold)", _swapped(b"Host:", b"X: a\r\n Content-Length: 9\r\nHost:")),
    ("a chunk of no size", _with(CHUNKED, body="zz\r\n\r\n")),
    ("a chunk of a size that no number holds", _with(CHUNKED, body="f" * 20 + "\r\n\r\n")),
    ("a line that ends with LF alone", _swapped(b"\r\nHost", b"\nHost")),
    ("a CR within a line", _swapped(b"Host:", b"X: a\rContent-Length: 9\r\nHost:")),
    ("NUL in a field", _with(("X", "a\0b"))),
    ("Transfer-Encoding in HTTP/1.0", lambda p: _of_1_0(p.honest(CHUNKED)) + b"0\r\n\r\n"),
    ("HTTP/2.0", _swapped(b"HTTP/1.1", b"HTTP/2.0")),
    ("CONNECT", lambda place: place.honest(method="CONNECT") + place.honest()),
    ("two Hosts", _with(("Host", "evil.example"))),
    ("no Host", _swapped(b"Host: localhost\r\n", b"")),
    ("Range twice", _with(("Range", "bytes=0-0"), ("Range", "bytes=1-1"))),
    ("User-Agent twice", _with(("User-Agent", "containerd/2.1.9"), ("User-Agent", "shorthaul"))),
    ("an absolute target of another host", _swapped(b"GET /", b"GET http://evil.example/")),
    ("a fragment in the target", _swapped(b" HTTP/1.1", b"#x HTTP/1.1")),
    ("NUL in the target", _swapped(b" HTTP/1.1", b"\0 HTTP/1.1")),
)  # fmt: skip

_NAME = "/v2/a/../../etc/blobs/sha256:" + "0" * 64
TARGETS = (
    ("..", _asks(_NAME)),
    ("%2e%2e", _asks(_NAME.replace("..", "%2e%2e"))),
    ("%2f in a name", _asks("/v2/a%2fb/blobs/sha256:" + "0" * 64)),
    ("%00 in a name", _asks("/v2/a%00b/blobs/sha256:" + "0" * 64)),
    ("CR and LF in a name", _asks("/v2/a%0d%0aX:%20y/blobs/sha256:" + "0" * 64)),
)


def _rows(
    group: str, cases: tuple[tuple[str, Callable[[Place], bytes]], ...], expected: Mapping[Door, str]
) -> list[Attack]:
    return [Attack(group=group, name=name, send=send, expected=expected) for name, send in cases]


def _signed(**changed: object) -> Callable[[Place], bytes]:
    """A request whose signature is made of something else than is sent."""

    def send(place: Place) -> bytes:
        given = {"sender": MEMBER, "receiver": place.node.name, "target": place.target, **changed}
        signed = Signed(**given)  # type: ignore[arg-type]
        return place.unproved(("Authorization", signed.header()), ("User-Agent", "shorthaul"))

    return send


def _proof_of(**changed: object) -> Callable[[Place], bytes]:
    """A request with a signature that was changed afterwards."""
    return _signed(shown=tuple((name, str(value)) for name, value in changed.items()))


def _replayed(place: Place) -> tuple[bytes, ...]:
    return (place.honest(),) * 2


def _truncated(place: Place) -> bytes:
    header = Signed(sender=MEMBER, receiver=place.node.name, target=place.target).header()
    return place.unproved(("Authorization", header[:-8]), ("User-Agent", "shorthaul"))


def _doubled(place: Place) -> bytes:
    header = Signed(sender=MEMBER, receiver=place.node.name, target=place.target).header()
    return place.unproved(("Authorization", header), ("Authorization", header), ("User-Agent", "shorthaul"))


def _ranged(place: Place) -> bytes:
    header = Signed(sender=MEMBER, receiver=place.node.name, target=place.target).header()
    return place.unproved(("Authorization", header), ("Range", "bytes=0-0"), ("User-Agent", "shorthaul"))


_NO = "401, closed"
PROOFS = (
    ("unsigned", lambda place: place.unproved(("User-Agent", "shorthaul")), _NO),
    ("says that it is containerd", lambda place: place.unproved(("User-Agent", "containerd/2.1.9")), _NO),
    ("expired: signed 31 s ago", _signed(age_s=31), _NO),
    ("signed 31 s in the future", _signed(age_s=-31), _NO),
    ("a clock that is 10 minutes off", _signed(age_s=600), _NO),
    ("replayed", _replayed, _NO),
    ("truncated", _truncated, _NO),
    ("doubled header", _doubled, REFUSED),
    ("signed for another method", _signed(method="HEAD"), _NO),
    ("signed for another path", _signed(target="/v2/"), _NO),
    ("signed for another range", _ranged, _NO),
    ("its key's name changed", _proof_of(key="00000000"), _NO),
    ("its sender changed", _proof_of(**{"from": STRANGER}), _NO),
    ("its receiver changed", _proof_of(to=MEMBER), _NO),
    ("its time changed", _proof_of(time=1), _NO),
    ("its nonce changed", _proof_of(nonce="0" * 16), _NO),
    ("its HMAC changed", _proof_of(signature="0" * 64), _NO),
    ("a wrong key", _signed(key=OTHER_KEY), _NO),
    ("a wrong key under the right one's name", None, _NO),
    ("signed for another node", _signed(receiver=MEMBER), "403, closed"),
    ("signed by a name that is no member", _signed(sender=STRANGER), "403, closed"),
    ("the service token", lambda p: p.unproved(("Authorization", f"Bearer {service_token()}")), _NO),
)  # fmt: skip


def _shown(value: str | None, *more: str) -> Callable[[Place], bytes]:
    def send(place: Place) -> bytes:
        return place.unproved(*[("Authorization", one) for one in (value, *more) if one is not None])

    return send


def _in_query(place: Place) -> bytes:
    token = service_token()
    return place.unproved(
        target=f"{place.target}&token={token}&access_token={token}&authorization=Bearer+{token}"
    )


def _named(host: bytes) -> Callable[[Place], bytes]:
    return lambda place: place.honest().replace(b"Host: localhost", b"Host: " + host)


TOKENS = (
    ("none", _shown(None), _NO),
    ("a wrong one", _shown(f"Bearer {service_token(OTHER_KEY)}"), _NO),
    ("in other case", _shown(f"Bearer {service_token().swapcase()}"), _NO),
    ("cut by a letter", _shown(f"Bearer {service_token()[:-1]}"), _NO),
    ("twice", _shown(f"Bearer {service_token()}", f"Bearer {service_token()}"), REFUSED),
    ("two in one field", _shown(f"Bearer {service_token()}, Bearer {service_token()}"), _NO),
    ("as a password (Basic)", _shown(f"Basic {service_token()}"), _NO),
    ("in the query", _in_query, _NO),
    ("the admin token", _shown(f"Bearer {admin_token()}"), _NO),
    ("a signature of a peer", _signed(), _NO),
    ("says that it is containerd", lambda p: p.unproved(("User-Agent", "containerd/2.1.9")), _NO),
)  # fmt: skip

PAGES = (
    ("DNS rebinding: another Host", _named(b"evil.example"), "403, open"),
    ("DNS rebinding: a Host that begins like one of ours", _named(b"localhost.evil.example"), "403, open"),
    ("another site's Origin", lambda p: p.honest(("Origin", "http://evil.example")), "403, open"),
    ("an Origin of null", lambda p: p.honest(("Origin", "null")), "403, open"),
    ("Sec-Fetch-Site: cross-site", lambda p: p.honest(("Sec-Fetch-Site", "cross-site")), "403, open"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """What a client shows when it connects to the peer listener with TLS, and what its honest request gets.

    ``certificate``: of which kind; the names are those of the fixture that makes them.
    """

    name: str
    certificate: str
    expected: str


HANDSHAKES = (
    Handshake(name="the member's certificate", certificate="friend", expected="200, open"),
    Handshake(name="none", certificate="none", expected="closed"),
    Handshake(name="expired", certificate="expired", expected="closed"),
    Handshake(name="not yet valid", certificate="early", expected="closed"),
    Handshake(name="of another CA", certificate="foreign", expected="closed"),
    Handshake(name="signed by itself", certificate="itself", expected="closed"),
    Handshake(name="another member's, with the right signature", certificate="other", expected="403, closed"),
    Handshake(name="of a name that is no member", certificate="stranger", expected="403, closed"),
    Handshake(name="plain HTTP", certificate="plain", expected="426, closed"),
)


def _standing(*frames: bytes) -> Callable[[Place], bytes]:
    """A standing connection on which these frames are sent."""

    def send(place: Place) -> bytes:
        fields = (
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        )
        return place.honest(*fields, target="/shorthaul/v1/holders") + b"".join(frames)

    return send


_EMPTY = frame(b"", opcode=0, masked=True, final=False)
FRAMES = (
    ("a frame without a mask", frame(b"{}")),
    ("a reserved bit", bytes((0x92,)) + frame(b"{}", masked=True)[1:]),
    ("a compressed frame", bytes((0xC2,)) + frame(b"\xaa\x56\x02", masked=True)[1:]),
    ("a reserved opcode", frame(b"{}", opcode=3, masked=True)),
    ("a text", frame(b"{}", opcode=1, masked=True)),
    ("a message that is none", frame(b"[" * 3000, masked=True)),
    ("a frame that says that it has 2^63 bytes", bytes((0x82, 0xFF)) + b"\x7f" + b"\xff" * 7 + bytes(4)),
    ("a message of more than 1 MiB in parts", frame(b"x" * 60_000, masked=True, final=False)
        + frame(b"x" * 60_000, opcode=0, masked=True, final=False) * 20),
    ("100 pings", frame(b"x", opcode=9, masked=True) * 100),
    ("100 pongs", frame(b"x", opcode=10, masked=True) * 100),
    ("a fragment that belongs to nothing", _EMPTY),
)  # fmt: skip


def _table() -> tuple[Attack, ...]:
    rows = _rows(_DOUBTS, SMUGGLING, at(EVERY, REFUSED))
    rows += _rows(_TARGETS, TARGETS, at(PULL, "400, open", ADMIN="404, open"))
    rows += [
        Attack(
            group=_PROOF,
            name=name,
            send=send or _under_anothers_name,
            expected=at(PEERS, expected),
        )
        for name, send, expected in PROOFS
    ]
    rows.append(
        Attack(
            group=_PROOF,
            name="a member's name from another address",
            send=lambda place: place.honest(),
            expected=at(PEERS, "200, open"),
            source=Source.ELSEWHERE,
        )
    )
    rows.append(
        Attack(
            group=_PROOF,
            name="a member's name from another member's address",
            send=lambda place: place.honest(),
            expected=at(PEERS, "403, closed"),
            source=Source.OTHER_MEMBER,
        )
    )
    rows += [
        Attack(group=_TOKEN, name=name, send=send, expected=at((Door.NODEPORT,), got))
        for name, send, got in TOKENS
    ]
    rows += [
        Attack(group=_BROWSER, name=name, send=send, expected=at(EVERY, got)) for name, send, got in PAGES
    ]
    return tuple(rows)


def _under_anothers_name(place: Place) -> bytes:
    return _signed(key=OTHER_KEY, key_id=key_id(KEY))(place)


TABLE = _table()


ELSEWHERE = (
    ("a head that never ends, or only drips", "closed within http.idle_s",
     "server/test_requests_out_of_line.py::test_a_head_that_is_never_finished_is_closed_within_idle_s"),
    ("a connection on which nothing is asked any more", "closed after http.idle_s",
     "server/test_requests_out_of_line.py::test_an_idle_connection_is_closed_after_idle_s_and_not_before"),
    ("a head that is too large", "431, closed",
     "server/test_requests_out_of_line.py::test_an_oversize_head_gets_an_oci_error_and_is_closed"),
    ("a reader that takes nothing", "cut within http.send_stall_s",
     "server/test_bodies.py::test_a_client_that_stops_reading_is_cut_within_send_stall_s"),
    ("a WebSocket from a client that has closed its side already", "closed",
     "server/test_requests_out_of_line.py::test_a_websocket_whose_peer_has_closed_its_side_already_is_closed"),
    ("another user's process at the HostPort", "403, closed",
     "server/test_local_callers.py::test_an_ordinary_user_is_turned_away_with_a_message_that_explains_itself"),
    ("the admin port from elsewhere than loopback, without the admin token", "401, closed",
     "server/test_admin_access.py::test_all_else_takes_the_admin_token_and_nothing_else_does"),
    ("an order (scrub) over TCP, with any token", "refused",
     "server/test_admin_access.py::test_no_token_makes_it_take_an_order"),
    ("many connections of one stranger", "a few are served, nobody else notices",
     "server/test_floods.py::test_one_stranger_has_few_connections_and_nobody_else_notices"),
    ("idle connections until descriptors run out", "HostPort and admin port keep theirs",
     "server/test_floods.py::test_with_few_descriptors_idle_clients_leave_the_hostport_and_the_admin_port_theirs"),
    ("full questions back to back, by a member", "they wait their turn",
     "server/test_floods.py::test_full_questions_of_one_member_wait_their_turn_and_all_are_answered"),
    ("unfinished messages, by a member on many connections", "bounded together",
     "server/test_floods.py::test_unfinished_messages_of_one_member_are_bounded_together"),
    ("a body that is compressed", "never decompressed",
     "server/test_floods.py::test_a_body_is_never_decompressed"),
    ("a certificate that expires while the agent runs", "both ends say so, nobody else is blamed",
     "unit/agent/peering/test_tls.py::test_a_certificate_expires_while_the_agent_runs"),
    ("mutated requests at every listener", "an answer below 500, or the end",
     "server/test_fuzz.py::test_no_mutated_request_brings_about_more_than_an_answer_or_an_end"),
    ("many idle connections to the probe's metrics", "the oldest end",
     "unit/agent/observe/test_scraping.py::test_idle_connections_beyond_a_few_end_and_keep_nobody_out"),
)  # fmt: skip
"""What is no matter of bytes and doors: the attack, what it gets, and the test."""

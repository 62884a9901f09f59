"""The table attack × listener × (signed, TLS): every cell over real sockets."""

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.keyring import parse_keys
from benchmarks.fuzz.proofs import KEY, Signed, admin_token, derived, key_id, service_token
from benchmarks.lab.certificates import Authority

from ..agents import ADMIN, Node, Site, fresh_address, make_image, wait_for
from ..secured import tls_settings
from ..wire import Ending, read_reply, read_to_end
from .doors import MEMBER, OTHER_KEY, STRANGER, Door, Place
from .page import page
from .table import HANDSHAKES, TABLE, Attack, Handshake, Source

_IMAGE = make_image(b"a secret layer" * 100, note="attacked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """The agents under attack, without and with TLS, and the address of a member that is no agent.

    ``certificates``: folders, by the names that `table.HANDSHAKES` has.
    """

    node: Node
    with_tls: Node
    friend: str
    certificates: dict[str, Path]

    def place(self, door: Door, certificate: str = MEMBER) -> Place:
        """One of their doors."""
        target = f"/v2/library/app/manifests/{_IMAGE.digest}?ns=registry.test"
        return Place(
            door=door,
            node=self.with_tls if door is Door.PEER_TLS else self.node,
            friend=self.friend,
            target="/livez" if door is Door.ADMIN else target,
            client_tls=self._context(certificate) if door is Door.PEER_TLS else None,
        )

    def _context(self, certificate: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.certificates[MEMBER] / "ca.crt")
        if certificate in self.certificates:
            folder = self.certificates[certificate]
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        return context


def _certificates(folder: Path, authority: Authority) -> dict[str, Path]:
    day, foreign = timedelta(days=1), Authority(folder, "foreign-ca")
    made = {
        "attacked-tls": authority.issue(folder / "attacked", "DNS:attacked-tls"),
        MEMBER: authority.issue(folder / MEMBER, f"DNS:{MEMBER}"),
        "other": authority.issue(folder / "other", "DNS:attacked"),
        "stranger": authority.issue(folder / "stranger", f"DNS:{STRANGER}"),
        "expired": authority.issue(folder / "expired", f"DNS:{MEMBER}", valid=(-2 * day, -day)),
        "early": authority.issue(folder / "early", f"DNS:{MEMBER}", valid=(day, 2 * day)),
        "foreign": foreign.issue(folder / "foreign", f"DNS:{MEMBER}"),
        "itself": folder / "itself",
    }
    made["itself"].mkdir()
    for name, end in (("ca.crt", "tls.crt"), ("ca.key", "tls.key")):
        (made["itself"] / end).write_bytes((folder / "foreign-ca" / name).read_bytes())
    return made


@pytest.fixture(scope="module")
def attacked(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """The agents that all attacks are for. They log at the level debug."""
    certificates = _certificates(tmp_path_factory.mktemp("tls"), authority)
    with Site() as site:
        key = site.folder / "keys"
        key.write_text(f"{KEY}\n")
        key.chmod(0o600)
        log = {"level": "debug"}
        tls = tls_settings(certificates["attacked-tls"])
        node = site.add("attacked", peering={"key": str(key)}, log=log)
        with_tls = site.add("attacked-tls", peering={"key": str(key), "tls": tls}, log=log)
        friend = fresh_address()
        site.add_member(MEMBER, friend)
        for one in (node, with_tls):
            one.put_image(_IMAGE, "registry.test/library/app:v1")
        site.start()
        yield Attacked(node=node, with_tls=with_tls, friend=friend, certificates=certificates)


def got(place: Place, sent: bytes | tuple[bytes, ...], *, source: str | None = None) -> str:
    """The status of the (last) answer, and whether an honest request is answered behind it."""
    with place.connect(source=source) as sock:
        for part in sent if isinstance(sent, tuple) else (sent,):
            sock.sendall(part)
            reply = read_reply(sock)
        if reply.ending is not Ending.WHOLE:
            return "closed"
        if reply.status == 101:
            return "101, open" if read_to_end(sock)[1] is Ending.SILENT else "101, closed"
        with contextlib.suppress(ConnectionError):
            sock.sendall(place.honest())
        behind = read_reply(sock)
        assert behind.ending is not Ending.SILENT
        return f"{reply.status}, {'open' if behind.status else 'closed'}"


_CELLS = [(attack, door) for attack in TABLE for door in attack.expected]


@pytest.mark.parametrize(
    ("attack", "door"), _CELLS, ids=[f"{attack.group}-{attack.name}-{door.value}" for attack, door in _CELLS]
)
def test_an_attack_gets_what_the_table_says(attacked: Attacked, attack: Attack, door: Door) -> None:
    place = attacked.place(door)
    others = {
        Source.FRIEND: None,
        Source.ELSEWHERE: fresh_address(),
        Source.OTHER_MEMBER: (attacked.node if door is Door.PEER_TLS else attacked.with_tls).address,
    }
    assert got(place, attack.send(place), source=others[attack.source]) == attack.expected[door]


@pytest.mark.parametrize("door", list(Door), ids=lambda door: door.value)
def test_an_honest_client_is_served_at_each_door(attacked: Attacked, door: Door) -> None:
    place = attacked.place(door)
    assert got(place, place.honest()) == "200, open"


@pytest.mark.parametrize("handshake", HANDSHAKES, ids=lambda one: one.name)
def test_a_certificate_gets_what_the_table_says(attacked: Attacked, handshake: Handshake) -> None:
    place = attacked.place(Door.PEER_TLS, handshake.certificate)
    if handshake.certificate == "plain":
        place = replace(place, door=Door.PEER)
    try:
        outcome = got(place, place.honest())
    except ssl.SSLError:
        outcome = "closed"
    assert outcome == handshake.expected


@pytest.mark.parametrize(
    "door", [door for door in Door if door is not Door.PEER_TLS], ids=lambda one: one.value
)
def test_tls_at_a_door_that_speaks_plain_http_gets_no_service(attacked: Attacked, door: Door) -> None:
    place = attacked.place(door)
    with place.connect() as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n")
        received, ending = read_to_end(sock)
    assert ending is not Ending.SILENT
    assert b" 200 " not in received


def test_a_clock_that_is_off_is_told_to_both_ends(attacked: Attacked) -> None:
    place = attacked.place(Door.PEER)
    header = Signed(sender=MEMBER, receiver=place.node.name, target=place.target, age_s=600).header()
    with place.connect() as sock:
        sock.sendall(place.unproved(("Authorization", header), ("User-Agent", "shorthaul")))
        told = read_reply(sock).body.decode()
    assert f"the clock of {MEMBER} is 600 s behind that of {place.node.name}" in told
    assert f"the clock of {MEMBER} is " in place.node.log.read_text()  # once a minute: another row's, perhaps


def test_no_attack_was_an_error_of_the_agents_own(attacked: Attacked) -> None:
    for node in (attacked.node, attacked.with_tls):
        wait_for(node.is_idle, "nothing is under way")
        assert node.logged_errors() == []


def test_the_page_says_what_the_table_says() -> None:
    assert (Path(__file__).parents[3] / "docs" / "attacks.md").read_text() == page()


_PAGES = (
    "/metrics",
    "/readyz?verbose",
    "/api/requests",
    "/api/topology",
    "/api/transfers",
    "/api/flows",
    "/api/reach",
)


def test_no_secret_is_in_anything_that_an_agent_wrote(attacked: Attacked) -> None:
    # After the whole table, at the level debug. Also of the other cluster's key, which clients have sent.
    secrets = [
        KEY,
        service_token(),
        admin_token(),
        service_token(OTHER_KEY),
        derived(KEY, "shorthaul peers v1").hex(),
    ]
    for node in (attacked.node, attacked.with_tls):
        shown = subprocess.run(
            [*node.command, "--print-config"], capture_output=True, text=True, check=True
        ).stdout
        process = Path(f"/proc/{node.process.pid}")
        wrote = {
            "log": node.log.read_text(),
            "settings": shown,
            "command line": process.joinpath("cmdline").read_text(),
            "environment": process.joinpath("environ").read_text(),
            **{page: node.ask(page, port=ADMIN).body.decode() for page in _PAGES},
            "missing page": node.ask(f"/api/{KEY[:4]}", port=ADMIN).body.decode(),
        }
        assert '"level": "debug"' in wrote["log"]
        found = [(where, secret) for where, text in wrote.items() for secret in secrets if secret in text]
        assert found == []


def test_what_keys_look_like_in_a_traceback_is_their_name_alone() -> None:
    ring = parse_keys(f"{KEY}\n")
    for text in (repr(ring), str(ring), repr(ring.keys[0]), f"{ring.keys[0]}"):
        assert key_id(KEY) in text
        for secret in (KEY, service_token(), admin_token(), derived(KEY, "shorthaul peers v1").hex()):
            assert secret not in text

"""Agents that speak TLS with each other: what works over it, and what each end says when there is none."""

import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.lab.certificates import RSA, Authority

from .agents import ADMIN, LOCAL, PEER, REPLY_S, Node, Site, digest_of, fresh_address, wait_for
from .faults import Fault, Holder, Kind, first_bytes_asked, tell_sizes
from .impostor import Impostor
from .proofs import signed
from .secured import NAME, shared_settings, tls_settings
from .wire import Ending, raw_get, request_bytes

DAY = timedelta(days=1)
_LAYER_BYTES = 400_000


def _bytes_of(seed: str, size_bytes: int = _LAYER_BYTES) -> bytes:
    return Random(seed).randbytes(size_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One node whose TLS is wrong, beside one whose is right.

    ``seen``: what the right one says of it. ``own``: what it says of itself. ``counted``: as what the right
    one counts its connections, ``refused``: as what it counts those that the right one refuses.
    """

    seen: str
    own: str
    counted: str
    refused: str


CASES = {
    "expired": Case(
        seen="its certificate has expired, by this node's clock",
        own="this node's certificate can't be used: it expired on ",
        counted="expired",
        refused="expired",
    ),
    "early": Case(
        seen="its certificate is not valid yet, by this node's clock",
        own="this node's certificate can't be used: it is not valid before ",
        counted="not_yet_valid",
        refused="bad_certificate",
    ),
    "foreign": Case(
        seen="its certificate is of no CA in this node's peering.tls.ca",
        own="this node's certificate is of no CA in this node's peering.tls.ca",
        counted="issuer",
        refused="issuer",
    ),
    "misnamed": Case(
        seen="its certificate is for somebody, not for misnamed or ",
        own="this node's certificate is for somebody, not for misnamed",
        counted="",
        refused="",
    ),
    "plain": Case(
        seen="it does not speak TLS: peering.tls is set on this node, and not there",
        own="it speaks TLS only: peering.tls is set there, and not on this node",
        counted="no_tls",
        refused="no_tls",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """``right``: a node whose certificate is good, as ``other``'s is. ``wrong``: see `CASES`."""

    right: Node
    other: Node
    wrong: dict[str, Node]


@pytest.fixture(scope="module")
def stage(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Seven agents that know each other."""
    folder = tmp_path_factory.mktemp("tls")
    foreign = authority.issue(folder / "foreign", "DNS:foreign")
    foreign_ca = Authority(folder).issue(folder / "unused", "DNS:unused")
    (foreign / "tls.crt").write_bytes((foreign_ca / "tls.crt").read_bytes())
    (foreign / "tls.key").write_bytes((foreign_ca / "tls.key").read_bytes())
    folders = {
        "right": authority.issue(folder / "right", "DNS:right"),
        "other": authority.issue(folder / "other", "URI:spiffe://test/node/other", key=RSA),
        "expired": authority.issue(folder / "expired", "DNS:expired", valid=(-2 * DAY, -DAY)),
        "early": authority.issue(folder / "early", "DNS:early", valid=(DAY, 2 * DAY)),
        "foreign": foreign,
        "misnamed": authority.issue(folder / "misnamed", "DNS:somebody"),
    }
    with Site() as site:
        nodes = {name: site.add(name, peering={"tls": tls_settings(made)}) for name, made in folders.items()}
        nodes["plain"] = site.add("plain")
        site.start()
        yield Stage(right=nodes.pop("right"), other=nodes.pop("other"), wrong=nodes)


def _of(node: Node, name: str) -> dict[str, Any]:
    """What a node finds when it asks another one whether they reach each other."""
    asked = node.ask("/api/reach", port=ADMIN).json()["asked"]
    return next(entry for entry in asked if entry["node"] == name)


def test_bodies_go_between_agents_and_every_byte_is_counted(stage: Stage) -> None:
    content = _bytes_of("a body", 3_000_000)
    stage.other.put(content)
    stage.right.wait_for_holders(content, {"other"})
    assert stage.right.blob(content).body == content
    record = stage.right.newest(content)
    assert (record["node"], record["way"]) == ("other", "copy")
    (source,) = record["sources"]
    assert source["bytes"] == len(content)
    # Records of TLS have 22 bytes more, heads some hundred; a handshake is of no body.
    assert len(content) < source["received_bytes"] < len(content) * 1.01 + 2000
    assert stage.other.newest(content)["way"] == "copy"


def test_agents_reach_each_other_and_measure_round_trips(stage: Stage) -> None:
    found = _of(stage.right, "other")
    assert (found["reached"], found["returns"], found["called"]) == (True, True, "other")
    wait_for(
        lambda: stage.right.metric("shorthaul_rtt_samples_total", source="measurement") > 0,
        "a round trip was measured",
    )


@pytest.mark.parametrize("name", CASES)
def test_both_ends_say_why_there_is_no_tls_and_no_healthy_peer_is_blamed(stage: Stage, name: str) -> None:
    case, wrong, right = CASES[name], stage.wrong[name], stage.right
    content = _bytes_of(name)
    wrong.put(content)
    assert right.blob(content).status == 404
    seen = _of(right, name)
    assert not seen["reached"]
    assert seen["how"].startswith(case.seen)
    assert seen["kind"] == "no_tls"
    wait_for(lambda: case.own in _said_by(wrong), "it says so itself")
    if case.counted:
        assert right.metric("shorthaul_tls_failures_total", end="accepted", reason=case.counted) > 0
    if case.refused and name != "plain":
        assert wrong.metric("shorthaul_tls_failures_total", end="dialled", reason=case.refused) > 0
    if name in ("expired", "early"):  # it knows that it is at fault
        cooling = {each["node"] for each in wrong.transfers()["cooling"]}
        assert not cooling & {"right", "other"}


def _said_by(node: Node) -> str:
    """What its components and what it passes over say."""
    verbose = node.ask("/readyz?verbose", port=ADMIN).body.decode()
    cooling = " ".join(each["reason"] for each in node.transfers()["cooling"])
    return verbose + cooling


def test_a_node_whose_certificate_is_wrong_serves_its_own_content(stage: Stage) -> None:
    content = _bytes_of("its own")
    stage.wrong["expired"].put(content)
    assert stage.wrong["expired"].is_ready()
    assert stage.wrong["expired"].blob(content).body == content


@pytest.mark.parametrize("name", ["stranger", "misnamed"])
def test_a_signature_under_the_certificate_of_another_node_gets_nothing(
    stage: Stage, authority: Authority, tmp_path: Path, name: str
) -> None:
    content = _bytes_of("for members")
    stage.right.put(content)
    path = f"/v2/library/app/blobs/{digest_of(content)}"
    stranger = authority.issue(tmp_path / "stranger", f"DNS:{name}")
    member = authority.issue(tmp_path / "member", "DNS:other")
    assert _status(stage.right, member, path) == 200
    assert _status(stage.right, member, path, signs=False) == 401
    before = stage.right.metric("shorthaul_refused_total", listener="peer", reason="certificate")
    assert _status(stage.right, stranger, path) == 403
    # The agent of `misnamed` is refused as well, as often as it tries.
    assert stage.right.metric("shorthaul_refused_total", listener="peer", reason="certificate") > before


def _status(node: Node, folder: Path, path: str, *, signs: bool = True) -> int:
    """The status of a request on the peer listener with this certificate, signed as ``other``."""
    proof = signed(path, sender="other", receiver="right") if signs else {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.load_verify_locations(folder / "ca.crt")
    with (
        socket.create_connection((node.address, PEER), timeout=REPLY_S) as plain,
        context.wrap_socket(plain) as connection,
    ):
        connection.sendall(request_bytes(path, **proof))
        with connection.makefile("rb") as reader:
            return int(reader.readline().split()[1])


def test_tls_at_a_port_without_it_is_told_in_the_log(stage: Stage) -> None:
    plain = stage.wrong["plain"]
    context = ssl.create_default_context()
    with (
        socket.create_connection((plain.address, LOCAL), timeout=REPLY_S) as connection,
        pytest.raises(ssl.SSLError, match="wrong version number"),
    ):
        context.wrap_socket(connection, server_hostname="localhost")
    wait_for(
        lambda: "it speaks TLS to listen.hostport, which speaks plain HTTP" in plain.log.read_text(),
        "it is logged",
    )
    assert "it speaks TLS to listen.peer, which speaks plain HTTP" in plain.log.read_text()


def test_after_all_of_it_nothing_was_an_error_of_the_agents_own(stage: Stage) -> None:
    for node in (stage.right, stage.other, *stage.wrong.values()):
        assert [line for line in node.logged_errors() if "SSL" in line or "Traceback" in line] == []


_FAULTS = {
    "closes in the middle": Fault(kind=Kind.CLOSES, at=_LAYER_BYTES // 2),
    "closes before the last byte": Fault(kind=Kind.CLOSES, at=-1),
    "resets in the middle": Fault(kind=Kind.RESETS, at=_LAYER_BYTES // 2),
    "stalls in the middle": Fault(kind=Kind.STALLS, at=_LAYER_BYTES // 2),
    "trickles at the end": Fault(kind=Kind.TRICKLES, at=-40),
    "hangs up": Fault(kind=Kind.HANGS_UP),
    "is silent": Fault(kind=Kind.IS_SILENT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """An asking node, and the addresses of two holders that a test stands up."""

    asking: Node
    near: str
    far: str


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """As in test_fault_matrix, with TLS."""
    pull = {"deadline_s": 3.0, "stall_s": 0.8, "connect_s": 2.0, "floor_ratio": 0.01, "cooloff_s": 0}
    with Site() as site:
        near, far = fresh_address(), fresh_address()
        secured: dict[str, Any] = {"peering": {"tls": shared_settings()}}
        lookup = {"negative_ttl_s": 0, "patience_s": 1.0}
        asking = site.add("asking", pull=pull, latency={"measure": False}, lookup=lookup, **secured)
        archive = site.add("archive", zone="c", **secured)
        site.add_member("near", near)
        site.add_member("far", far, zone="b")
        site.start()
        tell_sizes(asking, archive, *map(_bytes_of, (*_FAULTS, "alone")))
        yield Ground(asking=asking, near=near, far=far)


@pytest.mark.parametrize("name", _FAULTS)
def test_a_body_goes_on_from_another_holder_whatever_happens_to_the_first(ground: Ground, name: str) -> None:
    fault, content = _FAULTS[name], _bytes_of(name)
    failing, other = Holder(), Holder()
    failing.put(content, faults=(fault,))
    other.put(content, answers_from=1 if fault.at else 0)
    with ExitStack() as stack:
        stack.enter_context(Impostor(ground.near, failing.serve, questioned=failing.claim, tls=True))
        second = stack.enter_context(Impostor(ground.far, other.serve, questioned=other.claim, tls=True))
        ground.asking.wait_for_holders(content, {"near", "far"})
        reply = raw_get(ground.asking.address, LOCAL, f"/v2/library/app/blobs/{digest_of(content)}")
        assert (reply.status, reply.ending) == (200, Ending.WHOLE)
        assert digest_of(reply.body) == digest_of(content)
        if fault.at and fault.kind is not Kind.TRICKLES:
            assert first_bytes_asked(second, content)[-1] == fault.at % _LAYER_BYTES, "at the exact byte"


def test_a_body_that_nobody_can_finish_ends_with_a_fin(ground: Ground) -> None:
    content, holder = _bytes_of("alone"), Holder()
    holder.put(content, afterwards=Fault(kind=Kind.CLOSES, at=_LAYER_BYTES // 2))
    with Impostor(ground.near, holder.serve, questioned=holder.claim, tls=True):
        ground.asking.wait_for_holders(content, {"near"})
        reply = raw_get(ground.asking.address, LOCAL, f"/v2/library/app/blobs/{digest_of(content)}")
    assert (reply.status, reply.ending) == (200, Ending.FIN)
    assert content.startswith(reply.body)


def test_no_pull_fails_while_certificates_and_their_ca_are_renewed(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    contents = [_bytes_of(f"renewed {number}") for number in range(20)]
    with Site() as site:
        one, two = nodes = [
            site.add(name, peering={"tls": tls_settings(tmp_path / name, NAME)}) for name in ("one", "two")
        ]
        for node in nodes:
            _renew(tmp_path, node.name, old)
        site.start()
        two.put(*contents)
        one.wait_for_holders(contents[-1], {"two"})
        failed: list[int] = []
        done, pulled = threading.Event(), [0]

        def pull() -> None:
            while not done.is_set():
                content = contents[pulled[0] % len(contents)]
                reply = one.blob(content)
                if reply.body != content:
                    failed.append(reply.status)
                pulled[0] += 1

        puller = threading.Thread(target=pull)
        puller.start()
        try:
            # First all trust both CAs, then each has a certificate of the new one, then the old one goes.
            for turn, (signer, others) in enumerate([(old, [new]), (new, [old]), (new, [])], start=1):
                for node in nodes:
                    _renew(tmp_path, node.name, signer, *others)
                    node.process.signal(signal.SIGHUP)
                    _wait_for_renewals(node, turn)
                    found = _of(one, "two")  # over new connections, in both directions
                    assert (found["reached"], found["returns"]) == (True, True)
                before = pulled[0]
                wait_for(lambda before=before: pulled[0] > before + 10, "pulls go on")  # type: ignore[misc]
        finally:
            done.set()
            puller.join()
        assert failed == []
        assert one.metric("shorthaul_tls_failures_total") == 0


def _renew(folder: Path, name: str, signer: Authority, *others: Authority) -> None:
    """Change all three files at one moment, as Kubernetes does."""
    made = folder / f"{name}-{len(list(folder.iterdir()))}"
    signer.issue(made, f"DNS:{NAME}", more_authorities=others)
    link = folder / f"{name}.new"
    link.symlink_to(made)
    link.replace(folder / name)


def _wait_for_renewals(node: Node, number: int) -> None:
    def renewed() -> bool:
        return node.metric("shorthaul_reloads_total", what="certificate", result="changed") >= number

    wait_for(renewed, "the certificate is used")

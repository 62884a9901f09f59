"""This node's certificate: what is wrong with it, whose trouble that is, and its renewal."""

from datetime import timedelta
from pathlib import Path

import pytest

from agent.peering.tls import PeerTls
from agent.peering.tlsfailure import TlsFailure, TlsReason
from agent.peering.tlsfiles import TlsFilesInvalid
from benchmarks.lab.certificates import Authority
from tests.unit.agent.peering.test_tlsfiles import settings
from tests.unit.twins import node, peer, placed
from topology.placement import NodeName

DAY = timedelta(days=1)
A, B, C = node("a"), node("b"), node("c")
REFUSED = TlsFailure(reason=TlsReason.ISSUER, told=True, words="it does not know the CA")
COUNTED: list[tuple[str, str]] = []


def opened(folder: Path, name: str | None = None) -> PeerTls:
    return PeerTls(
        settings(folder, name),
        own=A,
        address="192.0.2.7",
        count=lambda end, reason: COUNTED.append((end, reason)),
    )


@pytest.fixture
def folder(authority: Authority, tmp_path: Path) -> Path:
    return authority.issue(tmp_path / "tls", "DNS:a")


def test_a_good_certificate_is_no_problem(folder: Path) -> None:
    tls = opened(folder)
    assert tls.problem is None
    assert tls.state.startswith("for a, valid until 20")


@pytest.mark.parametrize(
    ("valid", "words"),
    [((-2 * DAY, -DAY), "it expired on 20"), ((DAY, 2 * DAY), "it is not valid before 20")],
)
def test_a_certificate_out_of_its_time_is_this_node_s_trouble(
    authority: Authority, tmp_path: Path, valid: tuple[timedelta, timedelta], words: str
) -> None:
    tls = opened(authority.issue(tmp_path, "DNS:a", valid=valid))
    assert tls.problem is not None
    assert words in tls.problem
    assert tls.hint
    assert tls.is_own_trouble(B, REFUSED), "one refusal is enough"


def test_a_certificate_expires_while_the_agent_runs(folder: Path) -> None:
    now_s = [0.0]
    tls = PeerTls(settings(folder), own=A, address=None, wall=lambda: now_s[0])
    now_s[0] = tls.certificate.not_after_s
    assert tls.problem is None
    now_s[0] += 1
    assert tls.problem is not None
    assert "expired" in tls.problem


def test_a_certificate_of_another_node_is_this_node_s_trouble(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue(tmp_path, "DNS:b", "IP:192.0.2.8")
    tls = opened(folder)
    assert tls.problem == "this node's certificate is for b, 192.0.2.8, not for a"
    assert "peering.tls.name" in tls.hint
    assert opened(folder, "b").problem is None, "all agents are called so"
    assert opened(authority.issue(tmp_path / "2", "IP:192.0.2.7")).problem is None


def test_a_certificate_of_an_unknown_ca_is_this_node_s_trouble(folder: Path, tmp_path: Path) -> None:
    (folder / "ca.crt").write_bytes(Authority(tmp_path, "other").pem)
    tls = opened(folder)
    assert tls.problem == "this node's certificate is of no CA in this node's peering.tls.ca"
    assert tls.state == "of no use"


def test_a_peer_has_to_have_its_own_certificate(folder: Path, authority: Authority, tmp_path: Path) -> None:
    tls, other = opened(folder), opened(authority.issue(tmp_path / "b", "DNS:b"))
    assert tls.misnamed(other.certificate, peer("b", placed("r", "z"))) is None
    wrong = tls.misnamed(other.certificate, peer("c", placed("r", "z")))
    assert wrong is not None
    assert (wrong.reason, wrong.words) == (TlsReason.NAME, "its certificate is for b, not for c or 192.0.2.1")
    ended = tls.misnamed(None, peer("c", placed("r", "z")))
    assert ended is not None
    assert ended.reason is TlsReason.CLOSED


def test_one_peer_that_refuses_this_node_alone_has_the_trouble_itself(folder: Path) -> None:
    tls = opened(folder)
    assert not tls.is_own_trouble(B, REFUSED)
    assert not tls.is_own_trouble(B, REFUSED), "again"
    assert tls.problem is None


def test_a_node_that_all_peers_refuse_has_the_trouble_itself(folder: Path) -> None:
    tls = opened(folder)
    tls.is_own_trouble(B, REFUSED)
    assert tls.is_own_trouble(C, REFUSED)
    assert tls.problem is not None
    assert tls.problem.startswith("2 peers refuse this node's certificate")
    tls.accepted()
    assert tls.problem is None
    assert not tls.is_own_trouble(C, REFUSED)


def test_peers_whose_certificates_are_wrong_have_the_trouble_themselves(folder: Path) -> None:
    tls = opened(folder)
    wrong = TlsFailure(reason=TlsReason.EXPIRED, told=False, words="it has expired")
    assert not any(tls.is_own_trouble(NodeName(f"n{number}"), wrong) for number in range(5))
    assert tls.problem is None


def test_a_clock_by_which_all_certificates_have_expired_is_this_node_s_trouble(folder: Path) -> None:
    tls = PeerTls(settings(folder), own=A, address=None, wall=lambda: 4e9)
    wrong = TlsFailure(reason=TlsReason.EXPIRED, told=False, words="it has expired")
    assert tls.is_own_trouble(B, wrong)


def test_failures_are_counted_by_reason(folder: Path) -> None:
    COUNTED.clear()
    opened(folder).is_own_trouble(B, REFUSED)
    assert COUNTED == [("dialled", "issuer")]


def test_a_renewed_certificate_is_used_for_new_connections(folder: Path, authority: Authority) -> None:
    tls = opened(folder)
    before = tls.client, tls.server
    assert not tls.reread()
    assert (tls.client, tls.server) == before, "nothing is made anew for nothing"
    authority.issue(folder, "DNS:a", "DNS:new")
    assert tls.reread()
    assert tls.client is not before[0]
    assert tls.server is not before[1]
    assert tls.certificate.has_name("new")


def test_a_signal_has_the_files_read_at_once(folder: Path, authority: Authority) -> None:
    tls = opened(folder)
    tls.reread()
    authority.issue(folder, "DNS:a", "DNS:new")
    assert tls.reread(at_once=True)


def test_a_link_that_is_swapped_is_a_renewal(authority: Authority, tmp_path: Path) -> None:
    for name in ("one", "two"):
        authority.issue(tmp_path / name, "DNS:a", f"DNS:{name}")
    (tmp_path / "data").symlink_to("one")
    tls = opened(tmp_path / "data")
    tls.reread()
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "data")
    assert tls.reread()
    assert tls.certificate.has_name("two")


def test_a_half_written_renewal_changes_nothing_and_is_said_once(
    folder: Path, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = opened(folder)
    context = tls.client
    new = authority.issue(tmp_path / "new", "DNS:a", "DNS:new")
    (new / "tls.crt").rename(folder / "tls.crt")
    for _ in range(3):
        assert not tls.reread()
    assert tls.client is context
    assert tls.problem is not None
    assert "do not belong together; the last good files stay in use" in tls.problem
    assert len(caplog.records) == 1
    (new / "tls.key").rename(folder / "tls.key")
    assert tls.reread()
    assert tls.problem is None
    assert tls.certificate.has_name("new")


def test_files_that_vanish_leave_the_last_good_ones(folder: Path) -> None:
    tls = opened(folder)
    (folder / "tls.crt").unlink()
    assert not tls.reread()
    assert tls.problem is not None
    assert "No such file" in tls.problem


def test_there_is_no_start_without_usable_files(tmp_path: Path) -> None:
    with pytest.raises(TlsFilesInvalid, match=r"peering\.tls\.certificate"):
        opened(tmp_path)

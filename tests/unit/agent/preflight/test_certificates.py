"""What the doctor says of a node's certificate."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from agent.config.settings import TlsSettings
from agent.preflight.certificates import certificate, look_at_certificate
from agent.preflight.check import Check, Status
from agent.preflight.gather import Unknown
from benchmarks.lab.certificates import Authority


def checked(
    folder: Path, now_s: float | None = None, *, own: str | None = None, shared: str | None = None
) -> Check:
    settings = TlsSettings(
        certificate=folder / "tls.crt", key=folder / "tls.key", ca=folder / "ca.crt", name=shared
    )
    facts = look_at_certificate(settings, own=own, address="10.0.0.1")
    (check,) = certificate(facts, time.time() if now_s is None else now_s)
    return check


def test_good_certificate_is_told_by_its_name_and_its_end(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue(tmp_path, "DNS:shorthaul-peers.images.svc")
    check = checked(folder)
    assert check.status is Status.GOOD
    assert check.detail.startswith("for shorthaul-peers.images.svc, until 2")


@pytest.mark.parametrize(
    ("from_now", "status", "words"),
    [
        (timedelta(days=26), Status.GOOD, "until"),
        (timedelta(days=28), Status.WARN, "nobody renewed it yet"),
        (timedelta(days=31), Status.BAD, "it expired on"),
        (timedelta(days=-1), Status.BAD, "it is not valid before"),
    ],
)
def test_certificate_that_ends_or_has_not_begun_is_told_in_time(
    authority: Authority, tmp_path: Path, from_now: timedelta, status: Status, words: str
) -> None:
    check = checked(authority.issue(tmp_path, "DNS:a"), time.time() + from_now.total_seconds())
    assert check.status is status
    assert words in check.detail
    assert (check.hint != "") is (status is not Status.GOOD)


def test_certificate_that_peers_refuse_or_that_is_not_there_is_bad(
    authority: Authority, tmp_path: Path
) -> None:
    folder = authority.issue(tmp_path / "server", "DNS:a", usages="serverAuth")
    assert "server auth and client auth" in checked(folder).detail
    (folder / "tls.key").unlink()
    missing = checked(folder)
    assert missing.status is Status.BAD
    assert "peering.tls.key" in missing.detail
    assert missing.hint


def test_certificate_of_another_node_is_bad_and_names_both(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue(tmp_path, "DNS:b")
    check = checked(folder, own="a")
    assert (check.status, check.detail) == (Status.BAD, "no peer will take it: it is for b, not for a")
    assert "subject alternative name" in check.hint
    assert checked(folder, own="b").status is Status.GOOD
    assert checked(folder, own="a", shared="b").status is Status.GOOD
    assert checked(folder).status is Status.GOOD


def test_no_tls_is_no_finding_and_a_look_that_hangs_no_success() -> None:
    assert certificate(None, 0.0) == ()
    (check,) = certificate(Unknown(why="no answer"), 0.0)
    assert check.status is Status.UNKNOWN

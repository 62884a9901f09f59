"""Reading certificates, as cert-manager and others write them."""

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from agent.config.settings import TlsSettings
from agent.peering.tlsfailure import TlsReason
from agent.peering.tlsfiles import Contexts, TlsFilesInvalid, make_contexts, read_contents
from benchmarks.lab.certificates import EC, RSA, Authority

DAY = timedelta(days=1)


def settings(folder: Path, name: str | None = None) -> TlsSettings:
    return TlsSettings(
        certificate=folder / "tls.crt", key=folder / "tls.key", ca=folder / "ca.crt", name=name
    )


def made(folder: Path) -> Contexts:
    return make_contexts(read_contents(settings(folder)))


@pytest.mark.parametrize("key", [EC, RSA], ids=["EC", "RSA"])
def test_certificates_of_both_kinds_of_keys_are_good(
    authority: Authority, tmp_path: Path, key: tuple[str, ...]
) -> None:
    contexts = made(authority.issue(tmp_path, "DNS:node-1", "IP:10.0.0.1", "URI:x://c/node/n", key=key))
    assert contexts.failure is None
    assert contexts.certificate.names == {"node-1", "x://c/node/n"}
    assert [str(each) for each in contexts.certificate.addresses] == ["10.0.0.1"]


def test_a_chain_is_good_with_the_root_alone(authority: Authority, tmp_path: Path) -> None:
    between = Authority(tmp_path, "between", signed_by=authority)
    assert made(between.issue(tmp_path / "made", "DNS:a")).failure is None


def test_an_intermediate_ca_alone_is_trusted_as_it_is(authority: Authority, tmp_path: Path) -> None:
    between = Authority(tmp_path, "between", signed_by=authority)
    folder = between.issue(tmp_path / "made", "DNS:a")
    (folder / "ca.crt").write_bytes(between.pem)
    assert made(folder).failure is None


def test_one_of_several_cas_is_enough(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    folder = other.issue(tmp_path / "made", "DNS:a", more_authorities=[authority])
    (folder / "ca.crt").write_bytes(authority.pem + b"# a comment, \xc3\xa4\n" + other.pem)
    assert made(folder).failure is None


def test_a_certificate_without_usages_is_good_for_both_ends(authority: Authority, tmp_path: Path) -> None:
    assert made(authority.issue(tmp_path, "DNS:a", usages="")).failure is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"valid": (-2 * DAY, -DAY)}, TlsReason.EXPIRED),
        ({"valid": (DAY, 2 * DAY)}, TlsReason.NOT_YET_VALID),
        ({"usages": "serverAuth"}, TlsReason.PURPOSE),
        ({"usages": "clientAuth"}, TlsReason.PURPOSE),
    ],
)
def test_what_peers_would_refuse_is_known_before_they_do(
    authority: Authority, tmp_path: Path, arguments: dict[str, object], reason: TlsReason
) -> None:
    failure = made(authority.issue(tmp_path, "DNS:a", **arguments)).failure  # type: ignore[arg-type]
    assert failure is not None
    assert failure.reason is reason


def test_a_certificate_of_another_ca_is_no_error_and_no_use(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue(tmp_path / "made", "DNS:a")
    (folder / "ca.crt").write_bytes(Authority(tmp_path, "other").pem)
    failure = made(folder).failure
    assert failure is not None
    assert failure.reason is TlsReason.ISSUER


def test_a_certificate_and_the_key_of_another_are_told(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue(tmp_path / "one", "DNS:a")
    other = authority.issue(tmp_path / "two", "DNS:a")
    (folder / "tls.key").write_bytes((other / "tls.key").read_bytes())
    with pytest.raises(TlsFilesInvalid, match="do not belong together") as raised:
        made(folder)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tls.crt", b"", "no PEM certificate"),
        ("tls.crt", b"\xff\x00" * 100, "no PEM certificate"),
        ("tls.key", b"-----BEGIN EC PRIVATE KEY-----\nhalf", "no PEM certificate and key"),
        ("ca.crt", b"", "peering.tls.ca"),
        ("ca.crt", b"# nothing\n", "peering.tls.ca"),
        ("ca.crt", b"x" * (1 << 20) + b"x", "more than"),
    ],
)
def test_what_is_no_certificate_is_told_with_its_file(
    authority: Authority, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (authority.issue(tmp_path, "DNS:a") / name).write_bytes(content)
    with pytest.raises(TlsFilesInvalid, match=words) as raised:
        made(tmp_path)
    assert raised.value.hint


def test_a_file_that_is_missing_is_told(authority: Authority, tmp_path: Path) -> None:
    (authority.issue(tmp_path, "DNS:a") / "tls.key").unlink()
    with pytest.raises(TlsFilesInvalid, match=r"peering.tls.key: .*tls.key: No such file"):
        made(tmp_path)


def test_a_key_with_a_password_asks_nobody(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue(tmp_path, "DNS:a")
    locked = tmp_path / "locked"
    arguments = ["-in", f"{folder}/tls.key", "-out", str(locked), "-aes256", "-passout", "pass:secret"]
    subprocess.run(["openssl", "pkey", *arguments], check=True, capture_output=True)
    locked.rename(folder / "tls.key")
    with pytest.raises(TlsFilesInvalid, match="password"):
        made(folder)


def test_nothing_that_is_printed_has_the_key(authority: Authority, tmp_path: Path) -> None:
    contents = read_contents(settings(authority.issue(tmp_path, "DNS:a")))
    assert "PRIVATE" not in repr(contents)

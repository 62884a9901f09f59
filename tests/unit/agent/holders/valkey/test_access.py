"""What the server is shown: read anew each time, and never shown in words."""

import ssl
from pathlib import Path

import pytest

from agent.config import IndexUrl, ValkeySettings
from agent.config.indexurl import parse_index
from agent.holders.valkey.access import Access, public_cas
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from benchmarks.lab.certificates import Authority


def access(url: str, **settings: object) -> Access:
    parsed = parse_index(url)
    assert isinstance(parsed, IndexUrl)
    return Access(parsed, ValkeySettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "settings", "login"),
    [
        ("valkey://h", {}, ()),
        ("valkey://:p@h", {}, ("default", "p")),
        ("valkey://u:p@h", {}, ("u", "p")),
        ("valkey://:p@h", {"username": "u"}, ("u", "p")),
        ("valkey://u@h", {}, ("u", "")),
    ],
)
async def test_login_is_what_url_and_settings_say(
    url: str, settings: dict[str, object], login: tuple[str, ...]
) -> None:
    shown = await access(url, **settings).read()
    assert (shown.login, shown.tls) == (login, None)
    assert "p'" not in repr(shown)


async def test_password_that_was_replaced_is_read_at_the_next_connection(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("old\nsecond line\n")
    reading = access("valkey://u@h", password_file=path)
    assert (await reading.read()).login == ("u", b"old")
    path.write_bytes(b" of any \xff bytes\r\n")
    assert (await reading.read()).login == ("u", b" of any \xff bytes")


@pytest.mark.parametrize("content", [None, "", "\n", "x" * (2 << 20)])
async def test_file_without_a_password_is_told_with_its_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    with pytest.raises(IndexDown) as refused:
        await access("valkey://h", password_file=path).read()
    assert refused.value.kind is IndexTrouble.DENIED
    assert str(path) in refused.value.words


async def test_tls_checks_the_host_or_the_name_that_is_given() -> None:
    shown = await access("valkeys://h").read()
    assert shown.tls is not None
    assert (shown.tls.verify_mode, shown.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert shown.name_of("h") == shown.name_of("h.") == "h"
    assert (await access("valkeys://h", server_name="n").read()).name_of("h") == "n"


async def test_authority_that_was_replaced_is_used_and_an_unchanged_one_is_not_read_again(
    tmp_path: Path,
) -> None:
    one, other = Authority(tmp_path, "one"), Authority(tmp_path, "other")
    path = tmp_path / "ca.crt"
    path.write_bytes(one.pem)
    reading = access("valkeys://h", ca_file=path)
    first = (await reading.read()).tls
    assert (await reading.read()).tls is first
    path.write_bytes(other.pem)
    second = (await reading.read()).tls
    assert second is not None
    assert [ca["subject"] for ca in second.get_ca_certs()] == [((("commonName", "other"),),)]


@pytest.mark.parametrize("broken", ["ca_file", "certificate_file", "key_file"])
async def test_file_that_is_no_certificate_is_told_with_its_setting(tmp_path: Path, broken: str) -> None:
    folder = Authority(tmp_path).issue(tmp_path / "tls", "DNS:h")
    files = {"ca_file": "ca.crt", "certificate_file": "tls.crt", "key_file": "tls.key"}
    (folder / files[broken]).write_text("nothing")
    with pytest.raises(IndexDown) as refused:
        await access("valkeys://h", **{key: folder / name for key, name in files.items()}).read()
    assert refused.value.kind is IndexTrouble.TLS
    assert "valkey." in refused.value.words
    (folder / files[broken]).unlink()
    with pytest.raises(IndexDown, match=broken):
        await access("valkeys://h", **{key: folder / name for key, name in files.items()}).read()


def test_public_cas_are_used_where_the_system_has_none(tmp_path: Path) -> None:
    """As in the image, which has no package of them."""
    empty = tmp_path / "certs"
    empty.mkdir()
    for capath in (None, str(empty)):
        found = public_cas(None, capath)
        assert found is not None
        assert ssl.create_default_context(cafile=found).cert_store_stats()["x509_ca"] > 50
    (empty / "ca.pem").touch()
    assert public_cas(None, str(empty)) is None
    assert public_cas("/etc/ssl/cert.pem", None) is None

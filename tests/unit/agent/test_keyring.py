"""The cluster's keys: which texts are keys, what is derived, and how a file is followed."""

import base64
import hashlib
import hmac
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.keyring import KEYS_MOST, KeyFile, KeysInvalid, new_key, parse_keys, read_keys

OLD, NEW = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


def test_first_key_signs_and_all_are_accepted() -> None:
    ring = parse_keys(f"# the new one\n{NEW}\n\n  {OLD}\r\n")
    new, old = parse_keys(NEW).signs, parse_keys(OLD).signs
    assert ring.keys == (new, old)
    assert ring.signs == new
    assert ring.ids == (new.id, old.id)
    assert ring.service_tokens == (new.service_token, old.service_token)
    assert ring.admin_tokens == (new.admin_token, old.admin_token)


def test_everything_is_derived_from_the_key_by_its_purpose() -> None:
    def derived(purpose: bytes) -> bytes:
        return hmac.digest(OLD.encode(), purpose, hashlib.sha256)

    def token(purpose: bytes) -> str:
        return base64.urlsafe_b64encode(derived(purpose)).decode().rstrip("=")

    key = parse_keys(OLD).signs
    assert key.peers == derived(b"shorthaul peers v1")
    assert key.service_token == token(b"shorthaul service token v1")
    assert key.admin_token == token(b"shorthaul admin token v1")
    assert len({key.id, key.peers, key.redirects, key.service_token, key.admin_token}) == 5
    assert len(key.id) == 8


def test_text_of_a_ring_shows_ids_alone() -> None:
    ring = parse_keys(f"{OLD}\n{NEW}")
    for shown in (repr(ring), str(ring), f"{ring.keys}", repr(ring.signs)):
        assert ring.signs.id in shown
        for key in ring.keys:
            for secret in (OLD, NEW, key.service_token, key.admin_token, repr(key.peers), key.peers.hex()):
                assert secret not in shown


def test_the_key_itself_is_not_kept() -> None:
    assert OLD.encode() not in pickle.dumps(parse_keys(OLD))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no key in it"),
        ("\n# none yet\n", "there is no key in it"),
        ("short", "line 1 has 5 characters, and a key 32"),
        (f"{OLD}\n\nshort", "line 3 has 5 characters"),
        ("key: " + OLD, "line 1 is no key: it has a space"),
        (OLD + "\x00", "line 1 is no key"),
        (OLD + "é", "line 1 is no key"),
        ("changeme" * 4, "line 1 can be guessed"),
        ("\n".join(new_key() for _ in range(KEYS_MOST + 1)), "5 keys in it, and 4 are the most"),
    ],
)
def test_what_is_no_key_is_refused_with_its_line_and_a_hint_and_never_its_text(text: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=said) as refused:
        parse_keys(text)
    assert refused.value.hint
    for line in text.split("\n"):
        assert len(line) < 9 or line not in f"{refused.value} {refused.value.hint}"


def test_one_key_twice_is_one_key() -> None:
    assert parse_keys(f"{OLD}\n{NEW}\n{OLD}") == parse_keys(f"{OLD}\n{NEW}")


@given(st.text())
def test_any_text_is_keys_or_refused(text: str) -> None:
    try:
        ring = parse_keys(text)
    except KeysInvalid:
        return
    assert 1 <= len(ring.keys) <= KEYS_MOST


def test_new_keys_are_keys_and_differ() -> None:
    made = {new_key() for _ in range(20)}
    assert len(made) == 20
    for key in made:
        parse_keys(key)


def test_file_that_is_no_use_is_refused_without_its_content(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(KeysInvalid, match="No such file") as missing:
        KeyFile(path)
    assert "shorthaul key new" in missing.value.hint
    path.write_bytes(b"\xff" + OLD.encode())
    with pytest.raises(KeysInvalid, match="not in ASCII") as odd:
        read_keys(path)
    assert odd.value.__cause__ is None  # which has the bytes in it
    path.write_text(OLD, encoding="utf-8-sig")  # as editors on Windows write it
    with pytest.raises(KeysInvalid, match="not in ASCII") as marked:
        read_keys(path)
    assert "byte order mark" in marked.value.hint
    with pytest.raises(KeysInvalid, match="a directory"):
        read_keys(tmp_path)


def test_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(OLD)
    file = KeyFile(path)
    assert not file.reread(0.0)
    path.write_text(f"{OLD}\n{NEW}")
    assert not file.reread(4.9)  # not due
    assert file.reread(5.0)
    assert file.ring == parse_keys(f"{OLD}\n{NEW}")
    assert not file.reread(10.0)
    path.chmod(0)
    path.chmod(0o600)
    assert not file.reread(15.0)


def test_second_write_within_the_files_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(OLD)
    file = KeyFile(path)
    path.write_text(NEW)
    assert file.reread(0.0)
    times = path.stat()
    path.write_text(OLD)  # the same size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.reread(5.0)
    assert file.ring == parse_keys(OLD)


def test_replaced_link_is_seen(tmp_path: Path) -> None:
    for version, key in (("one", OLD), ("two", NEW)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(key)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "key").symlink_to("..data/key")
    file = KeyFile(tmp_path / "key")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "..data")
    assert file.reread(0.0)
    assert file.ring == parse_keys(NEW)


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_text(""), lambda path: path.write_text("no")]
)
def test_file_that_becomes_no_use_keeps_the_last_keys_and_is_told_once(tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "key"
    path.write_text(OLD)
    file = KeyFile(path)
    spoil(path)
    assert file.reread(0.0)
    assert file.problem is not None
    assert file.ring == parse_keys(OLD)
    assert not file.reread(5.0)
    assert not file.reread(10.0)
    path.write_text(NEW)
    assert file.reread(15.0)
    assert file.problem is None
    assert file.ring == parse_keys(NEW)


def test_reload_reads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(OLD)
    file = KeyFile(path)
    assert not file.reread(0.0)
    path.write_text(NEW)
    assert file.reread(0.1, at_once=True)

"""``shorthaul key``: files, names and tokens, as a person meets them."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.commands import run
from agent.keyring import new_key, parse_keys, read_keys


def test_new_file_has_one_key_that_only_its_owner_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, mask = tmp_path / "key", os.umask(0)
    try:
        assert run(["key", "new", str(path)]) == 0
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ring = read_keys(path)
    assert capsys.readouterr().out == f"{ring.signs.id}  signs, accepted\n"
    assert path.read_text().strip() not in f"{capsys.readouterr()}"


def test_existing_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_text("precious")
    assert run(["key", "new", str(path)]) == 1
    assert path.read_text() == "precious"
    assert "hint: to replace its key" in capsys.readouterr().err


def test_rotation_is_three_commands(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert run(["key", "new", str(path)]) == 0
    path.chmod(0o640)
    (old,) = read_keys(path).keys
    assert run(["key", "add", str(path)]) == 0
    assert read_keys(path).signs == old
    new = read_keys(path).keys[1]
    assert run(["key", "first", str(path)]) == 0
    assert read_keys(path).keys == (new, old)
    assert run(["key", "keep-first", str(path)]) == 0
    assert read_keys(path).keys == (new,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [*tmp_path.iterdir()] == [path]


def test_five_keys_are_too_many_and_the_file_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "key"
    assert run(["key", "new", str(path)]) == 0
    for _ in range(3):
        assert run(["key", "add", str(path)]) == 0
    before = path.read_text()
    assert run(["key", "add", str(path)]) == 1
    assert path.read_text() == before
    assert "5 keys" in capsys.readouterr().err


def test_tokens_are_those_of_the_key_that_signs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef0123456789abcdef\nfedcba9876543210fedcba9876543210\n")
    signs = parse_keys(path.read_text()).signs
    for purpose, token in (("service", signs.service_token), ("admin", signs.admin_token)):
        assert run(["key", "token", purpose, str(path)]) == 0
        assert capsys.readouterr().out == f"{token}\n"


def test_file_that_has_no_key_is_told_with_a_hint_and_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "key"
    for text, said in ((None, "No such file"), ("too-short-but-secret", "20 characters")):
        if text is not None:
            path.write_text(text)
        for words in (["show"], ["add"], ["first"], ["keep-first"], ["token", "service"]):
            assert run(["key", *words, str(path)]) == 1
            error = capsys.readouterr().err
            assert said in error
            assert "hint: " in error
            assert "too-short-but" not in error


def test_key_is_reached_through_a_link_and_the_link_stays(tmp_path: Path) -> None:
    path, link = tmp_path / "key", tmp_path / "link"
    assert run(["key", "new", str(path)]) == 0
    link.symlink_to(path)
    assert run(["key", "add", str(link)]) == 0
    assert link.is_symlink()
    assert len(read_keys(path).keys) == 2


def piped(action: str, text: str) -> "subprocess.CompletedProcess[str]":
    """Change keys that come by standard input."""
    command = [str(Path(sys.executable).parent / "shorthaul"), "key", action, "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_rotation_by_a_pipe_prints_the_keys_and_nothing_else() -> None:
    """A Secret is changed so: `get | shorthaul key add - >keys && put keys`."""
    text, rings = f"# ours\n{new_key()}\n", []
    for action in ("add", "first", "keep-first"):
        said = piped(action, text)
        text, ring = said.stdout, parse_keys(said.stdout)
        assert [line.split()[0] for line in said.stderr.splitlines()] == list(ring.ids)
        rings.append(ring.ids)
    both, turned, alone = rings
    assert turned == both[::-1]
    assert alone == turned[:1]


@pytest.mark.parametrize("text", ["", "too short\n"])
def test_pipe_without_keys_is_an_error_and_prints_nothing(text: str) -> None:
    """So that `&&` keeps what would come next from making the Secret empty."""
    said = piped("add", text)
    assert said.returncode == 1
    assert said.stdout == ""
    assert "hint:" in said.stderr

"""What the doctor says of the cluster's key, and that it shows nothing of it."""

from pathlib import Path

import pytest

from agent.keyring import parse_keys
from agent.preflight.check import Status
from agent.preflight.gather import Unknown
from agent.preflight.keys import key_file, look_at_key

OLD, NEW = "old-key-0123456789abcdefghijklmnopqrst", "new-key-ABCDEFGHIJKLMNOPQRSTUVWXYZ-9876"


def made(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_keys_that_can_be_read_are_told_by_their_names(tmp_path: Path) -> None:
    (check,) = key_file(look_at_key(made(tmp_path, f"{NEW}\n{OLD}\n")), is_open=False)
    new, old = parse_keys(f"{NEW}\n{OLD}").ids
    assert check.status is Status.GOOD
    assert check.detail.endswith(f"keys: {new} signs, and {old} is accepted")
    assert NEW not in str(check)
    (alone,) = key_file(look_at_key(made(tmp_path, NEW)), is_open=False)
    assert alone.detail.endswith(f"{new} signs")


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        (0o600, Status.GOOD),
        (0o400, Status.GOOD),
        (0o440, Status.GOOD),
        (0o644, Status.WARN),
        (0o602, Status.WARN),
    ],
)
def test_file_that_others_can_read_is_said_with_what_to_do(tmp_path: Path, mode: int, status: Status) -> None:
    """A group may: a pod with an fsGroup, or an agent that is not root."""
    *_, last = key_file(look_at_key(made(tmp_path, NEW, mode)), is_open=False)
    assert last.status is status
    if status is Status.WARN:
        assert f"mode {mode:04o}" in last.detail
        assert "chmod 0600" in last.hint
        assert "make another key" in last.hint


def test_mode_is_that_of_the_file_behind_the_links_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    made(tmp_path / "..data", NEW, 0o400)
    (tmp_path / "keys").symlink_to("..data/keys")
    assert [each.status for each in key_file(look_at_key(tmp_path / "keys"), is_open=False)] == [Status.GOOD]


@pytest.mark.parametrize("text", ["", "too-short\n", f"{NEW} and more\n"])
def test_file_that_is_no_use_is_bad_and_shows_none_of_its_lines(tmp_path: Path, text: str) -> None:
    (check,) = key_file(look_at_key(made(tmp_path, text)), is_open=False)
    assert check.status is Status.BAD
    assert check.hint
    assert NEW not in str(check)
    assert "too-short" not in str(check)


def test_missing_file_is_bad(tmp_path: Path) -> None:
    (check,) = key_file(look_at_key(tmp_path / "none"), is_open=False)
    assert check.status is Status.BAD
    assert "none: No such file or directory" in check.detail
    assert "one that starts does not serve" in check.detail


def test_no_key_is_fine_only_where_all_is_open() -> None:
    (closed,) = key_file(None, is_open=False)
    assert closed.status is Status.WARN
    assert "shorthaul key new" in closed.hint
    (opened,) = key_file(None, is_open=True)
    assert opened.status is Status.GOOD


def test_look_that_does_not_come_back_is_no_success() -> None:
    (check,) = key_file(Unknown(why="no answer within 9 s"), is_open=False)
    assert check.status is Status.UNKNOWN

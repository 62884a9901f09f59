"""A file is replaced whole or not at all."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.hosts.replace import owner_of, remove_file, replace_file


def files(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_new_file_can_be_read_by_all_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "a", b"x", like=None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert files(tmp_path) == ["a"]


def test_mode_and_owner_stay(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old")
    file.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)
    owner = owner_of(file)
    replace_file(file, b"new", like=owner)
    assert (owner_of(file), file.read_bytes()) == (owner, b"new")
    assert owner is not None
    assert owner.mode == 0o600
    assert owner_of(tmp_path / "b") is None


def test_what_may_not_be_in_the_file_does_not_get_there(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old")

    def refuse(data: bytes) -> None:
        raise ValueError(data)

    with pytest.raises(ValueError, match="new"):
        replace_file(file, b"new", like=None, check=refuse)
    assert (file.read_bytes(), files(tmp_path)) == (b"old", ["a"])


def test_a_leftover_of_a_killed_run_is_replaced_and_no_link_is_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / ".a.shorthaul-new").symlink_to(other)
    replace_file(tmp_path / "a", b"new", like=None)
    assert other.read_bytes() == b"precious"
    (tmp_path / ".a.shorthaul-new").write_bytes(b"half")
    remove_file(tmp_path / "a")
    assert files(tmp_path) == ["other"]


def test_the_old_file_stays_if_the_new_one_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    script = (
        "import resource, sys; from pathlib import Path; from agent.hosts.replace import replace_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "replace_file(Path(sys.argv[1]), b'x' * 200, like=None)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")], capture_output=True, text=True, check=False
    )
    assert "File too large" in run.stderr
    assert ((tmp_path / "a").read_bytes(), files(tmp_path)) == (b"old", ["a"])
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100


def test_a_removed_file_may_be_gone_already(tmp_path: Path) -> None:
    remove_file(tmp_path / "a")
    assert files(tmp_path) == []

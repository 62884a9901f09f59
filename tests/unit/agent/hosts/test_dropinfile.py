"""The drop-in on a disk."""

from pathlib import Path

import pytest

from agent.hosts.dropin import FIRST_LINE, NAME
from agent.hosts.dropinfile import find_drop_ins, first_line, remove_drop_in, write_drop_in
from agent.hosts.flavours import flavour
from agent.hosts.registry import ConfigFile, ContainerdConfig
from agent.hosts.toml import TomlInvalid
from agent.hosts.tree import NodeTree

FOLDER = Path("/etc/containerd/conf.d")
CONFIG = ContainerdConfig(
    path=Path("/etc/containerd/config.toml"),
    files=(ConfigFile(path=Path("/etc/containerd/config.toml")), ConfigFile(path=FOLDER / "a.toml")),
)


def test_it_is_written_found_and_removed_and_files_of_others_are_not(tmp_path: Path) -> None:
    node, kind = NodeTree(tmp_path), flavour("containerd")
    (tmp_path / "etc/containerd/conf.d").mkdir(parents=True)
    write_drop_in(node, FOLDER / NAME, f"{FIRST_LINE}\nversion = 2\n")
    assert first_line(node, FOLDER / NAME) == FIRST_LINE
    assert find_drop_ins(node, CONFIG, kind) == (FOLDER / NAME,)
    remove_drop_in(node, FOLDER / NAME)
    assert list((tmp_path / "etc/containerd/conf.d").iterdir()) == []
    (tmp_path / "etc/containerd/conf.d" / NAME).write_text("version = 2\n")
    assert find_drop_ins(node, CONFIG, kind) == ()
    assert first_line(node, FOLDER / "gone.toml") == ""


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_drop_in(NodeTree(tmp_path), FOLDER / NAME, f"{FIRST_LINE}\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_toml_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "etc/containerd/conf.d").mkdir(parents=True)
    with pytest.raises(TomlInvalid):
        write_drop_in(NodeTree(tmp_path), FOLDER / NAME, "[")
    assert list((tmp_path / "etc/containerd/conf.d").iterdir()) == []

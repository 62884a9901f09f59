"""A node's path leads below the mount, also through links."""

import os
from pathlib import Path

import pytest

from agent.hosts.tree import NodeTree


@pytest.fixture
def node(tmp_path: Path) -> NodeTree:
    (tmp_path / "real/dir").mkdir(parents=True)
    return NodeTree(tmp_path)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/real/dir", "real/dir"),
        ("real/dir", "real/dir"),
        ("./real/../real/dir", "real/dir"),
        ("../../../real/dir", "real/dir"),
        ("/not/there", "not/there"),
        ("/", ""),
    ],
)
def test_a_link_on_the_node_is_followed_below_the_mount(
    node: NodeTree, tmp_path: Path, target: str, found: str
) -> None:
    (tmp_path / "link").symlink_to(target)
    assert node.find(Path("/link")) == tmp_path / found
    assert node.find(Path("/link/file")) == tmp_path / found / "file"


def test_links_in_a_circle_are_an_error(node: NodeTree, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="too many symbolic links"):
        node.find(Path("/a"))
    assert not node.exists(Path("/a"))
    assert not node.same(Path("/a"), Path("/real"))


def test_two_names_of_one_place_are_the_same(node: NodeTree, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("real")
    assert node.same(Path("/current/dir"), Path("/real/dir"))
    assert not node.same(Path("/current/dir"), Path("/real"))
    assert node.exists(Path("/current/dir"))


def test_the_node_itself_is_root() -> None:
    assert NodeTree(Path("/")).find(Path("/proc/self")) == Path("/proc") / str(os.getpid())

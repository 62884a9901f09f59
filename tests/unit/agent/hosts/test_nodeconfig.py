"""containerd's configuration as it is on a node, mounted somewhere."""

from pathlib import Path

from agent.hosts.nodeconfig import imported, read_config
from agent.hosts.tree import NodeTree

CONFIG = Path("/etc/containerd/config.toml")


def write(root: Path, path: str, text: str | bytes) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_paths_are_the_nodes_and_files_are_below_the_mount(tmp_path: Path) -> None:
    write(
        tmp_path, "/etc/containerd/config.toml", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    )
    write(tmp_path, "/etc/containerd/conf.d/b.toml", "version = 2\n")
    write(tmp_path, "/etc/containerd/conf.d/a.toml", "version = 2\n")
    write(tmp_path, "/etc/containerd/conf.d/a.txt", "no TOML")
    found = read_config(NodeTree(tmp_path), CONFIG)
    assert [str(each.path) for each in found.files] == [
        "/etc/containerd/config.toml",
        "/etc/containerd/conf.d/a.toml",
        "/etc/containerd/conf.d/b.toml",
    ]


def test_relative_imports_are_beside_the_file(tmp_path: Path) -> None:
    write(tmp_path, "/etc/containerd/conf.d/a.toml", "")
    assert list(imported(NodeTree(tmp_path), CONFIG, "conf.d/*.toml")) == [
        Path("/etc/containerd/conf.d/a.toml")
    ]
    assert list(imported(NodeTree(tmp_path), CONFIG, "other.toml")) == [Path("/etc/containerd/other.toml")]
    assert list(imported(NodeTree(tmp_path), CONFIG, "gone/*.toml")) == []


def test_no_file_means_the_built_in_values(tmp_path: Path) -> None:
    (tmp_path / "etc/containerd").mkdir(parents=True)
    found = read_config(NodeTree(tmp_path), CONFIG)
    assert (found.files, found.problem) == ((), "")


def test_a_directory_that_is_not_mounted_is_no_word_on_the_file(tmp_path: Path) -> None:
    assert "/etc/containerd is not mounted here" in read_config(NodeTree(tmp_path), CONFIG).problem


def test_what_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "/etc/containerd/config.toml", b"\xff")
    assert "not TOML" in read_config(NodeTree(tmp_path), CONFIG).problem
    write(tmp_path, "/etc/containerd/config.toml", 'imports = ["/etc/gone.toml"]\n')
    assert "/etc/gone.toml: No such file" in read_config(NodeTree(tmp_path), CONFIG).problem
    (tmp_path / "etc/containerd/config.toml").unlink()
    (tmp_path / "etc/containerd/config.toml").mkdir()
    assert "a directory, not a file" in read_config(NodeTree(tmp_path), CONFIG).problem


def test_imports_without_end_are_read_no_further(tmp_path: Path) -> None:
    for number in range(150):
        write(
            tmp_path, f"/etc/containerd/{number}.toml", f'imports = ["/etc/containerd/{number + 1}.toml"]\n'
        )
    assert len(read_config(NodeTree(tmp_path), Path("/etc/containerd/0.toml")).files) == 100

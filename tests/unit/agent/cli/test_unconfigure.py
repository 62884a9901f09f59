"""``shorthaul unconfigure`` leaves a node as it was before ``shorthaul configure``."""

from pathlib import Path

import pytest

from agent.cli import main


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/containerd/conf.d").mkdir(parents=True)
    (tmp_path / "etc/containerd/config.toml").write_text(
        'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    )
    return tmp_path


def run(command: str, root: Path, *options: str) -> int:
    return main([command, "--root", str(root), *options])


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {str(each): each.read_bytes() if each.is_file() else None for each in root.rglob("*")}


def test_nothing_is_left_of_files_directories_and_the_drop_in(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(root)
    assert run("configure", root, "--drop-in", "--registry", "docker.io,quay.io") == 0
    assert run("configure", root) == 0
    configured = snapshot(root)
    assert configured != before
    assert run("unconfigure", root, "--dry-run") == 0
    assert snapshot(root) == configured
    assert run("unconfigure", root) == 0
    assert snapshot(root) == before
    assert "_default/hosts.toml is removed" in capsys.readouterr().out


def test_an_owners_file_comes_back(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "etc/containerd/certs.d/docker.io/hosts.toml"
    file.parent.mkdir(parents=True)
    file.write_text('server = "https://registry-1.docker.io"')  # no newline at its end
    before = snapshot(root)
    assert run("configure", root) == 0
    assert run("unconfigure", root) == 0
    assert snapshot(root) == before
    assert "is again as its owner wrote it" in capsys.readouterr().out


def test_where_nothing_of_ours_is_nothing_is_done(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root)
    assert run("unconfigure", root) == 0
    assert snapshot(root) == before
    assert "nothing of shorthaul's is in /etc/containerd/certs.d" in capsys.readouterr().out


def test_a_broken_part_is_left_alone_with_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "etc/containerd/certs.d/docker.io/hosts.toml"
    file.parent.mkdir(parents=True)
    file.write_text("# >>> shorthaul >>> half\n")
    assert run("unconfigure", root) == 1
    assert file.read_text() == "# >>> shorthaul >>> half\n"
    assert "hosts.toml.before-shorthaul" in capsys.readouterr().err


def test_files_in_the_directory_of_before_are_taken_out_too(root: Path) -> None:
    before = snapshot(root)
    assert run("configure", root) == 0
    config = root / "etc/containerd/config.toml"
    text = config.read_text()
    (root / "cfg").mkdir()
    config.write_text('version = 3\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "/cfg"\n')
    assert run("configure", root) == 0
    assert (root / "cfg/_default/hosts.toml").is_file()
    assert run("unconfigure", root) == 0
    (root / "cfg").rmdir()
    config.write_text(text)
    assert snapshot(root) == before


def test_a_directory_that_is_given_is_the_only_one_looked_at(root: Path) -> None:
    assert run("configure", root) == 0
    assert run("unconfigure", root, "--certs-d", "/etc/containerd/other") == 0
    assert (root / "etc/containerd/certs.d/_default/hosts.toml").is_file()

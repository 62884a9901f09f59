"""The directory on a disk: links, modes, backups, two runs at once, and nothing left behind."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.hosts.directory import BACKUP, Busy, Changed, RegistryDirectory
from agent.hosts.merge import merge
from agent.hosts.mirror import Mirror
from agent.hosts.plan import DEFAULT, Tree, plan_configure, plan_unconfigure
from agent.hosts.toml import TomlInvalid
from agent.hosts.tree import NodeTree
from tests.unit.agent.hosts.texts import CLOSED, HOSTPORT, MIRROR

CERTS_D = Path("/etc/containerd/certs.d")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/containerd").mkdir(parents=True)
    return tmp_path


def directory(root: Path) -> RegistryDirectory:
    return RegistryDirectory(NodeTree(root), CERTS_D)


def configure(root: Path, registries: Sequence[str] = (), mirror: Mirror = MIRROR) -> list[str]:
    found = directory(root)
    with found.locked(create=True) as made:
        found.sweep()
        tree = found.read()
        plan = plan_configure(Tree(exists=not made, entries=tree.entries), mirror, registries)
        return [remark for change in plan.changes if change.changes for remark in found.apply(change)]


def unconfigure(root: Path) -> list[str]:
    found = directory(root)
    with found.locked(create=False):
        changes = plan_unconfigure(found.read()).changes
        remarks = [remark for change in changes for remark in found.apply(change)]
        if any(change.after is None for change in changes):
            found.remove()
        return remarks


def snapshot(root: Path) -> dict[str, tuple[str, int, bytes | str]]:
    """All that is below: kind, mode, and content or target."""
    found: dict[str, tuple[str, int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()))
        elif path.is_dir():
            found[name] = ("directory", mode, "")
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found


def write(root: Path, name: str, text: str, mode: int = 0o644) -> Path:
    file = root / "etc/containerd/certs.d" / name / "hosts.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_missing_directory_is_made_and_goes_again(root: Path) -> None:
    before = snapshot(root)
    configure(root)
    assert stat.S_IMODE((root / "etc/containerd/certs.d").stat().st_mode) == 0o755
    assert (root / "etc/containerd/certs.d/_default/hosts.toml").read_text().startswith("# >>> shorthaul")
    unconfigure(root)
    assert snapshot(root) == before


def test_without_its_parent_nothing_is_made(root: Path) -> None:
    (root / "etc/containerd").rmdir()
    with pytest.raises(FileNotFoundError):
        configure(root)
    assert snapshot(root) == {"etc": ("directory", 0o755, "")}


def test_an_owners_file_is_kept_once_and_comes_back_with_its_mode(root: Path) -> None:
    file = write(root, "docker.io", '[host."http://m".header]\n  authorization = "secret"\n', 0o600)
    (file.parent / "ca.crt").write_text("PEM")
    before = snapshot(root)
    configure(root)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((file.parent / BACKUP).stat().st_mode) == 0o600
    configure(root, mirror=Mirror(endpoints=(HOSTPORT,)))
    assert "secret" in (file.parent / BACKUP).read_text()
    assert "shorthaul" not in (file.parent / BACKUP).read_text(), "the first one is kept"
    assert unconfigure(root) == []
    assert snapshot(root) == before


def test_a_file_that_its_owner_changed_meanwhile_keeps_the_change_and_the_copy(root: Path) -> None:
    file = write(root, "docker.io", "# one\n")
    configure(root)
    file.write_text(file.read_text() + "# two\n")
    assert "changed it since" in unconfigure(root)[0]
    assert file.read_text() == "# one\n# two\n"
    assert (file.parent / BACKUP).read_text() == "# one\n"


def test_a_file_that_another_tool_replaced_is_the_other_tools(root: Path) -> None:
    file = write(root, "docker.io", "# one\n")
    configure(root, ["docker.io"])
    file.write_text('[host."http://other"]\n')
    assert unconfigure(root) == []
    assert file.read_text() == '[host."http://other"]\n'
    configure(root, ["docker.io"])
    assert (file.parent / BACKUP).read_text() == "# one\n"


def test_a_copy_of_the_default_is_as_closed_as_the_default(root: Path) -> None:
    default = write(
        root, DEFAULT, '[host."http://m"]\n[host."http://m".header]\nauthorization = "secret"\n', 0o600
    )
    configure(root, ["docker.io"])
    copy = root / "etc/containerd/certs.d/docker.io/hosts.toml"
    assert "secret" in copy.read_text()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    default.chmod(0o640)
    default.write_text(default.read_text() + "# more\n")
    configure(root, ["docker.io"])
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o640])
def test_owners_file_with_a_token_is_for_its_owner_alone_and_has_its_mode_back_later(
    root: Path, mode: int
) -> None:
    file = write(root, "docker.io", "# one\n", mode)
    before = snapshot(root)
    configure(root, mirror=CLOSED)
    assert "s3cret" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((file.parent / BACKUP).stat().st_mode) == mode
    configure(root, mirror=replace(CLOSED, token="another"))
    unconfigure(root)
    assert snapshot(root) == before


def test_file_and_copy_that_are_made_are_for_root_alone_if_they_have_a_token(root: Path) -> None:
    write(root, DEFAULT, '[host."http://m"]\n', 0o644)
    before = snapshot(root)
    configure(root, mirror=CLOSED)
    configure(root, ["docker.io"], mirror=CLOSED)
    copy = root / "etc/containerd/certs.d/docker.io/hosts.toml"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "etc/containerd/certs.d/_default/hosts.toml").stat().st_mode) == 0o644
    unconfigure(root)
    assert snapshot(root) == before


def test_file_without_a_token_gets_one_and_is_closed_by_the_same_write(root: Path) -> None:
    configure(root)
    file = root / "etc/containerd/certs.d/_default/hosts.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    configure(root, mirror=CLOSED)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_mode_that_somebody_changed_is_mended_without_another_write(root: Path) -> None:
    configure(root, mirror=CLOSED)
    file = root / "etc/containerd/certs.d/_default/hosts.toml"
    file.chmod(0o644)
    inode = file.stat().st_ino
    configure(root, mirror=CLOSED)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_ino == inode


def test_links_stay_links_and_what_they_mean_is_changed(root: Path) -> None:
    (root / "data/shared").mkdir(parents=True)
    (root / "data/shared/hub.toml").write_text("# hub\n")
    (root / "data/certs/docker.io").mkdir(parents=True)
    (root / "data/certs/docker.io/hosts.toml").symlink_to("/data/shared/hub.toml")
    (root / "etc/containerd/certs.d").symlink_to("/data/certs")
    (root / "data/certs/quay.io").symlink_to("docker.io")
    before = snapshot(root)
    configure(root)
    assert "shorthaul" in (root / "data/shared/hub.toml").read_text()
    assert (root / "data/certs/docker.io/hosts.toml").is_symlink()
    assert (root / "data/certs/_default/hosts.toml").is_file()
    unconfigure(root)
    assert snapshot(root) == before


def test_a_link_to_nothing_gets_its_file_and_stays_a_link(root: Path) -> None:
    (root / "data").mkdir()
    (root / "etc/containerd/certs.d/docker.io").mkdir(parents=True)
    (root / "etc/containerd/certs.d/docker.io/hosts.toml").symlink_to("/data/hub.toml")
    before = snapshot(root)
    configure(root, ["docker.io"])
    assert (root / "data/hub.toml").is_file()
    unconfigure(root)
    assert snapshot(root) == before


def test_files_of_others_keep_their_directory(root: Path) -> None:
    configure(root, ["docker.io"])
    (root / "etc/containerd/certs.d/docker.io/ca.crt").write_text("PEM")
    assert "other files" in unconfigure(root)[0]
    assert list(snapshot(root / "etc/containerd/certs.d/docker.io")) == ["ca.crt"]


def test_what_is_no_file_is_refused_and_the_rest_is_done(root: Path) -> None:
    (root / "etc/containerd/certs.d/docker.io/hosts.toml").mkdir(parents=True)
    file = write(root, "quay.io", "")
    file.unlink()
    os.mkfifo(file)
    plan = plan_configure(directory(root).read(), MIRROR, ["docker.io", "quay.io"])
    assert [each.name for each in plan.refusals] == ["docker.io", "quay.io"]
    configure(root)
    assert (root / f"etc/containerd/certs.d/{DEFAULT}/hosts.toml").is_file()


def test_a_directory_appears_with_its_file_or_not_at_all(root: Path) -> None:
    """An empty one would keep containerd from reading the default."""
    (root / "etc/containerd/certs.d/.docker.io.shorthaul-new").mkdir(parents=True)
    (root / "etc/containerd/certs.d/.docker.io.shorthaul-new/hosts.toml").write_text("half")
    found = directory(root)
    assert found.read().entries == {}, "what a killed run left is no registry"
    with found.locked(create=False):
        (change,) = plan_configure(found.read(), MIRROR, ["docker.io"]).changes
        with pytest.raises(TomlInvalid):
            found.apply(replace(change, after=b"["))
        assert snapshot(root / "etc/containerd/certs.d") == {}
        found.apply(change)
    assert list(snapshot(root / "etc/containerd/certs.d")) == ["docker.io", "docker.io/hosts.toml"]
    (root / "etc/containerd/certs.d/.quay.io.shorthaul-new").mkdir()
    (root / "etc/containerd/certs.d/docker.io/.hosts.toml.shorthaul-new").write_text("half")
    found.sweep()
    assert list(snapshot(root / "etc/containerd/certs.d")) == ["docker.io", "docker.io/hosts.toml"]


def test_a_file_that_changed_since_it_was_read_is_left_to_who_changed_it(root: Path) -> None:
    file = write(root, "docker.io", "# one\n")
    found = directory(root)
    with found.locked(create=False):
        (change,) = plan_configure(found.read(), MIRROR, ["docker.io"]).changes
        file.write_text("# two\n")
        with pytest.raises(Changed):
            found.apply(change)
        file.unlink()
        with pytest.raises(Changed):
            found.apply(change)
    assert list(snapshot(file.parent)) == []


def test_two_runs_wait_for_each_other(root: Path) -> None:
    (root / "etc/containerd/certs.d").mkdir()
    found = directory(root)
    with found.locked(create=False), pytest.raises(Busy), found.locked(create=False, at_most_s=0.0):
        pass
    inside = threading.Event()
    done: list[str] = []

    def other() -> None:
        inside.set()
        configure(root)
        done.append("configured")

    with found.locked(create=False):
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
        assert not done
        assert snapshot(root / "etc/containerd/certs.d") == {}
    thread.join()
    assert done


def test_many_runs_at_once_end_as_one_does(root: Path) -> None:
    write(root, "docker.io", "# hub\n")
    threads = [threading.Thread(target=configure, args=(root,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = snapshot(root)
    unconfigure(root)
    configure(root)
    assert snapshot(root) == together


def test_a_directory_that_goes_while_a_run_waits_is_made_anew(root: Path) -> None:
    configure(root)
    found = directory(root)
    waiting = threading.Event()

    def other() -> None:
        waiting.set()
        configure(root)

    with found.locked(create=False):
        thread = threading.Thread(target=other)
        thread.start()
        waiting.wait()
        for change in plan_unconfigure(found.read()).changes:
            found.apply(change)
        found.remove()
    thread.join()
    assert (root / "etc/containerd/certs.d/_default/hosts.toml").is_file()
    unconfigure(root)
    assert not (root / "etc/containerd/certs.d").exists()


_FOREVER = """
import sys
from pathlib import Path
from tests.unit.agent.hosts.test_directory import configure, unconfigure
from tests.unit.agent.hosts.texts import HOSTPORT, MIRROR
from agent.hosts.merge import merge
from agent.hosts.mirror import Mirror
root = Path(sys.argv[1])
while True:
    configure(root)
    configure(root, ["docker.io", "quay.io"], Mirror(endpoints=(HOSTPORT,)))
    unconfigure(root)
    print(flush=True)
"""


@pytest.mark.parametrize("rounds", range(1, 7))
def test_a_run_that_is_killed_leaves_whole_files_and_the_next_one_leaves_nothing(
    root: Path, rounds: int
) -> None:
    owners = '# mine\n[host."http://m"]\n'
    file = write(root, "docker.io", owners)
    before = snapshot(root)
    states = {owners, *(merge(owners, mirror).text for mirror in (MIRROR, Mirror(endpoints=(HOSTPORT,))))}
    child = subprocess.Popen([sys.executable, "-c", _FOREVER, str(root)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(rounds):
        child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()
    assert file.read_text() in states
    for name in ("_default", "quay.io"):
        folder = root / "etc/containerd/certs.d" / name
        assert not folder.exists() or "hosts.toml" in os.listdir(folder), "the default would not be read"  # noqa: PTH208
    configure(root)
    unconfigure(root)
    assert snapshot(root) == before

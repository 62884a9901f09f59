"""What is read of containerd's files."""

from pathlib import Path

from agent.config import ContainerdStore, OciLayoutStore
from agent.preflight.check import Status
from agent.preflight.containerdfiles import content, find_containerd, look_at_content, look_at_told
from agent.preflight.gather import Unknown
from tests.unit.agent.preflight.samples import place

PART = """\
# >>> shorthaul >>> Written by `shorthaul configure`
[host."http://127.0.0.1:30020"]
  capabilities = ["pull", "resolve"]
# <<< shorthaul <<<
"""
CONFIG = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "{}"\n'


def test_the_directory_with_our_files_is_looked_at_whatever_containerd_reads(tmp_path: Path) -> None:
    place(tmp_path, "etc/containerd/config.toml", CONFIG.format("/etc/containerd/others.d"))
    place(tmp_path, "etc/containerd/others.d/x/hosts.toml", "")
    place(tmp_path, "etc/containerd/certs.d/_default/hosts.toml", PART)
    node = find_containerd(tmp_path)
    assert node.certs_d == Path("/etc/containerd/certs.d")
    told = look_at_told(node, "")
    assert told.advice.used is False
    assert told.files["_default"].has_part


def test_the_settings_directory_is_taken_as_the_node_names_it_with_the_configuration_beside(
    tmp_path: Path,
) -> None:
    place(tmp_path, "opt/own/config.toml", CONFIG.format("/opt/own/certs.d"))
    place(tmp_path, "opt/own/certs.d/_default/hosts.toml", PART)
    node = find_containerd(tmp_path, hosts_dir=tmp_path / "opt/own/certs.d")
    assert node.certs_d == Path("/opt/own/certs.d")
    assert look_at_told(node, "2.x").advice.used is True


def test_options_win(tmp_path: Path) -> None:
    place(tmp_path, "etc/containerd/certs.d/_default/hosts.toml", PART)
    node = find_containerd(tmp_path, certs_d=Path("/other"), config=Path("/other/c.toml"))
    assert (node.certs_d, node.config.path) == (Path("/other"), Path("/other/c.toml"))
    assert not look_at_told(node, "").exists


def test_how_discarded_layers_are_kept_depends_on_the_release(tmp_path: Path) -> None:
    cri = '[plugins."io.containerd.grpc.v1.cri".containerd]\n  discard_unpacked_layers = true\n'
    place(tmp_path, "etc/containerd/config.toml", f"version = 2\n{cri}")
    assert look_at_told(find_containerd(tmp_path), "1.x").discards == (
        '[plugins."io.containerd.grpc.v1.cri".containerd]',
        "  discard_unpacked_layers = false",
    )
    assert look_at_told(find_containerd(tmp_path), "2.x").discards == ()
    images = '[plugins."io.containerd.cri.v1.images"]\n  discard_unpacked_layers = true\n'
    place(tmp_path, "etc/containerd/config.toml", f"version = 3\n{images}")
    discards = look_at_told(find_containerd(tmp_path), "2.x").discards
    assert discards[0] == '[plugins."io.containerd.cri.v1.images"]'


def test_files_that_can_not_be_read_have_their_problem_and_copies_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "etc/containerd/certs.d/x"
    (folder / "hosts.toml").mkdir(parents=True)
    (folder / "hosts.toml.before-shorthaul").touch()
    told = look_at_told(find_containerd(tmp_path), "")
    assert told.files["x"].problem
    assert told.kept == {"x"}


def test_files_that_are_newer_than_containerds_start_are_told(tmp_path: Path) -> None:
    place(tmp_path, "etc/containerd/config.toml", "version = 2")
    node, now_s = find_containerd(tmp_path), (tmp_path / "etc/containerd/config.toml").stat().st_mtime
    assert look_at_told(node, "", started_s=now_s - 60).changed_since == ("/etc/containerd/config.toml",)
    assert look_at_told(node, "", started_s=now_s).changed_since == ()
    assert look_at_told(node, "").changed_since == ()


def test_content_is_opened_and_a_missing_home_is_a_fault(tmp_path: Path) -> None:
    store = ContainerdStore(socket=tmp_path / "s", namespace="k8s.io", root=tmp_path / "root")
    facts = look_at_content(store)
    assert facts.problem == f"there is no {tmp_path / 'root'}"
    assert content(facts).status is Status.WARN  # containerd's API still gives it
    place(tmp_path, "root/io.containerd.content.v1.content/blobs/sha256/00", "x")
    assert look_at_content(store).opened == 1
    assert content(look_at_content(store)).status is Status.GOOD
    layout = look_at_content(OciLayoutStore(directory=tmp_path / "none"))
    assert content(layout).status is Status.BAD
    assert "--config" in content(layout).hint  # nobody has said where the store is
    assert content(Unknown(why="x")).status is Status.UNKNOWN


def test_a_store_without_content_is_well(tmp_path: Path) -> None:
    check = content(look_at_content(OciLayoutStore(directory=tmp_path)))
    assert (check.status, check.detail) == (Status.GOOD, "none yet")

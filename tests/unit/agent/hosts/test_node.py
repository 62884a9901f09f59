"""containerd is found on a node by looking."""

from pathlib import Path

import pytest

from agent.hosts.node import look_at
from tests.unit.agent.hosts.configs import THREE, TWO


def write(root: Path, path: str, text: str = "") -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_a_plain_node_has_the_usual_paths(tmp_path: Path) -> None:
    write(tmp_path, "/etc/containerd/config.toml", "version = 2\n" + TWO.format("/etc/containerd/certs.d"))
    found = look_at(tmp_path)
    assert (found.flavour.name, str(found.certs_d)) == ("containerd", "/etc/containerd/certs.d")
    assert found.advice().used is True
    assert found.directory.read().exists is False


def test_a_flavour_is_found_and_microk8s_names_its_directory_by_revision(tmp_path: Path) -> None:
    config = "version = 2\n" + TWO.format("/var/snap/microk8s/7394/args/certs.d")
    write(tmp_path, "/var/snap/microk8s/7394/args/containerd.toml", config)
    (tmp_path / "var/snap/microk8s/current").symlink_to("7394")
    found = look_at(tmp_path, certs_d=Path("/var/snap/microk8s/current/args/certs.d"))
    assert found.flavour.name == "microk8s"
    assert found.advice().used is True


@pytest.mark.parametrize(("told", "there", "expected"), [
    ("/cfg/certs", True, "/cfg/certs"),
    ("/cfg/certs", False, "/etc/containerd/certs.d"),  # not mounted here
    ("/etc/containerd/certs.d:/etc/docker/certs.d", True, "/etc/containerd/certs.d"),
    ("relative", True, "/etc/containerd/certs.d"),
])  # fmt: skip
def test_the_directory_that_containerd_is_told_is_taken_if_it_is_there(
    tmp_path: Path, told: str, there: bool, expected: str
) -> None:
    write(tmp_path, "/etc/containerd/config.toml", "version = 3\n" + THREE.format(told))
    if there:
        (tmp_path / "cfg").mkdir()
    assert str(look_at(tmp_path).certs_d) == expected


def test_a_directory_that_is_given_is_taken_and_the_other_is_said(tmp_path: Path) -> None:
    write(tmp_path, "/etc/containerd/config.toml", "version = 3\n" + THREE.format("/cfg/certs"))
    (tmp_path / "cfg").mkdir()
    found = look_at(tmp_path, certs_d=Path("/etc/containerd/certs.d"))
    assert str(found.certs_d) == "/etc/containerd/certs.d"
    assert "config_path is /cfg/certs" in found.advice().why


def test_a_flavour_and_a_file_that_are_given_are_taken(tmp_path: Path) -> None:
    write(tmp_path, "/etc/mine.toml", "version = 2\n")
    found = look_at(tmp_path, name="eks", config=Path("/etc/mine.toml"))
    assert (found.flavour.name, len(found.config.files)) == ("eks", 1)


RANCHER = "/var/lib/rancher/k3s/agent/etc/containerd"
MIRRORS = '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = ["https://m"]\n'
DISCARD = '[plugins."io.containerd.cri.v1.images"]\ndiscard_unpacked_layers = true\n'
SHIPPED: dict[str, tuple[dict[str, str], bool, str]] = {
    "k3s": ({f"{RANCHER}/config.toml": "version = 3\n" + THREE.format(f"{RANCHER}/certs.d")}, True, ""),
    "k0s": ({"/etc/k0s/containerd.toml": "# k0s_managed=true\nversion = 3\n"}, False, "no config_path"),
    "talos": (
        {
            "/etc/cri/containerd.toml": 'version = 3\nimports = ["/etc/cri/conf.d/cri.toml"]\n',
            "/etc/cri/conf.d/cri.toml": "version = 3\n" + THREE.format("/etc/cri/conf.d/hosts"),
        },
        True,
        "",
    ),
    "gke": (
        {"/etc/containerd/config.toml": f"version = 2\n{MIRRORS}", "/home/kubernetes/bin/x": ""},
        False,
        "no config_path",
    ),
    "eks": (
        {
            "/etc/containerd/config.toml": f"version = 3\n{DISCARD}"
            + THREE.format("/etc/containerd/certs.d:/etc/docker/certs.d"),
            "/etc/eks/x": "",
        },
        True,
        "only while discard_unpacked_layers is true",
    ),
    "aks": (
        {
            "/etc/containerd/config.toml": "version = 2\n" + TWO.format("/etc/containerd/certs.d"),
            "/etc/kubernetes/azure.json": "",
        },
        True,
        "",
    ),
}
"""What the flavours ship, in the few lines that count here. Read from their documentation, not tried."""


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_flavour_ships_is_found_and_understood(name: str, tmp_path: Path) -> None:
    files, used, words = SHIPPED[name]
    for path, text in files.items():
        write(tmp_path, path, text)
    found = look_at(tmp_path)
    assert found.flavour.name == name
    assert found.certs_d == found.flavour.certs_d
    assert found.advice().used is used
    assert words in found.advice().why

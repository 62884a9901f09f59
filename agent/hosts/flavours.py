"""Where each flavour of Kubernetes has its containerd: the one table of paths. Pure.

``docs/flavours.md`` is the same table for people, with the traps of each, and says what was not tried.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """The paths of one flavour, as the node names them.

    ``config``: containerd's config.toml. ``certs_d``: its directory of REGISTRY/hosts.toml files, by
    default. ``socket``, ``root``: of containerd. ``signs``: a path that only this flavour has. ``edit``: the
    file that a person edits where a tool writes ``config``, in words. ``restart``: how containerd is
    restarted, in words. ``merges_in``: a directory whose files the flavour itself merges into containerd's
    configuration.
    """

    name: str
    config: Path
    certs_d: Path
    socket: Path = Path("/run/containerd/containerd.sock")
    root: Path = Path("/var/lib/containerd")
    signs: tuple[Path, ...] = ()
    edit: str = ""
    restart: str = "systemctl restart containerd"
    merges_in: Path | None = None


def _rancher(name: str) -> Flavour:
    base = Path(f"/var/lib/rancher/{name}/agent")
    etc = base / "etc/containerd"
    return Flavour(
        name=name,
        config=etc / "config.toml",
        certs_d=etc / "certs.d",
        socket=Path("/run/k3s/containerd/containerd.sock"),
        root=base / "containerd",
        signs=(etc,),
        edit=f"{etc}/config-v3.toml.tmpl, or config.toml.tmpl for containerd 1.x, whose first line is "
        f'{{{{ template "base" . }}}}: {name} writes config.toml anew at each start',
        restart=f"systemctl restart {name}-server or {name}-agent"
        if name == "rke2"
        else "systemctl restart k3s",
    )


def _plain(name: str, *signs: str, edit: str = "", certs_d: str = "/etc/containerd/certs.d") -> Flavour:
    return Flavour(
        name=name,
        config=Path("/etc/containerd/config.toml"),
        certs_d=Path(certs_d),
        signs=tuple(Path(sign) for sign in signs),
        edit=edit,
    )


_MICROK8S = Path("/var/snap/microk8s")

FLAVOURS: tuple[Flavour, ...] = (
    _rancher("k3s"),
    _rancher("rke2"),
    Flavour(
        name="k0s",
        config=Path("/etc/k0s/containerd.toml"),
        certs_d=Path("/etc/k0s/containerd.d/certs.d"),
        socket=Path("/run/k0s/containerd.sock"),
        root=Path("/var/lib/k0s/containerd"),
        signs=(Path("/etc/k0s/containerd.toml"),),
        edit="a file /etc/k0s/containerd.d/NAME.toml: k0s merges it into its own configuration",
        restart="systemctl restart k0sworker (or k0scontroller)",
        merges_in=Path("/etc/k0s/containerd.d"),
    ),
    Flavour(
        name="microk8s",
        config=_MICROK8S / "current/args/containerd.toml",
        certs_d=_MICROK8S / "current/args/certs.d",
        socket=_MICROK8S / "common/run/containerd.sock",
        root=_MICROK8S / "common/var/lib/containerd",
        signs=(_MICROK8S / "current/args",),
        edit=f"{_MICROK8S}/current/args/containerd-template.toml: MicroK8s writes containerd.toml from it",
        restart="snap restart microk8s.daemon-containerd",
    ),
    Flavour(
        name="talos",
        config=Path("/etc/cri/containerd.toml"),
        certs_d=Path("/etc/cri/conf.d/hosts"),
        signs=(Path("/etc/cri/conf.d"),),
        edit="the machine configuration (CRICustomizationConfig, before Talos 1.15 a machine file "
        "/etc/cri/conf.d/20-customization.part): Talos writes the files of /etc/cri",
        restart="talosctl reboot",
    ),
    _plain(
        "gke",
        "/home/kubernetes/bin",
        certs_d="/etc/containerd/hosts.d",
        edit="the node pool's containerd configuration (registryHosts): GKE writes config.toml",
    ),
    _plain(
        "eks",
        "/etc/eks",
        edit="the node's NodeConfig (spec.containerd.config): nodeadm writes config.toml at each start",
    ),
    _plain("aks", "/etc/kubernetes/azure.json", edit="a node-customizing DaemonSet: AKS writes config.toml"),
    _plain("containerd"),
)
"""In the order in which `find_flavour` looks. The last one is what remains."""

NAMES = tuple(flavour.name for flavour in FLAVOURS)


def flavour(name: str) -> Flavour:
    """The flavour of this name. Raises KeyError."""
    return {each.name: each for each in FLAVOURS}[name]


def find_flavour(exists: Callable[[Path], bool]) -> Flavour:
    """The flavour whose signs the node has. ``exists``: whether the node has this path."""
    for each in FLAVOURS[:-1]:
        if any(exists(sign) for sign in each.signs):
            return each
    return FLAVOURS[-1]

"""containerd on this node: its flavour, its configuration and its directory of registries."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.hosts.advice import Advice, advise
from agent.hosts.directory import RegistryDirectory
from agent.hosts.flavours import Flavour, find_flavour, flavour
from agent.hosts.nodeconfig import read_config
from agent.hosts.registry import ContainerdConfig
from agent.hosts.tree import NodeTree

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdNode:
    """What was found. ``certs_d``: the directory for hosts.toml files, as the node names it."""

    tree: NodeTree
    flavour: Flavour
    config: ContainerdConfig
    certs_d: Path

    @property
    def directory(self) -> RegistryDirectory:
        """The directory, to read and to change it."""
        return RegistryDirectory(self.tree, self.certs_d)

    @property
    def every_directory(self) -> tuple[Path, ...]:
        """Where hosts.toml files of ours may be, each once: config_path may have been another one before."""
        told = [
            each for reading in self.config.readings() for each in reading.directories if each.is_absolute()
        ]
        places: dict[Path, Path] = {}
        for each in (self.certs_d, self.flavour.certs_d, *told):
            with suppress(OSError):  # links in a circle
                places.setdefault(self.tree.find(each), each)
        return tuple(each for place, each in places.items() if place.is_dir())

    def advice(self, release: str = "") -> Advice:
        """Whether containerd reads the directory. ``release``: ``1.x`` or ``2.x``, if it is known."""
        return advise(self.config, self.certs_d, self.flavour, release=release, same=self.tree.same)


def look_at(
    root: Path = Path("/"), *, name: str = AUTO, certs_d: Path | None = None, config: Path | None = None
) -> ContainerdNode:
    """Look at the node whose file system is mounted at ``root``.

    ``name``: of the flavour, ``auto``: find it. ``certs_d``, ``config``: where they are if not where the
    flavour has them. Without ``certs_d`` it is the one directory that config.toml names, if the node has it.
    """
    tree = NodeTree(root)
    kind = find_flavour(tree.exists) if name == AUTO else flavour(name)
    found = read_config(tree, config or kind.config)
    return ContainerdNode(
        tree=tree, flavour=kind, config=found, certs_d=certs_d or _configured(tree, found) or kind.certs_d
    )


def _configured(tree: NodeTree, config: ContainerdConfig) -> Path | None:
    """The directory that containerd is told to read, if it is one for all releases and can be written.

    One that can't be written is not mounted as the one to use, and is a matter for the advice.
    """
    told = {reading.config_path for reading in config.readings()}
    if config.problem or len(told) != 1:
        return None
    path = told.pop()
    if path is None or ":" in path or not path.startswith("/"):
        return None
    return Path(path) if any(_is_writable(tree, each) for each in (Path(path), Path(path).parent)) else None


def _is_writable(tree: NodeTree, path: Path) -> bool:
    try:
        found = tree.find(path)
    except OSError:
        return False
    return found.is_dir() and os.access(found, os.W_OK)

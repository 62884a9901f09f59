"""Reads what containerd is told, and whether this node's content can be read."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent.config import ContainerdStore, OciLayoutStore
from agent.hosts.directory import BACKUP, RegistryDirectory
from agent.hosts.hostsfile import HostsFile, read_hosts_file
from agent.hosts.node import AUTO, ContainerdNode, look_at
from agent.hosts.registry import OLD, Reading
from agent.preflight.check import Check, bad, good, shown, unknown, warn
from agent.preflight.gather import Unknown
from agent.preflight.registries import ToldContainerd

CONTENT = "content files"
_TRIED_MAX = 50
_START_S = 1.0  # a tool that writes the file and starts containerd at once


def find_containerd(
    root: Path,
    *,
    flavour: str = AUTO,
    certs_d: Path | None = None,
    config: Path | None = None,
    hosts_dir: Path | None = None,
) -> ContainerdNode:
    """containerd on the node below ``root``.

    ``hosts_dir``: the directory of the settings, as this process sees it; None: the settings do not say.
    Without ``certs_d`` it is the first directory that has files of ours: whether containerd reads that one is
    a question of its own.
    """
    named = _on_node(root, hosts_dir)
    if config is None and named is not None:
        beside = named.parent / "config.toml"
        config = beside if look_at(root, name=flavour).tree.exists(beside) else None
    found = look_at(root, name=flavour, certs_d=certs_d or named, config=config)
    if certs_d is not None:
        return found
    ours = next((each for each in _places(found, named) if _has_ours(found, each)), None)
    return (
        found if ours in (None, found.certs_d) else look_at(root, name=flavour, certs_d=ours, config=config)
    )


def _on_node(root: Path, hosts_dir: Path | None) -> Path | None:
    """The directory as the node names it."""
    if hosts_dir is None:
        return None
    return Path("/", hosts_dir.relative_to(root)) if hosts_dir.is_relative_to(root) else hosts_dir


def _places(node: ContainerdNode, named: Path | None) -> Iterable[Path]:
    return dict.fromkeys([*([named] if named else []), node.certs_d, *node.every_directory])


def _has_ours(node: ContainerdNode, certs_d: Path) -> bool:
    try:
        files = hosts_files(look_at_directory(node, certs_d))
    except OSError:
        return False
    return any(file.has_part for file in files.values())


def look_at_directory(node: ContainerdNode, certs_d: Path) -> dict[str, bytes | str]:
    """The content of each hosts.toml by its directory's name, or why it can't be read. Raises OSError."""
    tree = RegistryDirectory(node.tree, certs_d).read()
    return {
        name: entry.problem or entry.hosts for name, entry in tree.entries.items() if entry.hosts is not None
    }


def hosts_files(found: dict[str, bytes | str]) -> dict[str, HostsFile]:
    """What the files say. One that can't be read has its problem."""
    return {
        name: read_hosts_file(each) if isinstance(each, bytes) else HostsFile(problem=each)
        for name, each in found.items()
    }


def look_at_told(node: ContainerdNode, release: str, *, started_s: float | None = None) -> ToldContainerd:
    """What containerd is told. ``release``: ``1.x``, ``2.x``, or empty. Raises OSError.

    ``started_s``: when containerd started, in seconds since the epoch; None: not known.
    """
    files = hosts_files(look_at_directory(node, node.certs_d))
    discarding = [each for each in node.config.readings(release) if each.discards]
    return ToldContainerd(
        certs_d=node.certs_d,
        advice=node.advice(release),
        discards=_switch_off(node.config.table, discarding[0]) if discarding else (),
        config=node.flavour.edit or str(node.config.path),
        restart=node.flavour.restart,
        files=files,
        kept=frozenset(name for name in files if node.tree.exists(node.certs_d / name / BACKUP)),
        exists=node.tree.exists(node.certs_d),
        release=release,
        modes=_modes(node),
        changed_since=() if started_s is None else tuple(_changed_since(node, started_s)),
    )


def _modes(node: ContainerdNode) -> dict[str, int]:
    entries = node.directory.read().entries
    return {name: each.mode for name, each in entries.items() if each.mode is not None}


def _changed_since(node: ContainerdNode, started_s: float) -> Iterator[str]:
    """The files of containerd's configuration that are newer than its start."""
    for file in node.config.files:
        with suppress(OSError):
            if node.tree.find(file.path).stat().st_mtime > started_s + _START_S:
                yield str(file.path)


def _switch_off(registry_table: str, reading: Reading) -> tuple[str, ...]:
    table = registry_table.removesuffix(".registry]")
    owner = f"{table}.containerd]" if reading.release == OLD else f"{table}]"
    return (owner, "  discard_unpacked_layers = false")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFacts:
    """The directory of blobs, how many of them were opened, and the first reason why one could not be.

    ``missing``: there is no such store. ``by_api``: the agent asks containerd for what it can't read.
    """

    blobs: Path
    opened: int = 0
    problem: str = ""
    missing: bool = False
    by_api: bool = False


def look_at_content(store: ContainerdStore | OciLayoutStore) -> ContentFacts:
    """Open some blobs, as the agent does if it has the rights of this process."""
    by_api = isinstance(store, ContainerdStore)
    if isinstance(store, ContainerdStore):
        blobs, home = store.root / "io.containerd.content.v1.content/blobs/sha256", store.root
    else:
        blobs, home = store.directory / "blobs/sha256", store.directory
    opened, problem, missing = 0, "", False
    try:
        for blob in islice(blobs.iterdir(), _TRIED_MAX):
            with blob.open("rb") as file:
                file.read(1)
            opened += 1
    except FileNotFoundError:
        missing = not home.exists()  # containerd makes the rest of it with the first pull
        if missing:
            problem = f"there is no {home}"
    except OSError as error:
        problem = f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return ContentFacts(blobs=blobs, opened=opened, problem=problem, missing=missing, by_api=by_api)


def content(facts: ContentFacts | Unknown) -> Check:
    """Whether this node's content can be read."""
    if isinstance(facts, Unknown):
        return unknown(CONTENT, facts.why)
    where = shown(str(facts.blobs), 200)
    if not facts.problem:
        return good(CONTENT, f"{facts.opened} files of {where} can be read" if facts.opened else "none yet")
    rights = "run the agent as root"
    if not facts.by_api:
        hint = "name the store in the settings, and the settings with --config" if facts.missing else rights
        return bad(CONTENT, shown(facts.problem, 300), hint=hint)
    return warn(
        CONTENT,
        f"{shown(facts.problem, 300)}: the agent asks containerd for each blob, at several times the cost",
        hint=f"{rights}; in a pod: mount containerd's content at the path that `store` names, and add the "
        "capability DAC_READ_SEARCH",
    )

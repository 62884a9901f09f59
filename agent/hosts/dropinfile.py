"""Writes, finds and removes the drop-in beside containerd's config.toml."""

from pathlib import Path

from agent.files import read_regular
from agent.hosts.dropin import NAME, is_ours
from agent.hosts.flavours import Flavour
from agent.hosts.registry import ContainerdConfig
from agent.hosts.replace import owner_of, remove_file, replace_file
from agent.hosts.toml import BYTES_MAX, decode, parse
from agent.hosts.tree import NodeTree


def write_drop_in(node: NodeTree, path: Path, text: str) -> None:
    """Write it. Its directory has to be there. Raises OSError."""
    file = node.find(path)
    replace_file(file, text.encode(), like=owner_of(file), check=lambda data: parse(decode(data)))


def find_drop_ins(node: NodeTree, config: ContainerdConfig, flavour: Flavour) -> tuple[Path, ...]:
    """The drop-ins that were written by us, as the node names them."""
    folders = {each.path.parent for each in config.files} | {flavour.config.parent}
    if flavour.merges_in is not None:
        folders.add(flavour.merges_in)
    paths = sorted(folder / NAME for folder in folders)
    return tuple(path for path in paths if is_ours(_text(node, path)))


def remove_drop_in(node: NodeTree, path: Path) -> None:
    """Remove it. Raises OSError."""
    remove_file(node.find(path))


def first_line(node: NodeTree, path: Path) -> str:
    """The first line of a file. Empty if it can't be read."""
    return _text(node, path).partition("\n")[0]


def _text(node: NodeTree, path: Path) -> str:
    try:
        return read_regular(node.find(path), most_bytes=BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""

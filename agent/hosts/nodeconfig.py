"""Reads containerd's configuration from the node: config.toml, and the files that it imports."""

import errno
from collections.abc import Iterator
from pathlib import Path

from agent.files import read_regular
from agent.hosts.registry import ConfigFile, ContainerdConfig
from agent.hosts.toml import BYTES_MAX, TomlInvalid, decode, parse
from agent.hosts.tree import NodeTree

_FILES_MAX = 100


def read_config(node: NodeTree, path: Path) -> ContainerdConfig:
    """containerd's configuration. Files that can't be read have their `ConfigFile.problem`.

    Without a config.toml, containerd takes its built-in values; then there are no files.
    """
    if not node.exists(path):
        folder = path.parent
        if node.exists(folder):
            return ContainerdConfig(path=path)
        return ContainerdConfig(
            path=path, files=(ConfigFile(path=path, problem=f"{folder} is not mounted here"),)
        )
    files: dict[Path, ConfigFile] = {}
    waiting = [path]
    while waiting and len(files) < _FILES_MAX:
        each = waiting.pop(0)
        if each not in files:
            files[each] = _read(node, each)
            waiting += [found for pattern in files[each].imports for found in imported(node, each, pattern)]
    return ContainerdConfig(path=path, files=tuple(files.values()))


def imported(node: NodeTree, config: Path, pattern: str) -> Iterator[Path]:
    """The files that an ``imports`` entry of this file means, as the node names them."""
    path = config.parent / pattern  # an absolute pattern stays what it is
    if "*" not in path.name:
        yield path
        return
    try:
        names = sorted(each.name for each in node.find(path.parent).glob(path.name))
    except OSError:
        return
    yield from (path.parent / name for name in names)


def _read(node: NodeTree, path: Path) -> ConfigFile:
    try:
        return ConfigFile(
            path=path, content=parse(decode(read_regular(node.find(path), most_bytes=BYTES_MAX)))
        )
    except TomlInvalid as error:
        return ConfigFile(path=path, problem=f"not TOML: {error}")
    except OSError as error:
        return ConfigFile(
            path=path, problem=error.strerror or errno.errorcode.get(error.errno or 0, "unreadable")
        )

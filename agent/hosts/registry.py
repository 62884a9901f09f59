"""Which directory of registries containerd reads, by its config.toml and the files that this imports. Pure.

Held against ``containerd config dump`` of 1.6, 1.7 and 2.1 by the tests. The rules differ:

- The table's name goes with the *file's* version: ``plugins.cri`` (1),
  ``plugins."io.containerd.grpc.v1.cri"`` (2), ``plugins."io.containerd.cri.v1.images"`` (3 and later). 2.x
  reads the names of 2 and 3, never those of 1.
- An imported file that has a plugin's table *replaces* the whole table in 1.x; 2.x merges the two.
- 1.x takes a list (``a:b``) apart. 2.x takes it as one path, where there is nothing, unless it pulls in the
  old way (``use_local_image_pull``, which ``discard_unpacked_layers`` and others switch on as well).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLD, NEW = "1.x", "2.x"
"""The releases of containerd that read the same file differently."""

_CRI_1, _CRI_2, _CRI_3 = "cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"
_SPLIT = ":"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """One file of containerd's configuration. ``content``: None if it can't be used, for the ``problem``."""

    path: Path
    content: Mapping[str, Any] | None = None
    problem: str = ""

    @property
    def version(self) -> int:
        """The version that it says. 0: it says none."""
        version = (self.content or {}).get("version", 0)
        return version if isinstance(version, int) and not isinstance(version, bool) else 0

    @property
    def imports(self) -> tuple[str, ...]:
        """The files and patterns that it imports."""
        imports = (self.content or {}).get("imports", [])
        return tuple(each for each in imports if isinstance(each, str)) if isinstance(imports, list) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one release of containerd takes from the files.

    ``config_path``: None if none is set. ``mirrors``: whether the tables that exclude it are there
    (``registry.mirrors``, ``registry.configs.*.tls``): with both, the CRI plugin does not start.
    ``discards``: ``discard_unpacked_layers``. ``pulls_locally``: 2.x's old way of pulling, which knows lists.
    """

    release: str
    config_path: str | None = None
    mirrors: bool = False
    discards: bool = False
    pulls_locally: bool = False

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories in which it looks for a registry, in order."""
        if not self.config_path:
            return ()
        if self.release == OLD or self.pulls_locally:
            return tuple(Path(each) for each in self.config_path.split(_SPLIT) if each)
        return (Path(self.config_path),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdConfig:
    """containerd's configuration: config.toml first, then the imported files in the order of reading.

    ``files``: may be empty, if the node has no config.toml.
    """

    path: Path
    files: tuple[ConfigFile, ...] = ()

    @property
    def version(self) -> int:
        """The version of config.toml, or the one that it would need: 2, which 1.x and 2.x both read."""
        return (self.files[0].version if self.files else 0) or (1 if self._is_of_version_1 else 2)

    @property
    def problem(self) -> str:
        """Why it can't be known what containerd reads. Empty if it can."""
        return next((f"{each.path}: {each.problem}" for each in self.files if each.problem), "")

    @property
    def table(self) -> str:
        """The table in which ``config_path`` has to be, as a line of config.toml."""
        plugin = {1: _CRI_1, 2: f'"{_CRI_2}"'}.get(self.version, f'"{_CRI_3}"')
        return f"[plugins.{plugin}.registry]"

    @property
    def lacks_version(self) -> bool:
        """Whether config.toml needs a ``version`` line before any table of the CRI plugin counts."""
        return not self.files or (self.files[0].version == 0 and not self._is_of_version_1)

    @property
    def has_tables_that_do_not_count(self) -> bool:
        """Whether config.toml has tables of version 2 or 3, and not the line that makes them count."""
        plugins = _table(self.files[0].content or {}, "plugins") if self.files else {}
        return self.lacks_version and (_CRI_2 in plugins or _CRI_3 in plugins)

    def readings(self, release: str = "") -> tuple[Reading, ...]:
        """What each release that can use this configuration reads. ``release``: only this one, if known."""
        releases = (NEW,) if self.version > 2 else (OLD,) if self._is_of_version_1 else (OLD, NEW)
        return tuple(_read(self.files, each) for each in ((release,) if release else releases))

    @property
    def _is_of_version_1(self) -> bool:
        if not self.files or self.files[0].version > 1:
            return False
        return self.files[0].version == 1 or _CRI_1 in _table(self.files[0].content or {}, "plugins")

    def files_with_cri(self) -> tuple[Path, ...]:
        """The files that have a table of the CRI plugin, which a later file would replace in 1.x."""
        return tuple(
            each.path for each in self.files if any(_sections(each, OLD)) or any(_sections(each, NEW))
        )


def _read(files: Sequence[ConfigFile], release: str) -> Reading:
    section: dict[str, Any] = {}
    for file in files:
        for found in _sections(file, release, main=files[0]):
            section = dict(found) if release == OLD else _merged(section, found)
    registry = _table(section, "registry")
    path = registry.get("config_path")
    configs = _table(registry, "configs").values()
    # 2.x does not take over where 1.x has it.
    owner = _table(section, "containerd") if release == OLD else section
    discards = owner.get("discard_unpacked_layers") is True
    return Reading(
        release=release,
        config_path=path if isinstance(path, str) and path else None,
        mirrors=bool(_table(registry, "mirrors"))
        or any("tls" in each for each in configs if isinstance(each, dict)),
        discards=discards,
        pulls_locally=release == NEW and (section.get("use_local_image_pull") is True or discards),
    )


def _sections(file: ConfigFile, release: str, main: ConfigFile | None = None) -> Iterator[Mapping[str, Any]]:
    """The file's tables of the CRI plugin that this release reads."""
    plugins = _table(file.content or {}, "plugins")
    version = file.version or (main.version if main else 0) or 1
    if release == OLD:
        names = [_CRI_1 if version == 1 else _CRI_2]
    else:
        names = [name for name in (_CRI_2, _CRI_3) if version == 2 or (version > 2 and name == _CRI_3)]
    for name in names:
        if isinstance(plugins.get(name), dict):
            yield plugins[name]


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = content.get(key)
    return table if isinstance(table, dict) else {}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(one)
    for key, value in other.items():
        mine = result.get(key)
        result[key] = _merged(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result

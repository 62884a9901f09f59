"""A file beside containerd's config.toml that sets ``config_path``, where that can't do harm. Pure.

In containerd 1.x an imported file that has a table of the CRI plugin replaces the *whole* of it: a file with
config_path alone would switch SystemdCgroup off, and no pod would start any more. So none is written where
another file has a table of that plugin and containerd may be 1.x. The file's version is config.toml's: a
higher one keeps containerd 2.x from starting.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from agent.hosts.flavours import Flavour
from agent.hosts.registry import NEW, ContainerdConfig
from agent.hosts.toml import quoted

NAME = "99-shorthaul.toml"
FIRST_LINE = "# Written by `shorthaul configure --drop-in`; `shorthaul unconfigure` removes it."


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIn:
    """A file to write. ``why_not``: why none can be written; then the rest is empty."""

    path: Path | None = None
    text: str = ""
    why_not: str = ""


def plan_drop_in(
    config: ContainerdConfig,
    certs_d: Path,
    flavour: Flavour,
    *,
    release: str = "",
    first_lines: Mapping[Path, str],
) -> DropIn:
    """The drop-in that makes containerd read this directory. ``first_lines``: of the files of ``config``."""
    if config.problem:
        return DropIn(why_not=config.problem)
    if any(reading.mirrors for reading in config.readings(release)):
        return DropIn(
            why_not="the CRI plugin does not start with config_path and registry.mirrors or "
            "registry.configs.*.tls"
        )
    if flavour.merges_in is not None and "k0s_managed=true" in first_lines.get(config.path, ""):
        return _drop_in(config, flavour.merges_in / NAME, certs_d)
    if not config.files:
        return DropIn(why_not=f"there is no {config.path} that would import it")
    folder = next((found for pattern in config.files[0].imports if (found := _folder(config, pattern))), None)
    if folder is None:
        return DropIn(why_not=f"{config.path} imports no directory")
    path = folder / NAME
    others = [each for each in config.files_with_cri() if each != path]
    if others and release != NEW and config.version < 3:
        return DropIn(
            why_not=f"{others[0]} has a table of the CRI plugin, all of which containerd 1.x would replace "
            "by the drop-in's"
        )
    later = [each.path for each in config.files if each.path.parent == folder and each.path.name > NAME]
    if any(each in others for each in later):
        return DropIn(why_not=f"{later[0]} is read after it")
    return _drop_in(config, path, certs_d)


def is_ours(text: str) -> bool:
    """Whether a file of this name was written by `plan_drop_in`."""
    return text.startswith(FIRST_LINE)


def _drop_in(config: ContainerdConfig, path: Path, certs_d: Path) -> DropIn:
    lines = (
        FIRST_LINE,
        f"version = {config.version}",
        config.table,
        f"  config_path = {quoted(str(certs_d))}",
        "",
    )
    return DropIn(path=path, text="\n".join(lines))


def _folder(config: ContainerdConfig, pattern: str) -> Path | None:
    """The directory whose files this pattern imports, if it is sure that every containerd imports ours."""
    path = Path(pattern)
    # containerd 1.6 looks for a relative pattern below its working directory.
    if not path.is_absolute() or "*" in str(path.parent):
        return None
    return path.parent if "*" in path.name and fnmatchcase(NAME, path.name) else None

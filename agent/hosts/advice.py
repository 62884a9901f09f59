"""Whether containerd will use a directory of registries, and the exact lines to add if not. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.hosts.flavours import Flavour
from agent.hosts.registry import OLD, ContainerdConfig, Reading
from agent.hosts.toml import quoted

_MIRRORS_FIRST = (
    "first move registry.mirrors and registry.configs.*.tls into hosts.toml files, because containerd's CRI "
    "plugin does not start with them and config_path; then "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """``used``: whether containerd reads the directory; None if that can't be known. ``why``: a sentence.

    ``lines``: to write into containerd's configuration. ``where``: into which file, in words. ``then``: what
    has to be done afterwards.
    """

    used: bool | None
    why: str
    lines: tuple[str, ...] = ()
    where: str = ""
    then: str = ""


def advise(
    config: ContainerdConfig,
    certs_d: Path,
    flavour: Flavour,
    *,
    release: str = "",
    same: Callable[[Path, Path], bool] = Path.__eq__,
) -> Advice:
    """What containerd does with the files in this directory.

    ``release``: of containerd, ``1.x`` or ``2.x``, if it is known. ``same``: whether two paths of the node
    lead to one place.
    """
    if config.problem:
        return Advice(
            used=None,
            why=f"it is not known what containerd reads: {config.problem}",
            lines=_lines(config, certs_d),
            where=f"{config.path} should have",
        )
    readings = config.readings(release)
    bad = [(each, why) for each in readings if (why := _why_not(each, certs_d, config, same))]
    if not bad:
        only = _while(readings)
        return Advice(
            used=True, why=f"containerd reads {certs_d}, by config_path in {_where_set(config)}{only}"
        )
    only = f"containerd {bad[0][0].release}: " if len(bad) < len(readings) else ""
    first = _MIRRORS_FIRST if any(each.mirrors for each in readings) else ""
    return Advice(
        used=False,
        why=only + bad[0][1],
        lines=_lines(config, certs_d),
        where=f"{first}write into {flavour.edit or config.path}",
        then=f"then: {flavour.restart}",
    )


def _why_not(
    reading: Reading, certs_d: Path, config: ContainerdConfig, same: Callable[[Path, Path], bool]
) -> str:
    """Why this release does not read the directory. Empty if it does."""
    path = reading.config_path
    if path is not None and reading.mirrors:
        return "config_path and registry.mirrors (or configs.*.tls) exclude each other: the CRI plugin does "
        "not start"
    if path is None:
        if config.has_tables_that_do_not_count:
            return f"{config.path} has no `version` line, so its tables of the CRI plugin do not count"
        has = f"{config.path} has no config_path" if config.files else f"there is no {config.path}"
        return f"{has}, so containerd reads no hosts.toml"
    if any(same(each, certs_d) for each in reading.directories):
        return ""
    if ":" in path and reading.release != OLD:
        return (
            f"config_path is a list ({path}), which containerd 2.x takes for one path: it reads no hosts.toml"
        )
    return f"config_path is {path}, so containerd reads the files there and not those in {certs_d}"


def _while(readings: Iterable[Reading]) -> str:
    """On what it depends that a list is read, if that is about to change."""
    if any(":" in (each.config_path or "") and each.release != OLD and each.discards for each in readings):
        return (
            ", a list, which containerd 2.x reads only while discard_unpacked_layers is true; that has to be "
            "false for layers to be shared, so name one directory as well"
        )
    return ""


def _where_set(config: ContainerdConfig) -> str:
    return str((config.files_with_cri() or (config.path,))[-1])


def _lines(config: ContainerdConfig, certs_d: Path) -> tuple[str, ...]:
    version = ("version = 2  # among the first lines of the file", "") if config.lacks_version else ()
    return (*version, config.table, f"  config_path = {quoted(str(certs_d))}")

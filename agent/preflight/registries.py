"""Is containerd told to use this node's agent: which directory it reads, and what its files say. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.hosts.advice import Advice
from agent.hosts.hostsfile import Host, HostsFile
from agent.hosts.registry import OLD
from agent.preflight.answering import spelled
from agent.preflight.check import Check, bad, good, listed, shown, unknown, warn
from agent.preflight.gather import Unknown

CONFIG_PATH, FILES, ORDER, LAYERS, RESTART = (
    "config_path",
    "hosts.toml",
    "order of hosts",
    "unpacked layers",
    "a restart",
)
_CONFIGURE = "run `shorthaul configure` (in Kubernetes the agent's pod does: kubectl rollout restart)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldContainerd:
    """What containerd is told. ``release``: of containerd, ``1.x`` or ``2.x``; empty: not known.

    ``advice``: whether it reads ``certs_d``. ``discards``: how `discard_unpacked_layers` is switched off, if
    it is on: the lines, for the file ``config``. ``restart``: how containerd is restarted, in words.
    ``files``: the hosts.toml files by the name of their directory. ``kept``: the directories that have the
    copy that ``configure`` makes of a file of another owner. ``changed_since``: the files of containerd's
    configuration that were changed after it started. ``modes``: who may read each of ``files``.
    """

    certs_d: Path
    advice: Advice
    discards: tuple[str, ...] = ()
    config: str = ""
    restart: str = ""
    files: Mapping[str, HostsFile] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    exists: bool = True
    changed_since: tuple[str, ...] = ()
    release: str = ""
    modes: Mapping[str, int] = field(default_factory=dict)

    def drops(self, file: HostsFile) -> str:
        """Why this containerd drops a file. Empty if it does not."""
        return file.problem or (file.old_problem if self.release == OLD and file.hosts else "")


def told(
    found: ToldContainerd | Unknown, name_of: Callable[[Host], str], *, shares_arriving: bool
) -> tuple[Check, ...]:
    """All that containerd is told. ``name_of``: hostport, nodeport, clusterip; empty: not of the agents.

    ``shares_arriving``: whether the agent gives content to its peers while containerd is still fetching it.
    """
    if isinstance(found, Unknown):
        return (unknown(CONFIG_PATH, found.why), unknown(FILES, found.why))
    return (
        _config_path(found.advice),
        *_restart(found),
        *_layers(found, shares_arriving),
        *_files(found, name_of),
    )


def _config_path(advice: Advice) -> Check:
    if advice.used:
        return good(CONFIG_PATH, shown(advice.why, 300))
    hint = f"{advice.where}:"
    if advice.used is None:
        check = unknown(CONFIG_PATH, shown(advice.why, 300), hint=shown(hint, 400))
        return Check(
            name=check.name, status=check.status, detail=check.detail, hint=check.hint, lines=advice.lines
        )
    lines = (*advice.lines, *(("", advice.then) if advice.then else ()))
    return bad(CONFIG_PATH, shown(advice.why, 300), hint=shown(hint, 400), lines=lines)


def _restart(found: ToldContainerd) -> Iterator[Check]:
    if found.changed_since:
        yield warn(
            RESTART,
            f"{listed(found.changed_since, 3, width=120)} was changed after containerd started, so it may "
            "run with what it said before",
            hint=f"if the change matters: {found.restart}",
        )


def _layers(found: ToldContainerd, shares_arriving: bool) -> Iterator[Check]:
    if not found.discards:
        return
    why = "discard_unpacked_layers is on: containerd throws each layer away once it is unpacked"
    lines = (*found.discards, "", f"then: {found.restart}")
    where = f"write into {shown(found.config, 200)}, and pull the images again:"
    if shares_arriving:
        yield warn(
            LAYERS,
            f"{why}, so this node gives a layer to its peers only while it arrives here, and to none that "
            "pulls the image later",
            hint=f"if it should give them later too: {where}",
            lines=lines,
        )
    else:
        yield bad(LAYERS, f"{why}, so this node has nothing to give to its peers", hint=where, lines=lines)


def _files(found: ToldContainerd, name_of: Callable[[Host], str]) -> Iterator[Check]:
    own = {name: [name_of(host) for host in file.hosts] for name, file in found.files.items()}
    naming = [name for name, names in own.items() if any(names) and not found.drops(found.files[name])]
    others: list[str] = []
    for name, file in found.files.items():
        path = shown(f"{found.certs_d}/{name}/hosts.toml", 200)
        if why := found.drops(file):
            yield bad(
                FILES,
                f"{path}: containerd drops this file without a word: {shown(why, 200)}",
                hint=f"mend it, or remove it; then {_CONFIGURE}",
            )
        elif any(own[name]):
            yield from _order(path, own[name])
        elif name in found.kept:
            yield bad(
                FILES,
                f"{path} was overwritten by another tool: what `shorthaul configure` wrote is gone, and its "
                f"hosts are {_hosts(file)}",
                hint="find the tool that writes it (hosts.toml.before-shorthaul is what it was before); "
                f"{_CONFIGURE}",
            )
        else:
            others.append(f"{shown(name, 60)} ({_hosts(file)})")
    if not naming:
        yield _nobody(found, others)
        return
    if others:
        yield warn(
            FILES,
            "these registries have files without this node's agent, so they are not mirrored: "
            f"{listed(others, 3)}",
            hint=f"if they should be: shorthaul configure --registry NAME, or {_CONFIGURE}",
        )
    written = all(found.files[name].has_part for name in naming)
    by = "" if written else "; not all of them are written by `shorthaul configure`"
    yield good(FILES, f"{listed(naming)} in {shown(str(found.certs_d))} name this node's agent{by}")


def _nobody(found: ToldContainerd, others: list[str]) -> Check:
    where = shown(str(found.certs_d))
    if not found.exists:
        return bad(FILES, f"there is no {where}: containerd uses no mirror", hint=_CONFIGURE)
    if others:
        detail = f"no file in {where} names this node's agent: written or overwritten by another tool: "
        return bad(
            FILES, f"{detail}{listed(others, 3)}", hint=f"find the tool that writes them; {_CONFIGURE}"
        )
    return bad(FILES, f"no REGISTRY/hosts.toml in {where} names this node's agent", hint=_CONFIGURE)


def _order(path: str, names: list[str]) -> Iterator[Check]:
    first = next(at for at, name in enumerate(names) if name)
    wrong = ""
    if "hostport" not in names:
        wrong = f"has the {spelled(names[first])} and not the HostPort: every pull goes through kube-proxy"
    elif names.index("hostport") > first:
        wrong = f"has the {spelled(names[first])} before the HostPort: every pull goes through kube-proxy"
    elif first > 0:
        wrong = "has other hosts before this node's agent"
    if wrong:
        hint = "shorthaul configure --endpoints hostport,nodeport puts the HostPort first"
        yield warn(ORDER, f"{path} {wrong}", hint=hint)


def _hosts(file: HostsFile) -> str:
    return f"only {listed((host.url for host in file.hosts), 3)}" if file.hosts else "none"

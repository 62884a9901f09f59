"""Reads a configuration. Reports *all* its mistakes together, each with its key and a hint."""

import dataclasses
import errno
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

import yaml

from agent.config.indexurl import IndexUrl, masked
from agent.config.settings import MembershipSettings, Settings, ValkeySettings
from agent.config.values import (
    Authorization,
    ContainerdStore,
    Endpoint,
    InvalidValue,
    Labels,
    OciLayoutStore,
    ZonePrice,
)
from agent.config.yamlfile import YamlInvalid, parse_yaml, read_yaml

_T = TypeVar("_T")

_RENAMED = {
    "latency.probe": "latency.measure",
    "listen.local": "listen.hostport",
    "listen.service": "listen.nodeport",
    "resolve_tags": "tags.resolve",
    "tag_exclude": "tags.exclude",
    "tag_max_age_s": "tags.max_age_s",
}
"""Keys of earlier versions: one word for one thing, before 1.0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake: where it is, what it is, and what to write instead."""

    key: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message} ({self.hint})"


class ConfigError(Exception):
    """The configuration can't be used. ``problems`` has every mistake, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        problems = [_without_password(problem) for problem in problems]
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
        self.members: Path | None = (
            None  # the peers file that it names, so that its mistakes are reported too
        )


def _without_password(problem: Problem) -> Problem:
    # A value that is shown may be a URL with a password, and may be in the wrong place.
    return dataclasses.replace(problem, key=masked(problem.key), message=masked(problem.message))


def load_settings(path: Path, overrides: list[str]) -> Settings:
    """The settings in the YAML file at ``path``, with ``a.b=c`` overrides applied.

    Relative paths in it start at the file's own directory. Raises `ConfigError`.
    """
    data = _read_file(path)
    try:
        return make_settings(data, overrides, base=path.resolve().parent)
    except ConfigError as error:
        membership = data.get("membership")
        static = membership.get("static") if isinstance(membership, dict) else None
        error.members = path.resolve().parent / static if isinstance(static, str) and static else None
        raise


def make_settings(data: dict[str, Any], overrides: list[str], *, base: Path) -> Settings:
    """The settings in a mapping, with overrides applied. Relative paths start at ``base``.

    Raises `ConfigError`.
    """
    problems: list[Problem] = []
    for override in overrides:
        _apply_override(data, override, problems)
    _derive_listeners(data)
    settings = _read(Settings, data, "", problems)
    if settings is not None:
        if _hostport_is_good(settings, problems):
            _check_ports(settings, problems)
        _check_latency(settings, problems)
        _check_cold_start(settings, problems)
        _check_membership(settings, problems)
        _check_peering(settings, problems)
        if isinstance(settings.index, IndexUrl):
            _check_server(settings, settings.index, problems)
    if problems or settings is None:
        raise ConfigError(problems)
    return _resolve_paths(settings, base)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        data: Any = read_yaml(path)
    except OSError as error:
        raise ConfigError(
            [Problem(key=str(path), message=error.strerror or str(error), hint=_file_hint(path, error))]
        ) from error
    except YamlInvalid as error:
        raise ConfigError([Problem(key=str(path), message=str(error), hint=error.hint)]) from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            [Problem(key=str(path), message="not a mapping", hint="write KEY: VALUE lines, as in the README")]
        )
    return data


def _file_hint(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.EISDIR:
            files = sorted(each.name for each in path.glob("*.y*ml"))
            return f"name the file in it, for example {path / (files[0] if files else 'agent.yaml')}"
        case errno.ENOENT | errno.ENOTDIR:
            return "name a file that exists: relative paths start at the working directory"
        case errno.EACCES | errno.EPERM:
            return "let this user read it, or start the agent as another user"
        case _:
            return "name a readable file: settings are read more than once, so a pipe can't be used"


def dump_settings(settings: Settings) -> str:
    """The settings as YAML that `load_settings` reads back to the same value.

    Only a password in a URL is not shown.
    """
    return yaml.safe_dump(_plain(settings), sort_keys=False)


def describe_settings(cls: type = Settings, prefix: str = "") -> list[tuple[str, str]]:
    """Each key path with its documentation, in the order of declaration."""
    found: list[tuple[str, str]] = []
    for entry in dataclasses.fields(cls):
        nested = entry.metadata.get("group")
        key = f"{prefix}{entry.name}"
        found.extend(describe_settings(nested, f"{key}.") if nested else [(key, entry.metadata["doc"])])
    return found


def _read(cls: type[_T], data: object, path: str, problems: list[Problem]) -> _T | None:
    if not isinstance(data, Mapping):
        problems.append(
            Problem(
                key=path.rstrip("."), message=f"{data!r} is not a mapping", hint="write KEY: VALUE below it"
            )
        )
        return None
    known = {entry.name: entry for entry in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            problems.append(_unknown_key(f"{path}{key}", str(key), known))
    values: dict[str, Any] = {}
    sound = True
    for name, entry in known.items():
        key = f"{path}{name}"
        nested = entry.metadata.get("group")
        if nested is not None:
            if entry.metadata.get("optional") and data.get(name) is None:
                continue  # absent; an empty mapping is a group of defaults
            if name in data or entry.default_factory is dataclasses.MISSING:
                values[name] = _read(
                    nested, {} if data.get(name) is None else data[name], f"{key}.", problems
                )
                sound = sound and values[name] is not None
            continue
        if name not in data:
            if entry.default is dataclasses.MISSING:
                problems.append(Problem(key=key, message="missing", hint=entry.metadata["doc"]))
                sound = False
            continue
        try:
            values[name] = entry.metadata["parse"](data[name])
        except InvalidValue as wrong:
            problems.append(Problem(key=key, message=str(wrong), hint=wrong.hint))
            sound = False
    return cls(**values) if sound else None


def _unknown_key(path: str, key: str, known: Collection[str]) -> Problem:
    if path in _RENAMED:
        return Problem(key=path, message=f"is now {_RENAMED[path]}", hint="rename the key; it means the same")
    import difflib  # half a megabyte, for a mistake that good settings do not have

    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return Problem(key=path, message="unknown key", hint=hint)


def _apply_override(data: dict[str, Any], override: str, problems: list[Problem]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key or not all(key.split(".")):
        problems.append(
            Problem(key=f"--set {override}", message="not an assignment", hint="write --set a.b=VALUE")
        )
        return
    value: object
    try:
        value = parse_yaml(text)
    except YamlInvalid as error:
        if not _is_text(key):
            problems.append(Problem(key=f"--set {override}", message=f"its value: {error}", hint=error.hint))
            return
        value = text
    if value is not None and not isinstance(value, str) and _is_text(key):
        value = text  # a node may be called 012 or 1e3, and an address is [fd00::1]:30020
    *parents, last = key.split(".")
    for parent in parents:
        below = data.get(parent)
        if not isinstance(below, dict):
            below = data[parent] = {}
        data = below
    data[last] = value


_TEXT = {str, Path, Endpoint, IndexUrl, ContainerdStore, OciLayoutStore, NoneType}


def _is_text(key: str) -> bool:
    """Whether the value of this setting is written as one text."""
    cls: type = Settings
    *parents, last = key.split(".")
    for name in parents:
        entry = next((each for each in dataclasses.fields(cls) if each.name == name), None)
        if entry is None or "group" not in entry.metadata:
            return False
        cls = entry.metadata["group"]
    found = next((each for each in dataclasses.fields(cls) if each.name == last), None)
    return found is not None and {*(get_args(found.type) or (found.type,))} <= _TEXT


def _derive_listeners(data: dict[str, Any]) -> None:
    # By default the peer and NodePort listeners use the node's own address.
    node = data.get("node")
    if data.get("listen") is None:
        data["listen"] = {}
    listen = data["listen"]
    address = node.get("address") if isinstance(node, dict) else None
    if not isinstance(listen, dict) or not isinstance(address, str):
        return
    host = f"[{address}]" if ":" in address else address
    listen.setdefault("peer", f"{host}:30020")
    listen.setdefault("nodeport", f"{host}:30022")


def _hostport_is_good(settings: Settings, problems: list[Problem]) -> bool:
    local = settings.listen.hostport
    if settings.node.pod_network or ipaddress.ip_address(local.host).is_loopback:
        return True
    problems.append(
        Problem(
            key="listen.hostport",
            message=f"{local} is not a loopback address",
            hint="the kernel knows the clients on this node only: bind it to 127.0.0.1 or [::1] (or set "
            "node.pod_network in a pod with a hostPort)",
        )
    )
    return False


def _check_ports(settings: Settings, problems: list[Problem]) -> None:
    taken: dict[Endpoint, str] = {}
    for name, endpoint in settings.listen.endpoints.items():
        other = next((one for known, one in taken.items() if _overlap(known, endpoint)), None)
        taken[endpoint] = name
        if other is not None:
            problems.append(
                Problem(
                    key=f"listen.{name}",
                    message=f"{endpoint} is also taken by listen.{other}",
                    hint="give each listener its own address: the socket tells by which path a request came",
                )
            )


def _check_latency(settings: Settings, problems: list[Problem]) -> None:
    latency = settings.latency
    if latency.measure and latency.window_s < 3 * latency.interval_s:
        problems.append(
            Problem(
                key="latency.window_s",
                message=f"{latency.window_s:g} s has no room for three measurements, "
                f"one every {latency.interval_s:g} s (latency.interval_s)",
                hint="make it ten intervals: fewer samples may all be spikes",
            )
        )


def _check_cold_start(settings: Settings, problems: list[Problem]) -> None:
    cold = settings.cold_start
    if cold.claims and cold.claim_start_s >= cold.claim_wait_s:
        problems.append(
            Problem(
                key="cold_start.claim_start_s",
                message=f"{cold.claim_start_s:g} s is not less than the {cold.claim_wait_s:g} s that a "
                "request waits (cold_start.claim_wait_s)",
                hint="make it a quarter: if the first node does not start, a second one still can",
            )
        )


def _check_membership(settings: Settings, problems: list[Problem]) -> None:
    if settings.membership.static is not None and settings.membership.kubernetes is not None:
        problems.append(
            Problem(
                key="membership",
                message="static and kubernetes are both there",
                hint="the peers come from one list: leave one of them out",
            )
        )


def _check_peering(settings: Settings, problems: list[Problem]) -> None:
    if settings.peering.tls is not None and settings.transfer.mode == "redirect":
        problems.append(
            Problem(
                key="transfer.mode",
                message="redirect can't be used with peering.tls: containerd has no certificate of an agent",
                hint="set transfer.mode: relay, or leave peering.tls out",
            )
        )
    peering, membership = settings.peering, settings.membership
    if membership.name != "none" and peering.key is None and not peering.open:
        problems.append(
            Problem(
                key="peering.key",
                message="missing: this agent has peers, and nothing proves who they are",
                hint="make a key with `shorthaul key new FILE`, and give all nodes a copy of the file; in a "
                "lab, peering.open: true lets everybody in",
            )
        )


def _check_server(settings: Settings, url: IndexUrl, problems: list[Problem]) -> None:
    valkey = settings.valkey
    if not valkey.cluster and settings.peering.key is None:
        problems.append(
            Problem(
                key="valkey.cluster",
                message="missing: without peering.key, nothing tells this cluster from another one",
                hint="write a name, the same on all nodes, that no other cluster on that server has",
            )
        )
    for key, mine, other in (
        ("username", valkey.username, url.username),
        ("password_file", valkey.password_file, url.password),
    ):
        if mine is not None and other is not None:
            problems.append(
                Problem(
                    key=f"valkey.{key}", message="the URL has another one", hint="leave one of the two out"
                )
            )
    if (valkey.certificate_file is None) != (valkey.key_file is None):
        missing = "certificate_file" if valkey.certificate_file is None else "key_file"
        problems.append(
            Problem(
                key=f"valkey.{missing}",
                message="missing: a certificate and its key belong together",
                hint="set both valkey.certificate_file and valkey.key_file, or leave both out",
            )
        )
    for key in ("ca_file", "certificate_file", "server_name"):
        if getattr(valkey, key) is not None and not url.tls:
            problems.append(
                Problem(
                    key=f"valkey.{key}",
                    message=f"{url} is without TLS",
                    hint="write valkeys:// for TLS, or leave this key out",
                )
            )


def _overlap(one: Endpoint, other: Endpoint) -> bool:
    wildcards = ("0.0.0.0", "::")
    hosts_meet = one.host == other.host or one.host in wildcards or other.host in wildcards
    return one.port == other.port and hosts_meet


def _resolve_paths(settings: Settings, base: Path) -> Settings:
    static, state_dir = settings.membership.static, settings.state_dir
    labels_file, kubernetes = settings.placement.labels_file, settings.membership.kubernetes
    if kubernetes is not None:
        ca_file, token_file = kubernetes.ca_file, kubernetes.token_file
        kubernetes = dataclasses.replace(
            kubernetes,
            ca_file=base / ca_file if ca_file else None,
            token_file=base / token_file if token_file else None,
        )
    key, tls = settings.peering.key, settings.peering.tls
    if tls is not None:
        tls = dataclasses.replace(
            tls, certificate=base / tls.certificate, key=base / tls.key, ca=base / tls.ca
        )
    return dataclasses.replace(
        settings,
        peering=dataclasses.replace(settings.peering, key=base / key if key else None, tls=tls),
        placement=dataclasses.replace(
            settings.placement, labels_file=base / labels_file if labels_file else None
        ),
        membership=MembershipSettings(static=base / static if static else None, kubernetes=kubernetes),
        state_dir=base / state_dir if state_dir else None,
        valkey=_resolve_files(settings.valkey, base),
    )


def _resolve_files(valkey: ValkeySettings, base: Path) -> ValkeySettings:
    names = ("password_file", "ca_file", "certificate_file", "key_file")
    found = {name: getattr(valkey, name) for name in names}
    return dataclasses.replace(valkey, **{name: base / file for name, file in found.items() if file})


def _plain(value: object) -> object:
    if isinstance(value, Endpoint | ContainerdStore | OciLayoutStore | IndexUrl | Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Labels):
        return dict(value.items)
    if isinstance(value, Authorization):
        return {"match": value.match, "by": value.by}
    if isinstance(value, ZonePrice):
        return {"from": value.source, "to": value.destination, "usd_per_gb": value.usd_per_gb}
    if dataclasses.is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    return value

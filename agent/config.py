"""Settings: read once, checked once, frozen from then on.

Decides whether a configuration is usable and says *everything* that is wrong with it at once, each
problem with its key path and a hint. Every field's metadata carries its meaning, unit and the reason
for its default; ``docs/configuration.md`` is held to them by a test.
"""

import dataclasses
import difflib
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import yaml

_T = TypeVar("_T")
_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake: where, what, and what to write instead."""

    key: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message} ({self.hint})"


class ConfigError(Exception):
    """The configuration can't be used. ``problems`` has every mistake found, not just the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class _Wrong(ValueError):
    """A value that its field refuses."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address to listen on or to reach."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdStore:
    """A containerd: its gRPC socket, the namespace to read, and the root its content store lies in."""

    socket: Path
    namespace: str
    root: Path

    def __str__(self) -> str:
        return f"containerd://{self.socket}?namespace={self.namespace}&root={self.root}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OciLayoutStore:
    """A directory in the OCI image layout."""

    directory: Path

    def __str__(self) -> str:
        return f"oci-layout://{self.directory}"


def parse_endpoint(value: object) -> Endpoint:
    """``host:port`` or ``[ipv6]:port``, the host an IP address."""
    hint = "write IP:PORT, for example 127.0.0.1:30020 or [::1]:30020"
    if not isinstance(value, str):
        raise _Wrong(f"{value!r} is not an address with a port", hint)
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise _Wrong(f"{value!r} has no port from 1 to 65535", hint)
    return Endpoint(host=_ip(host.removeprefix("[").removesuffix("]"), hint), port=int(port))


def _parse_local(value: object) -> Endpoint:
    endpoint = parse_endpoint(value)
    if not ipaddress.ip_address(endpoint.host).is_loopback:
        raise _Wrong(
            f"{value!r} is not a loopback address",
            "the local listener has no authentication: bind it to 127.0.0.1 or [::1]",
        )
    return endpoint


def _ip(value: object, hint: str = "write an IPv4 or IPv6 address") -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise _Wrong(f"{value!r} is not an IP address", hint) from None


def _parse_address(value: object) -> str:
    return _ip(value)


def _parse_name(value: object) -> str:
    text = _label(value)
    if not text or len(text) > 253 or not all(c.isalnum() or c in "-._" for c in text):
        raise _Wrong(f"{value!r} is not a node name", "letters, digits, '-', '.' and '_', at most 253")
    return text


def _label(value: object) -> str:
    # YAML reads `zone: 1` as a number; a label is text either way. `no` becomes False: ask for quotes.
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Wrong(f"{value!r} is not text", "put the value in quotes")
    text = str(value)
    if any(ord(c) < 32 or c in '"\\' for c in text) or len(text) > 253:
        raise _Wrong(f"{value!r} has characters that a label can't have", "printable text without quotes")
    return text


def _parse_optional_label(value: object) -> str | None:
    return None if value is None or value == "" else _label(value)


def _parse_store(value: object) -> ContainerdStore | OciLayoutStore:
    hint = "containerd:///run/containerd/containerd.sock?namespace=k8s.io&root=/var/lib/containerd or oci-layout:///DIR"
    if not isinstance(value, str):
        raise _Wrong(f"{value!r} is not a store", hint)
    url = urlsplit(value)
    if url.netloc or not url.path.startswith("/"):
        raise _Wrong(f"{value!r} has no absolute path", hint)
    query = parse_qs(url.query, keep_blank_values=True)
    if url.scheme == "oci-layout" and not query:
        return OciLayoutStore(directory=Path(url.path))
    if url.scheme == "containerd":
        unknown = sorted(query.keys() - {"namespace", "root"})
        if unknown:
            raise _Wrong(f"unknown option {unknown[0]!r} in {value!r}", "known are namespace= and root=")
        return ContainerdStore(
            socket=Path(url.path),
            namespace=query.get("namespace", ["k8s.io"])[-1],
            root=Path(query.get("root", ["/var/lib/containerd"])[-1]),
        )
    raise _Wrong(f"{value!r} is no known store", hint)


def _parse_path(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise _Wrong(f"{value!r} is not a path", "write the path of a file")
    return Path(value)


def _parse_index(value: object) -> str:
    if value != "scatter":
        raise _Wrong(f"{value!r} is no known holder index", "write scatter")
    return "scatter"


def _parse_patterns(value: object) -> tuple[str, ...]:
    hint = 'write a list of globs on REGISTRY/REPOSITORY:TAG, for example ["docker.io/*", "*:v1.*"]'
    if not isinstance(value, list):
        raise _Wrong(f"{value!r} is not a list", hint)
    for pattern in value:
        if not isinstance(pattern, str) or not pattern or "@" in pattern or "://" in pattern:
            raise _Wrong(f"{pattern!r} is not a pattern", hint)
    return tuple(value)


def _parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"{value!r} is neither true nor false", "write true or false, without quotes")
    return value


def _seconds(*, least: float = 0.0, most: float) -> Callable[[object], float]:
    return lambda value: float(_number(value, least=least, most=most))


def _bytes(*, least: int, most: int) -> Callable[[object], int]:
    return lambda value: int(_number(value, least=least, most=most))


def _number(value: object, *, least: float, most: float) -> float:
    hint = f"write a number from {least:g} to {most:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"{value!r} is not a number", hint)
    if not least <= value <= most:  # also false for NaN
        raise _Wrong(f"{value!r} is out of bounds", hint)
    return value


def option(parse: Callable[[object], _T], doc: str, *, default: _T = _REQUIRED) -> Any:
    """A field of a settings group: how to read it, what it means, and its default (none: required)."""
    metadata = {"parse": parse, "doc": doc}
    return field(metadata=metadata) if default is _REQUIRED else field(metadata=metadata, default=default)


def group(cls: type[_T]) -> Any:
    """A nested group whose own fields all have defaults."""
    return field(metadata={"group": cls}, default_factory=cls)


def required_group(cls: type[_T]) -> Any:
    """A nested group with required fields."""
    return field(metadata={"group": cls})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who this node is."""

    name: str = option(_parse_name, "The node's name, unique in the cluster; Kubernetes' node name there.")
    address: str = option(_parse_address, "The IP address at which peers reach this node.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
    """Where this node sits. A level left out is unknown and counts as equal to nobody's."""

    region: str | None = option(
        _parse_optional_label, "Region (topology.kubernetes.io/region).", default=None
    )
    zone: str | None = option(_parse_optional_label, "Zone (topology.kubernetes.io/zone).", default=None)
    rack: str | None = option(_parse_optional_label, "Rack, or any level finer than the zone.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """The four sockets. Each request's path is known from the socket it came in by."""

    local: Endpoint = option(
        _parse_local,
        "HostPort: containerd on this node. Loopback only, as it has no authentication.",
        default=Endpoint(host="127.0.0.1", port=30020),
    )
    peer: Endpoint = option(parse_endpoint, "Other agents; the node's address, port 30020 by convention.")
    service: Endpoint = option(
        parse_endpoint, "What the NodePort Service (30021) targets: the fallback of other nodes' containerds."
    )
    admin: Endpoint = option(
        parse_endpoint,
        "Metrics, health and API; loopback, so that publishing them is a decision.",
        default=Endpoint(host="127.0.0.1", port=9090),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSettings:
    """Where the list of peers comes from."""

    static: Path | None = option(
        _parse_path,
        "YAML file with a list of {name, address, port, region, zone, rack}; re-read when it changes. "
        "Relative to the configuration file. None: a node without peers.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesSettings:
    """Which images the mirror answers for."""

    include: tuple[str, ...] = option(
        _parse_patterns, "Globs on REGISTRY/REPOSITORY:TAG of what is mirrored; everything.", default=("*",)
    )
    exclude: tuple[str, ...] = option(
        _parse_patterns,
        "Globs of what is not, even if included. containerd goes to the registry.",
        default=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupSettings:
    """Asking peers who has what."""

    patience_s: float = option(
        _seconds(least=0.001, most=10),
        "Seconds to wait for a ring of peers before the next ring is asked as well; 30 times a slow "
        "cross-zone round trip, so that only a sick peer lets it pass.",
        default=0.05,
    )
    timeout_s: float = option(
        _seconds(least=0.01, most=60),
        "Seconds after which a peer that has not answered counts as failed; covers the widest round "
        "trips between continents.",
        default=0.5,
    )
    positive_ttl_s: float = option(
        _seconds(most=600),
        "Seconds for which 'this peer has it' is believed. Long enough for the blob requests that follow "
        "a manifest; a wrong one costs one 404 from the peer.",
        default=10.0,
    )
    negative_ttl_s: float = option(
        _seconds(most=60),
        "Seconds for which 'nobody has it' is believed. Short: the first node's pull makes it untrue.",
        default=1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSettings:
    """Fetching from peers."""

    connect_s: float = option(
        _seconds(least=0.01, most=60),
        "Seconds for a TCP connection to a peer; one SYN retransmission fits in.",
        default=1.5,
    )
    patience_s: float = option(
        _seconds(least=0.01, most=60),
        "Seconds without a first byte after which the next peer is asked as well (the slow one may still "
        "win); well above any healthy peer's first byte.",
        default=0.5,
    )
    deadline_s: float = option(
        _seconds(least=0.1, most=300),
        "Seconds after which a pull without a first byte is answered 404, so that containerd goes on. "
        "containerd itself would wait minutes.",
        default=10.0,
    )
    stall_s: float = option(
        _seconds(least=0.1, most=300),
        "Seconds without a byte after which a body is cut short, so that containerd resumes elsewhere.",
        default=3.0,
    )
    attempts_max: int = option(
        _bytes(least=1, most=100), "Peers tried for one request before it is answered 404.", default=8
    )
    cooloff_s: float = option(
        _seconds(most=600),
        "Seconds for which a peer that failed is the last resort and is not asked who has what.",
        default=5.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Bounds on clients."""

    idle_s: float = option(
        _seconds(least=1, most=3600),
        "Seconds for a request's head to arrive and for an idle connection to be kept; longer than the "
        "15 s for which peers keep theirs, so that the client closes first.",
        default=30.0,
    )
    send_stall_s: float = option(
        _seconds(least=1, most=3600),
        "Seconds for which a client may take no byte of a body before it is cut; containerd pauses "
        "reading while it unpacks on a busy disk.",
        default=60.0,
    )
    head_max_bytes: int = option(
        _bytes(least=1024, most=1 << 20), "Longest request line and longest header field.", default=8190
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSettings:
    """Stopping: unready, then no new connections, then draining, then gone."""

    unready_s: float = option(
        _seconds(most=300),
        "Seconds between turning unready and closing the listeners; kube-proxy needs 20 to 70 ms to hear of it.",
        default=0.2,
    )
    drain_s: float = option(
        _seconds(most=3600),
        "Seconds for running responses to end; within Kubernetes' 30 s of grace.",
        default=25.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the agent can be told."""

    node: NodeSettings = required_group(NodeSettings)
    placement: PlacementSettings = group(PlacementSettings)
    listen: ListenSettings = required_group(ListenSettings)
    store: ContainerdStore | OciLayoutStore = option(
        _parse_store,
        "Where this node's content is: containerd:// or oci-layout://.",
        default=OciLayoutStore(directory=Path("/var/lib/shorthaul")),
    )
    membership: MembershipSettings = group(MembershipSettings)
    index: str = option(_parse_index, "How holders are found; scatter asks the peers.", default="scatter")
    registries: RegistriesSettings = group(RegistriesSettings)
    resolve_tags: bool = option(
        _parse_flag, "Whether tags are resolved at all; false sends every tag to the registry.", default=True
    )
    tag_max_age_s: float = option(
        _seconds(most=10 * 365 * 86400),
        "Seconds since a peer last saw a tag from the registry for which its answer is taken; the "
        "longest that a moved tag can stay unseen by a node that never pulled it.",
        default=3600.0,
    )
    tag_exclude: tuple[str, ...] = option(
        _parse_patterns,
        "Globs of tags that are never resolved here; latest is the one that everybody moves.",
        default=("*:latest",),
    )
    state_dir: Path | None = option(
        _parse_path,
        "Directory in which the ages of mirrored tags outlive a restart; None keeps them in memory. "
        "Relative to the configuration file.",
        default=None,
    )
    lookup: LookupSettings = group(LookupSettings)
    pull: PullSettings = group(PullSettings)
    http: HttpSettings = group(HttpSettings)
    stop: StopSettings = group(StopSettings)


def load_settings(path: Path, overrides: list[str]) -> Settings:
    """The settings in the YAML file at ``path`` with ``a.b=c`` overrides applied.

    Relative paths in it are taken from the file's own directory. Raises `ConfigError`.
    """
    problems: list[Problem] = []
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            [Problem(key=str(path), message=error.strerror or str(error), hint="name a readable file")]
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(
            [Problem(key=str(path), message=f"not YAML: {message}", hint="check the indentation there")]
        ) from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(
            [Problem(key=str(path), message="not a mapping", hint="write KEY: VALUE lines, as in the README")]
        )
    for override in overrides:
        _apply_override(data, override, problems)
    _derive_listeners(data)
    settings = _read(Settings, data, "", problems)
    if settings is not None:
        _check_ports(settings, problems)
    if problems or settings is None:
        raise ConfigError(problems)
    return _resolve_paths(settings, path.resolve().parent)


def dump_settings(settings: Settings) -> str:
    """The settings as YAML that `load_settings` reads back to the same value."""
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
            Problem(key=path, message=f"{data!r} is not a mapping", hint="write KEY: VALUE below it")
        )
        return None
    known = {entry.name: entry for entry in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            problems.append(Problem(key=f"{path}{key}", message="unknown key", hint=hint))
    values: dict[str, Any] = {}
    sound = True
    for name, entry in known.items():
        key = f"{path}{name}"
        nested = entry.metadata.get("group")
        if nested is not None:
            if name in data or entry.default_factory is dataclasses.MISSING:
                values[name] = _read(nested, data.get(name) or {}, f"{key}.", problems)
                sound = sound and values[name] is not None
            continue
        if name not in data:
            if entry.default is dataclasses.MISSING:
                problems.append(Problem(key=key, message="missing", hint=entry.metadata["doc"]))
                sound = False
            continue
        try:
            values[name] = entry.metadata["parse"](data[name])
        except _Wrong as wrong:
            problems.append(Problem(key=key, message=str(wrong), hint=wrong.hint))
            sound = False
    return cls(**values) if sound else None


def _apply_override(data: dict[str, Any], override: str, problems: list[Problem]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key or not all(key.split(".")):
        problems.append(
            Problem(key=f"--set {override}", message="not an assignment", hint="write --set a.b=VALUE")
        )
        return
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        problems.append(
            Problem(key=f"--set {override}", message="the value is not YAML", hint="put it in quotes")
        )
        return
    *parents, last = key.split(".")
    for parent in parents:
        below = data.get(parent)
        if not isinstance(below, dict):
            below = data[parent] = {}
        data = below
    data[last] = value


def _derive_listeners(data: dict[str, Any]) -> None:
    # The peer and service listeners stand on the node's own address unless told otherwise.
    node, listen = data.get("node"), data.setdefault("listen", {})
    address = node.get("address") if isinstance(node, dict) else None
    if not isinstance(listen, dict) or not isinstance(address, str):
        return
    host = f"[{address}]" if ":" in address else address
    listen.setdefault("peer", f"{host}:30020")
    listen.setdefault("service", f"{host}:30022")


def _check_ports(settings: Settings, problems: list[Problem]) -> None:
    taken: dict[Endpoint, str] = {}
    for entry in dataclasses.fields(settings.listen):
        endpoint = getattr(settings.listen, entry.name)
        other = taken.setdefault(endpoint, entry.name)
        if other != entry.name:
            problems.append(
                Problem(
                    key=f"listen.{entry.name}",
                    message=f"{endpoint} is also listen.{other}",
                    hint="give each listener an address of its own: a request's path is known from its socket",
                )
            )


def _resolve_paths(settings: Settings, base: Path) -> Settings:
    static, state_dir = settings.membership.static, settings.state_dir
    return dataclasses.replace(
        settings,
        membership=MembershipSettings(static=base / static if static else None),
        state_dir=base / state_dir if state_dir else None,
    )


def _plain(value: object) -> object:
    if isinstance(value, Endpoint | ContainerdStore | OciLayoutStore | Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    return value

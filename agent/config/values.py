"""The values that settings are made of, and how each is read from YAML.

A parser takes whatever YAML gave and returns the value, or raises `Wrong` with a hint.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from topology.labels import REGION_LABEL, ZONE_LABEL


class Wrong(ValueError):
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
class Labels:
    """Label keys with their values."""

    items: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePrice:
    """What bytes from one zone to another cost."""

    source: str
    destination: str
    usd_per_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdStore:
    """A containerd: its gRPC socket, the namespace to read, and the root its content store lies in."""

    socket: Path
    namespace: str
    root: Path

    def __str__(self) -> str:
        return f"containerd://{self.socket}?namespace={quote(self.namespace)}&root={quote(str(self.root))}"


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
        raise Wrong(f"{value!r} is not an address with a port", hint)
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Wrong(f"{value!r} has no port from 1 to 65535", hint)
    return Endpoint(host=_ip(host.removeprefix("[").removesuffix("]"), hint), port=int(port))


def parse_local(value: object) -> Endpoint:
    endpoint = parse_endpoint(value)
    if not ipaddress.ip_address(endpoint.host).is_loopback:
        raise Wrong(
            f"{value!r} is not a loopback address",
            "the local listener has no authentication: bind it to 127.0.0.1 or [::1]",
        )
    return endpoint


def _ip(value: object, hint: str = "write an IPv4 or IPv6 address") -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise Wrong(f"{value!r} is not an IP address", hint) from None


def parse_address(value: object) -> str:
    return _ip(value)


def parse_name(value: object) -> str:
    text = _label(value)
    if not text or len(text) > 253 or not all(c.isalnum() or c in "-._" for c in text):
        raise Wrong(f"{value!r} is not a node name", "letters, digits, '-', '.' and '_', at most 253")
    return text


def _label(value: object) -> str:
    # YAML reads `zone: 1` as a number; a label is text either way. `no` becomes False: ask for quotes.
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Wrong(f"{value!r} is not text", "put the value in quotes")
    text = str(value)
    if any(ord(c) < 32 or c in '"\\' for c in text) or len(text) > 253:
        raise Wrong(f"{value!r} has characters that a label can't have", "printable text without quotes")
    return text


def parse_optional_label(value: object) -> str | None:
    return None if value is None or value == "" else _label(value)


def parse_store(value: object) -> ContainerdStore | OciLayoutStore:
    hint = "containerd:///run/containerd/containerd.sock?namespace=k8s.io&root=/var/lib/containerd or oci-layout:///DIR"
    if not isinstance(value, str):
        raise Wrong(f"{value!r} is not a store", hint)
    try:
        url = urlsplit(value)
    except ValueError as error:
        raise Wrong(f"{value!r} is not a URL: {error}", hint) from error
    if url.netloc or not url.path.startswith("/"):
        raise Wrong(f"{value!r} has no absolute path", hint)
    query = parse_qs(url.query, keep_blank_values=True)
    if url.scheme == "oci-layout" and not query:
        return OciLayoutStore(directory=Path(url.path))
    if url.scheme == "containerd":
        unknown = sorted(query.keys() - {"namespace", "root"})
        if unknown:
            raise Wrong(f"unknown option {unknown[0]!r} in {value!r}", "known are namespace= and root=")
        return ContainerdStore(
            socket=Path(url.path),
            namespace=query.get("namespace", ["k8s.io"])[-1],
            root=Path(query.get("root", ["/var/lib/containerd"])[-1]),
        )
    raise Wrong(f"{value!r} is no known store", hint)


def parse_path(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise Wrong(f"{value!r} is not a path", "write the path of a file")
    return Path(value)


def parse_file(value: object) -> Path:
    """A path that has to be there."""
    path = parse_path(value)
    if path is None:
        raise Wrong("none is not a path", "write the path of a file, or leave the key out")
    return path


def parse_endpoints(value: object) -> tuple[Endpoint, ...]:
    """A list of ``IP:PORT``."""
    if not isinstance(value, list):
        raise Wrong(f"{value!r} is not a list", 'write a list of IP:PORT, for example ["10.96.0.10:30022"]')
    return tuple(parse_endpoint(entry) for entry in value)


def parse_uids(value: object) -> tuple[int, ...]:
    """A list of numeric user ids."""
    hint = "write a list of numbers, for example [65532]"
    if not isinstance(value, list):
        raise Wrong(f"{value!r} is not a list", hint)
    if any(isinstance(uid, bool) or not isinstance(uid, int) or uid < 0 for uid in value):
        raise Wrong(f"{value!r} has what is no user id", hint)
    return tuple(value)


def parse_index(value: object) -> str:
    if value != "scatter":
        raise Wrong(f"{value!r} is no known holder index", "write scatter")
    return "scatter"


def parse_transfer_mode(value: object) -> str:
    """How a peer's bytes reach the client. Raises `Wrong` for anything else."""
    if value not in ("relay", "redirect"):
        raise Wrong(f"{value!r} is no way to transfer", "write relay or redirect")
    return str(value)


def parse_patterns(value: object) -> tuple[str, ...]:
    hint = 'write a list of globs on REGISTRY/REPOSITORY:TAG, for example ["docker.io/*", "*:v1.*"]'
    if not isinstance(value, list):
        raise Wrong(f"{value!r} is not a list", hint)
    for pattern in value:
        if not isinstance(pattern, str) or not pattern or "@" in pattern or "://" in pattern:
            raise Wrong(f"{pattern!r} is not a pattern", hint)
    return tuple(value)


def parse_labels(value: object) -> Labels:
    """A mapping of label keys to values, as Kubernetes has them."""
    hint = "write {KEY: VALUE, …}, for example {topology.kubernetes.io/zone: eu-1a}"
    if not isinstance(value, dict):
        raise Wrong(f"{value!r} is not a mapping", hint)
    labels: dict[str, str] = {}
    for key, label in value.items():
        if not isinstance(key, str) or not key:
            raise Wrong(f"{key!r} is not a label's key", hint)
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise Wrong(f"{label!r}, the value of {key}, is not text", "put the value in quotes")
        labels[key] = str(label)
    return Labels(items=tuple(labels.items()))


_OWN_LEVELS = ("region", "zone", "node", REGION_LABEL, ZONE_LABEL)


def parse_levels(value: object) -> tuple[str, ...]:
    """Label keys, the widest level first."""
    hint = "write a list of label keys, the widest level first, for example [example.com/row, rack]"
    if not isinstance(value, list) or not all(isinstance(key, str) and key for key in value):
        raise Wrong(f"{value!r} is not a list of label keys", hint)
    doubled = next((key for key in value if value.count(key) > 1 or key in _OWN_LEVELS), None)
    if doubled is not None:
        raise Wrong(f"{doubled!r} is there twice, or is a level of its own already", hint)
    return tuple(value)


def parse_prices(value: object) -> tuple[ZonePrice, ...]:
    """A list of ``{from, to, usd_per_gb}``."""
    hint = "write a list of {from: ZONE, to: ZONE, usd_per_gb: NUMBER}"
    if not isinstance(value, list):
        raise Wrong(f"{value!r} is not a list", hint)
    prices: list[ZonePrice] = []
    for entry in value:
        if not isinstance(entry, dict) or entry.keys() != {"from", "to", "usd_per_gb"}:
            raise Wrong(f"{entry!r} is not a price", hint)
        prices.append(
            ZonePrice(
                source=_label(entry["from"]),
                destination=_label(entry["to"]),
                usd_per_gb=float(_number(entry["usd_per_gb"], least=0, most=1000)),
            )
        )
    return tuple(prices)


def parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"{value!r} is neither true nor false", "write true or false, without quotes")
    return value


def seconds(*, least: float = 0.0, most: float) -> Callable[[object], float]:
    return lambda value: float(_number(value, least=least, most=most))


def amount(*, most: float) -> Callable[[object], float]:
    """A parser of amounts from nothing to ``most``."""
    return seconds(most=most)


def whole_number(*, least: int = 0, most: int) -> Callable[[object], int]:
    """A parser of whole numbers within bounds."""

    def parse(value: object) -> int:
        if isinstance(value, float):
            raise Wrong(f"{value!r} is not a whole number", f"write a whole number from {least} to {most}")
        return int(_number(value, least=least, most=most))

    return parse


def limit(*, least: int, most: int) -> Callable[[object], int]:
    """A parser of limits: 0 for none, or a whole number that leaves something to live on."""
    number = whole_number(most=most)

    def parse(value: object) -> int:
        parsed = number(value)
        if 0 < parsed < least:
            raise Wrong(
                f"{value!r} is too little to get anything done", f"write 0 for no limit, or {least} or more"
            )
        return parsed

    return parse


def _number(value: object, *, least: float, most: float) -> float:
    hint = f"write a number from {least:.12g} to {most:.15g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"{value!r} is not a number", hint)
    if not least <= value <= most:  # also false for NaN
        raise Wrong(f"{value!r} is out of bounds", hint)
    return value

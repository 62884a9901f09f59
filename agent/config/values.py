"""The values of settings, and the parser for each.

A parser takes what YAML gave and returns the value, or raises `InvalidValue` with a hint.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from agent.oci.authority import Authority
from agent.oci.patterns import ANY
from agent.oci.patterntext import PatternInvalid, parse_pattern
from topology.labels import REGION_LABEL, ZONE_LABEL


class InvalidValue(ValueError):
    """This value is not allowed for its setting. ``hint`` says what to write."""

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
    """The price of bytes from one zone to another."""

    source: str
    destination: str
    usd_per_gb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Who decides on the images that match: ``registry`` or ``mirror``."""

    match: str
    by: str

    def __str__(self) -> str:
        return f"{self.match}: {self.by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdStore:
    """A containerd: its gRPC socket, the namespace to read, and the root directory of its content store."""

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


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def parse_endpoint(value: object) -> Endpoint:
    """``host:port`` or ``[ipv6]:port``. The host must be an IP address."""
    hint = "write IP:PORT, for example 127.0.0.1:30020 or [::1]:30020"
    if not isinstance(value, str):
        raise InvalidValue(f"{value!r} is not an address with a port", hint)
    host, colon, port = value.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidValue(f"{value!r} has no port from 1 to 65535", hint)
    return Endpoint(host=_ip(host.removeprefix("[").removesuffix("]"), hint), port=int(port))


def _ip(value: object, hint: str = "write an IPv4 or IPv6 address") -> str:
    try:
        address = ipaddress.ip_address(str(value))
    except ValueError:
        raise InvalidValue(f"{value!r} is not an IP address", hint) from None
    # A socket of one family never has an address of the other, so ::ffff:10.0.0.1 can only mean 10.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parse_address(value: object) -> str:
    """The address of one node. Raises `InvalidValue` for an address that is nobody's own."""
    address = ipaddress.ip_address(_ip(value))
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        raise InvalidValue(f"{value!r} is the address of no node", "write the one at which peers reach it")
    return str(address)


def parse_name(value: object) -> str:
    text = _label(value)
    if not text or len(text) > 253 or not all(c.isalnum() or c in "-._" for c in text):
        raise InvalidValue(f"{value!r} is not a node name", "letters, digits, '-', '.' and '_', at most 253")
    return text


def _label(value: object) -> str:
    # YAML reads `zone: 1` as a number, which is a valid label. It reads `no` as False, which needs quotes.
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidValue(f"{value!r} is not text", "put the value in quotes")
    text = str(value)
    if any(ord(c) < 32 or c in '"\\' for c in text) or len(text) > 253:
        raise InvalidValue(
            f"{value!r} has characters that a label can't have", "printable text without quotes"
        )
    return text


def parse_optional_label(value: object) -> str | None:
    return None if value is None or value == "" else _label(value)


def parse_store(value: object) -> ContainerdStore | OciLayoutStore:
    hint = "containerd:///run/containerd/containerd.sock?namespace=k8s.io&root=/var/lib/containerd or oci-layout:///DIR"
    if not isinstance(value, str):
        raise InvalidValue(f"{value!r} is not a store", hint)
    try:
        url = urlsplit(value)
    except ValueError as error:
        raise InvalidValue(f"{value!r} is not a URL: {error}", hint) from error
    if url.netloc or not url.path.startswith("/"):
        raise InvalidValue(f"{value!r} has no absolute path", hint)
    query = parse_qs(url.query, keep_blank_values=True)
    if url.scheme == "oci-layout" and not query:
        return OciLayoutStore(directory=Path(url.path))
    if url.scheme == "containerd":
        unknown = sorted(query.keys() - {"namespace", "root"})
        if unknown:
            raise InvalidValue(
                f"unknown option {unknown[0]!r} in {value!r}", "known are namespace= and root="
            )
        return ContainerdStore(
            socket=Path(url.path),
            namespace=query.get("namespace", ["k8s.io"])[-1],
            root=Path(query.get("root", ["/var/lib/containerd"])[-1]),
        )
    raise InvalidValue(f"{value!r} is not a known store", hint)


def parse_path(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise InvalidValue(f"{value!r} is not a path", "write the path of a file")
    return Path(value)


def parse_file(value: object) -> Path:
    """A path that must be given."""
    path = parse_path(value)
    if path is None:
        raise InvalidValue("none is not a path", "write the path of a file, or leave the key out")
    return path


def parse_certificate_name(value: object) -> str | None:
    """A DNS name or a URI, as a certificate has it."""
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise InvalidValue(f"{value!r} is no name", "write a DNS name or a URI that all certificates have")
    if any(character in value for character in "*, "):
        raise InvalidValue(
            f"{value!r} is not one name", "write one DNS name or URI; a wildcard would be the name of nobody"
        )
    return value


def parse_endpoints(value: object) -> tuple[Endpoint, ...]:
    """A list of ``IP:PORT``."""
    if not isinstance(value, list):
        raise InvalidValue(
            f"{value!r} is not a list", 'write a list of IP:PORT, for example ["10.96.0.10:30022"]'
        )
    return tuple(parse_endpoint(entry) for entry in value)


def parse_uids(value: object) -> tuple[int, ...]:
    """A list of numeric user ids."""
    hint = "write a list of numbers, for example [65532]"
    if not isinstance(value, list):
        raise InvalidValue(f"{value!r} is not a list", hint)
    if any(isinstance(uid, bool) or not isinstance(uid, int) or uid < 0 for uid in value):
        raise InvalidValue(f"{value!r} has an entry that is not a user id", hint)
    return tuple(value)


def parse_log_level(value: object) -> str:
    """The least level that is logged."""
    if value not in ("debug", "info", "warning", "error"):
        raise InvalidValue(f"{value!r} is not a log level", "write debug, info, warning or error")
    return str(value)


def parse_transfer_mode(value: object) -> str:
    """How a peer's bytes reach the client. Raises `InvalidValue` for anything else."""
    if value not in ("relay", "redirect"):
        raise InvalidValue(f"{value!r} is not a transfer mode", "write relay or redirect")
    return str(value)


def parse_cold_start_mode(value: object) -> str:
    """How what nobody has is fetched. YAML reads a bare ``off`` as false. Raises `InvalidValue`."""
    if value is False:
        return "off"
    if value not in ("claims", "off"):
        raise InvalidValue(f"{value!r} is not a way to start cold", "write claims or off")
    return str(value)


def parse_cold_start_scope(value: object) -> str:
    """Who asks the registry once together. Raises `InvalidValue` for anything else."""
    if value not in ("zone", "cluster"):
        raise InvalidValue(f"{value!r} does not say who asks the registry once", "write zone or cluster")
    return str(value)


def parse_local_callers(value: object) -> str:
    """Which processes of this node are answered at the HostPort. Raises `InvalidValue` for anything else."""
    if value not in ("any", "root", "containerd"):
        raise InvalidValue(
            f"{value!r} does not say whom the HostPort answers", "write any, root or containerd"
        )
    return str(value)


_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def parse_dns_label(value: object) -> str:
    """The name of a Kubernetes object. It goes into paths and queries."""
    if not isinstance(value, str) or not _DNS_LABEL.fullmatch(value):
        hint = "write small letters, digits and '-', at most 63, as in kubectl get services"
        raise InvalidValue(f"{value!r} is not the name of a Service, port or namespace", hint)
    return value


def parse_url(value: object) -> str | None:
    """``http[s]://HOST[:PORT]``."""
    if value is None:
        return None
    hint = "write https://HOST:PORT, for example https://10.0.0.10:6443"
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise InvalidValue(f"{value!r} is not a URL", hint)
    try:
        url = urlsplit(value)
        whole = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError as error:
        raise InvalidValue(f"{value!r} is not a URL: {error}", hint) from error
    if not whole or url.username or url.query or url.fragment or url.path not in ("", "/"):
        raise InvalidValue(f"{value!r} is not a URL of that form", hint)
    return value.removesuffix("/")


_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")


def parse_host_names(value: object) -> tuple[str, ...]:
    """Names of hosts, without ports and without wildcards."""
    hint = "write a list of names without ports, for example [shorthaul.kube-system.svc]"
    if not isinstance(value, list):
        raise InvalidValue(f"{value!r} is not a list", hint)
    for name in value:
        if not isinstance(name, str) or not _HOST_NAME.fullmatch(name):
            raise InvalidValue(f"{name!r} is not the name of a host", hint)
    return tuple(value)


def parse_patterns(value: object) -> tuple[str, ...]:
    """A list of patterns on images, in their canonical form. See `agent.oci.patterntext`."""
    return _patterns(value, of_tags=False)


def parse_tag_patterns(value: object) -> tuple[str, ...]:
    """A list of patterns on tags: a single word is a tag."""
    return _patterns(value, of_tags=True)


def _patterns(value: object, *, of_tags: bool) -> tuple[str, ...]:
    if not isinstance(value, list):
        hint = 'write a list of globs on REGISTRY/REPOSITORY:TAG, for example ["docker.io/*", "*:v1.*"]'
        raise InvalidValue(f"{value!r} is not a list", hint)
    found, errors = [], []
    for entry in value:
        try:
            found.append(str(parse_pattern(entry, of_tags=of_tags)))
        except PatternInvalid as error:
            errors.append(error)
    if errors:
        hints = dict.fromkeys(error.hint for error in errors)
        raise InvalidValue("; ".join(map(str, errors)), "; ".join(hints)) from errors[0]
    return tuple(dict.fromkeys(found))


def parse_labels(value: object) -> Labels:
    """A mapping of label keys to values, as Kubernetes has them."""
    hint = "write {KEY: VALUE, …}, for example {topology.kubernetes.io/zone: eu-1a}"
    if not isinstance(value, dict):
        raise InvalidValue(f"{value!r} is not a mapping", hint)
    labels: dict[str, str] = {}
    for key, label in value.items():
        if not isinstance(key, str) or not key:
            raise InvalidValue(f"{key!r} is not a label's key", hint)
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise InvalidValue(f"{label!r}, the value of {key}, is not text", "put the value in quotes")
        labels[key] = str(label)
    return Labels(items=tuple(labels.items()))


_BUILT_IN_LEVELS = ("region", "zone", "node", REGION_LABEL, ZONE_LABEL)


def parse_levels(value: object) -> tuple[str, ...]:
    """Label keys, widest level first."""
    hint = "write a list of label keys, widest level first, for example [example.com/row, rack]"
    if not isinstance(value, list) or not all(isinstance(key, str) and key for key in value):
        raise InvalidValue(f"{value!r} is not a list of label keys", hint)
    duplicate = next((key for key in value if value.count(key) > 1 or key in _BUILT_IN_LEVELS), None)
    if duplicate is not None:
        raise InvalidValue(f"{duplicate!r} is listed twice, or is a built-in level", hint)
    return tuple(value)


def parse_prices(value: object) -> tuple[ZonePrice, ...]:
    """A list of ``{from, to, usd_per_gb}``."""
    hint = "write a list of {from: ZONE, to: ZONE, usd_per_gb: NUMBER}"
    if not isinstance(value, list):
        raise InvalidValue(f"{value!r} is not a list", hint)
    prices: list[ZonePrice] = []
    for entry in value:
        if not isinstance(entry, dict) or entry.keys() != {"from", "to", "usd_per_gb"}:
            raise InvalidValue(f"{entry!r} is not a price", hint)
        prices.append(
            ZonePrice(
                source=_label(entry["from"]),
                destination=_label(entry["to"]),
                usd_per_gb=_usd_per_gb(entry["usd_per_gb"]),
            )
        )
    return tuple(prices)


def parse_authorizations(value: object) -> tuple[Authorization, ...]:
    """A list of ``{match, by}``. The patterns have no tag, because a digest has none."""
    hint = "write a list of {match: PATTERN, by: registry}, for example {match: ghcr.io/acme/*, by: registry}"
    if not isinstance(value, list):
        raise InvalidValue(f"{value!r} is not a list", hint)
    found: list[Authorization] = []
    for entry in value:
        if not isinstance(entry, dict) or entry.keys() != {"match", "by"}:
            raise InvalidValue(f"{entry!r} does not say who decides on what", hint)
        if entry["by"] not in [each.value for each in Authority]:
            raise InvalidValue(f"{entry['by']!r} can't decide", "write registry or mirror")
        try:
            pattern = parse_pattern(entry["match"])
        except PatternInvalid as error:
            raise InvalidValue(str(error), error.hint) from error
        if pattern.tag != ANY:
            raise InvalidValue(
                f"{entry['match']!r} has a tag, and a digest has none", f"write {pattern.name} for all tags"
            )
        found.append(Authorization(match=str(pattern), by=entry["by"]))
    return tuple(dict.fromkeys(found))


def parse_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValue(f"{value!r} is neither true nor false", "write true or false, without quotes")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberParser:
    """Parses numbers within bounds. ``whole``: without fractions. ``none``: what 0 means below them."""

    least: float
    most: float
    whole: bool = False
    none: str = ""

    @property
    def hint(self) -> str:
        """What to write."""
        kind = "a whole number" if self.whole else "a number"
        zero = f"0 for {self.none}, or " if self.none else ""
        return f"write {zero}{kind} from {self.least:.12g} to {self.most:.15g}"

    def __call__(self, value: object) -> Any:
        """The number. Raises `InvalidValue`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidValue(f"{value!r} is not a number", self.hint)
        if self.whole and isinstance(value, float):
            raise InvalidValue(f"{value!r} is not a whole number", self.hint)
        if not self.least <= value <= self.most and not (self.none and value == 0):  # also for NaN
            raise InvalidValue(f"{value!r} is out of bounds", self.hint)
        return value if self.whole else float(value)


def seconds(*, least: float = 0.0, most: float) -> NumberParser:
    """A parser of seconds."""
    return NumberParser(least=least, most=most)


def amount(*, most: float) -> NumberParser:
    """A parser of amounts from 0 to ``most``."""
    return NumberParser(least=0.0, most=most)


def whole_number(*, least: int = 0, most: int) -> NumberParser:
    """A parser of whole numbers within bounds."""
    return NumberParser(least=least, most=most, whole=True)


def limit(*, least: int, most: int) -> NumberParser:
    """A parser of limits: 0 for no limit, or a whole number of at least ``least``."""
    return NumberParser(least=least, most=most, whole=True, none="no limit")


_usd_per_gb = amount(most=1000)

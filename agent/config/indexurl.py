"""How holders are found: ``scatter``, or the URL of a Valkey (or Redis) server. Pure.

A password in a URL is used, and shown nowhere: the text of an `IndexUrl` has ``***`` in its place.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import quote, unquote, urlsplit

from agent.config.values import Endpoint, InvalidValue

SCATTER = "scatter"
"""The peers are asked."""

_SERVER_PORT = 6379
_SENTINEL_PORT = 26379

_HINT = (
    "write scatter, valkey://HOST:6379, valkeys://… with TLS, valkey+sentinel://HOST:26379,HOST/NAME, "
    "or valkey+cluster://HOST,HOST"
)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})")
_IPV4_IN_BRACKETS = re.compile(r"^\[([0-9.]+)\]")  # of the chart, which does not know what a Service has
_VARIABLE_IN_BRACKETS = re.compile(r"^\[\$\(([A-Z0-9_]+)\)\]")  # the kubelet does not know it
_PLAIN_SCHEMES = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}


class Deployment(Enum):
    """How the server is run."""

    ALONE = "alone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUrl:
    """Where the server of the index is. ``hosts``: the server, or the Sentinels, or nodes of the Cluster.

    ``service``: the name that the Sentinels have for the server. ``database``: 0 in a Cluster.
    ``username`` and ``password``: those in the URL; the settings may have others.
    """

    deployment: Deployment = Deployment.ALONE
    tls: bool = False
    hosts: tuple[Endpoint, ...]
    service: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        scheme = "valkeys" if self.tls else "valkey"
        if self.deployment is not Deployment.ALONE:
            scheme += f"+{self.deployment.value}"
        login = quote(self.username or "", safe="") + (":***" if self.password is not None else "")
        at = "@" if self.username is not None or self.password is not None else ""
        path = f"/{quote(self.service, safe='')}" if self.service else ""
        path += f"/{self.database}" if self.database else ""
        return f"{scheme}://{login}{at}{','.join(map(str, self.hosts))}{path}"


def parse_index(value: object) -> str | IndexUrl:
    """``scatter``, or the URL of a server. Raises `InvalidValue`, whose words have no password."""
    if value == SCATTER:
        return SCATTER
    if not isinstance(value, str) or "://" not in value:
        raise _wrong(value, "is not a known holder index")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise _wrong(value, "has characters that a URL can't have; write them as %XX")
    scheme, _, rest = value.partition("://")
    plain, plus, kind = scheme.partition("+")
    if plain not in _PLAIN_SCHEMES or (plus and kind not in ("sentinel", "cluster")):
        raise _wrong(value, "is not the URL of a server that is known here")
    deployment = Deployment(kind) if plus else Deployment.ALONE
    if any(character in rest for character in "?#"):
        raise _wrong(value, "has options: there are none; in a password, write ? as %3F and # as %23")
    login, _, address = rest.rpartition("@")
    names, _, path = address.partition("/")
    username, colon, password = login.partition(":")
    service, database = _path(value, path, deployment)
    return IndexUrl(
        deployment=deployment,
        tls=_PLAIN_SCHEMES[plain],
        hosts=_hosts(value, names, _SENTINEL_PORT if deployment is Deployment.SENTINEL else _SERVER_PORT),
        service=service,
        database=database,
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
    )


def _hosts(value: str, names: str, port: int) -> tuple[Endpoint, ...]:
    found = tuple(dict.fromkeys(_host(value, name, port) for name in names.split(",")))
    if len(found) > 1 and not value.partition("://")[0].endswith(("+sentinel", "+cluster")):
        raise _wrong(value, "has several hosts, which only +sentinel and +cluster can have")
    return found


def _host(value: str, name: str, port: int) -> Endpoint:
    name = _IPV4_IN_BRACKETS.sub(r"\1", _VARIABLE_IN_BRACKETS.sub(_no_host, name))
    try:
        url = urlsplit(f"//{name}")
        host, port = url.hostname or "", url.port if url.port is not None else port
    except ValueError:
        raise _wrong(value, "has no HOST:PORT there") from None
    if name.startswith("["):
        host = str(ipaddress.ip_address(host))  # urlsplit has checked it
    elif not _HOST.fullmatch(host) or ":" in name.partition(":")[2]:
        raise _wrong(value, "has no HOST:PORT there; an IPv6 address is in brackets")
    if port == 0 or name.endswith(":"):
        raise _wrong(value, "has no port from 1 to 65535")
    return Endpoint(host=host, port=port)


def _no_host(variable: re.Match[str]) -> str:
    """A name that nobody has: an agent starts although the Service is missing that it was to be told of."""
    return f"{variable[1].lower().replace('_', '-')}.invalid"


def _path(value: str, path: str, deployment: Deployment) -> tuple[str, int]:
    parts = path.split("/") if path else []
    service = ""
    if deployment is Deployment.SENTINEL:
        service = unquote(parts.pop(0)) if parts else ""
        if not service:
            raise _wrong(value, "has no name of the server: write valkey+sentinel://HOST/NAME")
    if deployment is Deployment.CLUSTER and parts:
        raise _wrong(value, "has a path, and a Cluster has one database only")
    if not parts or parts == [""]:
        return service, 0
    if len(parts) > 1 or not re.fullmatch(r"[0-9]{1,5}", parts[0]):
        raise _wrong(value, "has a path that is not the number of a database")
    return service, int(parts[0])


def _wrong(value: object, what: str) -> InvalidValue:
    if isinstance(value, str) and "@" in value and "://" not in value:
        value = f"***@{value.rpartition('@')[2]}"  # a URL without its scheme
    return InvalidValue(f"{masked(repr(value))} {what}", _HINT)


_LOGIN = re.compile("(://).*@", re.DOTALL)


def masked(text: str) -> str:
    """The same text, without what stands between the first ``://`` and the last ``@`` in it."""
    return _LOGIN.sub(r"\1***@", text)


_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_CLUSTER = re.compile(r"[A-Za-z0-9._:/-]{0,128}")


def parse_key_prefix(value: object) -> str:
    """What the names of all keys begin with. No braces: they would decide where a Cluster keeps them."""
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        raise InvalidValue(
            f"{value!r} can't begin the names of keys", "write 1 to 64 letters, digits, '.', '_', ':' and '-'"
        )
    return value


def parse_cluster_name(value: object) -> str:
    """What this cluster is called on the server. Empty: not given."""
    if not isinstance(value, str) or not _CLUSTER.fullmatch(value):
        raise InvalidValue(
            f"{value!r} is not the name of a cluster",
            "write at most 128 letters, digits, '.', '_', ':', '/' and '-', or \"\" for one made of the key",
        )
    return value


def parse_login_name(value: object) -> str | None:
    """The name of a user of the server."""
    if value is None:
        return None
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        raise InvalidValue(f"{value!r} is not the name of a user", "write the name of an ACL user, in quotes")
    return value


def parse_tls_name(value: object) -> str | None:
    """A DNS name or an address, as the server's certificate has it."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            pass
        if _HOST.fullmatch(value):
            return value
    raise InvalidValue(
        f"{value!r} is not a name that a certificate has", "write one DNS name or IP address, without a port"
    )

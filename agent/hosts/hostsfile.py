"""What a hosts.toml says, as containerd reads it. Pure.

Sources: containerd, docs/hosts.md; remotes/docker/config/hosts.go of 1.6, 1.7, 2.1 and 2.3. A file that it
can't read is ignored without a word to the user: it then asks the registry alone.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from agent.config import Endpoint
from agent.hosts.part import PartBroken, find_part
from agent.hosts.toml import TomlInvalid, decode, parse

_KNOWN_CAPABILITIES = ("pull", "resolve", "push")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host that containerd tries before the registry. ``ours``: written by ``shorthaul configure``.

    ``authorization``: the header of that name which containerd sends to it; empty: none.
    """

    url: str
    capabilities: tuple[str, ...] = ()
    ours: bool = False
    authorization: str = field(default="", repr=False)

    @property
    def endpoint(self) -> Endpoint | None:
        """Its address. None if it is not an IP address with a port, or not plain HTTP."""
        return endpoint_of(self.url) if self.url.startswith("http://") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsFile:
    """A hosts.toml. ``hosts``: in the order in which they are tried. ``server``: the registry's own address,
    empty if the file does not say it. ``problem``: why containerd ignores the file; empty if it does not.
    """

    hosts: tuple[Host, ...] = ()
    server: str = ""
    problem: str = ""

    @property
    def old_problem(self) -> str:
        """Why containerd 1.6 and 1.7 ignore the file although later ones read it. Empty if they do not."""
        if any("[" in host.url or "]" in host.url for host in self.hosts):
            return "it names an IPv6 address"
        return "" if self.hosts else "it names no host, only the registry"

    @property
    def has_part(self) -> bool:
        """Whether some of it was written by ``shorthaul configure``."""
        return any(host.ours for host in self.hosts)


def read_hosts_file(data: bytes) -> HostsFile:
    """What the file says. Nothing is raised: see `HostsFile.problem`."""
    try:
        text = decode(data)
        document = parse(text)
    except TomlInvalid as error:
        return HostsFile(problem=f"it is not TOML: {error}")
    hosts, server = document.get("host", {}), document.get("server", "")
    problem = "" if isinstance(server, str) else "server is not text"
    if not isinstance(hosts, dict) or not all(isinstance(table, dict) for table in hosts.values()):
        return HostsFile(problem="host is not a table of hosts")
    ours = _ours(text)
    found = tuple(_host(url, table, url in ours) for url, table in hosts.items())
    for table in (document, *hosts.values()):
        problem = problem or _problem(table)
    return HostsFile(hosts=found, server=str(server), problem=problem)


def endpoint_of(url: str) -> Endpoint | None:
    """The address in a URL. None if it is not an IP address with a port."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, port = parts.hostname, parts.port
        if host == "localhost":
            host = "127.0.0.1"
        if host is None or port is None or "%" in host:  # an IPv6 address with a scope is not supported
            return None
        return Endpoint(host=str(ipaddress.ip_address(host)), port=port)
    except ValueError:
        return None


def _ours(text: str) -> frozenset[str]:
    try:
        part = find_part(text)
        if part is None:
            return frozenset()
        document = parse(text[part.start : part.end])
    except (PartBroken, TomlInvalid):
        return frozenset()
    hosts = document.get("host", {})
    return frozenset(hosts) if isinstance(hosts, dict) else frozenset()


def _host(url: str, table: dict[str, Any], ours: bool) -> Host:
    capabilities = table.get("capabilities", ())
    names = capabilities if isinstance(capabilities, list) else ()
    return Host(
        url=url,
        capabilities=tuple(str(name) for name in names),
        ours=ours,
        authorization=_authorization(table.get("header")),
    )


def _authorization(header: object) -> str:
    """The value in a table of headers. One that no head of a request may have is not taken."""
    if not isinstance(header, dict):
        return ""
    for name, value in header.items():
        values = value if isinstance(value, list) else [value]
        if name.lower() == "authorization" and len(values) == 1 and isinstance(values[0], str):
            return values[0] if values[0].isascii() and values[0].isprintable() else ""
    return ""


def _problem(table: dict[str, Any]) -> str:
    capabilities = table.get("capabilities", [])
    if not isinstance(capabilities, list):
        return "capabilities is not a list"
    for name in capabilities:
        if not isinstance(name, str) or name.lower() not in _KNOWN_CAPABILITIES:
            return f"not every containerd knows the capability {str(name)[:40]!r}: it then drops the file"
    return ""

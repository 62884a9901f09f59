"""Do the names that containerd needs resolve: those of the registries, for what no peer has."""

import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from agent.hosts.hostsfile import HostsFile
from agent.preflight.check import Check, good, listed, unknown, warn
from agent.preflight.gather import Unknown, gather

NAME = "names"
_NAMES_MAX = 8
_AT_MOST_S = 4.0
_ALIASES = {"docker.io": "registry-1.docker.io"}


def registry_names(files: Mapping[str, HostsFile]) -> tuple[str, ...]:
    """The hosts of the registries that have a hosts.toml, without those that are addresses."""
    found: dict[str, None] = {}
    for name, file in files.items():
        registry = _ALIASES.get(name, name) if name != "_default" else ""
        for url in (file.server or registry, *(host.url for host in file.hosts)):
            host = _host(url)
            if host:
                found[host] = None
    return tuple(found)[:_NAMES_MAX]


def _host(url: str) -> str:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
        ip_address(host)
    except ValueError:
        return host if host != "localhost" else ""
    return ""


def resolve(names: Iterable[str]) -> dict[str, str | Unknown]:
    """An address for each name. Blocks for some seconds at most."""
    return gather({name: lambda name=name: _address(name) for name in names}, at_most_s=_AT_MOST_S)  # type: ignore[misc]


def _address(name: str) -> str:
    return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])


def resolved(found: Mapping[str, str | Unknown] | Unknown) -> tuple[Check, ...]:
    """Whether the names resolve."""
    if isinstance(found, Unknown):
        return (unknown(NAME, found.why),)
    if not found:
        return ()
    failed = [f"{name} ({each.why})" for name, each in found.items() if isinstance(each, Unknown)]
    if not failed:
        return (good(NAME, f"{listed(found)} resolve"),)
    return (
        warn(
            NAME,
            f"{len(failed)} of {len(found)} do not resolve: {listed(failed, 3, width=120)}",
            hint="see the node's /etc/resolv.conf: containerd can't ask these for what no peer has",
        ),
    )

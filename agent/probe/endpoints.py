"""The endpoints that containerd is configured to use: the mirrors in its hosts.toml files.

Only addresses with this node's HostPort or NodePort count, because the files also name the registry. Source:
containerd's docs/hosts.md.
"""

import ipaddress
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.config import Endpoint

_FILES_MAX = 200
_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMirrors:
    """What the hosts.toml files name. ``endpoints``: those with one of the agent's ports, in order.

    ``others``: all other addresses in words. ``files``: how many files were read.
    """

    endpoints: tuple[Endpoint, ...] = ()
    others: tuple[str, ...] = ()
    files: int = 0


def named_endpoints(hosts_dir: Path, ports: Collection[int]) -> tuple[Endpoint, ...]:
    """The endpoints with one of these ports in any ``REGISTRY/hosts.toml``, each once, in order."""
    return named_mirrors(hosts_dir, ports).endpoints


def named_mirrors(hosts_dir: Path, ports: Collection[int]) -> NamedMirrors:
    """What any ``REGISTRY/hosts.toml`` names. Files that are not TOML are skipped, as containerd does."""
    found: dict[Endpoint, None] = {}
    others: dict[str, None] = {}
    files = 0
    for path in sorted(hosts_dir.glob("*/hosts.toml"))[:_FILES_MAX]:
        try:
            if not path.is_file():  # reading a pipe would block for ever
                continue
            with path.open("rb") as file:
                hosts = tomllib.loads(file.read(_BYTES_MAX).decode()).get("host", {})
        except (OSError, ValueError, RecursionError):
            continue
        files += 1
        if isinstance(hosts, dict):
            for url in hosts:
                endpoint = _endpoint(url)
                if endpoint is not None and endpoint.port in ports:
                    found[endpoint] = None
                else:
                    others[str(url)] = None
    return NamedMirrors(endpoints=tuple(found), others=tuple(others), files=files)


def _endpoint(url: str) -> Endpoint | None:
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

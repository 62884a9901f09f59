"""The endpoints that containerd is configured to use: the mirrors in its hosts.toml files.

Only addresses with this node's HostPort or NodePort count, because the files also name the registry. Source:
containerd's docs/hosts.md.
"""

import ipaddress
import tomllib
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from agent.config import Endpoint

_FILES_MAX = 200
_BYTES_MAX = 1 << 20


def named_endpoints(hosts_dir: Path, ports: Collection[int]) -> tuple[Endpoint, ...]:
    """The endpoints with one of these ports in any ``REGISTRY/hosts.toml``, each once, in order.

    Empty if there is none. Files that are not TOML are skipped, as containerd does.
    """
    found: dict[Endpoint, None] = {}
    for path in sorted(hosts_dir.glob("*/hosts.toml"))[:_FILES_MAX]:
        try:
            if not path.is_file():  # reading a pipe would block for ever
                continue
            with path.open("rb") as file:
                hosts = tomllib.loads(file.read(_BYTES_MAX).decode()).get("host", {})
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(hosts, dict):
            for url in hosts:
                endpoint = _endpoint(url)
                if endpoint is not None and endpoint.port in ports:
                    found[endpoint] = None
    return tuple(found)


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

"""Which endpoints containerd was told to use: the mirrors in its hosts.toml files.

Source: containerd's docs/hosts.md. Only addresses of this node's HostPort and NodePort count; the
registry itself is named there too.
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
    """The endpoints with one of these ports that any ``REGISTRY/hosts.toml`` names, each once, in order.

    Empty if there is none. Files that are no TOML are passed over, as containerd does.
    """
    found: dict[Endpoint, None] = {}
    for path in sorted(hosts_dir.glob("*/hosts.toml"))[:_FILES_MAX]:
        try:
            if not path.is_file():  # a pipe would keep us for ever
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
        if host is None or port is None or "%" in host:  # a scope's name is nothing to connect to
            return None
        return Endpoint(host=str(ipaddress.ip_address(host)), port=port)
    except ValueError:
        return None

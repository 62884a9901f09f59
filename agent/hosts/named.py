"""The endpoints that containerd is configured to use: the mirrors in its hosts.toml files.

Only addresses with this node's HostPort or NodePort count, because the files also name the registry.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.config import Endpoint
from agent.files import read_regular
from agent.hosts.hostsfile import HostsFile, endpoint_of, read_hosts_file

_FILES_MAX = 200
_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMirrors:
    """What the hosts.toml files name. ``endpoints``: those with one of the agent's ports, in order.

    ``others``: all other addresses in words. ``files``: how many files were read. ``authorizations``: the
    header that containerd sends to an endpoint, if it sends one.
    """

    endpoints: tuple[Endpoint, ...] = ()
    others: tuple[str, ...] = ()
    files: int = 0
    authorizations: Mapping[Endpoint, str] = field(default_factory=dict, repr=False)


def named_endpoints(hosts_dir: Path, ports: Collection[int]) -> tuple[Endpoint, ...]:
    """The endpoints with one of these ports in any ``REGISTRY/hosts.toml``, each once, in order."""
    return named_mirrors(hosts_dir, ports).endpoints


def named_mirrors(hosts_dir: Path, ports: Collection[int]) -> NamedMirrors:
    """What any ``REGISTRY/hosts.toml`` names. Files that containerd ignores are skipped."""
    found: dict[Endpoint, None] = {}
    others: dict[str, None] = {}
    authorizations: dict[Endpoint, str] = {}
    files = 0
    for path in sorted(hosts_dir.glob("*/hosts.toml"))[:_FILES_MAX]:
        file = _read(path)
        if file.problem or path.parent.name.startswith(
            "."
        ):  # no registry: a directory that is just being made
            continue
        files += 1
        for host in file.hosts:
            endpoint = endpoint_of(host.url)
            if endpoint is not None and endpoint.port in ports:
                found[endpoint] = None
                if host.authorization:
                    authorizations[endpoint] = host.authorization
            else:
                others[host.url] = None
    return NamedMirrors(
        endpoints=tuple(found), others=tuple(others), files=files, authorizations=authorizations
    )


def _read(path: Path) -> HostsFile:
    try:
        return read_hosts_file(
            read_regular(path, most_bytes=_BYTES_MAX)
        )  # reading a pipe would block for ever
    except OSError as error:
        return HostsFile(problem=error.strerror or str(error))

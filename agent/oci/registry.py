"""The names of registries. One registry has one name here, however a client, a store or a person writes it.

The host in lower case and without its final dot, an IPv6 address in its short form, no port 443 (the default
of https), and one name for Docker Hub. Everything that compares registries compares these values: requests,
questions of peers, filters, the names in a store. Sources: distribution/reference, normalize.go (docker.io,
index.docker.io); containerd, docker/registry.go (it reads docker.io from registry-1.docker.io).
"""

import ipaddress
import re
from typing import NewType

from agent.oci.errors import NameInvalid

Registry = NewType("Registry", str)

DOCKER_HUB = Registry("docker.io")
DOCKER_HUB_NAMES = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
"""The names under which Docker Hub serves the pull API. All of them lead to the same images."""

OFFICIAL = "library/"
"""Before the name of an official image of Docker Hub. People leave it out."""

# host[:port]; the host may be an IPv6 literal in brackets.
_REGISTRY = re.compile(
    r"(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\.?|\[(?P<ipv6>[0-9a-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
_HTTPS_PORT = 443
_PORT_MAX = 65535


def parse_registry(text: str) -> Registry:
    """A `Registry` from ``host[:port]``. Raises `NameInvalid` if it is not one."""
    match = _REGISTRY.fullmatch(text)
    if match is None or ".." in text:
        raise _invalid(text, "ns= takes host or host:port")
    host = _ipv6(match["ipv6"], text) if match["ipv6"] else match["host"].lower().removesuffix(".")
    port = int(match["port"]) if match["port"] else _HTTPS_PORT
    if not 0 < port <= _PORT_MAX:
        raise _invalid(text, f"a port is a number from 1 to {_PORT_MAX}")
    if port != _HTTPS_PORT:
        return Registry(f"{host}:{port}")
    return DOCKER_HUB if host in DOCKER_HUB_NAMES else Registry(host)


def looks_like_registry(component: str) -> bool:
    """Whether the first component of an image's name is a registry, and not a part of the repository.

    It is one if it has a dot or a colon, or is ``localhost``. Source: distribution/reference, normalize.go.
    """
    return "." in component or ":" in component or component.lower() == "localhost"


def _ipv6(literal: str, text: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(literal)}]"
    except ValueError:
        raise _invalid(text, "there is no IPv6 address in the brackets") from None


def _invalid(text: str, hint: str) -> NameInvalid:
    return NameInvalid(f"ns={text[:120]!r} is not a registry", hint=hint)

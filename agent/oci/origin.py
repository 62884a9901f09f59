"""Where an image's content came from: the marks that containerd leaves on what it pulled.

A pull puts a label ``containerd.io/distribution.source.HOST = REPOSITORY[,REPOSITORY…]`` on every blob, also
when the blob was there already, and also when a mirror sent it: HOST is that of the image's name. An import,
a build and ``ctr images tag`` put none. The label has no port and no tag. So it can't tell two registries on
one host apart, nor two tags of one repository. Pure. Source: containerd, core/remotes/docker/handler.go;
measured with 1.6, 1.7 and 2.1 (docs/decisions/0023).
"""

from collections.abc import Mapping
from enum import Enum

from agent.oci.errors import NameInvalid
from agent.oci.reference import Named
from agent.oci.registry import Registry, parse_registry

MARK = "containerd.io/distribution.source."
"""The prefix of the labels, and of the same annotations in the index of an image layout."""


class Origin(Enum):
    """Where the content behind a name came from."""

    REGISTRY = "registry"  # from the name's own registry and repository
    ELSEWHERE = "elsewhere"  # from another registry or repository: somebody gave it this name afterwards
    IMPORTED = "imported"  # nothing says that it came from a registry: it was imported or built


def origin_of(name: Named, marks: Mapping[str, object]) -> Origin:
    """The origin of content with these labels, as far as ``name`` is concerned. Other labels do not count."""
    sources = {
        (_marked_host(label.removeprefix(MARK)), repository)
        for label, repositories in marks.items()
        if label.startswith(MARK)
        for repository in str(repositories).split(",")
    }
    if not sources:
        return Origin.IMPORTED
    assert name.registry is not None, "a name in a store has a registry"
    came_from_there = (_host(name.registry), name.repository) in sources
    return Origin.REGISTRY if came_from_there else Origin.ELSEWHERE


def _marked_host(host: str) -> str:
    """The host in a label, in the one form that registries have here."""
    try:
        return _host(parse_registry(f"[{host}]" if ":" in host else host))
    except NameInvalid:
        return host


def _host(registry: Registry) -> str:
    """The host without its port, and without the brackets of an IPv6 address: Go's ``URL.Hostname()``."""
    if registry.startswith("["):
        return registry[1:].partition("]")[0]
    return registry.partition(":")[0]

"""How often each zone fetched each blob and each manifest, as the registry's own log says. Pure."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.lab.registry import Answer


@dataclass(slots=True)
class Fetched:
    """What one zone fetched of one digest. ``nodes``: which nodes asked. ``body_bytes``: of all answers."""

    gets: int = 0
    nodes: set[str] = field(default_factory=set)
    body_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetches:
    """What all zones fetched: by zone and digest.

    A containerd that fetches in chunks asks many times, and one that goes on after a fetch that ended early
    asks twice: so the nodes that asked are counted too.
    """

    manifests: Mapping[tuple[str, str], Fetched]
    blobs: Mapping[tuple[str, str], Fetched]

    @property
    def manifest_gets_most(self) -> int:
        """How often a zone asked for the manifest that it asked for most often."""
        return max((each.gets for each in self.manifests.values()), default=0)

    @property
    def blob_gets_most(self) -> int:
        """The same of blobs: configs and layers."""
        return max((each.gets for each in self.blobs.values()), default=0)

    @property
    def blob_nodes_most(self) -> int:
        """How many nodes of one zone asked for the blob that most of them asked for."""
        return max((len(each.nodes) for each in self.blobs.values()), default=0)

    @property
    def gets(self) -> int:
        """All requests with a body as answer."""
        return sum(each.gets for each in (*self.manifests.values(), *self.blobs.values()))

    @property
    def body_bytes(self) -> int:
        """The bodies of all answers, as far as they were sent."""
        return sum(each.body_bytes for each in (*self.manifests.values(), *self.blobs.values()))


def count_fetches(
    answers: Iterable[Answer],
    *,
    nodes: Mapping[str, tuple[str, str]],
    digests: Container[str],
    tags: Mapping[str, str],
) -> Fetches:
    """Count how often digests were fetched. ``nodes``: name and zone by address. ``tags``: their digests.

    Only answers with a body count, and who is none of the nodes does not.
    """
    manifests: dict[tuple[str, str], Fetched] = {}
    blobs: dict[tuple[str, str], Fetched] = {}
    for answer in answers:
        if answer.method != "GET" or answer.status not in (200, 206) or answer.client not in nodes:
            continue
        path = answer.uri.partition("?")[0].split("/")
        if len(path) < 3 or path[-2] not in ("manifests", "blobs"):
            continue
        digest = tags.get(path[-1], path[-1])
        if digest not in digests:
            continue
        node, zone = nodes[answer.client]
        kind = manifests if path[-2] == "manifests" else blobs
        fetched = kind.setdefault((zone, digest), Fetched())
        fetched.gets += 1
        fetched.nodes.add(node)
        fetched.body_bytes += answer.body_bytes
    return Fetches(manifests=manifests, blobs=blobs)

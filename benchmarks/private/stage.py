"""The stage: two private registries, an open one, a node that holds the images and three that pull them.

One private registry asks for a password itself (Basic), the other one by tokens (Bearer), as Docker Hub and
GHCR do. The pulling nodes run containerd 1.6, 1.7 and 2.1. Every node's agent stands before every registry.
"""

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lab.accounts import ACCOUNTS, NEIGHBOUR, TENANT, Account
from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Cluster, Node, Place
from benchmarks.lab.containerd import PullFailed
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.process import LabError
from benchmarks.lab.registry import Registry

BASIC, BEARER = "basic.demo", "bearer.demo"
HOLDER = "h"
PULLERS = {"1.6": "c16", "1.7": "c17", "2.1": "c21"}
AUTHORIZE = [{"match": f"{name}/*", "by": "registry"} for name in (BASIC, BEARER)]
SOLO, MULTI = "acme/solo", "acme/multi"
"""Repositories: an image of one manifest, and an index of two."""

_WRONG = TENANT.with_password("guessed")
_PATIENT = {"patience_s": 1.0, "timeout_s": 2.0}
_AT_MOST_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """One private image. ``child``: the manifest of this platform, if ``top`` is an index."""

    registry: str
    repository: str
    image: Image
    top: str
    child: str | None
    config: str
    layers: tuple[str, ...]

    @property
    def layer(self) -> str:
        """Its first layer."""
        return self.layers[0]

    @property
    def name(self) -> str:
        """REGISTRY/REPOSITORY."""
        return f"{self.registry}/{self.repository}"

    def content(self, digest: str) -> bytes:
        """The bytes of one of its blobs."""
        return blob_path(self.image.layout, digest).read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One pull that must fail. ``way``: what it asks for. ``who``: with which credentials."""

    reference: str
    account: Account | None
    way: str
    who: str
    private: Private


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a pull ended. ``leaked``: digests of private content that came into the node's store by it."""

    error: str | None
    leaked: tuple[str, ...]


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout has a blob."""
    return layout / "blobs/sha256" / digest.partition(":")[2]


class Stage:
    """The cluster, its registries and its private images."""

    def __init__(self, cluster: Cluster, layer_bytes: int) -> None:
        self.cluster = cluster
        self.registries: dict[str, Registry] = {
            BASIC: cluster.add_registry(BASIC, ACCOUNTS),
            BEARER: cluster.add_registry(BEARER, ACCOUNTS, tokens=True),
        }
        self.images: list[Private] = []
        for number, (registry, repository) in enumerate(
            itertools.product(self.registries, (SOLO, MULTI)), start=1
        ):
            self.images.append(self._push(registry, repository, number, layer_bytes))
        self.holder = cluster.node(HOLDER)
        self.pullers = {version: cluster.node(name) for version, name in PULLERS.items()}

    def private(self, registry: str, repository: str) -> Private:
        """The image of this registry and repository."""
        return next(
            each for each in self.images if (each.registry, each.repository) == (registry, repository)
        )

    def fill(self, node: Node) -> None:
        """Let a node pull everything with the tenant's credentials, and wait until its agent serves it."""
        for private in self.images:
            pull(node, f"{private.name}:v1", TENANT)
        for private in self.images:
            path = f"/v2/{private.repository}/manifests/{private.top}?ns={private.registry}"
            wait_for(lambda path=path: node.get(path).status == 200, f"{path} at {node.name}")  # type: ignore[misc]

    def held(self, node: Node) -> tuple[str, ...]:
        """The digests of private content in a node's containerd."""
        blobs = store_of(node)
        digests = {digest for private in self.images for digest in private.image.blobs}
        return tuple(sorted(digest for digest in digests if (blobs / digest.partition(":")[2]).exists()))

    def try_to_pull(self, node: Node, attempt: Attempt) -> Outcome:
        """Make an attempt, and look for what came of it into the node's store."""
        before = set(self.held(node))
        try:
            pull(node, attempt.reference, attempt.account)
        except PullFailed as error:
            said: str | None = str(error)
        else:
            said = None
        return Outcome(error=said, leaked=tuple(sorted(set(self.held(node)) - before)))

    def remove(self, node: Node, private: Private) -> None:
        """Remove an image with all its names, and wait until none of its content is in the node's store."""
        assert node.containerd is not None
        node.containerd.remove(private.config)  # CRI's id of an image: it stands for all its names
        blobs = store_of(node)
        paths = [blobs / digest.partition(":")[2] for digest in private.image.blobs]
        wait_for(lambda: not any(path.exists() for path in paths), f"{private.name} gone from {node.name}")

    def clear(self, node: Node) -> None:
        """Remove every image, also those of failed pulls, of which CRI does not know."""
        assert node.containerd is not None
        names = node.containerd.ctr("images", "ls", "--quiet").split()
        if names:
            node.containerd.ctr("images", "rm", "--sync", *names)
        wait_for(lambda: not self.held(node), f"the private images gone from {node.name}")

    def _push(self, registry: str, repository: str, number: int, layer_bytes: int) -> Private:
        platforms = ("amd64", "arm64") if repository == MULTI else ()
        image = build_image(
            self.cluster.folder / f"private-{number}",
            layer_bytes=[layer_bytes] * 2,
            seed=7000 + number,
            platforms=platforms,
        )
        self.registries[registry].push(image, repository, "v1", TENANT)
        return describe(registry, repository, image)


def describe(registry: str, repository: str, image: Image) -> Private:
    """What an image consists of."""
    top = json.loads(blob_path(image.layout, image.manifest).read_bytes())
    child = top["manifests"][0]["digest"] if "manifests" in top else None
    manifest = top if child is None else json.loads(blob_path(image.layout, child).read_bytes())
    return Private(
        registry=registry,
        repository=repository,
        image=image,
        top=image.manifest,
        child=child,
        config=manifest["config"]["digest"],
        layers=tuple(each["digest"] for each in manifest["layers"]),
    )


def attempts(images: list[Private], seed: int) -> Iterator[Attempt]:
    """Every pull that must fail, in any order: each way to name each image, with each kind of credentials.

    After the last one it begins anew.
    """
    clients: dict[str, Account | None] = {"nobody": None, "a wrong password": _WRONG}
    every = []
    for private in images:
        known = clients | ({"another tenant": NEIGHBOUR} if private.registry == BEARER else {})
        for (way, reference), (who, account) in itertools.product(ways(private).items(), known.items()):
            every.append(Attempt(reference=reference, account=account, way=way, who=who, private=private))
    random.Random(seed).shuffle(every)
    yield from itertools.cycle(every)


def ways(private: Private) -> Mapping[str, str]:
    """The references by which somebody may try to get an image: by its own names, and by others'."""
    name, mirror = private.name, f"127.0.0.1:{LOCAL_PORT}/{private.repository}"
    own = {
        "tag": f"{name}:v1",
        "digest": f"{name}@{private.top}",
        "tag and digest": f"{name}:v1@{private.top}",
        "config's digest": f"{name}@{private.config}",
        "layer's digest": f"{name}@{private.layer}",
    }
    borrowed = {
        "digest, an open registry's name": f"{REGISTRY}/any/thing@{private.top}",
        "layer's digest, an open registry's name": f"{REGISTRY}/any/thing@{private.layer}",
        "tag, the mirror as the registry": f"{mirror}:v1",
        "digest, the mirror as the registry": f"{mirror}@{private.top}",
    }
    of_child = {} if private.child is None else {"digest of one platform": f"{name}@{private.child}"}
    return own | of_child | borrowed


def store_of(node: Node) -> Path:
    """The directory of a node's blobs."""
    assert node.containerd is not None
    return node.containerd.blobs


def pull(node: Node, reference: str, account: Account | None) -> None:
    """Pull over CRI. Raises `PullFailed`."""
    assert node.containerd is not None
    node.containerd.pull(reference, account)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises `LabError` if it takes far too long."""
    until_s = time.monotonic() + _AT_MOST_S
    while not condition():
        if time.monotonic() > until_s:
            raise LabError(f"not within {_AT_MOST_S:g} s: {what}")
        time.sleep(0.005)


@contextmanager
def stage(
    *, layer_bytes: int = 256 << 10, authorize: bool = True, settings: Mapping[str, Any] | None = None
) -> Iterator[Stage]:
    """The stage with everything started. ``authorize``: whether the registries decide, or the mirror."""
    places = [Place(name=name, region="r", zone="z") for name in (*PULLERS.values(), HOLDER)]
    chosen: dict[str, Any] = {"lookup": _PATIENT, **(settings or {})}
    if authorize:
        chosen["registries"] = {"authorize": AUTHORIZE}
    with Cluster(places, versions=(*PULLERS, "2.1"), settings=chosen) as cluster:
        made = Stage(cluster, layer_bytes)
        cluster.start_agents()
        yield made

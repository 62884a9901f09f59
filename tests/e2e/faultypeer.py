"""Faulty peers in a namespace of their own: an image's manifest and config right, its layers with a fault.

A peer that fails at the first small thing is not asked for the big one, which is what most faults are
about. What the faults are is tests/server/faults.py's.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.lab.cluster import Cluster
from benchmarks.lab.image import Image
from benchmarks.lab.network import inside
from benchmarks.lab.process import run
from tests.server.agents import PEER
from tests.server.faults import Fault, Holder, digest_in
from tests.server.impostor import Asked, Impostor

LAYER_LEAST_BYTES = 1 << 20
"""A blob as large as this is taken for a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What the requests for a blob meet: some in order, and another (or none) from then on."""

    first: tuple[Fault, ...] = ()
    afterwards: Fault | None = None


RIGHT = Faults()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyPeer:
    """One faulty peer, as members know it."""

    name: str
    address: str
    port: int
    impostor: Impostor

    def asked_for(self, digest: str) -> list[Asked]:
        """The requests for a blob that it received, HEADs left out."""
        return [
            asked for asked in self.impostor.fetches if asked.method == "GET" and digest_in(asked) == digest
        ]


class FaultyPeers:
    """The namespace where faulty peers stand, one after another. Each has a name and an address of its
    own, so that nothing that was learned of one is held against the next.
    """

    def __init__(self, cluster: Cluster) -> None:
        assert cluster.network is not None
        self._netns = cluster.network.add_host("faulty", "10.9.200.254")
        self._numbers = itertools.count(1)

    @contextmanager
    def standing(
        self, image: Image, *, layers: Faults = RIGHT, small: Faults = RIGHT
    ) -> Iterator[FaultyPeer]:
        """A peer that has this image, until the context is left."""
        number = next(self._numbers)
        address = f"10.9.200.{number}"
        run(["ip", "-n", self._netns, "addr", "add", f"{address}/16", "dev", "eth0"])
        holder = Holder()
        for digest, size in image.blobs.items():
            content = (image.layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
            faults = layers if size >= LAYER_LEAST_BYTES else small
            holder.put(content, faults=faults.first, afterwards=faults.afterwards)
        impostor = inside(self._netns, lambda: Impostor(address, holder.serve, questioned=holder.claim))
        with impostor:
            yield FaultyPeer(name=f"faulty-{number}", address=address, port=PEER, impostor=impostor)

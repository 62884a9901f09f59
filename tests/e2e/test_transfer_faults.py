"""Real containerds pull while the nearest peer, which claims to hold everything, fails in some way.

Each row is pulled at once by containerd 1.6, by 2.1, and by 2.1 in parallel chunks. The faulty peer is
in the asking nodes' own zone, an honest holder (in half of the rows) in another one, so that the faulty
one is always asked first. With an honest holder the registry must not be asked for any blob; without
one, it is the registry that serves.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

from benchmarks.lab.cluster import REGISTRY, Cluster, Node, Place
from benchmarks.lab.image import Image, build_image
from tests.e2e.asking import (
    Pulled,
    await_introduction,
    complaints,
    fetched_from_registry,
    fill,
    ingested_bytes,
    introduce,
    is_whole,
    layer_of,
    records,
    try_pull,
    waits_of,
)
from tests.e2e.faultypeer import RIGHT, Faults, FaultyPeer, FaultyPeers
from tests.server.agents import PATIENT, wait_for
from tests.server.faults import Fault, Kind

pytestmark = pytest.mark.e2e

_LAYER_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_BOUND_S = 60.0
"""No pull takes longer. What the agent may wait is far less (the settings below, and `_WAITS_MOST`); a busy
machine is not what is tested. containerd alone would wait for minutes."""

_WAITS_MOST = 2
"""For how many stalls the agent waits in one pull of a layer that containerd does not fetch in chunks."""

_PULL = {"connect_s": 2.0, "stall_s": 1.0, "deadline_s": 4.0}
_PLACES = [
    Place(name="old", region="r", zone="a"),
    Place(name="new", region="r", zone="a"),
    Place(name="chunks", region="r", zone="a"),
    Place(name="honest", region="r", zone="b"),
]
_VERSIONS = ("1.6", "2.1", "2.1", "1.6")
_ASKING = ("old", "new", "chunks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Three nodes that ask, one that holds honestly, and room for faulty ones."""

    cluster: Cluster
    faulty: FaultyPeers
    numbers: "count[int]"

    @property
    def asking(self) -> list[Node]:
        """The nodes that ask."""
        return [self.cluster.node(name) for name in _ASKING]

    @property
    def honest(self) -> Node:
        """The node that serves right."""
        return self.cluster.node("honest")

    def image(self) -> tuple[Image, str]:
        """An image that nobody has yet, and its reference."""
        number = next(self.numbers)
        image = build_image(
            self.cluster.folder / f"image-{number}",
            layer_bytes=[_LAYER_BYTES],
            seed=number,
            compression=("none",),
        )
        return image, self.cluster.registry.push(image, f"faults/app{number}", "v1")

    @contextmanager
    def row(self, *, layers: Faults = RIGHT, small: Faults = RIGHT, other_holder: bool) -> Iterator["Row"]:
        """A new image, a faulty peer that has it, and perhaps an honest one; all asking nodes know both."""
        image, reference = self.image()
        with ExitStack() as stack:
            if other_holder:
                fill(self.honest, reference, image)
            peer = stack.enter_context(self.faulty.standing(image, layers=layers, small=small))
            for node in self.asking:
                introduce(node, [self.honest], [peer])
            for node in self.asking:
                await_introduction(node, [self.honest.name, peer.name])
            yield Row(scene=self, image=image, reference=reference, peer=peer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault, ready to be met."""

    scene: Scene
    image: Image
    reference: str
    peer: FaultyPeer

    @property
    def layer(self) -> str:
        """The layer's digest."""
        return layer_of(self.image)[0]

    def pull_everywhere(self) -> dict[str, Pulled]:
        """What came of the pull at each asking node, by the node's name."""
        with ThreadPoolExecutor(len(_ASKING)) as pool:
            pulled = pool.map(lambda node: try_pull(node, self.reference), self.scene.asking)
            return dict(zip(_ASKING, pulled, strict=True))

    def settled(self, name: str) -> Node:
        """The node, once its containerd dropped what failed: a pull before that fails of the same bytes."""
        node = self.scene.cluster.node(name)
        wait_for(lambda: ingested_bytes(node) == 0, "what failed is dropped")
        return node

    def from_registry(self, node: Node) -> list[tuple[str, int]]:
        """The blobs that a node had of the registry."""
        return fetched_from_registry(self.scene.cluster, node, self.reference)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """The nodes of this module, with shorter patience than the defaults, so that silence costs less."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(_PLACES, versions=_VERSIONS, settings=PATIENT) as cluster:
        chunks = cluster.node("chunks").containerd
        assert chunks is not None
        chunks.fetch_in_chunks(_CHUNK_BYTES, at_once=3)
        holder = cluster.node("honest")
        for node in cluster.nodes.values():
            introduce(node, [] if node is holder else [holder])
        cluster.start_agents(pull=_PULL)
        made = Scene(cluster=cluster, faulty=FaultyPeers(cluster), numbers=count(1))
        image, reference = made.image()
        for node in (made.honest, *made.asking):
            fill(node, reference, image)  # each agent has seen its containerd commit something
        yield made


_MIDDLE = _LAYER_BYTES // 2
_BROKEN_OFF = (Fault(kind=Kind.CLOSES, at=_MIDDLE),) * len(_ASKING)
"""What makes an agent ask for a part: as often as there are nodes that ask."""

_FAULTS: dict[str, Faults] = {
    **{
        str(fault): Faults(afterwards=fault)
        for fault in (
            Fault(kind=Kind.HANGS_UP),
            Fault(kind=Kind.IS_SILENT),
            Fault(kind=Kind.MISSING),
            Fault(kind=Kind.BUSY),
            Fault(kind=Kind.ERROR),
            Fault(kind=Kind.SHORTER),
            Fault(kind=Kind.LONGER),
            Fault(kind=Kind.STALLS),
            Fault(kind=Kind.STALLS, at=_MIDDLE),
            Fault(kind=Kind.TRICKLES, at=_MIDDLE),
            Fault(kind=Kind.VANISHES),
            Fault(kind=Kind.VANISHES, at=_CHUNK_BYTES),
            *(Fault(kind=kind, at=at) for kind in (Kind.CLOSES, Kind.RESETS) for at in (1, _MIDDLE, -1)),
        )
    },
    **{
        f"closes, then {kind.value}": Faults(first=_BROKEN_OFF, afterwards=Fault(kind=kind))
        for kind in (Kind.WHOLE, Kind.SHIFTED)
    },
}


@pytest.mark.parametrize("faults", _FAULTS.values(), ids=_FAULTS.keys())
def test_another_holder_serves_what_a_faulty_peer_does_not_and_the_registry_is_left_alone(
    scene: Scene, faults: Faults
) -> None:
    waits = {node.name: waits_of(node) for node in scene.asking}
    with scene.row(layers=faults, other_holder=True) as row:
        for name, pulled in row.pull_everywhere().items():
            node = scene.cluster.node(name)
            assert not pulled.error, f"{name}: {pulled.error}"
            assert pulled.seconds < _BOUND_S, name
            assert name == "chunks" or waits_of(node) - waits[name] <= _WAITS_MOST, name
            assert row.from_registry(node) == [], name
            assert is_whole(node, row.layer), name
        assert row.peer.asked_for(row.layer), "the faulty peer was not even asked"


@pytest.mark.parametrize("faults", _FAULTS.values(), ids=_FAULTS.keys())
def test_registry_serves_what_the_only_holder_does_not(scene: Scene, faults: Faults) -> None:
    waits = {node.name: waits_of(node) for node in scene.asking}
    with scene.row(layers=faults, other_holder=False) as row:
        for name, pulled in row.pull_everywhere().items():
            node = scene.cluster.node(name)
            assert name == "chunks" or waits_of(node) - waits[name] <= _WAITS_MOST, name
            assert not pulled.error, f"{name}: {pulled.error}"
            assert pulled.seconds < _BOUND_S, name
            assert is_whole(node, row.layer), name
            if _begins_right(faults):
                waits_s = [
                    record["seconds"] for record in records(node, row.layer) if record["status"] == 404
                ]
                assert len(waits_s) <= 1, "one cut, and then the registry"
                assert all(wait_s < _PULL["deadline_s"] for wait_s in waits_s), "it waited for nobody"
        assert row.peer.asked_for(row.layer), "the faulty peer was not even asked"


def _begins_right(faults: Faults) -> bool:
    """Whether the first bytes come, so that the agent can't know of the fault before it answers."""
    broken = {Kind.CLOSES, Kind.RESETS, Kind.STALLS, Kind.TRICKLES, Kind.VANISHES}
    return any(
        fault.kind in broken and fault.at for fault in (*faults.first, faults.afterwards) if fault is not None
    )


_WRONG = Faults(afterwards=Fault(kind=Kind.GARBLES, at=100))


@pytest.mark.parametrize("other_holder", [True, False], ids=["another holder", "nobody else"])
def test_wrong_manifest_and_config_reach_no_containerd(scene: Scene, other_holder: bool) -> None:
    with scene.row(small=_WRONG, other_holder=other_holder) as row:
        for name, pulled in row.pull_everywhere().items():
            assert not pulled.error, f"{name}: {pulled.error}"
            assert is_whole(scene.cluster.node(name), row.layer), name


@pytest.mark.parametrize("other_holder", [True, False], ids=["another holder", "nobody else"])
def test_peer_whose_wrong_layer_failed_at_the_commit_is_not_asked_for_it_again(
    scene: Scene, other_holder: bool
) -> None:
    before = {node.name: node.metric("shorthaul_suspect_sources_total") for node in scene.asking}
    proved = {node.name: _checked(node, "wrong") for node in scene.asking}
    tries = 0
    with scene.row(layers=_WRONG, other_holder=other_holder) as row:
        for name, pulled in row.pull_everywhere().items():
            assert pulled.error, f"{name} took wrong bytes"
        # Chunks may be left before their end by one that gave the pull up: then they count the second time.
        try_pull(row.settled("chunks"), row.reference)
        asked = len(row.peer.asked_for(row.layer))
        for name in _ASKING:
            node = row.settled(name)
            failed = _checked(node, "failed")
            pulled = try_pull(node, row.reference)
            while pulled.error and _checked(node, "failed") > failed:
                # A check that is late on a busy machine proves nothing. Then the only source is asked again.
                failed, tries = _checked(node, "failed"), tries + 1
                assert tries <= 5, f"{name}: {pulled.error}"
                pulled = try_pull(row.settled(name), row.reference)
            assert not pulled.error, f"{name}: {pulled.error}"
            assert is_whole(node, row.layer), name
            assert bool(row.from_registry(node)) is not other_holder, name
            assert node.metric("shorthaul_suspect_sources_total") == before[name] + 1, name
            wait_for(lambda node=node: _checked(node, "wrong") > proved[node.name], "it is checked")  # type: ignore[misc]
        most = asked + len(_ASKING) + 2 * tries
        assert len(row.peer.asked_for(row.layer)) <= most, "one check each, and nothing else"


def _checked(node: Node, result: str) -> float:
    return node.metric("shorthaul_suspect_checks_total", result=result)


def test_chunks_really_arrive_as_ranges_without_an_end(scene: Scene) -> None:
    image, reference = scene.image()
    node = scene.cluster.node("chunks")
    assert node.containerd is not None
    endpoint = scene.cluster.registry.endpoint
    with scene.faulty.standing(image) as peer:
        try:
            node.containerd.use_mirrors(REGISTRY, endpoint, [f"{peer.address}:{peer.port}"])
            node.pull(reference)
        finally:
            node.containerd.use_mirrors(REGISTRY, endpoint, [f"127.0.0.1:{node.peer_port}"])
        layer, size = layer_of(image)
        starts = range(0, size, _CHUNK_BYTES)
        wait_for(lambda: len(peer.asked_for(layer)) == len(starts), "one request for each chunk")
        ranges = {asked.headers["Range"] for asked in peer.asked_for(layer)}
        assert ranges == {f"bytes={start}-" for start in starts}


def test_no_agent_took_any_of_this_for_an_error_of_its_own(scene: Scene) -> None:
    for node in scene.cluster.nodes.values():
        assert complaints(node) == [], node.name

"""How long the first byte and a whole blob take, by where the blob is, at fixed rates.

It needs root, for namespaces with delays between them: an agent, one that has the blobs in its zone (a round
trip of 0.3 ms), one in another zone (1 ms), and a registry as far as that. Requests are due at times that are
fixed in advance, and latencies count from these (no coordinated omission). Cases take turns in rounds.
"""

import argparse
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from benchmarks.arguments import listed, make_parser
from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Cluster, Node, Place
from benchmarks.lab.image import build_image
from benchmarks.lab.network import inside
from benchmarks.latency.cases import Case, Load, Tally, measure_rounds, tell
from benchmarks.latency.openloop import Ask, Server
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import BenchmarkFailed, run

_PLACES = (
    Place(name="a1", region="r", zone="a"),
    Place(name="a2", region="r", zone="a"),
    Place(name="b1", region="r", zone="b"),
)
_ZONE_US, _REGION_US = 300.0, 1000.0
_SMALL_BYTES, _LARGE_BYTES = 64 * 1024, 16 << 20
_SMALL, _LARGE = 400, 8
_SETTLED_S = 4.0
_SEEN_S = 30.0


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.latency", __doc__, quick="one rate, short repeats: two minutes")
    parser.add_argument("--rates", type=listed(float), default="20,100,400", help="a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each repeat (%(default)s)")
    parser.add_argument("--repeats", type=int, default=8, help="of each case (%(default)s)")
    return run(parser, _measure, root_for="network namespaces with delays")


def _measure(recorder: Recorder, arguments: argparse.Namespace) -> None:
    if arguments.quick:
        arguments.rates, arguments.seconds, arguments.repeats = [100.0], 1.6, 5
    recorder.step("starting agents")
    with Cluster(_PLACES, delays=True, containerd=False, settings=_QUIET) as cluster:
        scene = _Scene(cluster)
        tally = Tally()
        recorder.begin(
            "latency: first byte",
            question="How long until the first byte of a 64 KiB blob, by where the blob is?",
            method="Requests are due at fixed times and count from these, also if earlier answers are late. "
            "Every blob is asked for anew; the zone is 0.3 ms away, the other zone and the registry 1 ms.",
        )
        for rate in arguments.rates:
            for warm in (True, False):
                load = Load(rate_per_s=rate, seconds=arguments.seconds, repeats=arguments.repeats)
                measure_rounds(
                    recorder, scene.small(), load, tally, warm=warm, whole=False, baseline="registry, direct"
                )
        recorder.begin(
            "latency: whole blob",
            question="How long until the last byte of a 16 MiB blob, by where it is?",
            method="As above, five a second, each on an open connection.",
        )
        load = Load(rate_per_s=5.0, seconds=arguments.seconds, repeats=arguments.repeats)
        measure_rounds(
            recorder, scene.large(), load, tally, warm=True, whole=True, baseline="registry, direct"
        )
        tell(recorder, tally)
        if not scene.alive:
            raise BenchmarkFailed("an agent died during the benchmark", "run it again")


_QUIET = {"scrub": {"bytes_per_s": 0}}


class _Scene:
    """Agents, a registry, and blobs in different places."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        cluster.spread_zones(inside_us=_ZONE_US, zones_us=_REGION_US, regions_us=_REGION_US)
        for place in _PLACES:
            cluster.delays.set_delay(place.name, "registry", _REGION_US)
        cluster.start_agents()
        self._asker = cluster.node("a1")
        self._blobs = {
            (name, size): [*_put(cluster.node(name), size, number)]
            for size, number in ((_SMALL_BYTES, _SMALL), (_LARGE_BYTES, _LARGE))
            for name in ("a1", "a2", "b1")
        }
        self._registry = {size: [*_push(cluster, size)] for size in (_SMALL_BYTES, _LARGE_BYTES)}
        self._wait_until_seen()

    @property
    def alive(self) -> bool:
        """Whether all agents still run."""
        return all(node.runs_agent for node in self._cluster.nodes.values())

    def small(self) -> list[Case]:
        """The cases of small blobs, and of what nobody has."""
        nobody = [_ask(f"sha256:{secrets.token_hex(32)}", status=404) for _ in range(2000)]
        return [
            *self._cases(_SMALL_BYTES),
            Case(name="nobody has it: 404", server=self._agent(), asks=nobody),
        ]

    def large(self) -> list[Case]:
        """The cases of large blobs."""
        return self._cases(_LARGE_BYTES)

    def _cases(self, size: int) -> list[Case]:
        names = {"a1": "this node", "a2": "same zone", "b1": "other zone"}
        cases = [
            Case(name=words, server=self._agent(), asks=[_ask(each) for each in self._blobs[name, size]])
            for name, words in names.items()
        ]
        host, _, port = self._cluster.registry.endpoint.rpartition(":")
        direct = Server(host=host, port=int(port), make_socket=self._make_socket)
        asks = [Ask(target=f"/v2/bench/latency-{size}/blobs/{each}") for each in self._registry[size]]
        return [*cases, Case(name="registry, direct", server=direct, asks=asks)]

    def _agent(self) -> Server:
        return Server(host="127.0.0.1", port=LOCAL_PORT, make_socket=self._make_socket)

    def _make_socket(self) -> socket.socket:
        return inside(self._asker.netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))

    def _wait_until_seen(self) -> None:
        """Wait until the asked agent gets the last blob of each node: all stores are read then."""
        ended_s = time.monotonic() + _SEEN_S
        for digests in self._blobs.values():
            while self._asker.get(_ask(digests[-1]).target).status != 200:
                if time.monotonic() > ended_s:
                    raise BenchmarkFailed("an agent does not find the blobs of its peers", "run it again")
                time.sleep(0.2)
        time.sleep(_SETTLED_S)  # until round trips are measured


def _ask(digest: str, status: int = 200) -> Ask:
    return Ask(target=f"/v2/bench/latency/blobs/{digest}?ns={REGISTRY}", status=status)


def _put(node: Node, size: int, number: int) -> Iterator[str]:
    """Put blobs into a node's layout by rename, as a store's commit does."""
    folder = node.layout / "blobs/sha256"
    for _ in range(number):
        content = os.urandom(size)
        name = sha256(content).hexdigest()
        (folder / f".{name}").write_bytes(content)
        (folder / f".{name}").rename(folder / name)
        yield f"sha256:{name}"


def _push(cluster: Cluster, size: int) -> Sequence[str]:
    """Push an image with layers of this size. Returns the digests of those."""
    folder = Path(cluster.folder) / f"image-{size}"
    image = build_image(folder, layer_bytes=[size] * 8, seed=size, compression=("none",))
    cluster.registry.push(image, f"bench/latency-{size}", "v1")
    return [digest for digest, length in image.blobs.items() if abs(length - size) < size // 4]


if __name__ == "__main__":
    sys.exit(main())

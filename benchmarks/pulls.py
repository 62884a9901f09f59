"""Pulls on real containerds: first bytes, bytes across zones, local reads, a killed holder.

The cluster has six nodes in three zones, containerd 2.1 and a 1 GiB image. First bytes are measured on one
keep-alive connection from inside the node's namespace, in alternation with a docker-registry that serves the
same blobs, so that noise affects both.
"""

import argparse
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

import psutil

from benchmarks.arguments import make_parser
from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Cluster, Node, places
from benchmarks.lab.image import Image, build_image
from benchmarks.lab.network import inside
from benchmarks.reporting.format import Better
from benchmarks.reporting.histogram import new_histogram, record
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import BenchmarkFailed, run

_MIB = 1 << 20
_GIB = 1 << 30
_ZONES = {"r1": ["a", "b"], "r2": ["c"]}
_ROUNDS = 240
_LAYERS = 60  # of one image: overlayfs has fewer than 128
_BLOCK = 20
_PARTS = 4  # the rounds, cut into repeats
_BLOB_BYTES = 64 * 1024
_STREAM_ROUNDS = 4


class Client:
    """One keep-alive connection, opened inside a node's namespace."""

    def __init__(self, netns: str | None, host: str, port: int) -> None:
        self._where = (netns, host, port)
        self._socket = self._connect()
        self._buffer = bytearray(4 * _MIB)

    def _connect(self) -> socket.socket:
        netns, host, port = self._where
        return inside(netns, lambda: socket.create_connection((host, port), timeout=60))

    def get(self, path: str) -> tuple[int, float, int]:
        """(status, seconds to the first byte, body bytes) of one GET."""
        first_s, head, body = self._ask(path)
        if not head:  # idle for so long that the other end closed it
            self.close()
            self._socket = self._connect()
            first_s, head, body = self._ask(path)
        status, *lines = head.split(b"\r\n")
        lengths = [line.split(b":")[1] for line in lines if line.lower().startswith(b"content-length:")]
        if not lengths:
            raise BenchmarkFailed(f"{self._where[1]} answered {head[:80]!r} to {path}")
        length = int(lengths[0])
        left = length - len(body)
        while left > 0:
            received = self._socket.recv_into(self._buffer, min(left, len(self._buffer)))
            if not received:
                raise BenchmarkFailed(f"{self._where[1]} broke off its answer to {path}")
            left -= received
        return int(status.split()[1]), first_s, length

    def _ask(self, path: str) -> tuple[float, bytes, bytes]:
        """Seconds to the first byte, the head, and what came of the body. No head: it is closed."""
        started_s = time.perf_counter()
        try:
            self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = self._socket.recv(65536)
            first_s = time.perf_counter() - started_s
            while received and b"\r\n\r\n" not in received:
                received += self._socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return 0.0, b"", b""
        head, _, body = received.partition(b"\r\n\r\n")
        return first_s, head, body

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Bench:
    """Runs the measurements one after the other. The notes are of a present Go mirror on another machine."""

    def __init__(self, cluster: Cluster, report: Recorder, image_bytes: int) -> None:
        self._cluster = cluster
        self._report = report
        self._image_bytes = image_bytes

    def run(self) -> None:
        """Run all measurements."""
        cluster = self._cluster
        cluster.start_agents()
        time.sleep(2)
        rss = [_rss_mib(node) for node in cluster.nodes.values()]
        self._report.single("RSS of an idle agent (most of 6)", "MiB", max(rss), note=_noted("37"))
        small = self._push("bench/small", [_BLOB_BYTES] * 4)
        self._pull("a1", "bench/small")
        self._first_bytes(small)
        big = self._push("bench/big", [self._image_bytes // 8] * 8)
        self._node_after_node(big)
        self._local_read(big)
        self._holder_killed()
        rss = [_rss_mib(node) for node in cluster.nodes.values() if node.agent.running]
        self._report.single("RSS after all of this (most of 6)", "MiB", max(rss))

    def _first_bytes(self, image: Image) -> None:
        """First bytes on a1. Only b1 has the blobs that "one peer has"."""
        held = [
            digest
            for number in range(_ROUNDS // _LAYERS)
            for digest in self._held(f"bench/held-{number}", ["b1"], _LAYERS, seed=100 + number)
        ]
        node = self._cluster.node("a1")
        agent = Client(node.netns, "127.0.0.1", LOCAL_PORT)
        host, _, port = self._cluster.registry.endpoint.rpartition(":")
        registry = Client(node.netns, host, int(port))
        layer = min(image.blobs, key=lambda digest: abs(image.blobs[digest] - _BLOB_BYTES))
        name = "/v2/bench/small"
        paths: dict[str, Callable[[int], tuple[str, int]]] = {
            "local manifest": lambda _: (f"{name}/manifests/{image.manifest}", 200),
            "local blob, 64 KiB": lambda _: (f"{name}/blobs/{layer}", 200),
            "blob that one peer has": lambda number: (f"{name}/blobs/{held[number]}", 200),
            "404, nobody has it": lambda _: (f"{name}/blobs/sha256:{secrets.token_hex(32)}", 404),
        }
        theirs = {
            "local manifest": "0.93 / 3.05",
            "local blob, 64 KiB": "1.02 / 1.67",
            "blob that one peer has": "2.65 / 4.08",
            "404, nobody has it": "2.79 / 6.59",
        }
        failed: Counter[str] = Counter()
        for part in range(_PARTS):
            self._report.step(f"first bytes, {part + 1} of {_PARTS}")
            times = {what: new_histogram() for what in paths}
            beside = {what: new_histogram() for what in paths if not what.startswith("blob")}
            for block in range(part * _ROUNDS // _PARTS, (part + 1) * _ROUNDS // _PARTS, _BLOCK):
                for what, path in paths.items():
                    targets = [path(number) for number in range(block, block + _BLOCK)]
                    for target, expected in targets:
                        status, first_s, _ = agent.get(f"{target}?ns={REGISTRY}")
                        if status == expected:
                            record(times[what], first_s)
                        else:
                            failed[f"{what}: status {status} in place of {expected}"] += 1
                    for target, _ in targets if what in beside else ():
                        record(beside[what], registry.get(target)[1])
            for what, ours in times.items():
                note = _noted(f"{theirs[what]} ms p50 / p99")
                title = f"first byte of a {what}"
                self._report.latencies(title, [ours], way="shorthaul", baseline="docker-registry", note=note)
                if what in beside:
                    self._report.latencies(title, [beside[what]], way="docker-registry", note=note)
        for words, number in failed.items():
            self._report.problem(f"first byte of a {words}, {number} times")
        agent.close()
        registry.close()

    def _held(self, repository: str, names: Sequence[str], layers: int, *, seed: int) -> list[str]:
        """Blobs that these nodes have, as layers of an image that they pulled: nothing else is given."""
        folder = self._cluster.folder / repository.replace("/", "-")
        sizes = [_BLOB_BYTES] * layers
        image = build_image(folder, layer_bytes=sizes, seed=seed, compression=("none",))
        self._cluster.registry.push(image, repository, "v1")
        for name in names:
            self._pull(name, repository)
        return sorted(image.blobs, key=lambda digest: -image.blobs[digest])[:layers]

    def _node_after_node(self, image: Image) -> None:
        """Every node pulls in turn. Then the agents' logs say where the bytes came from."""
        slowest_s = 0.0
        order = ["a1", "b1", "c1", "a2", "b2", "c2"]
        for name in order:
            started_s = time.monotonic()
            self._pull(name, "bench/big")
            slowest_s = max(slowest_s, time.monotonic() - started_s)
        nodes = [self._cluster.node(name) for name in order]
        by_tier = {
            tier: sum(self._delivered(node, tier, "bench/big") for node in nodes)
            for tier in ("zone", "region", "remote")
        }
        late = sum(self._delivered(self._cluster.node(name), "zone", "bench/big") for name in order[3:])
        late_all = sum(
            self._delivered(self._cluster.node(name), tier, "bench/big")
            for name in order[3:]
            for tier in by_tier
        )
        across_mib = (by_tier["region"] + by_tier["remote"]) / _MIB
        bound_mib = 2 * image.size_bytes / _MIB
        registry_mib = sum(
            size for *_, uri, size in self._cluster.registry.served() if "bench/big/blobs" in uri
        )
        what = f"node after node, {self._image_bytes // _MIB} MiB"
        self._report.single(
            "share of peer bytes that stay in the zone, if every zone has a holder",
            "%",
            100 * late / late_all,
            better=Better.HIGHER,
            note=_noted("28 %"),
        )
        self._report.single(f"{what}: across zones", "MiB", across_mib, bound_mib, note=_noted("3,850 MiB"))
        self._report.single(f"{what}: from the registry", "MiB", registry_mib / _MIB)
        self._report.single(f"{what}: slowest pull", "s", slowest_s)

    def _local_read(self, image: Image) -> None:
        node = self._cluster.node("a1")
        layer = max(image.blobs, key=lambda digest: image.blobs[digest])
        path = f"/v2/bench/big/blobs/{layer}"
        host, _, port = self._cluster.registry.endpoint.rpartition(":")
        rates: dict[str, list[float]] = {"agent": [], "registry": []}
        cpu_s, moved = 0.0, 0
        process = psutil.Process(node.agent.pid)
        for _ in range(_STREAM_ROUNDS):
            agent = Client(node.netns, "127.0.0.1", LOCAL_PORT)
            registry = Client(node.netns, host, int(port))
            before, started_s = _cpu_s(process), time.perf_counter()
            for _ in range(8):
                moved += agent.get(f"{path}?ns={REGISTRY}")[2]
            rates["agent"].append(8 * image.blobs[layer] / (time.perf_counter() - started_s) / 1e9)
            cpu_s += _cpu_s(process) - before
            started_s = time.perf_counter()
            for _ in range(8):
                registry.get(path)
            rates["registry"].append(8 * image.blobs[layer] / (time.perf_counter() - started_s) / 1e9)
            agent.close()
            registry.close()
        self._report.ways(
            "local read",
            "GB/s",
            {"shorthaul": rates["agent"], "docker-registry": rates["registry"]},
            baseline="docker-registry",
            note=_noted("1.4 to 1.9 GB/s"),
        )
        self._report.single(
            "local read: the agent", "CPU-s/GiB", cpu_s / (moved / _GIB), note=_noted("0.59 CPU-s/GiB")
        )

    def _holder_killed(self) -> None:
        """Two peers have ten blobs. The nearer peer is killed. Then each blob is requested once."""
        near, client_node = self._cluster.node("a2"), self._cluster.node("a1")
        digests = self._held("bench/two-holders", ["a2", "b1"], 10, seed=200)
        client = Client(client_node.netns, "127.0.0.1", LOCAL_PORT)
        client.get(f"/v2/bench/small/blobs/{digests[0]}?ns={REGISTRY}")  # now it knows the near holder
        near.agent.kill()
        replies = [client.get(f"/v2/bench/small/blobs/{digest}?ns={REGISTRY}") for digest in digests]
        client.close()
        missed = sum(status == 404 for status, *_ in replies)
        what = "404s in 10 requests after one of two holders is killed"
        self._report.single(what, "", missed, 0, note=_noted("9"))
        slowest_ms = max(first_s for _, first_s, _ in replies) * 1e3
        self._report.single("the same: slowest of the 10", "ms", slowest_ms)

    def _push(self, repository: str, layer_bytes: Sequence[int]) -> Image:
        folder = self._cluster.folder / repository.replace("/", "-")
        image = build_image(folder, layer_bytes=layer_bytes, seed=len(layer_bytes), compression=("none",))
        self._cluster.registry.push(image, repository, "v1")
        return image

    def _pull(self, name: str, repository: str) -> None:
        self._report.step(f"{name} pulls {repository}")
        self._cluster.node(name).pull(f"{REGISTRY}/{repository}:v1")
        time.sleep(1)

    def _delivered(self, node: Node, tier: str, repository: str) -> int:
        """How many bytes the node's agent got from peers of a tier."""
        return sum(
            entry["bytes"]
            for entry in node.requests()
            if entry["path"] == "hostport" and entry["tier"] == tier and f"/{repository}" in entry["target"]
        )


def _noted(theirs: str) -> str:
    return f"A present Go mirror, measured earlier on another machine of two cores: {theirs}."


def _rss_mib(node: Node) -> float:
    return float(psutil.Process(node.agent.pid).memory_info().rss) / _MIB


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.pulls", __doc__)
    parser.add_argument("--image-mib", type=int, default=1024, help="size of the big image")
    return run(parser, _measure, root_for="network namespaces and containerds")


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    report.begin(
        "pulls", question="How near and how fast is what real containerds get?", method=__doc__ or ""
    )
    with Cluster(places(_ZONES, 2), versions=("2.1",)) as cluster:
        Bench(cluster, report, arguments.image_mib * _MIB).run()


if __name__ == "__main__":
    sys.exit(main())

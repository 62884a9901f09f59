"""What the reference graph costs: memory for each content, a look-up, and the start with ten thousand images.

Run with ``python -m benchmarks.references``. No root. The store is a layout on disk whose images have
an index with nine platforms that are not here, a manifest, a config, and layers, two of them shared by many.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import shutil
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from agent.content.ocilayout import OciLayout
from agent.content.sharing import Sharing
from agent.content.tracing import Tracer
from agent.oci.authority import Authorities, Authority, AuthorityRule
from agent.oci.digest import Digest
from agent.oci.filters import parse_filter
from agent.oci.manifest import OCI_INDEX, OCI_MANIFEST
from agent.oci.mirrors import MirrorNames
from agent.oci.patterntext import parse_pattern
from benchmarks.arguments import make_parser
from benchmarks.lab.folders import make_folder
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_PLATFORMS = 10
_SHARED = 50  # base layers
_BLOBS_EACH = 10  # of one image: index, manifest, config, two shared layers and layers of its own
_LOOKUPS = 100_000


def main() -> int:
    parser = make_parser("benchmarks.references", __doc__, quick="a tenth of the images")
    return run(parser, _report)


def _report(report: Recorder, arguments: argparse.Namespace) -> None:
    report.begin("reference graph")
    for images, layers_each in ((6_250, 5), (10_000, 2)):
        folder = make_folder("shref", "store-")
        try:
            number = images // 10 if arguments.quick else images
            blobs = _write_layout(folder, number, layers_each)
            asyncio.run(_measure(report, folder, number, blobs))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _measure(report: Recorder, folder: Path, images: int, blobs: int) -> None:
    what = f"{images} images, {blobs} blobs"
    store = OciLayout(folder)
    sharing = Sharing(
        exclusive=False,
        registries=parse_filter(["*"], []),
        authorities=Authorities([AuthorityRule(match=parse_pattern("a.test"), by=Authority.REGISTRY)]),
        mirrors=MirrorNames(ports=(), hosts=()),
    )
    tracer = Tracer(store, sharing, quiet_s=0.2)
    turns_s: list[float] = []
    running = [asyncio.create_task(each) for each in (store.run(), _watch_loop(turns_s))]
    while store.problem is not None:  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    gc.collect()
    turns_s.clear()
    began_s, cpu_s = time.monotonic(), time.process_time()
    running.append(asyncio.create_task(tracer.run()))
    while tracer.problem is not None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    report.single(f"start: {what}", "s", time.monotonic() - began_s)
    report.single(f"start, processor: {what}", "s", time.process_time() - cpu_s)
    turns_s.sort()
    report.single(f"start, longest turn of the event loop: {what}", "ms", turns_s[-1] * 1000)
    report.single(f"start, p99 turn: {what}", "ms", turns_s[len(turns_s) * 99 // 100] * 1000)
    while sharing.references.waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    held = frozenset(store.digests)
    assert all(sharing.shares(digest) for digest in held), "not all was reached"
    report.single(f"packed: {what}", "bytes a blob", sharing.references.packed_bytes / len(held))
    report.single(f"one look-up: {what}", "µs", _look_up_s(sharing, [*held]) * 1e6)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    kept, most = _traced_bytes(sharing, store)
    report.single(f"all of the graph: {what}", "bytes a blob", kept / len(held), target=40)
    report.single(f"while it is packed: {what}", "bytes a blob", most / len(held))


def _traced_bytes(sharing: Sharing, store: OciLayout) -> tuple[int, int]:
    """How much a graph that is built anew takes, as Python counts it, and at most while it is built."""
    said = [(digest, sharing.says(place)) for digest, places in store.named.items() for place in places]
    gc.collect()
    tracemalloc.start()
    for _ in sharing.references.rebuild(said):
        pass
    gc.collect()
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept, most


async def _watch_loop(turns_s: list[float]) -> None:
    """For how long the event loop computes at a time: its processor time, which no load changes."""
    while True:
        before_s = time.thread_time()
        await asyncio.sleep(0.001)
        turns_s.append(time.thread_time() - before_s)


def _look_up_s(sharing: Sharing, digests: list[Digest]) -> float:
    began_s = time.perf_counter()
    for number in range(_LOOKUPS):
        sharing.shares(digests[number % len(digests)])
    return (time.perf_counter() - began_s) / _LOOKUPS


def _write_layout(folder: Path, images: int, layers_each: int) -> int:
    """Write a layout. Returns the number of its blobs."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    written: set[str] = set()

    def put(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        if digest not in written:
            (blobs / digest).write_bytes(content)
            written.add(digest)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    entries = [_entry(put, number, layers_each) for number in range(images)]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return len(written)


def _entry(put: object, number: int, layers_each: int) -> dict[str, object]:
    assert callable(put)
    kinds = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
    shared = (f"shared {(number + each) % _SHARED}".encode() for each in range(2))
    own = (f"layer {number}/{each}".encode() for each in range(layers_each))
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": kinds[0], **put(json.dumps({"number": number}).encode())},
        "layers": [{"mediaType": kinds[1], **put(layer)} for layer in (*shared, *own)],
    }
    here = put(json.dumps(manifest).encode())
    listed = [here, *_elsewhere(number)]
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": OCI_MANIFEST, **each} for each in listed],
    }
    name = f"{'a' if number % 2 else 'b'}.test/team/app{number % 300}:v{number}"
    return {
        "mediaType": OCI_INDEX,
        **put(json.dumps(index).encode()),
        "annotations": {"org.opencontainers.image.ref.name": name},
    }


def _elsewhere(number: int) -> Iterator[dict[str, object]]:
    for platform in range(_PLATFORMS - 1):
        digest = hashlib.sha256(f"{number} {platform}".encode()).hexdigest()
        yield {"digest": f"sha256:{digest}", "size": 1000}


if __name__ == "__main__":
    sys.exit(main())

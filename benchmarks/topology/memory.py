"""How much memory a topology takes. Each is built in a new process, because freed memory blurs the next
figure.
"""

import gc
import multiprocessing
import random
import tracemalloc
from collections.abc import Callable

import psutil

from benchmarks.reporting.recorder import Recorder
from benchmarks.topology.cloud import SEED
from benchmarks.topology.scene import Scene, Shape, without_own

_MIB = 1 << 20
_TURNS = 20  # ten minutes, which is about as long as a measured peer is remembered


def report_memory(report: Recorder, shape: Shape, nodes: int) -> None:
    """Report the memory, as the system and as Python count it."""
    context = multiprocessing.get_context("spawn")
    for account, weigh in (("RSS", _rss_bytes), ("tracemalloc", _traced_bytes)):
        with context.Pool(1) as pool:
            weight = pool.apply(weigh, (shape, nodes))
        report.single(f"memory by {account}: {shape.name}", "MiB", weight / _MIB)


def _rss_bytes(shape: Shape, nodes: int) -> int:
    process = psutil.Process()
    return _grown(shape, nodes, lambda: int(process.memory_info().rss))


def _traced_bytes(shape: Shape, nodes: int) -> int:
    tracemalloc.start()
    return _grown(shape, nodes, lambda: tracemalloc.get_traced_memory()[0])


def _grown(shape: Shape, nodes: int, weigh: Callable[[], int]) -> int:
    """How much ``weigh`` grows while a topology is built. The placements exist before."""
    small = Scene.of(shape, 50, random.Random(SEED))  # first, so that imports and caches are not counted
    placements = shape.placements(nodes)
    peers = without_own(placements)
    gc.collect()
    before = weigh()
    scene = Scene.unmeasured(placements, peers)
    scene.measure(_TURNS, random.Random(SEED))
    gc.collect()
    grown = weigh() - before
    del small, scene
    return grown

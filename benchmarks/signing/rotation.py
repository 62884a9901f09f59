"""Pulls by real containerds while the cluster's key is replaced again and again.

Each node has a file of its own, which changes at another moment than the others', as kubelets change a
Secret's files. Nobody is told: the agents have to notice. A key is replaced in three steps: the new one is
added, it signs, the old one goes.
"""

import contextlib
import io
import itertools
import time
from collections.abc import Iterator
from functools import partial

from agent.cli.commands import run
from agent.keyring import new_key
from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.reporting.recorder import Recorder
from benchmarks.upgrade.load import Load, pull
from benchmarks.upgrade.rolling import push_images, report_load

_ZONES = ("a", "b")
_HOLDERS = ("a1", "b1")
_PULLS_PER_S = 4.0
_STEPS = ("add", "first", "keep-first")
_APART_S = 1.0  # between two nodes
_SETTLED_S = 6.0  # an agent looks every five seconds


def report_rotation(report: Recorder, *, seconds: float) -> None:
    """Replace the key under load for so long, and report what the pulls noticed."""
    places = [Place(name=f"{zone}{number}", region="r", zone=zone) for zone in _ZONES for number in (1, 2)]
    report.begin(f"the key of four agents is replaced for {seconds:.0f} s, under pulls")
    with Cluster(places, versions=("2.1",)) as cluster:
        references = push_images(cluster)
        nodes = list(cluster.nodes.values())
        source = cluster.folder / "rotating.key"
        source.write_text(f"{new_key()}\n")
        for node in nodes:
            _copy(cluster, node)
            node.start_agent(peering={"key": str(node.folder / "cluster.key")})
        for name, reference in itertools.product(_HOLDERS, references):
            cluster.node(name).pull(reference)
        load = Load()
        pullers = [node for node in nodes if node.name not in _HOLDERS]
        for node in pullers:
            load.add(
                "pulls",
                node,
                partial(_pull_next, node, itertools.cycle(references)),
                every_s=len(pullers) / _PULLS_PER_S,
            )
        served, rotations = len(cluster.registry.served()), 0
        with load.running():
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                for step in _STEPS:
                    with contextlib.redirect_stdout(io.StringIO()):  # it prints the keys' names
                        run(["key", step, str(source)])
                    for node in nodes:
                        _copy(cluster, node)
                        time.sleep(_APART_S)
                    time.sleep(_SETTLED_S)
                rotations += 1
        report_load(report, load, requests=False)
        asked = len(cluster.registry.served()) - served
        report.single("requests that went to the registry instead", "", asked, 0)
        report.single("keys that were replaced", "", rotations)
        refused = sum(node.metric("shorthaul_refused_total", listener="peer") for node in nodes)
        report.single("requests of peers that were refused", "", refused, 0)


def _pull_next(node: Node, references: Iterator[str]) -> str:
    return pull(node, next(references))


def _copy(cluster: Cluster, node: Node) -> None:
    new = node.folder / "cluster.key.new"
    new.write_bytes((cluster.folder / "rotating.key").read_bytes())
    new.replace(node.folder / "cluster.key")

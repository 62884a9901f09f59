"""Pulls by real containerds while every agent's certificate is renewed every few seconds, and the CA with it.

The three files of a node change at one moment, as Kubernetes changes a Secret's. Nobody is told: the agents
have to notice. The CA changes as its users change it: first all trust both, then each node has a certificate
of the new one, then nobody trusts the old one.
"""

import itertools
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.lab.certificates import Authority
from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.reporting.recorder import Recorder
from benchmarks.upgrade.load import Load, pull
from benchmarks.upgrade.rolling import push_images, report_load

_ZONES = ("a", "b")
_HOLDERS = ("a1", "b1")
_NAME = "shorthaul-peers.shorthaul.svc"
_PULLS_PER_S = 4.0
_SETTLED_S = 4.0  # an agent looks every three seconds


def report_rotation(report: Recorder, *, seconds: float) -> None:
    """Renew under load for so long, and report what the pulls noticed."""
    places = [Place(name=f"{zone}{number}", region="r", zone=zone) for zone in _ZONES for number in (1, 2)]
    report.begin(f"four agents' certificates and their CA are renewed for {seconds:.0f} s, under pulls")
    with Cluster(places, versions=("2.1",)) as cluster:
        references = push_images(cluster)
        nodes = list(cluster.nodes.values())
        secrets = _Secrets(cluster)
        for node in nodes:
            secrets.renew(node)
            node.start_agent(peering={"tls": secrets.settings(node)})
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
        served, renewals = len(cluster.registry.served()), 0
        with load.running():
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                for step in (secrets.trust_both, secrets.switch, secrets.trust_new):
                    step()
                    for node in nodes:
                        secrets.renew(node)
                        renewals += 1
                    time.sleep(_SETTLED_S)
        report_load(report, load, requests=False)
        asked = len(cluster.registry.served()) - served
        report.single("requests that went to the registry instead", "", asked, 0)
        report.single("renewals of a node's certificate", "", renewals)
        noticed = sum(
            node.metric("shorthaul_reloads_total", what="certificate", result="changed") for node in nodes
        )
        report.single("renewals that an agent noticed", "", noticed)
        failures = sum(node.metric("shorthaul_tls_failures_total") for node in nodes)
        report.single("connections that TLS ended", "", failures, 0)


def _pull_next(node: Node, references: Iterator[str]) -> str:
    return pull(node, next(references))


class _Secrets:
    """The certificates of all nodes, and the CAs that are trusted now."""

    def __init__(self, cluster: Cluster) -> None:
        self._folder = cluster.folder
        self._numbers = itertools.count()
        self._signer = self._authority()
        self._others: list[Authority] = []

    def trust_both(self) -> None:
        """A new CA is there, and signs nothing yet."""
        self._others = [self._authority()]

    def switch(self) -> None:
        """The new CA signs."""
        self._signer, self._others = self._others[0], [self._signer]

    def trust_new(self) -> None:
        """The old CA is no longer trusted."""
        self._others = []

    def renew(self, node: Node) -> None:
        """A new certificate for a node."""
        made = node.folder / f"tls-{next(self._numbers)}"
        self._signer.issue(made, f"DNS:{_NAME}", more_authorities=self._others)
        link = node.folder / "tls.new"
        link.symlink_to(made)
        link.replace(node.folder / "tls")

    def settings(self, node: Node) -> dict[str, str]:
        """``peering.tls`` of a node."""
        folder = node.folder / "tls"
        return {
            "certificate": str(folder / "tls.crt"),
            "key": str(folder / "tls.key"),
            "ca": str(folder / "ca.crt"),
            "name": _NAME,
        }

    def _authority(self) -> Authority:
        return Authority(self._folder, f"ca-{next(self._numbers)}")

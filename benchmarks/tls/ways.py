"""Two agents for each way to speak with each other: in plain, signed, and signed with TLS.

Each pair has a list of peers of its own, so that agents of different ways do not try to reach each other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lab.certificates import EC, RSA, Authority
from benchmarks.lab.cluster import Cluster, Node, Place
from benchmarks.transfer.spending import cpu_s
from benchmarks.transfer.testbed import QUIET

PLAIN, SIGNED, TLS, TLS_RSA = "plain", "signed", "TLS", "TLS, RSA"
_TRANSFER = {"uploads_max": 1000}  # so that no request is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """``asker`` fetches from ``holder``. ``peering``: the settings of both."""

    way: str
    asker: Node
    holder: Node
    tls: Path | None


@contextmanager
def pairs(*, rsa: bool = False) -> Iterator[tuple[Cluster, list[Pair]]]:
    """A running pair for each way."""
    ways = [PLAIN, SIGNED, TLS, *([TLS_RSA] if rsa else [])]
    names = [f"{end}-{number}" for number in range(len(ways)) for end in "ah"]
    places = [Place(name=name, region="r", zone="z") for name in names]
    with Cluster(places, containerd=False) as cluster:
        authority = Authority(cluster.folder)
        yield (
            cluster,
            [
                start_pair(way, cluster.nodes[f"a-{number}"], cluster.nodes[f"h-{number}"], authority)
                for number, way in enumerate(ways)
            ],
        )


def start_pair(way: str, asker: Node, holder: Node, authority: Authority, **settings: Any) -> Pair:
    """Start two agents that know each other and nobody else. ``settings``: further ones of both."""
    members = asker.folder / "peers-of-the-pair.yaml"
    members.write_text(yaml.safe_dump([_entry(asker), _entry(holder)]))
    for node in (asker, holder):
        node.start_agent(
            membership={"static": str(members)},
            peering=_peering(way, node, authority),
            **{"transfer": _TRANSFER, **QUIET, **settings},
        )
    folder = asker.folder / "tls"
    return Pair(way=way, asker=asker, holder=holder, tls=folder if folder.exists() else None)


def spent_s(node: Node) -> float:
    """The processor time of a node's agent so far."""
    assert node.cgroup is not None, "agents in namespaces have cgroups"
    return cpu_s(node.cgroup)


def _entry(node: Node) -> dict[str, Any]:
    return {"name": node.name, "address": node.address, "port": node.peer_port, **node.place.labels}


def _peering(way: str, node: Node, authority: Authority) -> dict[str, Any]:
    if way == PLAIN:
        return {"open": True, "key": None}  # without a key nothing is signed
    if way == SIGNED:
        return {}  # with the key of the cluster
    folder = authority.issue(node.folder / "tls", f"DNS:{node.name}", key=EC if way == TLS else RSA)
    files = {"certificate": "tls.crt", "key": "tls.key", "ca": "ca.crt"}
    return {"tls": {name: str(folder / file) for name, file in files.items()}}

"""Which simulations one command runs: each is a workload, a policy and a scope, at one size. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.simulator.judging import PRODUCT
from benchmarks.simulator.policies import POLICIES
from benchmarks.simulator.scenario import Scenario
from benchmarks.simulator.workloads import WORKLOADS, Size

SCOPES = ("zone", "cluster")
ONLY_IN = {"zone-only": "zone", "dht-3": "none"}
"""Policies that know one scope only. Its name is what their rows say."""

CUSTOMARY = "cluster"
"""The scope of the policies compared: as strict as the product can be with the registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One simulation. ``scope``: ``zone``, ``cluster``, or ``none``: without claims."""

    workload: str
    policy: str
    scope: str
    size: Size

    @property
    def scenario(self) -> Scenario:
        """What happens."""
        return WORKLOADS[self.workload].make(self.size)

    @property
    def weight(self) -> float:
        """About how much work it is. Only the relations matter."""
        return self.size.nodes * WORKLOADS[self.workload].weight

    def __str__(self) -> str:
        scope = "" if self.scope == "none" else f", scope {self.scope}"
        return f"{self.workload}, {self.policy}{scope}, {self.size.nodes:,} nodes"


def plan(
    workloads: Sequence[str],
    policies: Sequence[str],
    scopes: Sequence[str],
    *,
    nodes: int,
    image_bytes: int,
    seed: int,
) -> Iterator[Plan]:
    """All combinations: the product in each of the scopes, the others once."""
    for workload in workloads:
        for policy in policies:
            for scope in _scopes(policy, scopes):
                size = Size(nodes=nodes, image_bytes=image_bytes, cluster=scope == "cluster", seed=seed)
                yield Plan(workload=workload, policy=policy, scope=scope, size=size)


def _scopes(policy: str, scopes: Sequence[str]) -> Sequence[str]:
    if policy in ONLY_IN:
        return (ONLY_IN[policy],)
    return scopes if policy == PRODUCT else (CUSTOMARY,)


def shown(*, nodes: int, image_bytes: int, seed: int) -> Sequence[Plan]:
    """The runs behind the figures of the README and docs/simulator.md."""
    others = [policy for policy in POLICIES if policy != PRODUCT]
    big = {"nodes": nodes, "image_bytes": image_bytes, "seed": seed}
    return (
        *plan(("everyone",), (PRODUCT, *others), SCOPES, **big),
        *plan(("small-zone",), (PRODUCT, "zone-only", "oracle"), SCOPES, **big),
        *plan(("churn",), (PRODUCT, "dht-3", "sample-15"), ("zone",), **big),
        *plan(
            [each for each in WORKLOADS if each not in ("everyone", "small-zone", "churn")],
            (PRODUCT,),
            SCOPES,
            nodes=max(1, nodes // 5),
            image_bytes=image_bytes,
            seed=seed,
        ),
    )

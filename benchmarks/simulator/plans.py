"""Which simulations one command runs: each is a workload, a policy and a scope, at one size. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.simulator.judging import PRODUCT
from benchmarks.simulator.policies import POLICIES, SEED_S, SEEDED
from benchmarks.simulator.scenario import Scenario, Start
from benchmarks.simulator.workloads import WORKLOADS, Size

SCOPES = ("zone", "cluster")
ONLY_IN = dict.fromkeys(("dht-3", "sample-15", "zone-only", "round-trip"), "none")
"""Policies without claims have no scope."""

LONG = ("dht-3", "zone-only")
"""With these, thousands of nodes wait for the registry's link for half an hour, in which little changes."""

_LONG_QUANTUM_S = 0.25
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
        scenario = WORKLOADS[self.workload].make(self.size)
        if self.policy in LONG:
            scenario = replace(scenario, quantum_s=_LONG_QUANTUM_S)
        return seeded(scenario) if self.policy in SEEDED else scenario

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


def seeded(scenario: Scenario) -> Scenario:
    """The same a while later. Before it one node begins to fetch each image that nobody has."""
    held = {each.image for each in scenario.held}
    wanted = {start.image: start.nodes[0] for start in reversed(scenario.starts) if start.image not in held}
    seeds = [Start(nodes=(node,), image=image, at_s=_at_s(scenario, image)) for image, node in wanted.items()]
    rest = [
        replace(
            start,
            nodes=[node for node in start.nodes if wanted.get(start.image) != node],
            at_s=start.at_s + SEED_S,
        )
        for start in scenario.starts
    ]
    faults = tuple(replace(fault, at_s=fault.at_s + SEED_S) for fault in scenario.faults)
    return replace(scenario, starts=(*seeds, *rest), faults=faults)


def _at_s(scenario: Scenario, image: int) -> float:
    return min(start.at_s for start in scenario.starts if start.image == image)


def _scopes(policy: str, scopes: Sequence[str]) -> Sequence[str]:
    if policy in ONLY_IN:
        return (ONLY_IN[policy],)
    return scopes if policy == PRODUCT else (CUSTOMARY,)


def shown(*, nodes: int, image_bytes: int, seed: int) -> Sequence[Plan]:
    """The runs behind the figures of the README and docs/simulator.md."""
    others = [policy for policy in POLICIES if policy != PRODUCT]
    big = {"nodes": nodes, "image_bytes": image_bytes, "seed": seed}
    small = big | {"nodes": max(1, nodes // 5)}
    return (
        *plan(("everyone",), (PRODUCT, *others), SCOPES, **big),
        *plan(("small-zone",), (PRODUCT, "zone-only"), SCOPES, **big),
        *plan(("churn",), (PRODUCT,), ("zone",), **big),
        *plan(("churn",), ("dht-3", "sample-15"), ("zone",), **small),
        *plan(
            [each for each in WORKLOADS if each not in ("everyone", "small-zone", "churn")],
            (PRODUCT,),
            SCOPES,
            **small,
        ),
    )

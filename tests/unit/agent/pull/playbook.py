"""Playbooks of the pull machine: (event, time, expected commands), and short names for what is in them."""

from dataclasses import replace

from agent.pull.events import (
    Avoid,
    Command,
    Deliver,
    Event,
    Failed,
    Failure,
    Forget,
    Found,
    LaneFailed,
    Limits,
    Progressed,
    Responded,
    Shun,
    WakeAt,
)
from agent.pull.machine import Pull
from agent.pull.meter import Rate
from tests.unit.twins import node
from topology.placement import Tier
from topology.ranking import Condition, Ranked

LIMITS = Limits(patience_s=0.5, deadline_s=10.0, attempts_max=3)
HEDGING = replace(LIMITS, hedge_s={Tier.ZONE: 0.125})
FLOORED = replace(LIMITS, floor_bytes_per_s=65536, floor_ratio=0.1)
STRIPING = replace(LIMITS, stripe_min_bytes=64 << 20)
DEADLINE = WakeAt(at_s=10.0)
GIB = 1 << 30
Step = tuple[Event, float, tuple[Command, ...]]


def ranked(name: str, tier: Tier = Tier.ZONE, condition: Condition | None = None) -> Ranked:
    return Ranked(node=node(name), tier=tier, rank=1, condition=condition or Condition())


A, B, C, D = (ranked(name) for name in "abcd")


def started(limits: Limits = LIMITS) -> Pull:
    pull = Pull(limits=limits)
    pull.start(0.0)
    return pull


def delivering(*holders: Ranked, limits: Limits = LIMITS, exhaustive: bool = True) -> Pull:
    """A pull that delivers from the first of these holders since 0.25 s."""
    pull = started(limits)
    pull.on(found(*holders, exhaustive=exhaustive), 0.0)
    assert Deliver(attempt=1, holder=holders[0]) in pull.on(Responded(attempt=1), 0.25)
    return pull


def play(pull: Pull, *steps: Step) -> None:
    for number, (event, now_s, expected) in enumerate(steps):
        assert pull.on(event, now_s) == expected, f"step {number}: {event} at {now_s} s"


def found(*holders: Ranked, exhaustive: bool = False) -> Found:
    return Found(holders=holders, exhaustive=exhaustive)


def failed(attempt: int, failure: Failure = Failure.UNREACHABLE, wait_s: float = 0.0) -> Failed:
    return Failed(attempt=attempt, failure=failure, wait_s=wait_s)


def progressed(
    bytes_per_s: float,
    *,
    over_s: float = 3.0,
    source_bound: bool = True,
    left_bytes: int = GIB,
    usual: float = 0.0,
    lanes_max: int = 1,
) -> Progressed:
    rate = Rate(bytes_per_s=bytes_per_s, over_s=over_s, source_bound=source_bound)
    return Progressed(left_bytes=left_bytes, rate=rate, expected_bytes_per_s=usual, lanes_max=lanes_max)


def avoided(holder: Ranked) -> tuple[Command, ...]:
    return (Avoid(node=holder.node),)


def shunned(holder: Ranked) -> tuple[Command, ...]:
    return (Avoid(node=holder.node), Shun(node=holder.node))


def forgotten(holder: Ranked) -> tuple[Command, ...]:
    return (Forget(node=holder.node),)


def lane_failed(holder: Ranked, failure: Failure, given_bytes: int = 0, wait_s: float = 0.0) -> LaneFailed:
    return LaneFailed(holder=holder, failure=failure, given_bytes=given_bytes, wait_s=wait_s)

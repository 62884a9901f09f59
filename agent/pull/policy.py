"""What is decided for all pulls together: their limits, whom they may try, and what each command means.

The machine decides one pull from its own events. This module decides what the pulls share, in one place:
the executor, `explain` and simulations ask it and have no rule of their own. Pure: times are seconds of
one monotonic clock.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Set
from typing import assert_never

from agent.config.settings import PullSettings, TransferSettings
from agent.oci.digest import Digest
from agent.pull.events import Avoid, Commend, Limits, Progressed, Relieve, Shun, Verdict
from agent.pull.meter import Meter, Rate
from agent.pull.pace import Pace
from agent.pull.regard import Regard
from topology.placement import NodeName, Tier
from topology.ranking import Ranked, rank
from topology.snapshot import Snapshot

SHUN_COOLOFFS = 4
"""For so many cool-offs a peer is passed over for a digest of which it gave a bad body.

One cool-off is too short: a kubelet tries again after 10 s, and should then meet another peer.
"""

_UNKNOWN_BYTES_PER_S = 10e6  # taken for a tier of which no rate is known: less than any link between servers
_RESUME_S = 0.5  # for a client that had a part already: a holder may have been too busy to answer
_WAIT_SPREAD = 1.3  # all who were refused at once should not come back at once
_CANDIDATES_FACTOR = 3  # attempts: the nearest holders, those of a second rate-up, and those that it repeats


class Policy:
    """One node's policy. ``chance``: gives a number between two others; spreads repetitions."""

    def __init__(
        self,
        *,
        regard: Regard,
        pace: Pace,
        pull: PullSettings,
        transfer: TransferSettings,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.regard = regard
        self.pace = pace
        self._pull = pull
        self._transfer = transfer
        self._chance = chance

    def limits(self, *, in_chunks: bool, resumes: bool) -> Limits:
        """What one pull goes by.

        ``in_chunks``: the client fetches the blob in parts and gives up all of it when one breaks off.
        ``resumes``: the client has the beginning already.
        """
        pull = self._pull
        stubborn_s = pull.deadline_s if in_chunks else _RESUME_S
        return Limits(
            patience_s=pull.patience_s,
            deadline_s=pull.deadline_s,
            attempts_max=pull.attempts_max,
            stall_s=pull.stall_s,
            floor_bytes_per_s=pull.floor_bytes_per_s,
            floor_ratio=pull.floor_ratio,
            hedge_s=self.pace.hedge_s(),
            stripe_min_bytes=self._transfer.stripe_min_bytes,
            stubborn_s=stubborn_s if resumes else 0.0,
            stubborn_begun_s=pull.deadline_s if in_chunks else 0.0,
        )

    def candidates(
        self, digest: Digest, holders: Iterable[NodeName], snapshot: Snapshot, now_s: float
    ) -> tuple[Ranked, ...]:
        """The holders that a pull of this digest may try, in the order in which it tries them."""
        return self.ranked(
            digest, holders, snapshot, now_s, limit=_CANDIDATES_FACTOR * self._pull.attempts_max
        )

    def ranked(
        self,
        digest: Digest,
        holders: Iterable[NodeName],
        snapshot: Snapshot,
        now_s: float,
        *,
        limit: int | None = None,
    ) -> tuple[Ranked, ...]:
        """The first ``limit`` of the holders that a pull of this digest may try, in order; None: all."""
        passed_over = self.passed_over(digest, now_s)
        nodes = [node for node in holders if node not in passed_over] if passed_over else holders
        conditions = self.regard.conditions(now_s)
        return rank(nodes, snapshot, digest=digest, conditions=conditions, limit=limit)

    def passed_over(self, digest: Digest, now_s: float) -> Set[NodeName]:
        """The peers that no pull of this digest may try now."""
        return self.regard.trust.distrusted(digest, now_s)

    def apply(self, verdict: Verdict, digest: Digest, now_s: float) -> None:
        """Do what a pull's verdict on a peer means for all pulls."""
        regard, node = self.regard, verdict.node
        match verdict:
            case Avoid():
                regard.failed(node, now_s)
            case Commend():
                regard.served(node)
                regard.trust.served(node)
            case Shun():
                until_s = now_s + SHUN_COOLOFFS * regard.cooling_s(node, now_s)
                regard.trust.distrust(digest, node, until_s)
            case Relieve():
                regard.saturated(node, verdict.wait_s, now_s)
            case _:
                assert_never(verdict)

    def busy_wait_s(self, told_s: float) -> float:
        """When to ask a busy peer again that told how long it is busy."""
        return told_s * self._chance(1.0, _WAIT_SPREAD)

    def progressed(
        self, tier: Tier, rate: Rate, *, left_bytes: int, pulls: int, lanes_max: int, in_chunks: bool
    ) -> Progressed:
        """What the machine is told of a body. ``pulls``: how many run on this node now."""
        tier_bytes_per_s = self.pace.median_bytes_per_s(tier) or _UNKNOWN_BYTES_PER_S
        return Progressed(
            left_bytes=left_bytes,
            rate=rate,
            # The pulls share this node's link, and no peer may be blamed for that.
            expected_bytes_per_s=tier_bytes_per_s / max(1, pulls),
            # What is fetched ahead for a client that leaves at the end of its chunk is thrown away.
            lanes_max=1 if in_chunks else lanes_max,
        )

    def measured(self, tier: Tier, meter: Meter, *, took_s: float) -> None:
        """A body ended. ``took_s``: without what its reader was waited for."""
        if 2 * meter.waited_s >= took_s:  # else the reader's pace is what was measured
            self.pace.body(tier, meter.moved_bytes, took_s)

    def responsible_sources(
        self, given_bytes: Mapping[NodeName, int], failed: Set[NodeName]
    ) -> Set[NodeName]:
        """Who answers for a body that turns out wrong. One that broke off is likelier to be no good."""
        return (given_bytes.keys() & failed) or given_bytes.keys()

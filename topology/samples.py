"""What this node measured itself: an estimator for each node, within a bound. Pure."""

from collections.abc import Iterator, KeysView, Set

from topology.placement import NodeName
from topology.rtt import Estimate, RttEstimator

_NODES_MAX = 4096


class OwnSamples:
    """The samples of this node, by the node that they were measured to.

    ``window_s``, ``half_life_s``: see `RttEstimator`.
    """

    def __init__(self, *, window_s: float, half_life_s: float) -> None:
        self._window_s = window_s
        self._half_life_s = half_life_s
        self._estimators: dict[NodeName, RttEstimator] = {}

    def nodes(self) -> KeysView[NodeName]:
        """The measured nodes. The first one has waited longest for a sample."""
        return self._estimators.keys()

    def add(self, node: NodeName, rtt_us: float, now_s: float) -> NodeName | None:
        """Add a plausible sample. Returns the node that has to be forgotten for want of room, if any."""
        estimator = self._estimators.pop(node, None)
        if estimator is None:
            estimator = RttEstimator(window_s=self._window_s, half_life_s=self._half_life_s)
        self._estimators[node] = estimator
        estimator.add(rtt_us, now_s)
        return next(iter(self._estimators)) if len(self._estimators) > _NODES_MAX else None

    def estimate(self, node: NodeName, now_s: float) -> Estimate | None:
        """The estimate for a node. None without samples."""
        estimator = self._estimators.get(node)
        return None if estimator is None else estimator.estimate(now_s)

    def fresh(self, nodes: Set[NodeName], now_s: float) -> Iterator[tuple[NodeName, Estimate]]:
        """The estimates of those of ``nodes`` that count for more than what is usual."""
        for node in self._estimators.keys() & nodes:
            estimate = self.estimate(node, now_s)
            if estimate is not None and estimate.weight > 0.5:
                yield node, estimate

    def forget(self, node: NodeName) -> None:
        """Drop the samples of a node, if there are any."""
        self._estimators.pop(node, None)

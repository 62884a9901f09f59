"""How long a round trip to one peer takes, estimated from samples of the kernel's TCP_INFO.

Jitter exceeds the signal: a round trip takes 0.26 to 0.41 ms within a zone, and 0.8 to 1.1 ms with spikes
to 12 ms between zones. So the estimate is the lower edge of a window of samples, never their mean. The
edge is a low percentile and not the minimum, so that one sample that is too good to be true does not
count. An estimate without new samples decays towards a prior.

Pure. All times are seconds of one monotonic clock. If the clock jumps back, samples only look older.
"""

import math
from collections import deque
from dataclasses import dataclass

RTT_MIN_US = 1.0
RTT_MAX_US = 10_000_000.0  # nothing on earth is ten seconds away
_KEEP = 32  # samples per peer: enough for a percentile, and small enough for 5,000 peers
_LOW_SHARE = 0.1
SURE_SAMPLES = 3  # fewer samples could all be spikes
_FORGOTTEN = 1 / 64  # an estimate with less weight is dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the samples of one peer say.

    ``weight``: how much they count against the usual value for such a peer, from 0 to 1. It grows with the
    number of samples up to `SURE_SAMPLES`. Once the samples are older than the window, it halves every
    half-life. ``freshness``: the factor of the weight that depends on age alone.
    """

    low_us: float
    min_us: float
    jitter_us: float  # median distance of the samples from their median
    samples: int
    age_s: float
    weight: float
    freshness: float

    @property
    def is_sure(self) -> bool:
        """Whether there are enough samples, and new ones, to conclude something from them alone."""
        return self.samples >= SURE_SAMPLES and self.weight > 0.5

    def weight_against(self, usual_us: float) -> float:
        """The weight against the usual value. Jitter only ever adds time, so samples below the usual value
        count fully even if there are few of them.
        """
        return self.freshness if self.low_us <= usual_us else self.weight


def is_plausible(rtt_us: float) -> bool:
    """Whether a round-trip time is physically possible. False for NaN."""
    return RTT_MIN_US <= rtt_us <= RTT_MAX_US


def clamped(rtt_us: float) -> float | None:
    """The nearest plausible round-trip time. None for a value that is negative, infinite or NaN."""
    if not math.isfinite(rtt_us) or rtt_us < 0:
        return None
    return min(max(rtt_us, RTT_MIN_US), RTT_MAX_US)


class RttEstimator:
    """The samples of one peer.

    ``window_s``: how far back samples count, from the newest one. If a path becomes slower, the estimate
    needs up to this long to follow. ``half_life_s``: how fast an estimate loses weight once it is older than
    the window.
    """

    __slots__ = ("_half_life_s", "_samples", "_summary", "_window_s")

    def __init__(self, *, window_s: float, half_life_s: float) -> None:
        self._window_s = window_s
        self._half_life_s = half_life_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=_KEEP)
        self._summary: tuple[float, float, float] | None = None  # low, min, jitter; None: not computed yet

    def add(self, rtt_us: float, now_s: float) -> None:
        """Add a plausible sample. O(1) amortised: samples that are now too old are dropped."""
        samples = self._samples
        while samples and samples[-1][0] > now_s:  # the clock jumped back
            samples.pop()
        while samples and samples[0][0] < now_s - self._window_s:
            samples.popleft()
        samples.append((now_s, rtt_us))
        self._summary = None

    def estimate(self, now_s: float) -> Estimate | None:
        """What is known now. None without samples, and when they are too old to mean anything."""
        if not self._samples:
            return None
        age_s = max(0.0, now_s - self._samples[-1][0])
        freshness = 0.5 ** (max(0.0, age_s - self._window_s) / self._half_life_s)
        if freshness < _FORGOTTEN:
            return None
        if self._summary is None:
            self._summary = _summary([rtt_us for _, rtt_us in self._samples])
        low_us, min_us, jitter_us = self._summary
        return Estimate(
            low_us=low_us,
            min_us=min_us,
            jitter_us=jitter_us,
            samples=len(self._samples),
            age_s=age_s,
            weight=freshness * min(1.0, len(self._samples) / SURE_SAMPLES),
            freshness=freshness,
        )


def _summary(samples_us: list[float]) -> tuple[float, float, float]:
    ordered = sorted(samples_us)
    low_us = ordered[int(len(ordered) * _LOW_SHARE)]
    middle = ordered[len(ordered) // 2]
    jitter_us = sorted(abs(rtt_us - middle) for rtt_us in ordered)[len(ordered) // 2]
    return low_us, ordered[0], jitter_us


def blend(low_us: float, prior_us: float, weight: float) -> float:
    """A value between estimate and prior, on a log scale because round-trip times differ by ratios."""
    if weight >= 1.0:
        return low_us
    return math.exp(weight * math.log(low_us) + (1.0 - weight) * math.log(prior_us))

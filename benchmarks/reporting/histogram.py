"""Latencies in HdrHistograms: from a microsecond to an hour, to three digits or half a microsecond.

Values are nanoseconds. The text is HdrHistogram's own V2 format in base64, which its other tools read too.
"""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

_LOWEST_NS, _HIGHEST_NS, _DIGITS = 1_000, 3_600_000_000_000, 3


def new_histogram() -> HdrHistogram:
    """One without any value."""
    return HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _DIGITS, b64_wrap=True)


def record(histogram: HdrHistogram, seconds: float) -> None:
    """Add a latency. What is too long for the histogram counts as its longest."""
    histogram.record_value(min(max(_LOWEST_NS, round(seconds * 1e9)), _HIGHEST_NS))


def to_text(histogram: HdrHistogram) -> str:
    """The histogram as text for a report."""
    encoded = histogram.encode()
    return encoded.decode("ascii") if isinstance(encoded, bytes) else str(encoded)


def from_text(text: str) -> HdrHistogram:
    """A histogram from a report. Raises ValueError if it is none."""
    try:
        return HdrHistogram.decode(text)
    except Exception as error:
        raise ValueError("no HdrHistogram") from error


def joined(histograms: Iterable[HdrHistogram]) -> HdrHistogram:
    """All values of several, in one."""
    whole = new_histogram()
    for each in histograms:
        whole.add(each)
    return whole


def quantile_s(histogram: HdrHistogram, quantile: float) -> float:
    """The latency, in seconds, that this share (0 to 1) does not exceed. NaN without values."""
    if not histogram.get_total_count():
        return float("nan")
    return float(histogram.get_value_at_percentile(100 * quantile)) / 1e9

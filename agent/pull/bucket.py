"""A rate limit: a bucket that fills with tokens at a steady rate. One token is for one byte.

A taker may go into debt and then waits until the debt is paid. A taker of a large piece so delays the takers
behind it, and none is starved. Source: RFC 3290, 5.1.3 (token buckets).
"""


class TokenBucket:
    """Limits to ``bytes_per_s`` in the long run, with bursts of a tenth of a second. 0: no limit."""

    _BURST_S = 0.1

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self.takers = 0  # how many share the bucket now; the takers count themselves
        self._tokens = self._full = bytes_per_s * self._BURST_S
        self._filled_s: float | None = None

    @property
    def piece_bytes(self) -> int | None:
        """The most bytes to take at a time, so that each taker gets its turn. None: any number."""
        return max(1, int(self._full) // max(1, self.takers)) if self._bytes_per_s else None

    def take(self, size_bytes: int, now_s: float) -> float:
        """Take tokens for bytes that were sent. Returns how many seconds to wait before sending more."""
        if not self._bytes_per_s:
            return 0.0
        since_s = 0.0 if self._filled_s is None else max(0.0, now_s - self._filled_s)
        self._filled_s = now_s
        self._tokens = min(self._full, self._tokens + since_s * self._bytes_per_s) - size_bytes
        return max(0.0, -self._tokens / self._bytes_per_s)

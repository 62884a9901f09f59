"""The metrics of this node's content store and of its scrub."""

from agent.observe.families import Families


class StoreMetrics:
    """Counts facts about this node's content."""

    def __init__(self, families: Families) -> None:
        self._store_blobs = families.gauge("store_blobs", "Blobs in this node's content store now.")
        self._store_bytes = families.gauge(
            "store_bytes", "Bytes of the blobs in this node's content store now."
        )
        self._store_unreadable = families.gauge(
            "store_unreadable_blobs",
            "Blobs in this node's content store that the agent can't read now. No peer is told of them.",
        )
        self._scrub_paused = families.gauge(
            "scrub_paused", "1 while somebody paused the scrub of this node's content, else 0."
        )
        self._scrubbed = families.counter(
            "scrubbed_bytes_total",
            "Bytes of this node's content that the scrub read again and hashed, to find corrupt blobs.",
        )
        self._corrupt = families.counter(
            "corrupt_blobs_total",
            "Blobs of this node that did not match their digest or size and were withdrawn, by what found "
            "them (read: a request; scrub). Any is an alarm.",
            "found_by",
        )
        for found_by in ("read", "scrub"):  # Prometheus sees no rate in a series that begins at 1
            self._corrupt.labels(found_by)

    def store(self, blobs: int, size_bytes: int, *, unreadable: int) -> None:
        """The store's size now. ``unreadable``: how many others it has that can't be read."""
        self._store_unreadable.set(unreadable)
        self._store_blobs.set(blobs)
        self._store_bytes.set(size_bytes)

    def scrubbed(self, size_bytes: int) -> None:
        """Content of this node was read again."""
        self._scrubbed.inc(size_bytes)

    def scrub_paused(self, paused: bool) -> None:
        """Whether the scrub is paused now."""
        self._scrub_paused.set(paused)

    def corrupt(self, found_by: str) -> None:
        """A blob of this node is corrupt. ``found_by``: ``scrub`` or ``read``."""
        self._corrupt.labels(found_by).inc()

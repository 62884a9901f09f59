"""The metrics of bodies that this node sends to peers."""

from agent.observe.families import Families


class UploadMetrics:
    """Counts facts about uploads."""

    def __init__(self, families: Families) -> None:
        self._uploads = families.gauge(
            "uploads",
            "Bodies that this node is sending to peers now. Parts of a blob for one peer are one body.",
        )
        self._upload_bytes = families.gauge(
            "upload_bytes_in_flight",
            "Bytes that are left to send of the bodies that this node is sending to peers now.",
        )
        self._refused = families.counter(
            "uploads_refused_total",
            "Requests of peers that were refused, because as many bodies were being sent already.",
        )
        self._shared = families.counter(
            "uploads_shared_total",
            "Requests of peers that were told to take the content from another peer of their zone, which "
            "this node was sending it to already.",
        )

    def uploads(self, number: int, left_bytes: int) -> None:
        """The bodies that are being sent to peers now."""
        self._uploads.set(number)
        self._upload_bytes.set(left_bytes)

    def refused(self) -> None:
        """An upload was refused."""
        self._refused.inc()

    def shared(self) -> None:
        """A peer was told to take content from another peer that is being sent it."""
        self._shared.inc()

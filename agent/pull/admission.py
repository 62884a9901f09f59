"""How many bodies this node sends to other nodes at once, and who is told to come back later.

It decides at once and never queues. A refused peer has other holders to go to, and a peer in a queue would
not know that it waits. Uploads are bounded by number and by the bytes still to be sent. Once half of either
is used, no peer may have more than an equal share, so that one that pulls a large image does not shut the
others out. Pure. Times are seconds of one monotonic clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_REMEMBERED_S = 2.0  # a refused peer counts as one that wants something for this long
_WAIT_LEAST_S = 0.05
_WAIT_MOST_S = 10.0
_WAIT_UNKNOWN_S = 0.5  # while nothing was sent yet from which to estimate it


@dataclass(slots=True, kw_only=True, eq=False)
class Upload:
    """One body on its way. ``peer``: whom it counts for (`Caller.admission_key`)."""

    peer: str
    left_bytes: int
    started_s: float
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No room now. ``wait_s``: the estimated time until there is some."""

    wait_s: float


class Admission:
    """Admits ``uploads_max`` bodies with ``bytes_max`` bytes still to be sent; one body in any case."""

    def __init__(self, *, uploads_max: int, bytes_max: int) -> None:
        self._uploads_max = uploads_max
        self._bytes_max = bytes_max
        self._uploads: set[Upload] = set()
        self._refused_s: dict[str, float] = {}
        self.left_bytes = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._uploads)

    def __iter__(self) -> Iterator[Upload]:
        return iter(self._uploads)

    def admit(self, peer: str, size_bytes: int, now_s: float) -> Upload | Refused:
        """Decide on a body of this size for ``peer``."""
        if not self._has_room(peer, size_bytes, now_s):
            return self._refuse(peer, now_s)
        upload = Upload(peer=peer, left_bytes=size_bytes, started_s=now_s)
        self._uploads.add(upload)
        self.left_bytes += size_bytes
        self._refused_s.pop(peer, None)
        return upload

    def would_refuse(self, peer: str, now_s: float) -> Refused | None:
        """What a peer would be told if it asked for a small body now."""
        return None if self._has_room(peer, 1, now_s) else self._refuse(peer, now_s)

    def sent(self, upload: Upload, size_bytes: int) -> None:
        """Note that this many more bytes of it were sent."""
        upload.left_bytes -= size_bytes
        upload.sent_bytes += size_bytes
        self.left_bytes -= size_bytes

    def ended(self, upload: Upload) -> None:
        """Note that the upload ended, whole or not."""
        self._uploads.discard(upload)
        self.left_bytes -= upload.left_bytes
        upload.left_bytes = 0

    def _refuse(self, peer: str, now_s: float) -> Refused:
        self._refused_s[peer] = now_s
        self.refused += 1
        return Refused(wait_s=self._wait_s(now_s))

    def _has_room(self, peer: str, size_bytes: int, now_s: float) -> bool:
        if not self._uploads:
            return True
        number = len(self._uploads) + 1
        total_bytes = self._counted(size_bytes, *self._uploads)
        own = [upload for upload in self._uploads if upload.peer == peer]
        # The last quarter is for those who have none yet.
        uploads_max = self._uploads_max - (self._uploads_max // 4 if own else 0)
        bytes_max = self._bytes_max - (self._bytes_max // 4 if own else 0)
        if number > uploads_max or total_bytes > bytes_max:
            return False
        if 2 * number <= self._uploads_max and 2 * total_bytes <= self._bytes_max:
            return True
        rivals = len({upload.peer for upload in self._uploads} | self._wanting(now_s) | {peer})
        own_bytes = self._counted(size_bytes, *own)
        shares = (len(own) + 1) * rivals <= self._uploads_max and own_bytes * rivals <= self._bytes_max
        return not own or shares

    def _counted(self, size_bytes: int, *uploads: Upload) -> int:
        """The bytes that count: of a huge body only those of the next seconds."""
        most_bytes = self._bytes_max // 4
        return min(size_bytes, most_bytes) + sum(min(upload.left_bytes, most_bytes) for upload in uploads)

    def _wanting(self, now_s: float) -> set[str]:
        for peer in [peer for peer, at_s in self._refused_s.items() if now_s - at_s > _REMEMBERED_S]:
            del self._refused_s[peer]
        return set(self._refused_s)

    def _wait_s(self, now_s: float) -> float:
        """Until the first upload ends, at the rate that each had so far."""
        waits_s = [
            upload.left_bytes * (now_s - upload.started_s) / upload.sent_bytes
            for upload in self._uploads
            if upload.sent_bytes
        ]
        return min(max(min(waits_s, default=_WAIT_UNKNOWN_S), _WAIT_LEAST_S), _WAIT_MOST_S)

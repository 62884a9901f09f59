"""How many bodies this node sends to other nodes at once, and which peers are refused for now.

A request is admitted or refused at once. There is no queue: a refused peer can go to another holder, and a
queued peer would not know that it waits. Uploads are bounded in number and in bytes still to be sent. Once
half of either is used, each peer may have an equal share at most, so that a peer that pulls a large image
does not shut out the others. Pure. Times are seconds of one monotonic clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_REMEMBERED_S = 2.0  # for this long a refused peer counts as one that wants to upload
_WAIT_LEAST_S = 0.05
_WAIT_MOST_S = 10.0
_FLOORS_FED = 2  # uploads do not share a limit evenly, so it has to give each of them twice the floor
_WAIT_UNKNOWN_S = 0.5  # while no upload has sent a byte from which to estimate the wait


@dataclass(slots=True, kw_only=True, eq=False)
class Upload:
    """A body that is being sent. ``peer``: the peer that it counts for (`Caller.admission_key`)."""

    peer: str
    left_bytes: int
    started_s: float
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """There is no room now. ``wait_s``: the estimated time until there is."""

    wait_s: float


def uploads_fed(uploads_max: int, *, upload_bytes_per_s: int, floor_bytes_per_s: int) -> int:
    """How many uploads to admit at once: ``uploads_max``, but no more than a rate limit can feed.

    ``upload_bytes_per_s``: the limit for all uploads together; 0: no limit. ``floor_bytes_per_s``: peers give
    up an upload that is slower.
    """
    if not upload_bytes_per_s or not floor_bytes_per_s:
        return uploads_max
    fed = upload_bytes_per_s // (_FLOORS_FED * floor_bytes_per_s)
    return max(1, min(uploads_max, fed))


class Admission:
    """Admits ``uploads_max`` bodies with ``bytes_max`` bytes still to be sent. One body always fits."""

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
        """Admit or refuse a body of this size for ``peer``."""
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
        # The last quarter is for peers that have no upload yet.
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
        """The bytes that count. A huge body counts as a quarter of ``bytes_max``: the rest is sent later."""
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

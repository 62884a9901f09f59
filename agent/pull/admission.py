"""How many bodies this node sends to other nodes at once, and which peers are refused for now.

A request is admitted or refused at once. There is no queue: a refused peer can go to another holder, and a
queued peer would not know that it waits. Uploads are bounded in number and in bytes still to be sent. Once
half of either is used, each peer may have an equal share at most, so that a peer that pulls a large image
does not shut out the others.

The parts (ranges) of one blob that one peer fetches at the same time are one upload: they share one place,
and a further part is not refused. Open-ended parts overlap, so their bytes are counted once: a client that
fetches in chunks asks for the rest of the blob each time, and leaves after its chunk. Pure. Times are seconds
of one monotonic clock.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from agent.oci.digest import Digest

_REMEMBERED_S = 2.0  # for this long a refused peer counts as one that wants to upload
_WAIT_LEAST_S = 0.05
_WAIT_MOST_S = 10.0
_FLOORS_FED = 2  # uploads do not share a limit evenly, so it has to give each of them twice the floor
_WAIT_UNKNOWN_S = 0.5  # while no upload has sent a byte from which to estimate the wait
_SPARED_S = 0.25  # no other peer gets an idle place so soon: the next part comes within a few round trips

KEPT_S = 3.0
"""A part's place is kept so long for the next part of its blob, while no other peer needs it.

A client that reads on beyond its chunk is waited for (`chunks.LEAVES_S`) before more is asked for.
"""

PARTS_MAX = 64
"""How many parts of a blob share one place. containerd fetches 3 by default, 20 where it was tuned."""


@dataclass(slots=True, kw_only=True, eq=False)
class Upload:
    """A body that is being sent: bytes ``start`` to ``stop`` of a blob.

    ``peer``: the peer that it counts for (`Caller.admission_key`). ``part_of``: the blob, if a range of it
    was requested. None: the whole content.
    """

    peer: str
    part_of: Digest | None
    start: int
    stop: int
    started_s: float
    sent_bytes: int = 0

    @property
    def left_bytes(self) -> int:
        """How many bytes are still to be sent."""
        return self.stop - self.start - self.sent_bytes


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """What counts as one upload: a whole body, or the parts of one blob for one peer.

    ``blob``: parts of it are admitted here. ``idle_s``: since when it has no part.
    """

    peer: str
    blob: Digest | None
    started_s: float
    sent_bytes: int = 0
    uploads: set[Upload] = field(default_factory=set)
    idle_s: float | None = None

    @property
    def left_bytes(self) -> int:
        """How many different bytes are still to be sent."""
        left, reached = 0, 0
        for start, stop in sorted((upload.start + upload.sent_bytes, upload.stop) for upload in self.uploads):
            left += max(0, stop - max(start, reached))
            reached = max(reached, stop)
        return left


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
    """Admits ``uploads_max`` uploads with ``bytes_max`` bytes still to be sent. One upload always fits."""

    def __init__(self, *, uploads_max: int, bytes_max: int) -> None:
        self._uploads_max = uploads_max
        self._bytes_max = bytes_max
        self._places: set[_Place] = set()
        self._place_of: dict[Upload, _Place] = {}
        self._shared: dict[tuple[str, Digest], _Place] = {}
        self._refused_s: dict[str, float] = {}
        self.refused = 0

    def __len__(self) -> int:
        """How many uploads are under way. The parts of a blob for one peer are one upload."""
        return sum(1 for place in self._places if place.uploads)

    def __iter__(self) -> Iterator[Upload]:
        return iter(self._place_of)

    @property
    def left_bytes(self) -> int:
        """How many bytes of all uploads are still to be sent."""
        return sum(place.left_bytes for place in self._places)

    def admit(
        self,
        peer: str,
        size_bytes: int,
        now_s: float,
        *,
        blob: Digest | None = None,
        start: int = 0,
        part: bool = False,
    ) -> Upload | Refused:
        """Admit or refuse a body of this size for ``peer``. It begins at byte ``start`` of ``blob``.

        ``part``: a range was requested. While this peer is sent ``blob``, a part of it is not refused.
        """
        self._expire(now_s)
        place = None if blob is None or not part else self._shared.get((peer, blob))
        if place is None or len(place.uploads) >= PARTS_MAX:
            idle = self._in_the_way(peer, size_bytes, now_s)
            if idle is None:
                return self._refuse(peer, now_s)
            self._remove_all(idle)
            place = self._new_place(peer, blob, now_s)
        upload = Upload(
            peer=peer,
            part_of=blob if part else None,
            start=start,
            stop=start + size_bytes,
            started_s=now_s,
        )
        place.uploads.add(upload)
        place.idle_s = None
        self._place_of[upload] = place
        self._refused_s.pop(peer, None)
        return upload

    def would_refuse(self, peer: str, now_s: float) -> Refused | None:
        """What a peer would be told if it asked for a small body now."""
        self._expire(now_s)
        return self._refuse(peer, now_s) if self._in_the_way(peer, 1, now_s) is None else None

    def sent(self, upload: Upload, size_bytes: int) -> None:
        """Note that this many more bytes of it were sent."""
        upload.sent_bytes += size_bytes
        self._place_of[upload].sent_bytes += size_bytes

    def ended(self, upload: Upload, now_s: float) -> None:
        """Note that the upload ended, whole or not. Its place is kept for a moment if it was a part."""
        place = self._place_of.pop(upload, None)
        if place is None:
            return
        place.uploads.discard(upload)
        if place.uploads:
            return
        if upload.part_of is None:
            self._remove(place)
        else:
            place.idle_s = now_s

    def _new_place(self, peer: str, blob: Digest | None, now_s: float) -> _Place:
        place = _Place(peer=peer, blob=blob, started_s=now_s)
        self._places.add(place)
        if blob is not None:
            self._shared.setdefault((peer, blob), place)
        return place

    def _remove(self, place: _Place) -> None:
        self._places.discard(place)
        if place.blob is not None and self._shared.get((place.peer, place.blob)) is place:
            del self._shared[place.peer, place.blob]

    def _expire(self, now_s: float) -> None:
        self._remove_all(p for p in self._places if p.idle_s is not None and now_s - p.idle_s >= KEPT_S)

    def _remove_all(self, places: Iterable[_Place]) -> None:
        for place in [*places]:
            self._remove(place)

    def _refuse(self, peer: str, now_s: float) -> Refused:
        self._refused_s[peer] = now_s
        self.refused += 1
        return Refused(wait_s=self._wait_s(now_s))

    def _in_the_way(self, peer: str, size_bytes: int, now_s: float) -> list[_Place] | None:
        """The idle places to remove so that there is room. None: there would still be none.

        Those that are kept for this peer go first, then those of others, the one that is idle longest first.
        """
        idle = [
            place
            for place in self._places
            if place.idle_s is not None and (place.peer == peer or now_s - place.idle_s >= _SPARED_S)
        ]
        idle.sort(key=lambda place: (place.peer != peer, place.idle_s))
        if self._has_room(self._places, peer, size_bytes, now_s):
            return []
        if not self._has_room(self._places.difference(idle), peer, size_bytes, now_s):
            return None
        number = 1
        while not self._has_room(self._places.difference(idle[:number]), peer, size_bytes, now_s):
            number += 1
        return idle[:number]

    def _has_room(self, places: Set[_Place], peer: str, size_bytes: int, now_s: float) -> bool:
        if not places:
            return True
        number = len(places) + 1
        total_bytes = self._counted(size_bytes, places)
        own = [place for place in places if place.peer == peer]
        # The last quarter is for peers that have no upload yet.
        uploads_max = self._uploads_max - (self._uploads_max // 4 if own else 0)
        bytes_max = self._bytes_max - (self._bytes_max // 4 if own else 0)
        if number > uploads_max or total_bytes > bytes_max:
            return False
        if 2 * number <= self._uploads_max and 2 * total_bytes <= self._bytes_max:
            return True
        rivals = len({place.peer for place in places} | self._wanting(now_s) | {peer})
        own_bytes = self._counted(size_bytes, own)
        shares = (len(own) + 1) * rivals <= self._uploads_max and own_bytes * rivals <= self._bytes_max
        return not own or shares

    def _counted(self, size_bytes: int, places: Iterable[_Place]) -> int:
        """The bytes that count. A huge body counts as a quarter of ``bytes_max``: the rest is sent later."""
        most_bytes = self._bytes_max // 4
        return min(size_bytes, most_bytes) + sum(min(place.left_bytes, most_bytes) for place in places)

    def _wanting(self, now_s: float) -> set[str]:
        for peer in [peer for peer, at_s in self._refused_s.items() if now_s - at_s > _REMEMBERED_S]:
            del self._refused_s[peer]
        return set(self._refused_s)

    def _wait_s(self, now_s: float) -> float:
        """Until the first upload ends, at the rate that each had so far, or an idle place may be removed."""
        waits_s = [
            place.left_bytes * (now_s - place.started_s) / place.sent_bytes
            for place in self._places
            if place.sent_bytes and place.uploads
        ]
        spared_s = [place.idle_s + _SPARED_S - now_s for place in self._places if place.idle_s is not None]
        waits_s += [left_s for left_s in spared_s if left_s > 0]
        return min(max(min(waits_s, default=_WAIT_UNKNOWN_S), _WAIT_LEAST_S), _WAIT_MOST_S)

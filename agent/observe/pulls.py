"""Pulls of whole images: the requests of one client for one repository, one soon after the other.

A client does not say which image a blob is for. So two images of one repository that it pulls at the same
time are one pull here, with two references.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from agent.documents.pulls import PullEntry, SlowestEntry
from agent.documents.sums import TierBytesEntry
from agent.documents.times import utc
from agent.flows.verdicts import Verdict
from agent.observe.requests import RequestPath, RequestRecord, Result
from agent.observe.steps import Step
from agent.oci.reference import Addressed, Kind, Named
from topology.placement import Tier

GAP_S = 30.0
"""A client that asks nothing for so long has ended its pull. Unpacking a layer takes less."""

_IDS_MAX = 64
_REFERENCES_MAX = 8
_FINE = (Result.OK, Result.REDIRECTED, Result.NOT_FOUND)

_GRAVEST_FIRST = tuple(
    verdict.value
    for verdict in (
        Verdict.KUBE_PROXY_REMOTE,
        Verdict.KUBE_PROXY,
        Verdict.SOCKET_LB,
        Verdict.PROXIED,
        Verdict.HOSTPORT_NAT,
        Verdict.FAILED,
        Verdict.UNKNOWN,
        Verdict.DIRECT,
    )
)

_Key = tuple[RequestPath, str, str]


@dataclass(eq=False, slots=True, kw_only=True)
class _Pull:
    """``began_s``, ``active_s``: its first arrival, and the last arrival or end, of one clock."""

    id: str
    key: _Key
    unix_s: float
    began_s: float
    active_s: float
    tags: dict[str, None] = field(default_factory=dict)
    manifests: dict[str, None] = field(default_factory=dict)
    has_blobs: bool = False
    ids: deque[str] = field(default_factory=lambda: deque(maxlen=_IDS_MAX))
    request_count: int = 0
    size_bytes: int = 0
    tier_bytes: Counter[Tier] = field(default_factory=Counter)
    not_found: int = 0
    failed: int = 0
    verdict: str | None = None
    slowest: tuple[str, Step, float] | None = None  # the request, its step, and when the request began
    running: dict[str, RequestRecord] = field(default_factory=dict)

    def asked(self, record: RequestRecord, target: Named | Addressed, now_s: float) -> None:
        self.active_s = now_s
        self.request_count += 1
        self.ids.append(record.id)
        self.running[record.id] = record
        if isinstance(target, Named):
            _note(self.tags, target.tag)
        elif target.kind is Kind.MANIFEST:
            _note(self.manifests, target.digest)
        else:
            self.has_blobs = True

    def ended(self, record: RequestRecord, now_s: float) -> None:
        self.active_s = now_s
        self.running.pop(record.id, None)
        self.size_bytes += record.body_bytes
        _add_tier_bytes(self.tier_bytes, record)
        self.not_found += record.result is Result.NOT_FOUND
        self.failed += record.result not in _FINE
        for step in record.steps:
            if self.slowest is None or step.seconds > self.slowest[1].seconds:
                self.slowest = record.id, step, record.steps.began_s

    def judged(self, verdict: str) -> None:
        rank = _GRAVEST_FIRST.index
        if self.verdict is None or rank(verdict) < rank(self.verdict):
            self.verdict = verdict

    def is_over(self, target: Named | Addressed, now_s: float) -> bool:
        """Whether a request for this begins another pull. A tag after blobs is asked for anew."""
        if self.running:
            return False
        return now_s - self.active_s > GAP_S or (self.has_blobs and isinstance(target, Named))

    def entry(self, now_s: float) -> PullEntry:
        path, client, image = self.key
        tiers = Counter(self.tier_bytes)
        for record in self.running.values():
            _add_tier_bytes(tiers, record)
        sent_bytes = sum(record.body_bytes for record in self.running.values())
        end_s = now_s if self.running else self.active_s
        slowest = None
        if self.slowest is not None:
            request, step, arrived_s = self.slowest
            slowest = SlowestEntry(request=request, step=step.entry(arrived_s))
        return PullEntry(
            id=self.id,
            image=image,
            references=tuple(self.tags or self.manifests),
            path=path.value,
            client=client,
            started_at=utc(self.unix_s),
            seconds=round(end_s - self.began_s, 6),
            under_way=bool(self.running),
            requests=tuple(self.ids),
            request_count=self.request_count,
            size_bytes=self.size_bytes + sent_bytes,
            bytes_by_tier=tuple(
                TierBytesEntry(tier=tier.label, size_bytes=tiers[tier]) for tier in Tier if tiers[tier]
            ),
            not_found=self.not_found,
            failed=self.failed,
            verdict=self.verdict,
            slowest=slowest,
            running=tuple(record.document() for record in islice(self.running.values(), _IDS_MAX)),
        )


class ImagePulls:
    """The last ``keep`` pulls. ``changes`` grows with each change, but for the bytes of what is under way."""

    def __init__(self, keep: int = 64, clock: Callable[[], float] = time.monotonic) -> None:
        self.keep = keep
        self.changes = 0
        self._clock = clock
        self._pulls: deque[_Pull] = deque()
        self._last: dict[_Key, _Pull] = {}
        self._running: dict[str, _Pull] = {}

    @property
    def under_way(self) -> bool:
        """Whether any request of a pull is under way."""
        return bool(self._running)

    def asked(self, record: RequestRecord, target: Named | Addressed, client: str) -> None:
        """A client asks for content. ``client``: its node or address. `ended` follows for each."""
        now_s = self._clock()
        registry = "" if target.registry is None else f"{target.registry}/"
        key = (record.path, client, f"{registry}{target.repository}")
        pull = self._last.get(key)
        if pull is None or pull.is_over(target, now_s):
            pull = self._begin(record, key, now_s)
        pull.asked(record, target, now_s)
        self._running[record.id] = pull
        self.changes += 1

    def ended(self, record: RequestRecord) -> None:
        """A request ended. One that was none of a pull is none here, either."""
        pull = self._running.pop(record.id, None)
        if pull is not None:
            pull.ended(record, self._clock())
            self.changes += 1

    def judged(self, record: RequestRecord) -> None:
        """A request has its verdict, if it is to have any."""
        if record.verdict is None:
            return
        for pull in reversed(self._pulls):
            if record.id in pull.ids:
                pull.judged(record.verdict)
                self.changes += 1
                return

    def newest_first(self, limit: int | None = None) -> tuple[PullEntry, ...]:
        """The pulls that are remembered, newest first. ``limit``: at most this many."""
        now_s = self._clock()
        return tuple(pull.entry(now_s) for pull in islice(reversed(self._pulls), limit))

    def _begin(self, record: RequestRecord, key: _Key, now_s: float) -> _Pull:
        pull = _Pull(id=record.id, key=key, unix_s=record.unix_s, began_s=now_s, active_s=now_s)
        self._last[key] = pull
        self._pulls.append(pull)
        if len(self._pulls) > self.keep:
            oldest = self._pulls.popleft()
            if self._last.get(oldest.key) is oldest:
                del self._last[oldest.key]
        return pull


def _add_tier_bytes(to: Counter[Tier], record: RequestRecord) -> None:
    """How many bytes of the body came from how near. While it is under way: as the first source is."""
    for part in record.sources:
        to[part.tier] += part.size_bytes
    if not record.sources and record.tier is not None and record.body_bytes:
        to[record.tier] += record.body_bytes


def _note(noted: dict[str, None], name: str) -> None:
    if len(noted) < _REFERENCES_MAX:
        noted[name] = None

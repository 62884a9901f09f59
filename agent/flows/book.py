"""What the agent knows about the flows behind its own connections. Pure.

The probe's messages fill it. It outlives the probe: a restarted probe reports the same flows again, and they
are not counted twice.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice
from typing import TypeVar

from agent.flows.messages import Flows, Health, Hello, Introduced, Message
from agent.flows.proof import Proof
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict

_KEPT = 8192  # connections; containerd has a few dozen at a time
_OTHERS_KEPT = 1024  # of other processes
FLOWS_KEPT = 200
"""How many of the last judged flows are remembered, for the API."""
OTHERS_LISTED = 50
"""How many of them are other processes' than containerd and the probe."""

_WAIT_S = 1.5  # a little longer than the probe waits for a flow's evidence
_WAITING_MAX = 10_000

VerdictCallback = Callable[[Verdict | None], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsDelta:
    """What a message adds to the metrics.

    ``flows``: of containerd, and canaries. ``others``: of other processes. ``remote_received``,
    ``remote_sent``: bytes of containerd's closed flows that left the node.
    """

    flows: Counter[tuple[EndpointName, Verdict]] = field(default_factory=Counter)
    others: Counter[tuple[EndpointName, Verdict]] = field(default_factory=Counter)
    remote_received: int = 0
    remote_sent: int = 0
    contradictions: int = 0


class _Told:
    """What was told of some clients' connections. ``kept``: how many of them. ``listed``: for the API."""

    def __init__(self, *, kept: int, listed: int) -> None:
        self._kept = kept
        # Verdicts already counted, of open flows, by the client's cookie.
        self._known: OrderedDict[int, Verdict] = OrderedDict()
        self._pushed_out = 0
        # By the cookie of the agent's own socket; whether containerd made the connection comes last.
        self.by_own_cookie: OrderedDict[int, tuple[EndpointName, Verdict, bool]] = OrderedDict()
        self.recent: deque[tuple[float, Flow]] = deque(maxlen=listed)

    def is_uncounted(self, flow: Flow) -> bool:
        """Whether this verdict on this flow was not counted yet."""
        known = self._known.get(flow.cookie)
        if known is None and self._pushed_out and not flow.verdict_is_new:
            return False  # it was counted before others pushed it out
        return known is not flow.verdict

    def count(self, flow: Flow, now_s: float) -> None:
        """This verdict is counted now."""
        self._pushed_out += _keep(self._known, flow.cookie, flow.verdict, self._kept)
        self.recent.append((now_s, flow))

    def took(self, flow: Flow) -> None:
        """The agent's own socket took it."""
        taken = (flow.endpoint, flow.verdict, flow.by_containerd)
        _keep(self.by_own_cookie, flow.taken_by, taken, self._kept)

    def closed(self, cookie: int) -> None:
        """It is not told again, not even by another probe."""
        self._known.pop(cookie, None)


class FlowBook:
    """Verdicts by the cookie of the agent's own socket (SO_COOKIE).

    What other processes of the node connect has tables of its own, so it never pushes out containerd's.
    """

    def __init__(self, *, own: str, canary_interval_s: float) -> None:
        self.proof = Proof(own=own, canary_interval_s=canary_interval_s)
        self._ours = _Told(kept=_KEPT, listed=FLOWS_KEPT)
        self._others = _Told(kept=_OTHERS_KEPT, listed=OTHERS_LISTED)
        self._waiting: OrderedDict[int, tuple[float, list[VerdictCallback]]] = OrderedDict()
        self._contradictions = 0
        self._probe_started_s = 0.0
        self.programs: tuple[int, ...] = ()  # the ids of the last probe's eBPF programs
        self.known_programs: tuple[int, ...] = ()  # those of another probe, see `Introduction.known`
        self.foreign = 0  # connections of other network namespaces, since the probe started
        self.connected = False

    def apply(self, message: Message, now_s: float) -> MetricsDelta:
        """Apply a message of the probe. Returns what it adds to the metrics."""
        if isinstance(message, Hello):
            self.connected = True
            self.programs = message.programs
            if message.started_s != self._probe_started_s:  # another probe, which counts from its own start
                self._probe_started_s, self._contradictions = message.started_s, 0
            return MetricsDelta()
        if isinstance(message, Health):
            return self._health(message)
        if isinstance(message, Introduced):
            return MetricsDelta()
        return self._flows(message, now_s)

    def on_probe_lost(self) -> None:
        """The probe is gone. From now on nothing is proved."""
        self.connected = False
        self.proof.on_probe_lost()
        for cookie in list(self._waiting):
            self._answer(cookie, None)

    def verdict(self, cookie: int) -> Verdict | None:
        """The verdict on the flow behind one of the agent's own sockets. None if there is none (yet), or if
        the client is on another node.
        """
        return self._taken(cookie)[1]

    def when_judged(self, cookie: int, callback: VerdictCallback, now_s: float) -> None:
        """Call ``callback`` with the verdict as soon as it is known, or with None if none is expected."""
        endpoint, verdict, by_containerd = self._taken(cookie)
        if endpoint is EndpointName.HOSTPORT and verdict is not None and by_containerd:
            self.proof.on_request(verdict, now_s)
        if verdict is not None or not self.connected or len(self._waiting) >= _WAITING_MAX:
            callback(verdict)
            return
        self._waiting.setdefault(cookie, (now_s + _WAIT_S, []))[1].append(callback)

    def tick(self, now_s: float) -> None:
        """Call the callbacks that waited too long, with None."""
        while self._waiting:
            cookie, (until_s, _) = next(iter(self._waiting.items()))
            if until_s > now_s:
                return
            self._answer(cookie, None)

    def proved(self, now_s: float) -> tuple[bool, str]:
        """Whether the path to the HostPort is proved to be direct, and the reason. See `Proof`."""
        if not self.connected:
            return False, "no probe reports this node's flows"
        return self.proof.proved(now_s)

    def newest_first(self, limit: int = FLOWS_KEPT) -> list[tuple[float, Flow]]:
        """The last flows that were judged, newest first, each with the time when its verdict came."""
        told = merge(reversed(self._ours.recent), reversed(self._others.recent), key=_at_s, reverse=True)
        return list(islice(told, min(limit, FLOWS_KEPT)))

    def _health(self, health: Health) -> MetricsDelta:
        self.proof.on_health(health)
        self.foreign = health.foreign
        new = max(0, health.contradictions - self._contradictions)
        self._contradictions = health.contradictions
        return MetricsDelta(contradictions=new)

    def _flows(self, message: Flows, now_s: float) -> MetricsDelta:
        news = MetricsDelta()
        received = sent = 0
        for flow in message.flows:
            told, counted = (self._ours, news.flows) if flow.counts else (self._others, news.others)
            if told.is_uncounted(flow):
                counted[flow.endpoint, flow.verdict] += 1
                told.count(flow, now_s)
                self.proof.on_flow(flow, now_s)
            if flow.taken_by:
                told.took(flow)
                self._answer(flow.taken_by, flow.verdict)
            if flow.closed:
                told.closed(flow.cookie)
                if flow.verdict is Verdict.KUBE_PROXY_REMOTE and flow.by_containerd:
                    received, sent = received + flow.bytes_received, sent + flow.bytes_sent
        return replace(news, remote_received=received, remote_sent=sent)

    def _taken(self, cookie: int) -> tuple[EndpointName | None, Verdict | None, bool]:
        """What is known of the flow that one of the agent's own sockets took."""
        ours, others = self._ours.by_own_cookie, self._others.by_own_cookie
        return ours.get(cookie) or others.get(cookie) or (None, None, False)

    def _answer(self, cookie: int, verdict: Verdict | None) -> None:
        waiting = self._waiting.pop(cookie, None)
        if waiting is not None:
            for callback in waiting[1]:
                callback(verdict)


def _at_s(told: tuple[float, Flow]) -> float:
    return told[0]


def _keep(table: OrderedDict[int, _T], key: int, value: _T, at_most: int) -> bool:
    """Add an entry. Returns whether it pushed out the oldest one."""
    table[key] = value
    table.move_to_end(key)
    if len(table) <= at_most:
        return False
    table.popitem(last=False)
    return True

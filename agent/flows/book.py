"""What the agent knows about the flows behind its own connections. Pure.

The probe's messages fill it. It outlives the probe: a restarted probe reports the same flows again, and they
are not counted twice.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from agent.flows.messages import Flows, Health, Hello, Introduced, Message
from agent.flows.proof import Proof
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict

_KEPT = 8192  # connections; containerd has a few dozen at a time
FLOWS_KEPT = 200
"""How many of the last judged flows are remembered, for the API."""

_WAIT_S = 1.5  # a little longer than the probe waits for a flow's evidence
_WAITING_MAX = 10_000

VerdictCallback = Callable[[Verdict | None], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsDelta:
    """What a message adds to the metrics.

    ``remote_received``, ``remote_sent``: bytes of closed flows that left the node.
    """

    flows: Counter[tuple[EndpointName, Verdict]] = field(default_factory=Counter)
    remote_received: int = 0
    remote_sent: int = 0
    contradictions: int = 0


class FlowBook:
    """Verdicts by the cookie of the agent's own socket (SO_COOKIE)."""

    def __init__(self, *, own: str, canary_interval_s: float) -> None:
        self.proof = Proof(own=own, canary_interval_s=canary_interval_s)
        # Verdicts already counted, of open flows, by the client's cookie.
        self._known: OrderedDict[int, Verdict] = OrderedDict()
        self._pushed_out = 0
        # By the agent's cookie; whether containerd made the connection comes last.
        self._by_own_cookie: OrderedDict[int, tuple[EndpointName, Verdict, bool]] = OrderedDict()
        self._waiting: OrderedDict[int, tuple[float, list[VerdictCallback]]] = OrderedDict()
        self._recent: deque[tuple[float, Flow]] = deque(maxlen=FLOWS_KEPT)
        self._contradictions = 0
        self._probe_started_s = 0.0
        self.foreign = 0  # connections of other network namespaces, since the probe started
        self.connected = False

    def apply(self, message: Message, now_s: float) -> MetricsDelta:
        """Apply a message of the probe. Returns what it adds to the metrics."""
        if isinstance(message, Hello):
            self.connected = True
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
        taken = self._by_own_cookie.get(cookie)
        return None if taken is None else taken[1]

    def when_judged(self, cookie: int, callback: VerdictCallback, now_s: float) -> None:
        """Call ``callback`` with the verdict as soon as it is known, or with None if none is expected."""
        endpoint, verdict, by_containerd = self._by_own_cookie.get(cookie, (None, None, False))
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
        return list(islice(reversed(self._recent), limit))

    def _health(self, health: Health) -> MetricsDelta:
        self.proof.on_health(health)
        self.foreign = health.foreign
        new = max(0, health.contradictions - self._contradictions)
        self._contradictions = health.contradictions
        return MetricsDelta(contradictions=new)

    def _flows(self, message: Flows, now_s: float) -> MetricsDelta:
        counts: Counter[tuple[EndpointName, Verdict]] = Counter()
        received = sent = 0
        for flow in message.flows:
            if self._is_uncounted(flow):
                counts[flow.endpoint, flow.verdict] += 1
                self._note(flow, now_s)
            if flow.taken_by:
                _keep(self._by_own_cookie, flow.taken_by, (flow.endpoint, flow.verdict, flow.by_containerd))
                self._answer(flow.taken_by, flow.verdict)
            if flow.closed:
                self._known.pop(flow.cookie, None)  # it is not told again, not even by another probe
                if flow.verdict is Verdict.KUBE_PROXY_REMOTE:
                    received, sent = received + flow.bytes_received, sent + flow.bytes_sent
        return MetricsDelta(flows=counts, remote_received=received, remote_sent=sent)

    def _is_uncounted(self, flow: Flow) -> bool:
        """Whether this verdict on this flow was not counted yet."""
        known = self._known.get(flow.cookie)
        if known is None and self._pushed_out and not flow.verdict_is_new:
            return False  # it was counted before others pushed it out
        return known is not flow.verdict

    def _note(self, flow: Flow, now_s: float) -> None:
        self._pushed_out += _keep(self._known, flow.cookie, flow.verdict)
        self._recent.append((now_s, flow))
        self.proof.on_flow(flow, now_s)

    def _answer(self, cookie: int, verdict: Verdict | None) -> None:
        waiting = self._waiting.pop(cookie, None)
        if waiting is not None:
            for callback in waiting[1]:
                callback(verdict)


def _keep(table: OrderedDict[int, _T], key: int, value: _T) -> bool:
    """Add an entry. Returns whether it pushed out the oldest one."""
    table[key] = value
    table.move_to_end(key)
    if len(table) <= _KEPT:
        return False
    table.popitem(last=False)
    return True

"""What the agent knows of the flows behind its own connections, and whether the local path is proved. Pure.

Fed by the probe's messages. Outlives the probe: when it restarts, it tells of the same flows again.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from agent.flows.messages import Canary, Flows, Health, Hello, Message
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict

_KEPT = 8192  # connections; containerd has a few dozen at a time
_RECENT = 200
_WAIT_S = 1.5  # a little longer than a flow waits for its evidence
_WAITING_MAX = 10_000
_CANARIES_MISSED = 2.5  # so many intervals can pass until a canary proves nothing any more
_FORGIVEN = 10  # intervals after which a translated connection, without another one since, counts no more
_TRANSLATED = (Verdict.HOSTPORT_NAT, Verdict.KUBE_PROXY, Verdict.KUBE_PROXY_REMOTE, Verdict.SOCKET_LB)

Then = Callable[[Verdict | None], None]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a message brought, for the metrics. Bytes are those of closed flows that left the node."""

    flows: Counter[tuple[EndpointName, Verdict]] = field(default_factory=Counter)
    remote_received: int = 0
    remote_sent: int = 0
    contradictions: int = 0


class FlowBook:
    """Verdicts by the cookie of the agent's own socket (SO_COOKIE)."""

    def __init__(self, *, own: str, canary_interval_s: float) -> None:
        self._own = own
        self._interval_s = canary_interval_s
        self._known: OrderedDict[int, Verdict] = OrderedDict()  # by the client's cookie: what was counted
        self._taken: OrderedDict[int, Verdict] = OrderedDict()  # by the agent's cookie
        self._accepted: OrderedDict[int, None] = OrderedDict()  # cookies of the agent's own connections
        self._waiting: OrderedDict[int, tuple[float, list[Then]]] = OrderedDict()
        self._canaries: tuple[Canary, ...] = ()
        self._strangers: frozenset[int] = frozenset()  # cookies of sockets that took canaries, but not here
        self._recent: deque[Flow] = deque(maxlen=_RECENT)
        self._disproved: tuple[float, str] = (float("-inf"), "")
        self._contradictions = 0
        self._probe_started_s = 0.0
        self.connected = False

    def take(self, message: Message, now_s: float) -> News:
        """Take a message of the probe; what is new in it."""
        if isinstance(message, Hello):
            self.connected = True
            if message.started_s != self._probe_started_s:  # another one, which counts from its own start
                self._probe_started_s, self._contradictions = message.started_s, 0
            return News()
        if isinstance(message, Health):
            return self._health(message, now_s)
        return self._flows(message, now_s)

    def lost(self) -> None:
        """The probe is gone: nothing is proved from now on."""
        self.connected = False
        self._canaries = ()
        for cookie in list(self._waiting):
            self._answer(cookie, None)

    def verdict(self, cookie: int) -> Verdict | None:
        """Of the flow behind one of the agent's own sockets; None if it is not known, or not a local one."""
        return self._taken.get(cookie)

    def ask(self, cookie: int, then: Then, now_s: float) -> None:
        """Call ``then`` with the verdict once it is known, or with None when none is to be expected.

        ``cookie``: of a connection that the agent accepted.
        """
        _keep(self._accepted, cookie, None)
        verdict = self.verdict(cookie)
        if verdict is not None or not self.connected or len(self._waiting) >= _WAITING_MAX:
            then(verdict)
            return
        self._waiting.setdefault(cookie, (now_s + _WAIT_S, []))[1].append(then)

    def tick(self, now_s: float) -> None:
        """Answer those who waited long enough."""
        while self._waiting:
            cookie, (until_s, _) = next(iter(self._waiting.items()))
            if until_s > now_s:
                return
            self._answer(cookie, None)

    def proved(self, now_s: float) -> tuple[bool, str]:
        """Whether the HostPort's path is proved to be direct, and why (not).

        Canaries must be direct, and taken by this agent. A client's connection that was translated counts
        until a later one is direct, as rules can tell clients apart; one that failed does not: the agent may
        have been restarting.
        """
        if not self.connected:
            return False, "no probe tells of this node's flows"
        canaries = [canary for canary in self._canaries if canary.endpoint is EndpointName.HOSTPORT]
        if not canaries:
            return False, "no canary was sent to the HostPort yet"
        for canary in canaries:
            if now_s - canary.at_s > self._interval_s * _CANARIES_MISSED:
                return False, f"the last canary to {canary.address} is {now_s - canary.at_s:.0f} s old"
            if canary.verdict is not Verdict.DIRECT:
                return False, f"the canary to {canary.address} was {canary.verdict.value}: {canary.reason}"
            if canary.taken_by in self._strangers:
                return False, f"the canary to {canary.address} was taken by a socket that is not this agent's"
            if canary.answered_by != self._own:
                by = canary.answered_by or "something that is no agent"
                return False, f"the canary to {canary.address} was answered by {by}"
        at_s, reason = self._disproved
        if now_s - at_s < self._interval_s * _FORGIVEN:
            return False, reason
        return True, "the last canary was direct, and so was the last connection"

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """The last round of them."""
        return self._canaries

    def newest_first(self) -> list[Flow]:
        """The last flows that were judged."""
        return list(reversed(self._recent))

    def _health(self, health: Health, now_s: float) -> News:
        if health.canaries:
            self._canaries = health.canaries
            self._strangers = frozenset(
                canary.taken_by for canary in health.canaries if canary.taken_by not in self._accepted
            )
        new = max(0, health.contradictions - self._contradictions)
        self._contradictions = health.contradictions
        if new:
            self._disproved = now_s, "the two ends of a connection contradict each other"
        return News(contradictions=new)

    def _flows(self, message: Flows, now_s: float) -> News:
        counts: Counter[tuple[EndpointName, Verdict]] = Counter()
        received = sent = 0
        for flow in message.flows:
            if self._known.get(flow.cookie) is not flow.verdict:
                counts[flow.endpoint, flow.verdict] += 1
                self._note(flow, now_s)
            if flow.taken_by:
                _keep(self._taken, flow.taken_by, flow.verdict)
                self._answer(flow.taken_by, flow.verdict)
            if flow.closed and flow.verdict is Verdict.KUBE_PROXY_REMOTE:
                received, sent = received + flow.bytes_received, sent + flow.bytes_sent
        return News(flows=counts, remote_received=received, remote_sent=sent)

    def _note(self, flow: Flow, now_s: float) -> None:
        _keep(self._known, flow.cookie, flow.verdict)
        self._recent.append(flow)
        if flow.endpoint is not EndpointName.HOSTPORT or flow.canary:
            return
        if flow.verdict in _TRANSLATED:
            self._disproved = now_s, f"a connection to {flow.asked} was {flow.verdict.value}: {flow.reason}"
        elif flow.verdict is Verdict.DIRECT:
            self._disproved = float("-inf"), ""

    def _answer(self, cookie: int, verdict: Verdict | None) -> None:
        waiting = self._waiting.pop(cookie, None)
        if waiting is not None:
            for then in waiting[1]:
                then(verdict)


def _keep(table: OrderedDict[int, _T], key: int, value: _T) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _KEPT:
        table.popitem(last=False)

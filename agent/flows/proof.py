"""Decides whether the path from containerd to the agent is proved to be direct, and why. Pure.

Canaries prove it. A client's connection that was translated, or that another process accepted, disproves it
for a while. Rules can treat clients differently, so one client's direct connection does not clear another's.
"""

from collections import OrderedDict

from agent.flows.messages import Canary, Health
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict

_CANARIES_MISSED = 2.5  # a canary that is older than so many intervals proves nothing
_FORGIVEN = 10  # intervals after which a disproof is dropped, unless it was seen again
_STRANGE_S = 2.0  # how long the agent may take to accept a connection that the probe already reported
_GONE_MAX = 8192
_NAT = (Verdict.HOSTPORT_NAT, Verdict.KUBE_PROXY, Verdict.KUBE_PROXY_REMOTE, Verdict.SOCKET_LB)


class Proof:
    """The proof of one node. ``own``: its name. Times are seconds of CLOCK_MONOTONIC, like the probe's."""

    def __init__(self, *, own: str, canary_interval_s: float) -> None:
        self._own = own
        self._interval_s = canary_interval_s
        self._open: set[int] = set()  # cookies of the agent's own connections
        self._gone: OrderedDict[int, None] = OrderedDict()  # and of connections that it closed recently
        self._unclaimed: OrderedDict[int, tuple[float, Flow]] = OrderedDict()  # (deadline, flow), by cookie
        self._canaries: tuple[Canary, ...] = ()
        self._strangers: frozenset[str] = frozenset()  # addresses whose canary another process accepted
        self._alike = True
        self._disproved: tuple[float, str] = (float("-inf"), "")

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """The last round of canaries."""
        return self._canaries

    def accepted(self, cookie: int) -> None:
        """The agent accepted a connection."""
        self._open.add(cookie)

    def closed(self, cookie: int) -> None:
        """A connection of the agent was closed."""
        self._open.discard(cookie)
        self._gone[cookie] = None
        if len(self._gone) > _GONE_MAX:
            self._gone.popitem(last=False)

    def on_probe_lost(self) -> None:
        """The probe is gone. From now on nothing is proved."""
        self._canaries = ()
        self._unclaimed.clear()

    def on_health(self, health: Health) -> None:
        """The probe reported its state and its canaries."""
        self._alike = health.alike
        if not health.canaries or health.canaries == self._canaries:
            return
        self._canaries = health.canaries
        self._strangers = frozenset(
            canary.address for canary in health.canaries if not self._is_own(canary.taken_by)
        )

    def on_flow(self, flow: Flow, now_s: float) -> None:
        """The probe reported a connection with a new verdict."""
        if flow.endpoint is not EndpointName.HOSTPORT or flow.canary:
            return
        if flow.verdict in _NAT or flow.translated:
            self.disprove(f"a connection to {flow.asked} was {flow.verdict.value}: {flow.reason}", now_s)
        elif flow.verdict is Verdict.DIRECT and flow.verdict_is_new and not self._is_own(flow.taken_by):
            self._unclaimed[flow.taken_by] = now_s + _STRANGE_S, flow
            if len(self._unclaimed) > _GONE_MAX:
                self._unclaimed.popitem(last=False)

    def on_request(self, verdict: Verdict, now_s: float) -> None:
        """A request came to the HostPort over a connection with this verdict. The connection may be old."""
        if verdict in _NAT:
            self.disprove(f"requests to the HostPort come over a connection that was {verdict.value}", now_s)

    def disprove(self, reason: str, now_s: float) -> None:
        """Record an observation that contradicts a direct path."""
        self._disproved = now_s, reason

    def tick(self, now_s: float) -> None:
        """Check for connections to the HostPort that the agent should have accepted by now."""
        while self._unclaimed:
            cookie, (until_s, flow) = next(iter(self._unclaimed.items()))
            if until_s > now_s:
                return
            del self._unclaimed[cookie]
            if not self._is_own(cookie):
                self.disprove(
                    f"a connection of {flow.comm or 'a process'} to {flow.asked} was taken by a socket that "
                    "is not this agent's",
                    now_s,
                )

    def proved(self, now_s: float) -> tuple[bool, str]:
        """Whether the path to the HostPort is proved to be direct, and the reason.

        A failed connection does not disprove it, because the agent may have been restarting.
        """
        canaries = [canary for canary in self._canaries if canary.endpoint is EndpointName.HOSTPORT]
        if not canaries:
            return False, "no canary was sent to the HostPort yet"
        for canary in canaries:
            reason = self._fault(canary, now_s)
            if reason is not None:
                return False, f"the canary to {canary.address} {reason}"
        if not self._alike:
            return False, "other eBPF programs run on containerd's connect() than on the canary's"
        at_s, reason = self._disproved
        if now_s - at_s < self._interval_s * _FORGIVEN:
            return False, reason
        return True, "the last canary was direct, and every recent connection was direct"

    def _fault(self, canary: Canary, now_s: float) -> str | None:
        if now_s - canary.at_s > self._interval_s * _CANARIES_MISSED:
            return f"is {now_s - canary.at_s:.0f} s old"
        if canary.verdict is not Verdict.DIRECT:
            return f"was {canary.verdict.value}: {canary.reason}"
        if canary.address in self._strangers:
            return "was taken by a socket that is not this agent's"
        if canary.answered_by != self._own:
            return f"was answered by {canary.answered_by or 'something that is not an agent'}"
        return None

    def _is_own(self, cookie: int) -> bool:
        return cookie in self._open or cookie in self._gone

"""Whether the path from containerd to the agent is proved to be direct, and why (not). Pure.

Canaries prove; a client's own connection that was translated, or that another process took, disproves for a
while, because rules can tell clients apart: one client's direct connection says nothing of another's.
"""

from collections import OrderedDict

from agent.flows.messages import Canary, Health
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict

_CANARIES_MISSED = 2.5  # so many intervals can pass until a canary proves nothing any more
_FORGIVEN = 10  # intervals after which what disproved, and was not seen again since, counts no more
_STRANGE_S = 2.0  # so long the agent may take to accept a connection that is told of already
_GONE_MAX = 8192
_NAT = (Verdict.HOSTPORT_NAT, Verdict.KUBE_PROXY, Verdict.KUBE_PROXY_REMOTE, Verdict.SOCKET_LB)


class Proof:
    """Of one node. ``own``: its name. Times are seconds of CLOCK_MONOTONIC, as the probe's are."""

    def __init__(self, *, own: str, canary_interval_s: float) -> None:
        self._own = own
        self._interval_s = canary_interval_s
        self._open: set[int] = set()  # cookies of the agent's own connections
        self._gone: OrderedDict[int, None] = OrderedDict()  # and of those that it closed lately
        self._unclaimed: OrderedDict[int, tuple[float, Flow]] = OrderedDict()  # until when to wait
        self._canaries: tuple[Canary, ...] = ()
        self._strangers: frozenset[str] = frozenset()  # addresses whose canary a stranger took
        self._alike = True
        self._disproved: tuple[float, str] = (float("-inf"), "")

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """The last round of them."""
        return self._canaries

    def accepted(self, cookie: int) -> None:
        """The agent accepted a connection."""
        self._open.add(cookie)

    def closed(self, cookie: int) -> None:
        """A connection of the agent's is gone."""
        self._open.discard(cookie)
        self._gone[cookie] = None
        if len(self._gone) > _GONE_MAX:
            self._gone.popitem(last=False)

    def lost(self) -> None:
        """The probe is gone: nothing is proved from now on."""
        self._canaries = ()
        self._unclaimed.clear()

    def health(self, health: Health) -> None:
        """Take what the probe tells of its canaries."""
        self._alike = health.alike
        if not health.canaries or health.canaries == self._canaries:
            return
        self._canaries = health.canaries
        self._strangers = frozenset(
            canary.address for canary in health.canaries if not self._is_own(canary.taken_by)
        )

    def flow(self, flow: Flow, now_s: float) -> None:
        """Take a connection whose verdict is new."""
        if flow.endpoint is not EndpointName.HOSTPORT or flow.canary:
            return
        if flow.verdict in _NAT or flow.translated:
            self.disprove(f"a connection to {flow.asked} was {flow.verdict.value}: {flow.reason}", now_s)
        elif flow.verdict is Verdict.DIRECT and flow.news and not self._is_own(flow.taken_by):
            self._unclaimed[flow.taken_by] = now_s + _STRANGE_S, flow
            if len(self._unclaimed) > _GONE_MAX:
                self._unclaimed.popitem(last=False)

    def asked(self, verdict: Verdict, now_s: float) -> None:
        """A request came to the HostPort by a connection with this verdict, which may be an old one."""
        if verdict in _NAT:
            self.disprove(f"requests to the HostPort come by a connection that was {verdict.value}", now_s)

    def disprove(self, reason: str, now_s: float) -> None:
        """Something was seen that a proved path does not have."""
        self._disproved = now_s, reason

    def tick(self, now_s: float) -> None:
        """Notice connections to the HostPort that the agent should have accepted by now."""
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
        """Whether the HostPort's path is proved to be direct, and why (not).

        A connection that failed does not disprove: the agent may have been restarting.
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
        return True, "the last canary was direct, and no connection lately was not"

    def _fault(self, canary: Canary, now_s: float) -> str | None:
        if now_s - canary.at_s > self._interval_s * _CANARIES_MISSED:
            return f"is {now_s - canary.at_s:.0f} s old"
        if canary.verdict is not Verdict.DIRECT:
            return f"was {canary.verdict.value}: {canary.reason}"
        if canary.address in self._strangers:
            return "was taken by a socket that is not this agent's"
        if canary.answered_by != self._own:
            return f"was answered by {canary.answered_by or 'something that is no agent'}"
        return None

    def _is_own(self, cookie: int) -> bool:
        return cookie in self._open or cookie in self._gone

"""Decides whether the path from containerd to the agent is proved to be direct, and why. Pure.

Canaries prove it. A connection of this node's containerd that was translated, or that another process took,
disproves it for a while. Rules can treat clients differently, so one client's direct connection does not
clear another's. For the same reason nothing that others connect, or refuse, disproves it: not another user of
the node, and not a pod.
"""

from agent.flows.messages import Canary, Health
from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict

_CANARIES_MISSED = 2.5  # a canary that is older than so many intervals proves nothing
_FORGIVEN = 10  # intervals after which a disproof is dropped, unless it was seen again
_ASTRAY = (
    Verdict.PROXIED,
    Verdict.HOSTPORT_NAT,
    Verdict.KUBE_PROXY,
    Verdict.KUBE_PROXY_REMOTE,
    Verdict.SOCKET_LB,
)


class Proof:
    """The proof of one node. ``own``: its name. Times are seconds of CLOCK_MONOTONIC, like the probe's."""

    def __init__(self, *, own: str, canary_interval_s: float) -> None:
        self._own = own
        self._interval_s = canary_interval_s
        self._canaries: tuple[Canary, ...] = ()
        self._alike = True
        self._disproved: tuple[float, str] = (float("-inf"), "")

    @property
    def canaries(self) -> tuple[Canary, ...]:
        """The last round of canaries."""
        return self._canaries

    def on_probe_lost(self) -> None:
        """The probe is gone. From now on nothing is proved."""
        self._canaries = ()

    def on_health(self, health: Health) -> None:
        """The probe reported its state and its canaries."""
        self._alike = health.alike
        if health.canaries:
            self._canaries = health.canaries

    def on_flow(self, flow: Flow, now_s: float) -> None:
        """The probe reported a connection with a new verdict."""
        if flow.endpoint is not EndpointName.HOSTPORT or flow.canary or not flow.by_containerd:
            return
        if flow.contradicted:
            self.disprove("the two ends of a connection contradict each other", now_s)
        elif flow.verdict in _ASTRAY or flow.translated:
            self.disprove(f"a connection to {flow.asked} was {flow.verdict.value}: {flow.reason}", now_s)

    def on_request(self, verdict: Verdict, now_s: float) -> None:
        """containerd sent a request to the HostPort over a connection with this verdict, which may be old."""
        if verdict in _ASTRAY:
            self.disprove(f"requests to the HostPort come over a connection that was {verdict.value}", now_s)

    def disprove(self, reason: str, now_s: float) -> None:
        """Record an observation that contradicts a direct path."""
        self._disproved = now_s, reason

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
        if canary.answered_by != self._own:
            return f"was answered by {canary.answered_by or 'something that is not an agent'}"
        return None

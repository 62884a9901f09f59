"""The verdict on one flow: the truth table as one function. Pure.

What is not proved is UNKNOWN. Missing evidence is never DIRECT. Sources: the rules that kube-proxy and the
CNI portmap plugin write, and how a translated packet differs from its own socket (docs/decisions/0010).
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from bpf.events import Address, Tuple, is_loopback

ANY = (b"\0" * 16, b"\0" * 10 + b"\xff\xff" + b"\0" * 4)
"""0.0.0.0 and ::, which connect() treats as loopback."""

PORTMAP_MARK = 0x2000  # CNI's portmap plugin marks connections from loopback, which it will masquerade


class Verdict(Enum):
    """What was proved about a flow. The values are metric labels."""

    DIRECT = "DIRECT"  # to the agent on this node, whose own socket took it; nothing was translated
    PROXIED = "PROXIED"  # taken on this node by a socket that is not the agent's
    HOSTPORT_NAT = "HOSTPORT_NAT"  # translated to a pod of this node by the CNI port map
    KUBE_PROXY = "KUBE_PROXY"  # translated by kube-proxy to this node
    KUBE_PROXY_REMOTE = "KUBE_PROXY_REMOTE"  # translated by kube-proxy to another node
    SOCKET_LB = "SOCKET_LB"  # connect() itself was rewritten, by another eBPF program
    FAILED = "FAILED"  # the connection was not established
    UNKNOWN = "UNKNOWN"  # not proved; the reason says what is missing


class EndpointName(Enum):
    """Which address of the agent the client asked for. The values are metric labels."""

    HOSTPORT = "hostport"
    NODEPORT = "nodeport"
    CLUSTERIP = "clusterip"


class Location(Enum):
    """Where an address is."""

    HOST = "host"  # an address of this node
    POD = "pod"  # a pod on this node, by the node's routes
    REMOTE = "remote"  # another node, or beyond
    UNSURE = "unsure"  # the routes do not say


class Taker(Enum):
    """Whose socket took a connection on this node."""

    AGENT = "agent"  # one that this node's agent opened, or that it says it accepted
    OTHER = "other"  # another process's
    UNSURE = "unsure"  # an agent may still claim it
    NOBODY = "nobody"  # no agent told the probe its sockets


class Accepted(NamedTuple):
    """The other end: a socket on this node that accepted the connection.

    ``socket``: the addresses as that socket sees them. ``wire``: the addresses of the packets that it sent.
    ``ours``: one of the agent's own listening sockets took it.
    """

    cookie: int
    netns: int
    socket: Tuple
    wire: Tuple
    time_ns: int = 0
    ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about a flow from a client on this node to the agent. ``None``: not known (yet).

    ``same_netns``: whether the client's socket is in the node's own network namespace. ``intent``: the
    argument of connect(). ``sure_of_intent``: no other program can have rewritten it without a trace.
    ``wire``: the addresses of the client's packets. ``location``: where the destination on the wire is.
    ``taker``: whose socket took it. ``owner``: the process that listens there, in words. ``counts``: for the
    proof, because containerd or the probe made it. ``complete``: no more evidence is expected.
    """

    endpoint: EndpointName
    same_netns: bool | None
    intent: Address | None
    sure_of_intent: bool
    socket: Tuple
    wire: Tuple | None
    established: bool
    closed: bool
    mark: int = 0
    accepted: Accepted | None = None
    location: Location | None = None
    taker: Taker = Taker.UNSURE
    owner: str | None = None
    counts: bool = True
    complete: bool = False

    @property
    def translated(self) -> bool:
        """Whether a packet had other addresses than its socket."""
        return self.wire is not None and self.wire != self.socket


class Finding(NamedTuple):
    """A verdict, and the reason in words for a person.

    ``verdict`` is None while more evidence is awaited. ``alarm``: the two ends contradict each other.
    """

    verdict: Verdict | None
    reason: str
    alarm: bool = False


_WAITING = Finding(None, "waiting for more evidence")


def judge(evidence: Evidence) -> Finding:
    """The verdict that this evidence proves."""
    if evidence.same_netns is False:
        return Finding(
            Verdict.UNKNOWN, "from another network namespace: the probe does not see how it is translated"
        )
    if not evidence.established:
        return _judge_failure(evidence)
    if evidence.same_netns is None:
        return _missing(evidence, "its network namespace is not known")
    if evidence.intent is not None and not is_asked_for(evidence.intent, evidence.socket.destination):
        return Finding(
            Verdict.SOCKET_LB,
            f"connect() asked for {evidence.intent}, the socket goes to {evidence.socket.destination}",
        )
    if evidence.wire is None:
        return _missing(evidence, "no packet was seen")
    if _contradict(evidence):
        return Finding(Verdict.UNKNOWN, "the two ends contradict each other", alarm=True)
    if evidence.translated:
        return _judge_translated(evidence, evidence.wire)
    return _judge_untranslated(evidence)


def _contradict(evidence: Evidence) -> bool:
    """Whether the two ends contradict each other.

    If both sockets are in the node's own namespace, the answer's packets leave with the addresses of the
    client's socket: the kernel undoes every translation on the way back before the hook sees the packet.
    """
    accepted = evidence.accepted
    if accepted is None or not evidence.same_netns or evidence.location is not Location.HOST:
        return False
    return accepted.wire.mirrored != evidence.socket


def is_asked_for(intent: Address, destination: Address) -> bool:
    """Whether a socket goes to the address that connect() asked for. 0.0.0.0 and :: mean loopback."""
    if intent == destination:
        return True
    return intent.ip in ANY and intent.port == destination.port and is_loopback(destination.ip)


def _judge_failure(evidence: Evidence) -> Finding:
    if not evidence.closed:
        return Finding(Verdict.UNKNOWN, "no answer yet") if evidence.complete else _WAITING
    if evidence.wire is None:
        return Finding(Verdict.FAILED, "nothing left the node: dropped or rejected by its own rules")
    if evidence.translated:
        return Finding(
            Verdict.FAILED, f"translated to {evidence.wire.destination}, which did not take the connection"
        )
    return Finding(Verdict.FAILED, "refused or not answered; nothing was translated")


def _judge_translated(evidence: Evidence, wire: Tuple) -> Finding:
    to = wire.destination
    if to == evidence.socket.destination:
        return Finding(Verdict.UNKNOWN, f"only its source was translated, to {wire.source}: a masquerade")
    if evidence.location is None:
        return _missing(evidence, f"translated to {to}, whose location is not known")
    if evidence.location is Location.UNSURE and evidence.accepted is None:
        return (
            Finding(Verdict.KUBE_PROXY_REMOTE, f"translated to {to}, where this node has no socket")
            if evidence.complete
            else _WAITING
        )
    if evidence.location is Location.HOST and evidence.taker is Taker.OTHER:
        return _judge_other(evidence, to)
    if evidence.location is Location.REMOTE:
        return Finding(Verdict.KUBE_PROXY_REMOTE, f"translated to {to}, which is not on this node")
    # The port map leads to pods and keeps the source port. kube-proxy's masquerade picks a random one.
    kept = wire.source.port == evidence.socket.source.port
    mapped = evidence.location is not Location.HOST and (evidence.mark & PORTMAP_MARK or kept)
    if evidence.endpoint is EndpointName.HOSTPORT and mapped:
        return Finding(Verdict.HOSTPORT_NAT, f"translated to {to} on this node, as a CNI port map does")
    return Finding(Verdict.KUBE_PROXY, f"translated to {to} on this node")


def _judge_untranslated(evidence: Evidence) -> Finding:
    accepted = evidence.accepted
    if accepted is not None and evidence.taker is Taker.OTHER:
        return _judge_other(evidence, accepted.socket.source)
    if evidence.intent is None and not evidence.sure_of_intent:
        return _missing(evidence, "connect() was not seen, and another program may rewrite it")
    if not evidence.sure_of_intent:
        return _missing(evidence, "another program may have rewritten connect() before it was seen")
    if accepted is None or evidence.location is not Location.HOST:
        return _missing(evidence, "no socket of this node was seen to take it")
    if not accepted.socket.mirrored == evidence.wire == accepted.wire.mirrored:
        return _missing(evidence, "the socket that took it has other addresses")
    if evidence.taker is Taker.NOBODY:  # nothing else is expected, so it is not kept
        return Finding(Verdict.UNKNOWN, "no agent of this node has told the probe its sockets")
    if evidence.taker is not Taker.AGENT:
        return _missing(evidence, "no agent of this node has told the probe that this socket is its own")
    reason = f"taken by {accepted.socket.source}, nothing translated at either end"
    if evidence.intent is None:
        reason += "; its connect() was not seen"
    return Finding(Verdict.DIRECT, reason)


def _judge_other(evidence: Evidence, where: Address) -> Finding:
    """A socket that is not the agent's took it: no agent that is known can claim it.

    If it counts, it waits to the end: an agent that has just started may still say that it is its own.
    Meanwhile it is looked up who listens there. What others make only waits for that name: a flood of it
    would cost memory, and a wrong verdict costs no proof.
    """
    if not evidence.complete and (evidence.counts or evidence.owner is None):
        return _WAITING
    who = evidence.owner or "another process"
    return Finding(Verdict.PROXIED, f"taken by {who} at {where}, which is not this node's agent")


def _missing(evidence: Evidence, what: str) -> Finding:
    return Finding(Verdict.UNKNOWN, what) if evidence.complete else Finding(None, what)

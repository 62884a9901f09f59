"""The flows of this node. Joins the events of both ends, and judges a flow whenever its evidence changes.

Pure: times are seconds of one monotonic clock. Bounded: if there are too many flows, the one that was
silent longest is dropped, and it is counted if it was not judged and reported yet. The connections that
count for the proof (containerd's and canaries) are not dropped for those of others, which have a bound of
their own.
"""

from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass
from functools import lru_cache

from agent.flows.node import NodeView
from agent.flows.verdicts import (
    Accepted,
    EndpointName,
    Evidence,
    Finding,
    Location,
    Taker,
    Verdict,
    judge,
)
from bpf.events import Address, Event, Flag, Kind, Owner, Tuple

_FLOWS_MAX = 2560  # open at the same time, 1.2 kB each; containerd has a few dozen
_OTHERS_MAX = 2048  # of those, other processes' than containerd and the probe
_UNDECIDED_MAX = 1024  # wait for more evidence at the same time
_ENDS_MAX = 2560
_ANY_NETNS = 0  # in place of a network namespace's cookie
# Plain numbers, because an operation on a Flag makes another Flag, and there are 15,000 of them per second.
_INTENT, _ESTABLISHED, _WIRE, _CLIENT, _FIRST, _BEGUN, _TOLD = (
    int(flag)
    for flag in (
        *(Flag.INTENT, Flag.ESTABLISHED, Flag.WIRE, Flag.CLIENT),
        *(Flag.FIRST, Flag.BEGUN, Flag.TOLD),
    )
)
_ROOT, _AGENT = int(Owner.ROOT), int(Owner.AGENT)
_SETTLE_S = 1.0  # both ends send events within one round trip of a request; the rest is scheduling


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A judged flow.

    ``cookie``: the cookie of the client's socket. ``taken_by``: the cookie of the socket that accepted the
    connection, 0 if not known. ``asked``: the destination that connect() asked for. ``went``: the destination
    on the wire. ``client``: the source on the wire, as the other end sees it. ``bytes_*`` are known when the
    flow is closed. ``verdict_is_new``: the verdict changed, and not only another field. ``canary``: the probe
    made the connection itself. ``by_containerd``: this node's containerd made it, by its cgroup.
    ``translated``: a packet had other addresses than its socket, whatever the verdict. ``contradicted``: its
    two ends contradict each other.
    """

    cookie: int
    taken_by: int
    endpoint: EndpointName
    verdict: Verdict
    reason: str
    client: Address
    asked: Address
    went: Address | None
    pid: int
    comm: str
    rtt_us: int
    closed: bool
    bytes_received: int
    bytes_sent: int
    verdict_is_new: bool = False
    canary: bool = False
    translated: bool = False
    by_containerd: bool = False
    contradicted: bool = False

    @property
    def counts(self) -> bool:
        """Whether it counts for the proof. Other processes' connections prove and disprove nothing."""
        return self.by_containerd or self.canary


@dataclass(frozen=True, slots=True, kw_only=True)
class RttSample:
    """A round trip to another node's address, as the kernel measured it."""

    address: Address
    rtt_us: int


@dataclass(slots=True)
class Tally:
    """Counts for the probe's metrics."""

    contradictions: int = 0
    forgotten: int = 0  # dropped unjudged or unreported, or UNKNOWN too early, because there were too many


@dataclass(slots=True)
class _Entry:
    endpoint: EndpointName
    event: Event
    wire: Tuple | None
    intent: Address | None
    sure_of_intent: bool
    established: bool = False
    closed: bool = False
    complete: bool = False
    accepted: Accepted | None = None
    finding: Finding | None = None
    published: Verdict | None = None
    unlocated: bytes | None = None
    location: Location | None = None  # kept for the life of the flow: only new flows follow route changes
    contradicted: bool = False
    told: bool = False  # it was published before it was pushed out by others
    taker: Taker = Taker.UNSURE  # the agent's stays the agent's: one that is gone has closed its sockets
    by_containerd: bool = False
    canary: bool = False

    @property
    def counts(self) -> bool:
        return self.by_containerd or self.canary


class FlowTable:
    """Events in, judged flows out.

    ``canaries``: the cookies of the sockets that the probe itself connects. ``flows_max``: how many flows are
    kept, ``others_max``: those of others among them. ``undecided_max``: how many wait for more evidence.
    """

    def __init__(
        self,
        node: NodeView,
        *,
        canaries: Container[int] = (),
        flows_max: int = _FLOWS_MAX,
        others_max: int = _OTHERS_MAX,
        undecided_max: int = _UNDECIDED_MAX,
        settle_s: float = _SETTLE_S,
    ) -> None:
        self._node = node
        self._canaries = canaries
        self._flows_max = flows_max
        self._others_max = others_max
        self._undecided_max = undecided_max
        self._settle_s = settle_s
        self._flows: OrderedDict[int, _Entry] = OrderedDict()
        self._others: OrderedDict[int, None] = OrderedDict()  # those that do not count for the proof
        self._by_wire: dict[Tuple, int] = {}  # the client's cookie, by the addresses of its packets
        # Accepting sockets whose client was not seen yet, by namespace and the client's packets' addresses.
        self._ends: OrderedDict[tuple[int, Tuple], Accepted] = OrderedDict()
        self._undecided: OrderedDict[int, float] = OrderedDict()  # deadline for more evidence, by cookie
        self._unlocated: dict[bytes, set[int]] = {}
        self._unnamed: set[int] = set()  # cookies of flows whose taker's name is looked for
        self._changed: dict[int, None] = {}
        self.tally = Tally()

    def add_event(self, event: Event, now_s: float) -> RttSample | None:
        """Process one event. Returns a sample if the event is a round trip to another node. O(1)."""
        if event.kind is Kind.RTT:
            return self._sample(event)
        if event.flags & _CLIENT:
            self._client(event, now_s)
        elif event.flags & _ESTABLISHED:
            self._server(event)
        return None

    def changes(self, now_s: float) -> list[Flow]:
        """The flows that got a verdict, changed or closed since the last call, each once.

        Judges the flows whose evidence should be complete by now. Forgets closed flows.
        """
        while self._undecided:
            cookie, until_s = next(iter(self._undecided.items()))
            if until_s > now_s:
                break
            self.settle(cookie)
        flows = []
        changed, self._changed = self._changed, {}
        for cookie in changed:
            entry = self._flows.get(cookie)
            if entry is None or entry.finding is None:
                continue
            if entry.told and entry.published is None:
                entry.published = entry.finding.verdict
            # A flow that others pushed out lost its evidence with that: what was told then stands.
            if not (entry.told and entry.finding.verdict is Verdict.UNKNOWN):
                flows.append(_flow(cookie, entry))
                entry.published = entry.finding.verdict
            if entry.closed:
                self._forget(cookie)
        return flows

    def open_flows(self) -> list[Flow]:
        """All judged flows that are open. The probe sends them to a new reader."""
        return [_flow(cookie, entry) for cookie, entry in self._flows.items() if entry.finding is not None]

    def settle(self, cookie: int) -> None:
        """Judge a flow by the evidence so far. No more evidence is expected."""
        entry = self._flows.get(cookie)
        if self._undecided.pop(cookie, None) is not None and entry is not None:
            entry.complete = True
            self._judge(cookie, entry)

    def flow(self, cookie: int) -> Flow | None:
        """A judged flow by its client's cookie. None if it is unknown, or not judged yet."""
        entry = self._flows.get(cookie)
        return None if entry is None or entry.finding is None else _flow(cookie, entry)

    def unlocated(self) -> list[bytes]:
        """The addresses that flows were translated to and whose location is not known."""
        return list(self._unlocated)

    @property
    def has_unnamed(self) -> bool:
        """Whether a flow waits for the name of the process that took it."""
        return bool(self._unnamed)

    def rejudge_named(self) -> None:
        """Judge the flows again that waited for a process's name (`NodeView.set_owners`)."""
        waiting, self._unnamed = self._unnamed, set()
        for cookie in waiting:
            entry = self._flows.get(cookie)
            if entry is not None:
                self._judge(cookie, entry)

    def rejudge_taken(self) -> None:
        """Judge the flows again that no agent is known to have taken (`NodeView.agents`)."""
        for cookie, entry in list(self._flows.items()):
            if entry.taker is not Taker.AGENT and (entry.accepted is not None or entry.wire is not None):
                self._judge(cookie, entry)

    def rejudge_located(self) -> None:
        """Judge the flows again that waited for a location (`NodeView.set_location`)."""
        waiting, self._unlocated = self._unlocated, {}
        for cookies in waiting.values():
            for cookie in cookies:
                entry = self._flows.get(cookie)
                if entry is not None:
                    self._judge(cookie, entry)

    def _client(self, event: Event, now_s: float) -> None:
        if event.netns not in (_ANY_NETNS, self._node.netns):
            return  # the programs count them; they say nothing of this node's path
        intent = event.intent if event.flags & _INTENT else None
        asked = intent or event.socket.destination
        endpoint = self._node.endpoint(asked)
        if endpoint is None:
            return
        entry = self._flows.get(event.cookie)
        if entry is None or entry.event.connect_ns != event.connect_ns:  # a socket may connect again
            entry = _Entry(endpoint, event, None, intent, self._is_sure(event))
            entry.told = bool(event.flags & _TOLD)
            entry.canary = event.cookie in self._canaries
            self._know_client(event.cookie, entry, event)
            self._add(event.cookie, entry, now_s)
        self._know_client(event.cookie, entry, event)
        self._touch(event.cookie)
        entry.event = event
        entry.established |= bool(event.flags & _ESTABLISHED)
        entry.closed |= event.kind is Kind.CLOSED
        if event.flags & _WIRE and (entry.wire is None or entry.wire == entry.event.socket):
            # A flow that was translated once stays translated, whatever a later packet looks like.
            self._see_wire(event.cookie, entry, event.wire)
        self._judge(event.cookie, entry)
        if entry.closed:
            self._changed[event.cookie] = None  # its byte counts are known now

    def _know_client(self, cookie: int, entry: _Entry, event: Event) -> None:
        if not entry.by_containerd and self._node.is_clients(event.cgroup, bool(event.owner & _ROOT)):
            entry.by_containerd = True
            self._others.pop(cookie, None)  # containerd's cgroup became known a moment ago

    def _is_sure(self, event: Event) -> bool:
        """Whether no other program can have changed the process's destination without a trace."""
        node = self._node
        if not event.flags & _INTENT:
            # The flow is older than the probe, or was rewritten from an address that is not watched.
            return node.alone_on_connect and not event.flags & _BEGUN
        return node.sure_of_intent or (node.sure_of_intent_near and bool(event.flags & _FIRST))

    def _server(self, event: Event) -> None:
        ours = bool(event.owner & _AGENT)
        end = Accepted(event.cookie, event.netns, event.socket, event.wire, event.time_ns, ours)
        as_sent = event.socket.mirrored
        cookie = self._by_wire.get(as_sent)
        entry = None if cookie is None else self._flows.get(cookie)
        if cookie is not None and entry is not None and self._is_end(entry, end):
            entry.accepted = _shared_end(end, entry)
            self._judge(cookie, entry)
            if entry.finding is not None:
                self._changed[cookie] = None  # the agent knows the flow by this end
            return
        if not self._node.is_own(as_sent.source.ip):
            return  # the client is on another node: that node's probe knows the flow
        netns = event.netns if self._node.is_own(as_sent.destination.ip) else _ANY_NETNS
        self._ends[netns, as_sent] = end
        self._ends.move_to_end((netns, as_sent))
        while len(self._ends) > _ENDS_MAX:
            self._ends.popitem(last=False)

    def _is_end(self, entry: _Entry, end: Accepted) -> bool:
        """Whether a socket with matching addresses can be a flow's other end."""
        if end.time_ns < entry.event.connect_ns:
            return False  # it belongs to an earlier connection with the same addresses
        if entry.accepted is not None and entry.accepted.cookie != end.cookie:
            return False  # it belongs to a later connection; the end of this flow was lost
        is_here = entry.wire is None or self._node.is_own(entry.wire.destination.ip)
        return not is_here or end.netns == self._node.netns  # 127.0.0.1 is in every namespace

    def _judge(self, cookie: int, entry: _Entry) -> None:
        evidence = self._evidence(entry)
        if evidence.translated and evidence.location is None and entry.wire is not None:
            entry.unlocated = entry.wire.destination.ip
            self._unlocated.setdefault(entry.unlocated, set()).add(cookie)
        finding = _shared_finding(judge(evidence))
        if evidence.taker is Taker.OTHER and evidence.owner is None and not evidence.complete:
            self._unnamed.add(cookie)
        if finding.alarm and not entry.contradicted:
            entry.contradicted = True
            self.tally.contradictions += 1
        if finding.verdict is None:
            if entry.finding is None:
                return
            finding = Finding(Verdict.UNKNOWN, finding.reason)  # the earlier proof no longer holds
        if finding == entry.finding:
            return
        entry.finding = finding
        self._changed[cookie] = None

    def _evidence(self, entry: _Entry) -> Evidence:
        event, node = entry.event, self._node
        # Other programs come and go. If intent was not sure at one time, it stays so.
        entry.sure_of_intent = entry.sure_of_intent and (entry.complete or self._is_sure(event))
        if entry.location is None and entry.wire is not None:
            entry.location = node.location(entry.wire.destination.ip)
        if entry.taker is not Taker.AGENT and entry.accepted is not None:
            entry.taker = node.taker(entry.accepted, event.connect_ns)
        taker = entry.taker
        if entry.accepted is None and entry.wire not in (None, event.socket):
            taker = node.taker_at(entry.wire.destination)
        return Evidence(
            endpoint=entry.endpoint,
            same_netns=None if event.netns == 0 else event.netns == node.netns,
            intent=entry.intent,
            sure_of_intent=entry.sure_of_intent,
            socket=event.socket,
            wire=entry.wire,
            established=entry.established,
            closed=entry.closed,
            mark=event.mark,
            accepted=entry.accepted,
            location=entry.location,
            taker=taker,
            owner=None
            if taker is not Taker.OTHER or entry.wire is None
            else node.owner(entry.wire.destination),
            counts=entry.counts,
            complete=entry.complete,
        )

    def _add(self, cookie: int, entry: _Entry, now_s: float) -> None:
        self._forget(cookie)
        self._flows[cookie] = entry
        if not entry.counts:
            self._others[cookie] = None
        self._undecided[cookie] = now_s + self._settle_s
        if len(self._undecided) > self._undecided_max:
            self._hurry()
        if len(self._others) > self._others_max:
            self._drop(next(iter(self._others)))
        elif len(self._flows) > self._flows_max:
            self._drop(next(iter(self._flows)))

    def _touch(self, cookie: int) -> None:
        """There is news of this flow. The one that was silent longest is dropped first."""
        self._flows.move_to_end(cookie)
        if cookie in self._others:
            self._others.move_to_end(cookie)

    def _hurry(self) -> None:
        """Judge the flow that waits longest for evidence by what there is. Later evidence still counts."""
        cookie = next((each for each in self._undecided if not self._flows[each].canary), None)
        if cookie is None:
            return
        entry = self._flows[cookie]
        had_none = entry.finding is None
        self.settle(cookie)
        self.tally.forgotten += (
            had_none and entry.finding is not None and entry.finding.verdict is Verdict.UNKNOWN
        )

    def _drop(self, cookie: int) -> None:
        """Forget a flow, because there are too many."""
        self.tally.forgotten += self._flows[cookie].finding is None or cookie in self._changed
        self._forget(cookie)

    def _forget(self, cookie: int) -> None:
        entry = self._flows.pop(cookie, None)
        self._others.pop(cookie, None)
        self._undecided.pop(cookie, None)
        self._changed.pop(cookie, None)
        self._unnamed.discard(cookie)
        if entry is None:
            return
        self._forget_wire(cookie, entry)
        if entry.unlocated in self._unlocated:
            self._unlocated[entry.unlocated].discard(cookie)
            if not self._unlocated[entry.unlocated]:
                del self._unlocated[entry.unlocated]

    def _forget_wire(self, cookie: int, entry: _Entry) -> None:
        if entry.wire is not None and self._by_wire.get(entry.wire) == cookie:
            del self._by_wire[entry.wire]

    def _see_wire(self, cookie: int, entry: _Entry, wire: Tuple) -> None:
        if wire == entry.wire:
            return
        self._forget_wire(cookie, entry)
        entry.wire, entry.location = wire, None
        self._by_wire[wire] = cookie
        netns = self._node.netns if self._node.is_own(wire.destination.ip) else _ANY_NETNS
        end = self._ends.pop((netns, wire), None)
        if end is not None and self._is_end(entry, end):
            entry.accepted = _shared_end(end, entry)

    def _sample(self, event: Event) -> RttSample | None:
        to = event.socket.destination
        is_ours = event.netns in (0, self._node.netns)
        if not is_ours or not event.rtt_us or self._node.is_own(to.ip):
            return None
        return RttSample(address=to, rtt_us=event.rtt_us)


@lru_cache(maxsize=256)
def _shared_finding(finding: Finding) -> Finding:
    """The same finding, as one object for all flows that it is about."""
    return finding


def _shared_end(end: Accepted, entry: _Entry) -> Accepted:
    """The same end. If it has the client's own addresses, they are kept once."""
    client = entry.event.socket
    if end.socket != client.mirrored:
        return end
    socket = client.mirrored
    return end._replace(socket=socket, wire=socket if end.wire == socket else end.wire)


def _flow(cookie: int, entry: _Entry) -> Flow:
    event, finding = entry.event, entry.finding
    assert finding is not None
    assert finding.verdict is not None
    return Flow(
        cookie=cookie,
        taken_by=0 if entry.accepted is None else entry.accepted.cookie,
        endpoint=entry.endpoint,
        verdict=finding.verdict,
        reason=finding.reason,
        client=(entry.wire or event.socket).source,
        asked=entry.intent or event.socket.destination,
        went=None if entry.wire is None else entry.wire.destination,
        pid=event.pid,
        comm=event.comm,
        rtt_us=event.rtt_us,
        closed=entry.closed,
        bytes_received=event.bytes_received,
        bytes_sent=event.bytes_acked,
        verdict_is_new=finding.verdict is not entry.published,
        canary=entry.canary,
        translated=entry.wire is not None and entry.wire != event.socket,
        by_containerd=entry.by_containerd,
        contradicted=entry.contradicted,
    )

"""The probe at work: reads the kernel's events and publishes verdicts.

It also sends canaries, so that there is proof on a quiet node too.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from agent.config import Endpoint, Settings
from agent.flows.messages import (
    FLOWS_MAX,
    Canary,
    Claims,
    Flows,
    Health,
    Hello,
    Introduced,
    Introduction,
    Message,
    MessageInvalid,
    Request,
)
from agent.flows.node import KnownAgent, NodeView
from agent.flows.table import Flow, FlowTable, RttSample
from agent.flows.verdicts import EndpointName, Verdict
from agent.hosts.named import NamedMirrors, named_mirrors
from agent.probe.canary import Answer, CanaryConnection
from agent.probe.locate import Locator
from agent.probe.owners import find_owners
from agent.probe.routes import RouteChanges, route_changes
from agent.probe.sockets import options_memory, own_netns
from bpf.errors import BpfError
from bpf.events import Address, EventInvalid, decode, is_loopback, pack_ip
from bpf.source import EventSource, LossCounts

_log = logging.getLogger(__name__)

_DRAIN_S = 0.05  # a verdict is at most this late; reading the ring buffer costs about 20 µs
_REFRESH_S = 5.0  # for addresses, other programs, containerd's cgroup
_ROUTES_S = 30.0  # locations are forgotten at each change of routes; this is for changes that are not told
_HEALTH_S = 1.0
_AT_ONCE = 250  # events between two chances for other work, about 4 ms
_BATCHES = 40  # per drain: with more the probe can't keep up, and canaries wait for the drain
_LOCATE_AT_ONCE = 8
_SOON_S = 1.0  # an agent that starts opens its listeners a moment after it has found the probe
_OPTIONS_MEMORY_LEAST = 4096  # bytes that a socket may use for options; a mark needs some 300 of them
_JUDGED_S = 0.3  # how long a canary that was answered waits for its verdict

Sink = Callable[[Message], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedNode:
    """The node that the probe watches. ``view``: what the probe knows about it.

    ``endpoints``: where to send canaries. Called for each round, because hosts.toml may change.
    ``authorization``: the header that containerd sends there, by the same files; empty: none.
    """

    name: str
    address: str
    view: NodeView
    endpoints: Callable[[], tuple[Endpoint, ...]]
    authorization: Callable[[Endpoint], str] = lambda _: ""


def watched_ports(settings: Settings) -> tuple[int, ...]:
    """The ports that clients on this node use to reach the agent, and the ports between agents."""
    listen, probe = settings.listen, settings.probe
    ports = {listen.hostport.port, listen.peer.port, listen.nodeport.port, probe.node_port}
    return tuple(sorted(ports | {service.port for service in probe.services}))


def watched_node(settings: Settings) -> WatchedNode:
    """The node to watch by these settings, as seen from the network namespace of this process."""
    probe, local = settings.probe, settings.listen.hostport
    view = NodeView(
        netns=own_netns(),
        host_port=local.port,
        node_port=probe.node_port,
        services=frozenset(Address(pack_ip(entry.host), entry.port) for entry in probe.services),
        own_ips=own_ips(),
    )
    node_port = Endpoint(host=settings.node.address, port=probe.node_port)

    told = NamedMirrors()

    def endpoints() -> tuple[Endpoint, ...]:
        nonlocal told
        told = named_mirrors(probe.hosts_dir, {local.port, probe.node_port})
        return probe.endpoints or told.endpoints or (local, node_port)

    return WatchedNode(
        name=settings.node.name,
        address=settings.node.address,
        view=view,
        endpoints=endpoints,
        authorization=lambda endpoint: told.authorizations.get(endpoint, ""),
    )


def own_ips() -> frozenset[bytes]:
    """The addresses of all interfaces in this network namespace."""
    import psutil

    wanted = (socket.AF_INET, socket.AF_INET6)
    return frozenset(
        pack_ip(entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in wanted
    )


class Probe:
    """Reads the events of a source, judges the flows, and passes messages to its sinks."""

    def __init__(
        self,
        node: WatchedNode,
        source: EventSource,
        *,
        canary_interval_s: float,
        programs: tuple[int, ...] = (),
    ) -> None:
        self._node = node
        self._programs = programs
        self._source = source
        self._canary_s = canary_interval_s
        self._view = node.view
        self._awaited: dict[int, asyncio.Future[Flow]] = {}
        self._table = FlowTable(node.view, canaries=self._awaited)
        self._locator = Locator(node.address)
        self._routes: RouteChanges | None = None  # while it runs
        self._draining = asyncio.Lock()
        self._canaries: tuple[Canary, ...] = ()
        self._round_s = 0.0
        self._started_s = time.monotonic()
        self._invalid = 0
        self._alike = True
        self._lost = LossCounts()
        self._hurried = asyncio.Event()
        self.introduced = asyncio.Event()  # set when the first agent told its sockets
        self.sinks: list[Sink] = []
        self.refresh_node()

    @property
    def lost(self) -> LossCounts:
        """What the programs lost so far, updated once a second."""
        return self._lost

    async def run(self) -> None:
        """Work until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            self._routes = route_changes()
            if self._routes is not None:
                stack.callback(self._routes.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._every(_DRAIN_S, self.drain), name="drain")
            tasks.create_task(self._every(_REFRESH_S, self._refresh_node), name="refresh")
            tasks.create_task(self._every(_ROUTES_S, self._forget_routes), name="routes")
            tasks.create_task(self._every(_HEALTH_S, self._send_health), name="health")
            tasks.create_task(self._keep_sending(), name="canaries")

    def came(self, reader: Hashable) -> None:
        """See `ReaderDesk`."""

    def requested(
        self, reader: Hashable, request: Request, sockets: Sequence[socket.socket]
    ) -> Message | None:
        """See `ReaderDesk`."""
        if isinstance(request, Introduction):
            return self._introduced(reader, request, sockets)
        if isinstance(request, Claims):
            agent = self._view.agents.get(reader)
            if agent is None:
                raise MessageInvalid("an agent that did not introduce itself")
            agent.claimed, agent.complete = frozenset(request.cookies), request.complete
            self._table.rejudge_taken()
            self._hasten_canaries()
        else:
            self._hurried.set()
        return None

    def left(self, reader: Hashable) -> None:
        """See `ReaderDesk`."""
        self._view.agents.pop(reader, None)

    def _introduced(
        self, reader: Hashable, agent: Introduction, listeners: Sequence[socket.socket]
    ) -> Introduced:
        """An agent came. From now on the kernel marks what it takes."""
        if agent.node != self._node.name:
            raise MessageInvalid(f"an agent of node {agent.node}, not of {self._node.name}")
        self._source.know(agent.known)
        known = KnownAgent(listeners=tuple(where for one in listeners if (where := _place(one)) is not None))
        try:
            if options_memory() < _OPTIONS_MEMORY_LEAST:  # then the kernel would accept nothing
                raise BpfError(f"net.core.optmem_max is below {_OPTIONS_MEMORY_LEAST}", hint="make it larger")
            for listener in listeners:
                self._source.own_listener(listener.fileno())
            known.marked_ns = time.monotonic_ns()
        except BpfError as error:
            _log.warning("can't tell the agent's new connections from others': %s", error)
        self._view.agents[reader] = known
        self.introduced.set()
        self._table.rejudge_taken()
        return Introduced()

    def _hasten_canaries(self) -> None:
        """Send the next canaries soon if the last ones to the HostPort proved nothing: an agent came."""
        to_host_port = [canary for canary in self._canaries if canary.endpoint is EndpointName.HOSTPORT]
        if any(canary.verdict is not Verdict.DIRECT for canary in to_host_port):
            self._hurried.set()

    def initial_messages(self) -> Iterable[Message]:
        """The messages for a new reader."""
        yield Hello(
            node=self._node.name,
            netns=self._view.netns,
            programs=self._programs,
            started_s=self._started_s,
        )
        flows = self._table.open_flows()
        for start in range(0, len(flows), FLOWS_MAX):
            yield Flows(flows=tuple(flows[start : start + FLOWS_MAX]))
        yield self.health()

    def health(self) -> Health:
        """The state of the probe now."""
        tally, lost = self._table.tally, self._lost
        return Health(
            canaries=self._canaries,
            round_s=self._round_s,
            lost_events=lost.events,
            lost_flows=lost.flows,
            lost_packets=lost.packets,
            lost_ends=lost.ends,
            invalid_events=self._invalid,
            forgotten=tally.forgotten,
            contradictions=tally.contradictions,
            foreign=lost.foreign,
            held_back=lost.held_back,
            agents=len(self._view.agents),
            sure_of_intent=self._view.sure_of_intent or self._view.sure_of_intent_near,
            alike=self._alike,
        )

    def refresh_node(self) -> None:
        """Read again what may have changed: the node's addresses, containerd's cgroup, others' programs."""
        self._read_addresses()
        self._source.follow_containerd()
        self._view.clients = self._source.clients
        self._view.forget_owners()
        self._refresh_order()

    async def drain(self) -> None:
        """Process the waiting events and send what is new. Bounded: about 10,000 events per call."""
        async with self._draining:
            self._follow_routes()
            for _ in range(_BATCHES):
                records = self._source.read(_AT_ONCE)
                rtts: list[tuple[bytes, int]] = []
                if records:
                    # After reading the events, so that a program that ran before these connections is seen.
                    self._refresh_order()
                    now_s = time.monotonic()
                    for raw in records:
                        sample = self._add_event(raw, now_s)
                        if sample is not None:
                            rtts.append((sample.address.ip, sample.rtt_us))
                await self._locate()
                await self._name()
                self._send_changes(rtts)
                if len(records) < _AT_ONCE:
                    break
                await asyncio.sleep(0)

    async def send_canaries(self) -> tuple[Canary, ...]:
        """Make one connection to each endpoint. Returns what the kernel saw of them."""
        self.refresh_node()  # what was attached a moment ago counts
        began_s = time.monotonic()
        found = [await self._send_canary(endpoint) for endpoint in self._node.endpoints()]
        self._canaries = tuple(canary for canary in found if canary is not None)
        self._round_s = began_s
        await self._send_health()
        return self._canaries

    async def _keep_sending(self) -> None:
        while True:
            await self.send_canaries()
            # Not wait_for: on Python 3.11 it loses a cancellation that comes with the result.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._canary_s):
                    await self._hurried.wait()
                await asyncio.sleep(_SOON_S)
            self._hurried.clear()

    async def _send_canary(self, endpoint: Endpoint) -> Canary | None:
        """None for an endpoint that is not this node's, whatever hosts.toml says."""
        address = Address(pack_ip(endpoint.host), endpoint.port)
        name = self._view.endpoint(address)
        if name is None:
            return None
        with CanaryConnection(endpoint, self._node.authorization(endpoint)) as connection:
            judged = self._awaited[connection.cookie] = asyncio.get_running_loop().create_future()
            try:
                answer = await asyncio.to_thread(connection.request)
                if answer.error:
                    connection.close()
                await self.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_JUDGED_S):
                        await asyncio.shield(judged)
                if not judged.done():
                    self._table.settle(connection.cookie)
                    await self.drain()
            finally:
                del self._awaited[connection.cookie]
        flow = judged.result() if judged.done() else None
        judged.cancel()
        return _canary(name, endpoint, flow, answer)

    def _add_event(self, raw: bytes, now_s: float) -> RttSample | None:
        try:
            return self._table.add_event(decode(raw), now_s)
        except EventInvalid as error:
            if not self._invalid:
                _log.warning("invalid event: %s", error)
            self._invalid += 1
            return None

    async def _locate(self) -> None:
        for ip in self._table.unlocated()[:_LOCATE_AT_ONCE]:
            location = await self._locator.locate(ip)
            if self._follow_routes():
                return  # the answer may be of before the change: the next drain asks again
            self._view.set_location(ip, location)
            self._table.rejudge_located()

    def _read_addresses(self) -> None:
        self._view.own_ips = own_ips()
        # Where a node has more than the kernel's table holds, most are of Services (IPVS).
        own = pack_ip(self._node.address)
        ranked = sorted(self._view.own_ips, key=lambda ip: (ip != own, not is_loopback(ip), ip))
        self._source.own_addresses(ranked)

    def _follow_routes(self) -> bool:
        """Forget what the routes said if they changed. Returns whether they did."""
        if self._routes is None:
            return False
        changed = self._routes.drain()
        if changed.addresses:
            self._read_addresses()
        if changed.routes:
            self._view.forget_locations()
        return changed.routes

    async def _name(self) -> None:
        """Look up who listens where, if a flow waits for it: at most once in `_REFRESH_S`."""
        if self._table.has_unnamed:
            self._view.set_owners(await asyncio.to_thread(find_owners))
            self._table.rejudge_named()

    def _refresh_order(self) -> None:
        order = self._source.connect_order()
        view = self._view
        view.sure_of_intent, view.sure_of_intent_near = order.everywhere, order.near
        view.alone_on_connect = order.alone
        self._alike = order.alike

    def _send_changes(self, rtts: list[tuple[bytes, int]]) -> None:
        flows = self._table.changes(time.monotonic())
        for flow in flows:
            waiting = self._awaited.get(flow.cookie)
            if waiting is not None and not waiting.done():
                waiting.set_result(flow)
        for start in range(0, len(flows), FLOWS_MAX):
            self._send(Flows(flows=tuple(flows[start : start + FLOWS_MAX])))
        if rtts:
            self._send(Flows(flows=(), rtts=tuple(rtts)))

    async def _send_health(self) -> None:
        self._lost = self._source.lost()
        self._send(self.health())

    def _send(self, message: Message) -> None:
        for sink in self.sinks:
            sink(message)

    async def _refresh_node(self) -> None:
        self.refresh_node()

    async def _forget_routes(self) -> None:
        self._view.forget_locations()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await work()
            await asyncio.sleep(seconds)


def _place(listener: socket.socket) -> Address | None:
    """Where a socket listens. None if it is not a TCP socket."""
    try:
        host, port = listener.getsockname()[:2]
        return Address(pack_ip(host), port)
    except (OSError, ValueError, TypeError):
        return None


def _canary(name: EndpointName, endpoint: Endpoint, flow: Flow | None, answer: Answer) -> Canary:
    verdict, reason = Verdict.UNKNOWN, "the kernel reported nothing about it"
    if flow is not None:
        verdict, reason = flow.verdict, flow.reason
    elif answer.error:  # refused before a SYN was sent: no route, or another program forbade it
        verdict, reason = Verdict.FAILED, "no packet was sent"
    node = answer.node
    if flow is not None and node and flow.taken_by and answer.cookie != flow.taken_by:
        node, reason = "", f"{reason}, but what took it only passed it on to {answer.node}'s agent"
    return Canary(
        endpoint=name,
        address=str(endpoint),
        verdict=verdict,
        reason=f"{reason} ({answer.error})" if answer.error else reason,
        went="" if flow is None or flow.went is None else str(flow.went),
        answered_by=node,
        rtt_us=0 if flow is None else flow.rtt_us,
        at_s=time.monotonic(),
        taken_by=0 if flow is None else flow.taken_by,
    )

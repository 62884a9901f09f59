"""The probe at work: the kernel's events in, verdicts out; canaries, so that a quiet node has proof too."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from agent.config import Endpoint, Settings
from agent.flows.messages import FLOWS_MAX, Canary, Flows, Health, Hello, Message
from agent.flows.node import NodeView
from agent.flows.table import Flow, FlowTable, RttSample
from agent.flows.verdicts import EndpointName, Verdict
from agent.probe.canary import Answer, CanaryConnection
from agent.probe.endpoints import named_endpoints
from agent.probe.locate import Locator
from agent.probe.sockets import netns_cookie
from bpf.events import Address, EventInvalid, decode, pack_ip
from bpf.source import EventSource, Lost

_log = logging.getLogger(__name__)

_DRAIN_S = 0.05  # a verdict is that old at most; each look costs some 20 µs
_LOOK_S = 5.0  # addresses, other programs, containerd's cgroup
_ROUTES_S = 30.0
_HEALTH_S = 1.0
_AT_ONCE = 250  # events between two chances for other work, some 4 ms
_BATCHES = 40  # a drain; more can't be kept up with, and canaries wait for it
_LOCATE_AT_ONCE = 8
_SOON_S = 1.0  # an agent that starts opens its listeners a moment after it has found the probe
_JUDGED_S = 0.3  # so long a canary that was answered waits for its verdict

Sink = Callable[[Message], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is watched. ``endpoints``: what canaries are sent to; asked each time, as hosts.toml changes."""

    node: str
    address: str
    view: NodeView
    endpoints: Callable[[], tuple[Endpoint, ...]]


def watched_ports(settings: Settings) -> tuple[int, ...]:
    """The ports at either end of the local leg, and of agents among each other."""
    listen, probe = settings.listen, settings.probe
    ports = {listen.local.port, listen.peer.port, listen.service.port, probe.node_port}
    return tuple(sorted(ports | {service.port for service in probe.services}))


def make_subject(settings: Settings) -> Subject:
    """What is watched by these settings, from the network namespace of this process."""
    probe, local = settings.probe, settings.listen.local
    view = NodeView(
        netns=netns_cookie(),
        host_port=local.port,
        node_port=probe.node_port,
        services=frozenset(Address(pack_ip(entry.host), entry.port) for entry in probe.services),
        own_ips=own_ips(),
    )
    node_port = Endpoint(host=settings.node.address, port=probe.node_port)

    def endpoints() -> tuple[Endpoint, ...]:
        named = probe.endpoints or named_endpoints(probe.hosts_dir, {local.port, probe.node_port})
        return named or (local, node_port)

    return Subject(node=settings.node.name, address=settings.node.address, view=view, endpoints=endpoints)


def own_ips() -> frozenset[bytes]:
    """All addresses of this network namespace's interfaces."""
    import psutil

    wanted = (socket.AF_INET, socket.AF_INET6)
    return frozenset(
        pack_ip(entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in wanted
    )


class Probe:
    """Reads the events of a source, judges, and tells its sinks."""

    def __init__(
        self,
        subject: Subject,
        source: EventSource,
        *,
        canary_interval_s: float,
        programs: tuple[int, ...] = (),
    ) -> None:
        self._subject = subject
        self._programs = programs
        self._source = source
        self._canary_s = canary_interval_s
        self._view = subject.view
        self._table = FlowTable(subject.view)
        self._locator = Locator(subject.address)
        self._draining = asyncio.Lock()
        self._awaited: dict[int, asyncio.Future[Flow]] = {}
        self._canaries: tuple[Canary, ...] = ()
        self._started_s = time.monotonic()
        self._invalid = 0
        self._alike = True
        self._lost = Lost()
        self._hurried = asyncio.Event()
        self.sinks: list[Sink] = []
        self.look()

    @property
    def lost(self) -> Lost:
        """What the programs lost so far, as of the last second."""
        return self._lost

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._every(_DRAIN_S, self.drain), name="drain")
            tasks.create_task(self._every(_LOOK_S, self._look), name="look")
            tasks.create_task(self._every(_ROUTES_S, self._forget_routes), name="routes")
            tasks.create_task(self._every(_HEALTH_S, self._tell_health), name="health")
            tasks.create_task(self._keep_sending(), name="canaries")

    def hurry(self) -> None:
        """Somebody came to hear of this node: the agent perhaps, which the last canaries did not find yet.

        Then the next are sent soon.
        """
        to_host_port = [canary for canary in self._canaries if canary.endpoint is EndpointName.HOSTPORT]
        if any(canary.verdict is Verdict.FAILED for canary in to_host_port):
            self._hurried.set()

    def first(self) -> Iterable[Message]:
        """What a new reader is told."""
        yield Hello(node=self._subject.node, programs=self._programs, started_s=self._started_s)
        flows = self._table.open_flows()
        for start in range(0, len(flows), FLOWS_MAX):
            yield Flows(flows=tuple(flows[start : start + FLOWS_MAX]))
        yield self.health()

    def health(self) -> Health:
        """How the probe is."""
        tally, lost = self._table.tally, self._lost
        return Health(
            canaries=self._canaries,
            lost_events=lost.events,
            lost_flows=lost.flows,
            lost_packets=lost.packets,
            lost_ends=lost.ends,
            invalid_events=self._invalid,
            forgotten=tally.forgotten,
            contradictions=tally.contradictions,
            sure_of_intent=self._view.sure_of_intent or self._view.sure_of_intent_near,
            alike=self._alike,
        )

    def look(self) -> None:
        """Look at what changes: this node's addresses, and the programs of others."""
        self._view.own_ips = own_ips()
        self._source.follow_containerd()
        self._look_at_order()

    async def drain(self) -> None:
        """Take the events that there are, and tell what they mean. Bounded: some 10,000 at a time."""
        async with self._draining:
            for _ in range(_BATCHES):
                records = self._source.read(_AT_ONCE)
                rtts: list[tuple[bytes, int]] = []
                if records:
                    # After reading: who came in front of ours before these connections is there.
                    self._look_at_order()
                    now_s = time.monotonic()
                    for raw in records:
                        sample = self._take(raw, now_s)
                        if sample is not None:
                            rtts.append((sample.address.ip, sample.rtt_us))
                await self._locate()
                self._tell_changes(rtts)
                if len(records) < _AT_ONCE:
                    break
                await asyncio.sleep(0)

    async def send_canaries(self) -> tuple[Canary, ...]:
        """One connection to each endpoint; what became of them."""
        found = [await self._send_canary(endpoint) for endpoint in self._subject.endpoints()]
        self._canaries = tuple(canary for canary in found if canary is not None)
        await self._tell_health()
        return self._canaries

    async def _keep_sending(self) -> None:
        while True:
            await self.send_canaries()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), self._canary_s)
                await asyncio.sleep(_SOON_S)
            self._hurried.clear()

    async def _send_canary(self, endpoint: Endpoint) -> Canary | None:
        """None for an endpoint that is none of this node's, whatever hosts.toml says."""
        address = Address(pack_ip(endpoint.host), endpoint.port)
        name = self._view.endpoint(address)
        if name is None:
            return None
        with CanaryConnection(endpoint) as connection:
            judged = self._awaited[connection.cookie] = asyncio.get_running_loop().create_future()
            try:
                answer = await asyncio.to_thread(connection.ask)
                if answer.error:
                    connection.close()
                await self.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(judged), _JUDGED_S)
                if not judged.done():
                    self._table.settle(connection.cookie)
                    await self.drain()
            finally:
                del self._awaited[connection.cookie]
        flow = judged.result() if judged.done() else None
        judged.cancel()
        return _canary(name, endpoint, flow, answer)

    def _take(self, raw: bytes, now_s: float) -> RttSample | None:
        try:
            return self._table.take(decode(raw), now_s)
        except EventInvalid as error:
            if not self._invalid:
                _log.warning("an event is not one: %s", error)
            self._invalid += 1
            return None

    async def _locate(self) -> None:
        for ip in self._table.unlocated()[:_LOCATE_AT_ONCE]:
            self._view.locate(ip, await self._locator.locate(ip))
            self._table.located()

    def _look_at_order(self) -> None:
        order = self._source.sure_of_intent()
        view = self._view
        view.sure_of_intent, view.sure_of_intent_near = order.everywhere, order.near
        view.alone_on_connect = order.alone
        self._alike = order.alike

    def _tell_changes(self, rtts: list[tuple[bytes, int]]) -> None:
        flows = self._table.changes(time.monotonic())
        if self._awaited:
            flows = [replace(flow, canary=flow.cookie in self._awaited) for flow in flows]
        for flow in flows:
            waiting = self._awaited.get(flow.cookie)
            if waiting is not None and not waiting.done():
                waiting.set_result(flow)
        for start in range(0, len(flows), FLOWS_MAX):
            self._tell(Flows(flows=tuple(flows[start : start + FLOWS_MAX])))
        if rtts:
            self._tell(Flows(flows=(), rtts=tuple(rtts)))

    async def _tell_health(self) -> None:
        self._lost = self._source.lost()
        self._tell(self.health())

    def _tell(self, message: Message) -> None:
        for sink in self.sinks:
            sink(message)

    async def _look(self) -> None:
        self.look()

    async def _forget_routes(self) -> None:
        self._view.forget_locations()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await work()
            await asyncio.sleep(seconds)


def _canary(name: EndpointName, endpoint: Endpoint, flow: Flow | None, answer: Answer) -> Canary:
    verdict, reason = Verdict.UNKNOWN, "the kernel told nothing of it"
    if flow is not None:
        verdict, reason = flow.verdict, flow.reason
    elif answer.error:  # refused before a SYN was made: no route, or another program's veto
        verdict, reason = Verdict.FAILED, "no connection was even tried"
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

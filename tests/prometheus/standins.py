"""What a lab without a kernel's probe can't make: what probes say, and an event loop that is stuck.

The messages go through the probe's own publisher, the agents' own reader, and the metrics' own code.
"""

import asyncio
import threading
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Self

from agent.flows.messages import Canary, Flows, Health, Hello, Message
from agent.flows.table import Flow, FlowTable
from agent.flows.verdicts import EndpointName, Verdict
from agent.observe.metrics import Metrics
from agent.observe.probe_metrics import ProbeMetrics
from agent.observe.pulse import Pulse
from agent.observe.scraping import MetricsServer
from agent.oci.browser import BrowserGuard
from agent.probe.publisher import Publisher
from tests.unit.agent.flows.scenes import REMOTE_IP, direct, node, node_port, play, portmap

PROBE, AGENT = 9091, 9090
_STUCK_S = 2.0

_cookies = count(1)


class Standins:
    """One probe for each node, in a thread of its own, with one port of metrics for them all.

    ``sockets``: the probes' sockets by the names of their nodes. ``address``: where the metrics are.
    """

    def __init__(self, sockets: dict[str, Path], address: str) -> None:
        self._sockets = sockets
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="probes", daemon=True)
        self._publishers: dict[str, Publisher] = {}
        self._stack = AsyncExitStack()
        self._health = Health()
        self._proves = False
        self._stuck, self._ended = False, False
        self._pulse = threading.Thread(target=lambda: asyncio.run(self._beat()), name="a pulse")
        self.probe, self.agent = ProbeMetrics(), Metrics()
        self.agent.ready(True)
        self.agent.proof(connected=True, proved=True)
        guard = BrowserGuard(())
        self._servers = (
            MetricsServer(address, PROBE, self.probe.exposed, guard),
            MetricsServer(address, AGENT, self.agent.exposed, guard),
        )

    def __enter__(self) -> Self:
        for server in self._servers:
            server.start()
        self._thread.start()
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._pulse.join()
        self._do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def start(self) -> None:
        """Begin to report. Nothing is proved yet."""
        self._do(self._start())

    def report(self, *, proved: bool, lost: int = 0, contradictions: int = 0) -> None:
        """The state of the probes."""
        self._proves = proved
        self._health = Health(lost_events=lost, contradictions=contradictions)
        self._do(self._tell_health())

    def astray(self) -> None:
        """containerd's connections go through the port map, and over the NodePort to another node."""
        table = FlowTable(node())
        mapped, moved, well = (
            portmap(30000 + next(_cookies), cookie=next(_cookies)),
            node_port(30000 + next(_cookies), to=REMOTE_IP, cookie=next(_cookies)),
            direct(30000 + next(_cookies), cookie=next(_cookies)),
        )
        play(table, mapped.client(), mapped.server(), well.client(), well.server(), moved.client())
        flows = [*play(table, moved.closed(received=10_000_000, sent=1000), now_s=9.0), *table.open_flows()]
        self._do(self._tell(Flows(flows=_new(flows))))

    def stuck(self, is_stuck: bool) -> None:
        """Whether something blocks an event loop, again and again."""
        self._stuck = is_stuck

    def _do(self, work: "asyncio.Future[None] | object") -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()  # type: ignore[arg-type]

    async def _beat(self) -> None:
        """An agent's event loop, of which its pulse is measured."""
        pulse = asyncio.create_task(Pulse(self.agent.loop_lag).run())
        while not self._ended:
            if self._stuck:
                time.sleep(_STUCK_S)  # noqa: ASYNC251 - this is the fault
            await asyncio.sleep(0.05)
        pulse.cancel()
        await asyncio.gather(pulse, return_exceptions=True)

    async def _start(self) -> None:
        for name, path in self._sockets.items():
            publisher = Publisher(path, initial_messages=lambda name=name: self._first(name), uids=())  # type: ignore[misc]
            self._publishers[name] = await self._stack.enter_async_context(publisher)

    def _first(self, name: str) -> Iterable[Message]:
        return (Hello(node=name, programs=(1, 2)), Flows(flows=()), self._told(name))

    def _told(self, name: str) -> Health:
        canary = Canary(
            endpoint=EndpointName.HOSTPORT,
            address="127.0.0.1:30020",
            verdict=Verdict.DIRECT if self._proves else Verdict.PROXIED,
            reason="a stand-in says so",
            went="127.0.0.1:30020",
            answered_by=name,
            rtt_us=90,
            at_s=time.monotonic(),
        )
        return Health(
            canaries=(canary,),
            lost_events=self._health.lost_events,
            contradictions=self._health.contradictions,
        )

    async def _tell_health(self) -> None:
        for name, publisher in self._publishers.items():
            publisher.publish(self._told(name))
        self.probe.on_message(self._told("n"))

    async def _tell(self, message: Message) -> None:
        for publisher in self._publishers.values():
            publisher.publish(message)
        self.probe.on_message(message)


def _new(flows: Iterable[Flow]) -> tuple[Flow, ...]:
    return tuple(flows)

"""The agent's side of the probe. Passes its messages to the flow book, the metrics and the topology."""

import asyncio
import time
from pathlib import Path

from agent.flows.book import FlowBook
from agent.flows.messages import Flows, Message
from agent.latency.samples import add_sample
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.probe.reader import OwnSockets, ProbeReader
from bpf.events import format_ip

_TICK_S = 0.25


class ProbeFollower:
    """Follows this node's probe for as long as the agent runs. Waits for one if there is none."""

    def __init__(
        self, path: Path, *, own: OwnSockets, book: FlowBook, roster: Roster, metrics: Metrics
    ) -> None:
        self._reader = ProbeReader(
            path, node=own.node, on_message=self._on_message, on_gone=book.on_probe_lost, own=own
        )
        self._book = book
        self._roster = roster
        self._metrics = metrics

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reader.run(), name="reader")
            while True:
                await asyncio.sleep(_TICK_S)
                self._book.tick(time.monotonic())

    def _on_message(self, message: Message) -> None:
        delta = self._book.apply(message, time.monotonic())
        for (endpoint, verdict), flows in delta.flows.items():
            self._metrics.local_flows(endpoint.value, verdict.value, flows)
        for (endpoint, verdict), flows in delta.others.items():
            self._metrics.other_flows(endpoint.value, verdict.value, flows)
        if delta.remote_received or delta.remote_sent:
            self._metrics.remote_bytes(delta.remote_received, delta.remote_sent)
        if delta.contradictions:
            self._metrics.contradictions(delta.contradictions)
        if isinstance(message, Flows):
            for ip, rtt_us in message.rtts:
                peer = self._roster.peer_at(format_ip(ip))
                if peer is not None:
                    add_sample(self._roster, self._metrics, peer, rtt_us, "kernel")

"""The agent's side of the probe: what it tells goes into the book, the metrics and the topology."""

import asyncio
import time
from pathlib import Path

from agent.flows.book import FlowBook
from agent.flows.messages import Flows, Message
from agent.latency.samples import add_sample
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.probe.reader import ProbeReader
from bpf.events import format_ip

_TICK_S = 0.25


class ProbeFollower:
    """Follows this node's probe for as long as the agent runs, whether there is one or not."""

    def __init__(self, path: Path, *, own: str, book: FlowBook, roster: Roster, metrics: Metrics) -> None:
        self._reader = ProbeReader(path, node=own, take=self._take, gone=book.lost)
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

    def _take(self, message: Message) -> None:
        news = self._book.take(message, time.monotonic())
        for (endpoint, verdict), flows in news.flows.items():
            self._metrics.local_flows(endpoint.value, verdict.value, flows)
        if news.remote_received or news.remote_sent:
            self._metrics.remote_bytes(news.remote_received, news.remote_sent)
        if news.contradictions:
            self._metrics.contradictions(news.contradictions)
        if isinstance(message, Flows):
            for ip, rtt_us in message.rtts:
                peer = self._roster.peer_at(format_ip(ip))
                if peer is not None:
                    add_sample(self._roster, self._metrics, peer, rtt_us, "kernel")

"""``shorthaul probe --watch``: shows connections and their verdicts live."""

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.cli.drawing import make_console
from agent.cli.formats import ms
from agent.config import Settings
from agent.documents.codec import encode
from agent.documents.times import utc
from agent.flows.entry import flow_entry
from agent.flows.messages import Flows, Health, Hello, Message
from agent.flows.table import Flow
from agent.flows.verdicts import Verdict
from agent.probe.reader import ProbeReader
from agent.probe.run import attached, make_probe, make_publisher

_SHOWN = 30
_REFRESHES_A_SECOND = 4
_COLUMNS = ("verdict", "endpoint", "asked for", "process", "on the wire to", "RTT", "", "why")
_WIDE, _NARROW = 120, 4  # the terminal width that all columns need, and how many columns fit into 80
_STYLES = {
    Verdict.DIRECT: "green",
    Verdict.UNKNOWN: "dim",
    Verdict.FAILED: "red",
    Verdict.PROXIED: "red",
}


def watch(settings: Settings, *, as_json: bool = False) -> None:
    """Show what this node's probe reports until Ctrl-C. If none runs, run one here. Raises `BpfError`.

    ``as_json``: a JSON object for each verdict, as in ``/api/flows``, and nothing else.
    """
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_watch(settings, as_json=as_json))


async def _watch(settings: Settings, *, as_json: bool) -> None:
    console = make_console()
    view = _View(wide=console.width >= _WIDE)
    if as_json:
        view.print = lambda flow: print(encode(flow_entry(flow, utc(time.time()))), flush=True)
        await _follow(settings, view)
        return
    if not console.is_terminal:
        view.print = lambda flow: console.print(_line(flow))
    with Live(view, console=console, refresh_per_second=_REFRESHES_A_SECOND, transient=False) as live:
        live.auto_refresh = console.is_terminal
        await _follow(settings, view)


async def _follow(settings: Settings, view: "_View") -> None:
    """Pass everything that the probe reports to the view."""
    reader = ProbeReader(settings.probe.socket, node=None, on_message=view.on_message, on_gone=view.on_gone)
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        await reader.follow()
        return
    view.source = "a probe of its own, as none runs here"
    with attached(settings) as source:
        probe = make_probe(settings, source)
        probe.sinks.append(view.on_message)
        async with make_publisher(settings, probe):  # so that the agent tells its sockets
            await probe.run()


class _View:
    """The table on the screen."""

    def __init__(self, *, wide: bool) -> None:
        self._wide = wide
        self._flows: dict[int, Flow] = {}
        self._order: deque[int] = deque()
        self._counts: Counter[tuple[str, Verdict]] = Counter()
        self._health = Health()
        self.source = "the probe of this node"
        self.print: Callable[[Flow], None] = _nothing

    def on_message(self, message: Message) -> None:
        """Apply a message of the probe."""
        if isinstance(message, Hello):
            self.source = f"the probe of {message.node}"
        elif isinstance(message, Health):
            self._health = message
        elif isinstance(message, Flows):
            for flow in message.flows:
                self._add_flow(flow)

    def on_gone(self) -> None:
        """The probe disconnected."""
        self.source += ", which is gone"

    def __rich__(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        columns = _COLUMNS if self._wide else _COLUMNS[:_NARROW]
        for column in columns:
            table.add_column(column, no_wrap=True)
        for cookie in reversed(self._order):
            table.add_row(*_cells(self._flows[cookie])[: len(columns)])
        return Group(self._heading(), table)

    def _add_flow(self, flow: Flow) -> None:
        if flow.cookie not in self._flows:
            self._order.append(flow.cookie)
            if len(self._order) > _SHOWN:
                del self._flows[self._order.popleft()]
        self._flows[flow.cookie] = flow
        if flow.verdict_is_new:
            self._counts[flow.endpoint.value, flow.verdict] += 1
            self.print(flow)

    def _heading(self) -> Text:
        health = self._health
        lines = [f"{time.strftime('%H:%M:%S')}  {self.source}"]
        lines += [
            f"canary {canary.endpoint.value} {canary.address}: {canary.verdict.value}, "
            f"answered by {canary.answered_by or 'nobody'}"
            for canary in health.canaries
        ]
        counts = ", ".join(
            f"{endpoint} {verdict.value} {number}"
            for (endpoint, verdict), number in sorted(self._counts.items(), key=lambda item: -item[1])
        )
        lines.append(f"connections: {counts or 'none yet'}")
        lost = health.lost_events + health.lost_flows + health.lost_packets + health.invalid_events
        lines.append(
            f"lost: {lost}   contradictions: {health.contradictions}   "
            f"of other network namespaces: {health.foreign}\n"
        )
        return Text("\n".join(lines))


def _nothing(flow: Flow) -> None:
    pass


def _cells(flow: Flow) -> tuple[Text | str, ...]:
    return (
        Text(flow.verdict.value, style=_STYLES.get(flow.verdict, "yellow")),
        flow.endpoint.value,
        Text(str(flow.asked)),
        Text(f"{flow.comm or '?'} {flow.pid or ''}"),
        Text("–" if flow.went is None else str(flow.went)),
        ms(flow.rtt_us or None),
        "closed" if flow.closed else "open",
        Text(flow.reason),
    )


def _line(flow: Flow) -> Text:
    return Text("  ").join(cell if isinstance(cell, Text) else Text(cell) for cell in _cells(flow))

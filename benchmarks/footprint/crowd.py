"""All agents of a cluster but one, a process of its own: ``python -m benchmarks.footprint.crowd``.

Each of them has a name, an address on loopback and the cluster's key, and speaks with the product's own
parts. It reads a line of JSON on its standard input, does what it says, and answers with a line.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.admin.sums import sums_entry
from agent.documents.cluster import FiguresEntry
from agent.holders.answering import QuestionDesk
from agent.holders.wire import PATH as HOLDERS_PATH
from agent.holders.wire import QUESTIONS, Question, Reply
from agent.keyring import read_keys
from agent.latency.receiver import ReportDesk
from agent.latency.wire import PATH as LATENCY_PATH
from agent.latency.wire import encode_report
from agent.members.member import Peer
from agent.oci.errors import OciError
from agent.peering.channels import Channels, NoReply
from agent.peering.credentials import Credentials
from agent.peering.dial import Dialer, OwnFault, Unreachable
from topology.placement import NodeName, Placement, Region, Zone, ZoneKey
from topology.zones import Report

_AT_ONCE = 24  # that connect
_CONNECT_S = 30.0


_SUMS = sums_entry((10**9,) * 5 + (5 * 10**9, 10**9, 0.02, 0.2, 1000, 990, 1), 900.0)
_FIGURES = FiguresEntry(
    version="0.1.0",
    uptime_s=86_400.0,
    ready=True,
    why_not_ready="",
    phase="serving",
    proved=True,
    index_down=False,
    unreadable=0,
    corrupt=0,
    uploads=0,
    downloads=0,
    window=_SUMS,
    total=_SUMS,
)


class Crowd:
    """The agents, by their addresses."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._ring = read_keys(Path(told["key"]))
        self._port = told["port"]
        agent = told["agent"]
        self._agent = Peer(
            name=NodeName(agent["name"]), address=agent["address"], port=agent["port"], placement=Placement()
        )
        self._members = {
            address: (NodeName(name), Placement(region=Region(region), zone=Zone(zone)))
            for name, address, region, zone in told["members"]
        }
        self._held: frozenset[str] = frozenset()
        self._asking: list[Channels[Question, Reply]] = []
        self.credentials = cache(self._credentials)
        self.desks = cache(self._desks)
        self._answered = self._reports = 0
        self._open: Counter[str] = Counter()  # connections by the path that they are for

    async def serve(self) -> None:
        """Accept connections at all addresses."""
        runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", self._port, backlog=1024).start()

    def _credentials(self, address: str) -> Credentials:
        name, placement = self._members[address]
        return Credentials(own=name, placement=lambda: placement, ring=lambda: self._ring)

    def _desks(self, address: str) -> tuple[QuestionDesk, ReportDesk]:
        answer = self.credentials(address).answer
        return (
            QuestionDesk(self._reply, figures=lambda: _FIGURES, upgraded=lambda _: None, introduction=answer),
            ReportDesk(lambda *_: self._count_report(), lambda: None, introduction=answer),
        )

    def _reply(self, question: Question) -> Reply:
        self._answered += 1
        return Reply(held=frozenset(digest for digest in question.digests if digest in self._held))

    def _count_report(self) -> None:
        self._reports += 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        questions, reports = self.desks(request.transport.get_extra_info("sockname")[0])
        serve = {HOLDERS_PATH: questions.serve, LATENCY_PATH: reports.serve}.get(request.path)
        if serve is None:
            return web.Response(status=404)
        self._open[request.path] += 1
        try:
            return await serve(request, request.remote or "")
        except OciError as error:
            return web.Response(status=error.status)
        finally:
            self._open[request.path] -= 1

    def _dialer(self, address: str) -> Dialer:
        return Dialer(credentials=self.credentials(address), connect_s=_CONNECT_S, local_address=address)

    async def ask(self, first: int, connections: int, questions: int) -> dict[str, Any]:
        """So many members open a channel to the agent, keep it, and put so many questions each."""
        failed = 0
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(address: str) -> None:
            nonlocal failed
            channels = Channels(self._dialer(address), QUESTIONS, idle_s=3600.0)
            self._asking.append(channels)
            digests = tuple(f"sha256:{number:064x}" for number in range(10))
            async with gate:
                for _ in range(questions):
                    try:
                        await channels.query(self._agent, Question(digests=digests), _CONNECT_S)  # type: ignore[arg-type]
                    except NoReply:
                        failed += 1

        began_s = time.monotonic()
        await asyncio.gather(*(one(address) for address in [*self._members][first : first + connections]))
        return {"failed": failed, "took_s": time.monotonic() - began_s}

    async def stop_asking(self) -> dict[str, Any]:
        """Close those channels."""
        channels, self._asking = self._asking, []
        await asyncio.gather(*(each.close() for each in channels))
        return {"closed": len(channels)}

    async def report(self, members: int) -> dict[str, Any]:
        """So many members report once what they measured to every zone."""
        zones = sorted({placement.zone_key for _, placement in self._members.values()}, key=str)
        gate, failed = asyncio.Semaphore(_AT_ONCE), 0

        async def one(address: str) -> None:
            nonlocal failed
            name, placement = self._members[address]
            message = encode_report(
                name, Report(zones=_medians(zones, placement), nodes={}, load=1), placement
            )
            async with gate:
                try:
                    socket = await self._dialer(address).open_websocket(
                        self._agent, LATENCY_PATH, timeout_s=_CONNECT_S, message_max_bytes=1024
                    )
                    await socket.send(message)
                    await asyncio.sleep(0.05)
                    await socket.close()
                except (Unreachable, OwnFault, ConnectionError, TimeoutError):
                    failed += 1

        began_s = time.monotonic()
        await asyncio.gather(*(one(address) for address in [*self._members][:members]))
        return {"failed": failed, "took_s": time.monotonic() - began_s}

    def hold(self, digest: str) -> dict[str, Any]:
        """All of them have this from now on."""
        self._held = frozenset((digest,))
        return {}

    def counts(self) -> dict[str, Any]:
        """How many questions and reports came, and how many connections are open."""
        return {
            "answered": self._answered,
            "reports": self._reports,
            "channels": self._open[HOLDERS_PATH],
            "measuring": self._open[LATENCY_PATH],
        }

    async def do(self, what: str, **more: Any) -> dict[str, Any]:
        """One command."""
        match what:
            case "ask":
                return await self.ask(**more)
            case "stop asking":
                return await self.stop_asking()
            case "report":
                return await self.report(**more)
            case "hold":
                return self.hold(**more)
        return self.counts()


def _medians(zones: Iterable[ZoneKey | None], placement: Placement) -> dict[ZoneKey, float]:
    own = placement.zone_key
    return {
        zone: 320.0 if zone == own else 900.0 if own is not None and zone.region == own.region else 30_000.0
        for zone in zones
        if zone is not None
    }


async def _run() -> None:
    loop = asyncio.get_running_loop()
    crowd = Crowd(json.loads(await loop.run_in_executor(None, sys.stdin.readline)))
    await crowd.serve()
    print("{}", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(
            json.dumps(
                await crowd.do(**{("what" if k == "do" else k): v for k, v in json.loads(line).items()})
            ),
            flush=True,
        )


def main() -> None:
    """Serve until the standard input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_run())


if __name__ == "__main__":
    main()

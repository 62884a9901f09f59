"""The verdict of a request: at once, when the probe reports its connection, or after the longest wait."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, TCPConnector, web

from agent.config import HttpSettings
from agent.flows.book import FlowBook
from agent.flows.messages import Flows, Hello
from agent.flows.table import Flow, FlowTable
from agent.flows.verdicts import Verdict
from agent.listen.http import HttpListener, connection_caller
from agent.listen.judged import JudgedRequests
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord
from agent.probe.sockets import socket_cookie
from benchmarks.lab.cluster import metric_total
from tests.unit.agent.flows.scenes import direct, node, play

OWN = "node-1"
LATER_S = 60.0  # more than any request waits


def flow_taken_by(cookie: int) -> Flow:
    """A direct connection that the agent accepted with this socket."""
    scene = direct()
    (flow,) = play(FlowTable(node()), scene.client(), scene.server(cookie=cookie))
    return flow


class Listener:
    """A server that asks for a verdict on every request. ``path``: the listener that it stands for."""

    def __init__(self, path: RequestPath) -> None:
        self.path = path
        self.book = FlowBook(own=OWN, canary_interval_s=10.0)
        self.metrics = Metrics()
        self.records: list[RequestRecord] = []
        self.cookies: list[int] = []
        self._judged = JudgedRequests(self.book, self.metrics)

    async def serve(self, request: web.BaseRequest) -> web.Response:
        transport = request.transport
        assert transport is not None
        self.cookies.append(socket_cookie(transport.get_extra_info("socket")))
        record = RequestRecord(path=self.path, method=request.method)
        self._judged.judge(record, connection_caller(request), self.records.append)
        return web.Response(text="{}")

    def verdicts(self) -> list[str | None]:
        return [record.verdict for record in self.records]

    def counted(self, verdict: str) -> float:
        name, labels = "shorthaul_local_requests_total", {"endpoint": self.path.value, "verdict": verdict}
        return metric_total(self.metrics.expose(), name, labels)

    def tell(self, cookie: int) -> None:
        self.book.apply(Flows(flows=(flow_taken_by(cookie),)), time.monotonic())


@asynccontextmanager
async def asked(listener: Listener, times: int = 1) -> AsyncIterator[None]:
    """Requests over one kept-alive connection."""
    bound = socket.create_server(("127.0.0.1", 0))
    host, port = bound.getsockname()
    server = HttpListener(bound, listener.serve, HttpSettings(), path=listener.path)
    await server.start()
    try:
        async with ClientSession(connector=TCPConnector(limit=1)) as client:
            for _ in range(times):
                async with client.get(f"http://{host}:{port}/v2/") as response:
                    assert response.status == 200
            yield
    finally:
        await server.stop_accepting()
        await server.drain(1.0)


def connected(path: RequestPath = RequestPath.HOSTPORT) -> Listener:
    listener = Listener(path)
    listener.book.apply(Hello(node=OWN), time.monotonic())
    return listener


async def test_request_waits_for_its_connection_s_verdict() -> None:
    listener = connected()
    async with asked(listener):
        assert listener.records == []
        listener.tell(listener.cookies[0])
        assert listener.verdicts() == ["DIRECT"]
        assert listener.counted("DIRECT") == 1


async def test_kept_alive_connection_s_requests_are_counted_each_and_later_ones_judged_at_once() -> None:
    listener = connected()
    async with asked(listener, times=3):
        assert len(set(listener.cookies)) == 1
        listener.tell(listener.cookies[0])
        assert listener.verdicts() == ["DIRECT"] * 3
        assert listener.counted("DIRECT") == 3
    later = connected()
    later.book = listener.book
    assert later.book.verdict(listener.cookies[0]) is Verdict.DIRECT


async def test_other_connection_s_verdict_is_not_taken() -> None:
    listener = connected()
    async with asked(listener):
        listener.tell(listener.cookies[0] + 1)
        assert listener.records == []


async def test_hostport_request_whose_time_is_up_is_unknown() -> None:
    listener = connected()
    async with asked(listener):
        listener.book.tick(time.monotonic())
        assert listener.records == []
        listener.book.tick(time.monotonic() + LATER_S)
        assert listener.verdicts() == ["UNKNOWN"]
        assert listener.counted("UNKNOWN") == 1
        listener.tell(listener.cookies[0])  # too late
        assert listener.verdicts() == ["UNKNOWN"]
        assert listener.counted("DIRECT") == 0


async def test_nodeport_request_whose_time_is_up_is_of_another_node_s_client() -> None:
    listener = connected(RequestPath.NODEPORT)
    async with asked(listener):
        listener.book.tick(time.monotonic() + LATER_S)
        assert listener.verdicts() == [None]
        assert listener.counted("UNKNOWN") == 0


async def test_probe_that_goes_away_ends_the_waiting() -> None:
    listener = connected()
    async with asked(listener):
        listener.book.on_probe_lost()
        assert listener.verdicts() == ["UNKNOWN"]


@pytest.mark.parametrize(
    ("path", "verdict"), [(RequestPath.HOSTPORT, "UNKNOWN"), (RequestPath.NODEPORT, None)]
)
async def test_without_a_probe_nothing_waits(path: RequestPath, verdict: str | None) -> None:
    listener = Listener(path)
    async with asked(listener):
        assert listener.verdicts() == [verdict]


async def test_peer_s_request_is_not_judged() -> None:
    listener = connected(RequestPath.PEER)
    async with asked(listener):
        assert listener.verdicts() == [None]
        assert listener.counted("UNKNOWN") == 0


async def test_connection_that_ended_while_its_request_waited_still_gets_its_verdict() -> None:
    listener = connected()
    async with asked(listener):
        cookie = listener.cookies[0]
    await asyncio.sleep(0)
    listener.tell(cookie)
    assert listener.verdicts() == ["DIRECT"]

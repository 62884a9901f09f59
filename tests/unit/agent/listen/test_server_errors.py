"""When an error is recorded: after it was sent, and once, whatever becomes of the client."""

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.test_utils import make_mocked_request

from agent.listen.caller import Caller
from agent.listen.exchange import Exchange
from agent.listen.server import OciServer
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord, Result
from agent.oci.browser import BrowserGuard
from tests.unit.twins import node


class Writer(AbstractStreamWriter):
    """What aiohttp writes an answer to. ``fails``: what happens to it."""

    def __init__(self, fails: BaseException | None) -> None:
        self._fails = fails
        self.sent = False

    async def write_eof(self, chunk: bytes = b"") -> None:
        if self._fails is not None:
            raise self._fails
        self.sent = True

    async def write(self, chunk: Any) -> None:
        raise AssertionError("an error is sent whole")

    async def write_headers(self, *_: object) -> None:
        pass  # they go with the body

    async def drain(self) -> None:
        pass

    def enable_compression(self, *_: object) -> None:
        raise AssertionError

    def enable_chunking(self) -> None:
        raise AssertionError


class Recorder:
    """Notes each finished exchange: its result, and whether the answer was sent by then."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.finished: list[tuple[Result, bool]] = []

    def begin(self, request: web.BaseRequest, _caller: Caller) -> Exchange:
        return Exchange(
            request=request,
            caller=Caller(listener=RequestPath.HOSTPORT, address="127.0.0.1", cookie=1, connected_s=0.0),
            record=RequestRecord(path=RequestPath.HOSTPORT, method="GET"),
            started_s=0.0,
            send_stall_s=1.0,
            metrics=Metrics(),
            clock=time.monotonic,
        )

    def caller_of(self, request: web.BaseRequest) -> Caller:
        return Caller(listener=RequestPath.HOSTPORT, address="127.0.0.1", cookie=0, connected_s=0.0)

    def finish(self, exchange: Exchange) -> None:
        self.finished.append((exchange.record.result, self._writer.sent))


class OpenDoors:
    async def turned_away(self, _: web.BaseRequest) -> None:
        return None


class Refusing:
    """A server that refuses a request. ``fails``: what happens to the answer."""

    def __init__(self, fails: BaseException | None = None) -> None:
        self._writer = Writer(fails)
        recorder: Any = Recorder(self._writer)
        self._recorder: Recorder = recorder
        unused: Any = None
        doors: Any = OpenDoors()
        self._server = OciServer(
            own=node("own"),
            doors=doors,
            guard=BrowserGuard(()),
            introduction=unused,
            draining=unused,
            recorder=recorder,
            refusals=unused,
            questions=unused,
            reports=unused,
            reach=unused,
            discovery=unused,
            names=unused,
            prefetcher=unused,
            local=unused,
            arriving=unused,
            remote=unused,
        )

    @property
    def finished(self) -> list[tuple[Result, bool]]:
        return self._recorder.finished

    async def handle(self) -> web.StreamResponse:
        headers = {"Host": "elsewhere.example"}
        return await self._server.handle(make_mocked_request("GET", "/v2/", headers, writer=self._writer))


async def test_an_error_is_sent_before_it_is_recorded() -> None:
    refusing = Refusing()
    response = await refusing.handle()
    assert response.status == 403
    assert refusing.finished == [(Result.REJECTED, True)]


async def test_an_error_for_a_client_that_left_is_recorded_once_and_is_no_failure() -> None:
    refusing = Refusing(ConnectionResetError())
    await refusing.handle()
    assert refusing.finished == [(Result.REJECTED, False)]


async def test_an_error_whose_sending_is_cancelled_is_recorded_once() -> None:
    refusing = Refusing(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await refusing.handle()
    assert refusing.finished == [(Result.REJECTED, False)]

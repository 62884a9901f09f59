"""Requests to the API server: bounds, credentials that are replaced, answers that are none."""

import asyncio
import contextlib
import gzip
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent.members.kubernetes.client import (
    Access,
    ApiServer,
    Expired,
    Failed,
    Limits,
    Malformed,
    access,
)
from benchmarks.lab.apiserver import NODES, SLICES, FakeApiServer, Pod, node_object, slice_object
from tests.unit.agent.members.kubernetes.authority import Authority
from tests.unit.twins import REPOSITORY_ROOT

LIST = "/apis/discovery.k8s.io/v1/namespaces/shorthaul/endpointslices"
KINDS = frozenset({"EndpointSliceList"})


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        running.put(SLICES, slice_object("one", [Pod(node="a", address="10.0.0.1")]))
        yield running


def api(url: str, *, limits: Limits | None = None, **more: Any) -> ApiServer:
    where = Access(**{"url": url, "ca_file": None, "token_file": None, **more})
    return ApiServer(where, agent="shorthaul/test", limits=limits)


async def read(server: ApiServer) -> dict[str, Any]:
    return await server.read(LIST, {"resourceVersion": "0"}, kinds=KINDS)


async def watched(server: ApiServer) -> list[Any]:
    async with server.watch(LIST, {"watch": "true", "resourceVersion": "0"}) as events:
        return [event async for event in events]


async def test_list_is_read_and_watched_from(server: FakeApiServer) -> None:
    async with api(server.url) as client:
        document = await read(client)
        assert [item["metadata"]["name"] for item in document["items"]] == ["one"]
        server.watch_s = 0.05
        assert [event["type"] for event in await watched(client)] == ["ADDED"]


async def test_only_metadata_of_a_node_is_asked_for(server: FakeApiServer) -> None:
    server.put(NODES, node_object("n1", {"zone": "a"}))
    async with api(server.url) as client:
        document = await client.read("/api/v1/nodes/n1", {}, kinds={"Node"}, metadata_only=True)
    assert document["metadata"]["labels"]["zone"] == "a"
    assert "status" not in document


async def test_token_is_read_at_each_request_as_it_is_replaced_every_hour(
    server: FakeApiServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    async with api(server.url, token_file=token) as client:
        for secret in ("first", "second"):
            token.write_text(f"{secret}\n")
            server.token = secret
            await read(client)
        server.token = "third"
        with pytest.raises(Failed, match="401") as caught:
            await read(client)
        assert "token" in caught.value.hint
        for content in ("", "two\nlines", "ünicode"):
            token.write_text(content)
            with pytest.raises(Failed, match="not a token"):
                await read(client)
        token.unlink()
        with pytest.raises(Failed, match="no such file"):
            await read(client)
    assert server.asked.tokens[:2] == ["first", "second"]


async def test_certificate_of_the_server_is_followed_when_it_is_replaced(tmp_path: Path) -> None:
    one, two = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    ca_file = tmp_path / "ca.crt"
    ca_file.write_bytes(one.certificate)
    async with (
        FakeApiServer(tls=one.server_context()) as first,
        FakeApiServer(tls=two.server_context()) as second,
    ):
        async with api(first.url, ca_file=ca_file) as client:
            await read(client)
        async with api(second.url, ca_file=ca_file) as client:
            with pytest.raises(Failed, match="CERTIFICATE_VERIFY_FAILED"):
                await read(client)
            ca_file.write_bytes(two.certificate)
            await read(client)
            for content in ("no certificate", "", " \n", "\N{SNOWMAN}"):
                ca_file.write_text(content)
                with pytest.raises(Failed):
                    await read(client)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "no object"),
        (b'{"kind": "PodList"}', "PodList"),
        (b"{}", "kind"),
        (b"[" * 100_000, "not JSON"),
        (b"", "not JSON"),
    ],
)
async def test_answer_that_is_none_is_told_as_such(server: FakeApiServer, body: bytes, why: str) -> None:
    server.answer = lambda _request: web.Response(body=body, content_type="application/json")
    async with api(server.url) as client:
        with pytest.raises(Malformed, match=why):
            await read(client)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b'{"kind": "Status", "code": 403, "message": "endpointslices is forbidden"}', "is forbidden"),
        (404, b"404 page not found", "without a message"),
        (429, b'{"code": 429, "message": "too many requests"}', "too many"),
        (500, b"\x00" * 200_000, "500"),
        (503, b'{"code": true, "message": 7}', "503"),
    ],
)
async def test_refusal_is_said_in_the_servers_words_with_a_hint(
    server: FakeApiServer, status: int, body: bytes, said: str
) -> None:
    server.answer = lambda _request: web.Response(status=status, body=body, headers={"Retry-After": "7"})
    async with api(server.url) as client:
        with pytest.raises(Failed, match=said) as caught:
            await read(client)
    assert caught.value.hint
    assert len(str(caught.value)) < 500


async def test_server_says_when_to_come_back(server: FakeApiServer) -> None:
    server.answer = lambda _request: web.Response(status=429, headers={"Retry-After": "7"})
    async with api(server.url) as client:
        with pytest.raises(Failed) as caught:
            await read(client)
    assert caught.value.retry_after_s == 7.0


async def test_410_is_expired_as_a_status_and_as_an_event(server: FakeApiServer) -> None:
    assert isinstance(Failed.of_status({"code": 410, "message": "too old"}), Expired)
    server.answer = lambda _request: web.Response(status=410)
    async with api(server.url) as client:
        with pytest.raises(Expired):
            await read(client)


async def test_nobody_listens(server: FakeApiServer) -> None:
    await server.stop()
    async with api(server.url) as client:
        with pytest.raises(Failed, match="refused") as caught:
            await read(client)
    assert "stays in use" in caught.value.hint


SMALL = Limits(
    connect_s=5.0, head_s=0.3, list_s=0.3, silence_s=0.3, list_max_bytes=100_000, event_max_bytes=50_000
)


async def test_answer_without_an_end_is_given_up_and_does_not_fill_the_memory(server: FakeApiServer) -> None:
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                await response.write(b" " * 10_000)
                sent += 10_000
        return response

    server.lie = endless
    async with api(server.url, limits=SMALL) as client:
        with pytest.raises(Malformed, match="more than 100000 bytes"):
            await read(client)
        with pytest.raises(Malformed, match="more than 50000 bytes"):
            await watched(client)
    assert sent < 20_000_000


async def test_compressed_answer_is_bounded_by_what_it_becomes(server: FakeApiServer) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    server.answer = lambda _request: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})
    async with api(server.url, limits=SMALL) as client:
        with pytest.raises(Malformed, match="more than 100000 bytes"):
            await read(client)


async def test_answer_that_comes_byte_by_byte_is_given_up(server: FakeApiServer) -> None:
    async def dripping(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b" ")
                await asyncio.sleep(0.02)
        return response

    server.lie = dripping
    async with api(server.url, limits=SMALL) as client:
        with pytest.raises(Failed, match="no end of an answer"):
            await read(client)


async def test_server_that_never_answers_or_falls_silent_is_given_up(server: FakeApiServer) -> None:
    async with api(server.url, limits=SMALL) as client:
        with pytest.raises(Failed, match=r"[Tt]imeout|no answer"):
            async with client.watch(LIST, {"watch": "true", "resourceVersion": "101"}) as events:
                assert [event async for event in events] == []
        server.silent = True
        with pytest.raises(Failed, match=r"[Tt]imeout|no answer"):
            await read(client)


async def test_half_an_event_at_the_end_of_a_watch_is_none(server: FakeApiServer) -> None:
    server.watch_lines = [b'{"type": "ADDED"}\n\n', b'{"type": "MODI']
    async with api(server.url) as client:
        assert await watched(client) == [{"type": "ADDED"}]


async def test_connection_that_breaks_in_the_middle_is_a_failure(server: FakeApiServer) -> None:
    async with api(server.url) as client:
        server.watch_lines = [b'{"type": "ADDED"}\n']
        server.cut = True
        with pytest.raises(Failed):
            await watched(client)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed_and_nobody_else_gets_the_token(
    server: FakeApiServer, tmp_path: Path, status: int
) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    async with FakeApiServer() as elsewhere:

        def redirect(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": f"{elsewhere.url}{request.path_qs}"})

        server.answer = redirect
        async with api(server.url, token_file=token) as client:
            for ask in (read, watched, _messages):
                with pytest.raises(Malformed, match=f"redirect .status {status}."):
                    await ask(client)
    assert (elsewhere.asked.tokens, elsewhere.asked.queries) == ([], [])


async def _messages(client: ApiServer) -> None:
    async with client.messages(LIST, [("command", "true")], protocol="v4.channel.k8s.io"):
        pass


_LISTED = b'{"kind":"EndpointSliceList","metadata":{"resourceVersion":"1"},"items":[]}'
_ANSWERS = [
    b"",
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 999999 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://[x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 429 Too Many\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nabcde",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX\x00: a\r\n\r\n{}",
    b'HTTP/1.1 200 OK\r\nContent-Length: 9002\r\n\r\n{"a":' + b"9" * 8996 + b"}",
    b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"\xff\xfe"  ',
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_LISTED) + _LISTED,
]


def _damaged(seed: int) -> bytes:
    """One of the answers, with a few other bytes in it."""
    dice = random.Random(seed)
    answer = bytearray(dice.choice(_ANSWERS)[:3000])
    for _ in range(dice.randint(1, 5) if answer else 0):
        answer[dice.randrange(len(answer))] = dice.randrange(256)
    return bytes(answer)


async def test_whatever_answers_no_error_but_those_that_are_named_comes_of_it() -> None:
    answers = iter([answer for answer in (*_ANSWERS, *map(_damaged, range(60))) for _ in range(2)])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, StopIteration):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(next(answers))
            await writer.drain()
        writer.close()

    raw = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = raw.sockets[0].getsockname()
    async with raw, api(f"http://{host}:{port}", limits=SMALL) as client:
        for _ in range(len(_ANSWERS) + 60):
            for ask in (read, watched):
                with contextlib.suppress(Failed, Expired):
                    await ask(client)


def test_pod_finds_its_api_server_and_what_it_was_given() -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    found = access(None, None, None, environment)
    assert found.url == "https://[fd00::1]:6443"
    assert found.token_file == Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    assert access("http://127.0.0.1:8001/", None, None, environment) == Access(
        url="http://127.0.0.1:8001", ca_file=None, token_file=None
    )


def test_transport_alone_is_imported_and_the_rest_of_the_package_stays_usable() -> None:
    script = (
        "import sys; import agent.members.kubernetes.client\n"
        "assert 'pydantic' not in sys.modules and 'requests' not in sys.modules, sorted(sys.modules)\n"
        "heavy = ('kubernetes.client', 'kubernetes.aio.client.models')\n"
        "assert not [name for name in sys.modules if name.startswith(heavy)]\n"
        "from kubernetes.aio.client import ApiClient\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=REPOSITORY_ROOT)


JOBS = "/apis/batch/v1/namespaces/images/jobs"
JOB: dict[str, Any] = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"}}


def told(double: FakeApiServer, answer: web.Response) -> list[tuple[str, bytes]]:
    """Let the double give this answer. The methods and bodies of what is asked."""
    asked: list[tuple[str, bytes]] = []

    async def lie(request: web.BaseRequest) -> web.StreamResponse:
        asked.append((request.method, await request.read()))
        return answer

    double.lie = lie
    return asked


async def test_object_is_created_and_what_the_server_made_of_it_comes_back(server: FakeApiServer) -> None:
    asked = told(server, web.json_response({**JOB, "status": {}}, status=201))
    async with api(server.url) as client:
        assert "status" in await client.create(JOBS, JOB)
    ((method, body),) = asked
    assert (method, json.loads(body)) == ("POST", JOB)


async def test_object_that_is_refused_is_told_in_the_servers_words(server: FakeApiServer) -> None:
    status = {"kind": "Status", "code": 409, "message": 'jobs.batch "one" already exists'}
    told(server, web.json_response(status, status=409))
    async with api(server.url) as client:
        with pytest.raises(Failed, match="already exists") as raised:
            await client.create(JOBS, JOB)
    assert raised.value.status == 409


@pytest.mark.parametrize(("code", "was_there"), [(200, True), (202, True), (404, False)])
async def test_deleting_tells_whether_there_was_one(
    server: FakeApiServer, code: int, was_there: bool
) -> None:
    told(server, web.json_response({"kind": "Status", "code": code, "message": "m"}, status=code))
    async with api(server.url) as client:
        assert await client.delete(f"{JOBS}/one", {"propagationPolicy": "Background"}) is was_there


async def test_lines_of_a_text_come_one_by_one_and_the_last_may_be_cut(server: FakeApiServer) -> None:
    told(server, web.Response(body=b"one\n\ntwo\nthr"))
    async with api(server.url) as client, client.lines("/log", {}, silence_s=5.0) as lines:
        assert [line async for line in lines] == [b"one", b"", b"two", b"thr"]


async def test_token_that_a_kubeconfig_says_itself_is_sent(server: FakeApiServer) -> None:
    async with api(server.url, token="of-ann") as client:
        await read(client)
    assert server.asked.tokens == ["of-ann"]

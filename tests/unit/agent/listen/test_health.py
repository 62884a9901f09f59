"""Whether a listener takes what comes."""

import asyncio
import socket

from aiohttp import web

from agent.config import HttpSettings
from agent.listen.health import ListenerHealth, QueueWatch
from agent.listen.http import HttpListener
from agent.listen.sockets import waiting_connections


def seen(*looks: tuple[int, int]) -> list[str | None]:
    """What is said of a queue that is looked at once a second: how many wait, how many were accepted."""
    watch = QueueWatch()
    return [watch.look(waiting, accepted, float(now_s)) for now_s, (waiting, accepted) in enumerate(looks)]


def test_a_queue_that_moves_is_well_however_long_it_is() -> None:
    assert seen(*((1000, number) for number in range(100))) == [None] * 100


def test_nobody_who_waits_is_well() -> None:
    assert seen(*[(0, 7)] * 100) == [None] * 100


def test_a_queue_that_stands_still_is_a_problem_until_it_moves() -> None:
    looks = [(0, 7), (2, 7), (2, 7), (2, 7), (2, 7), (2, 9)]
    said = seen(*looks)
    assert said[:3] == [None] * 3
    assert said[3] == "2 connections wait, and none was accepted for 3 s"
    assert said[5] is None


async def answer(_: web.BaseRequest) -> web.Response:
    return web.Response(text="ok")


async def test_a_listener_is_well_while_it_accepts_and_a_problem_when_its_socket_is_gone() -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    listener = HttpListener(bound, answer, HttpSettings())
    expected = True
    health = ListenerHealth({"hostport": listener}, expected=lambda: expected)
    await listener.start()
    health.look(0.0)
    assert health.problem("hostport") is None
    listener.pause()
    health.look(1.0)
    assert health.problem("hostport") == "it accepts no connections"
    expected = False
    assert health.problem("hostport") is None  # it stands by, or stops
    expected = True
    await listener.start()
    listener.socket.shutdown(socket.SHUT_RD)
    health.look(2.0)
    assert health.problem("hostport") == "the socket does not listen any more"
    listener.socket.close()
    health.look(3.0)
    assert health.problem("hostport") == "its socket was closed"
    listener.pause()


async def test_paused_listener_leaves_what_comes_in_the_queue_and_takes_it_later() -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    listener = HttpListener(bound, answer, HttpSettings())
    await listener.start()
    listener.pause()
    with socket.create_connection(bound.getsockname()[:2], timeout=30) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert waiting_connections(bound) == 1
        await listener.start()
        assert await asyncio.to_thread(client.recv, 15) == b"HTTP/1.0 200 OK"
    listener.release()
    await listener.drain(0.0)


async def test_what_waits_when_a_listener_stops_alone_is_answered() -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    listener = HttpListener(bound, answer, HttpSettings())
    await listener.start()
    listener.pause()
    with socket.create_connection(bound.getsockname()[:2], timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await listener.stop_accepting()
        answered = b""
        while part := await asyncio.to_thread(client.recv, 4096):
            answered += part
    assert answered.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answered
    await listener.drain(0.0)

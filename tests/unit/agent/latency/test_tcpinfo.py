"""The kernel's figures of a connection, read from real ones over loopback."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from agent.latency.tcpinfo import TcpInfo, newest_sample_us, read_tcp_info

Loops = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        client.settimeout(10)
        server.settimeout(10)
        yield client, server


def read(sock: object) -> TcpInfo:
    info = read_tcp_info(sock)
    assert info is not None
    return info


def exchange(client: socket.socket, server: socket.socket) -> None:
    """Send one segment to the server and one back, so that the client's kernel has its acknowledgement."""
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    server.sendall(b"y")
    assert client.recv(1) == b"y"


def test_connection_over_loopback_has_a_round_trip_from_its_handshake_on(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    for sock in connection:
        info = read(sock)
        assert 0 < info.min_rtt_us < 10_000_000
        assert 0 < info.rtt_us < 10_000_000
        assert info.rttvar_us >= 0


def test_every_acknowledged_segment_is_counted_and_is_a_sample(
    connection: tuple[socket.socket, socket.socket],
) -> None:
    client, server = connection
    before = read(client)
    for _ in range(20):
        exchange(client, server)
        after = read(client)
        assert after.delivered == before.delivered + 1
        sample_us = newest_sample_us(before, after)
        assert sample_us is not None
        assert 0 < sample_us < 10_000_000
        before = after


def test_nothing_sent_is_no_sample(connection: tuple[socket.socket, socket.socket]) -> None:
    client, _ = connection
    assert newest_sample_us(read(client), read(client)) is None


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_transport_of_either_event_loop_gives_its_socket(new_loop: Loops) -> None:
    async def main() -> TcpInfo:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            info = read(writer.get_extra_info("socket"))
            writer.close()
            await writer.wait_closed()
            return info

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()).min_rtt_us > 0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_closed_transport_of_either_event_loop_has_no_figures(new_loop: Loops) -> None:
    async def main() -> TcpInfo | None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            read(writer.get_extra_info("socket"))
            writer.close()
            await writer.wait_closed()
            return read_tcp_info(writer.get_extra_info("socket"))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main()) is None


def test_what_is_no_open_connection_has_no_figures() -> None:
    assert read_tcp_info(None) is None
    assert read_tcp_info(object()) is None
    one, other = socket.socketpair()
    with one, other:
        assert read_tcp_info(one) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        assert read_tcp_info(datagram) is None
    with socket.socket() as unconnected:
        assert read_tcp_info(unconnected) is None
    closed = socket.socket()
    closed.close()
    assert read_tcp_info(closed) is None


def test_kernel_with_a_shorter_structure_has_no_figures() -> None:
    class Old:
        def getsockopt(self, *_: int) -> bytes:
            return bytes(104)

    assert read_tcp_info(Old()) is None


def info(rtt_us: int, *, delivered: int, min_rtt_us: int = 1, retransmits: int = 0) -> TcpInfo:
    return TcpInfo(
        rtt_us=rtt_us, rttvar_us=1, min_rtt_us=min_rtt_us, delivered=delivered, retransmits=retransmits
    )


@given(samples=st.lists(st.integers(20, 100_000), min_size=2, max_size=40))
def test_sample_is_recovered_from_the_smoothing_of_the_kernel(samples: list[int]) -> None:
    """RFC 6298 in eighths of a microsecond, as in the kernel, which reports whole microseconds."""
    eighths = samples[0] * 8
    before = info(eighths >> 3, delivered=1, min_rtt_us=1)
    for count, sample in enumerate(samples[1:], start=2):
        eighths += sample - (eighths >> 3)
        after = info(eighths >> 3, delivered=count, min_rtt_us=1)
        recovered_us = newest_sample_us(before, after)
        assert recovered_us is not None
        assert abs(recovered_us - sample) <= 8
        before = after


def test_several_segments_or_a_repeated_one_give_the_smoothed_value() -> None:
    before = info(300, delivered=1)
    assert newest_sample_us(before, info(320, delivered=3)) == 320
    assert newest_sample_us(before, info(320, delivered=2, retransmits=1)) == 320


@given(
    rtts=st.tuples(*[st.integers(1, 2**32 - 2)] * 3),
    counts=st.tuples(*[st.integers(0, 2**32 - 1)] * 2),
    repeats=st.tuples(*[st.integers(0, 9)] * 2),
)
def test_any_two_readings_give_a_positive_sample_or_none(
    rtts: tuple[int, ...], counts: tuple[int, ...], repeats: tuple[int, ...]
) -> None:
    before = info(rtts[0], delivered=counts[0], retransmits=repeats[0])
    after = info(rtts[1], delivered=counts[1], min_rtt_us=rtts[2], retransmits=repeats[1])
    sample_us = newest_sample_us(before, after)
    assert sample_us is None or sample_us > 0
    assert (sample_us is None) == (counts[1] <= counts[0])

"""The probe's socket and its readers, with real Unix sockets: who may read, and what happens to each end."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.flows.book import FlowBook
from agent.flows.messages import (
    FLOWS_MAX,
    LINE_MAX,
    VERSION,
    Claims,
    Flows,
    Health,
    Hello,
    Introduced,
    Introduction,
    Message,
    MessageInvalid,
    Request,
    SendCanaries,
    encode,
)
from agent.flows.sockets import AcceptedSockets
from agent.flows.table import Flow, FlowTable
from agent.flows.verdicts import Verdict
from agent.probe.publisher import Publisher, SocketTaken
from agent.probe.reader import OwnSockets, ProbeReader, introduce, read_hello
from agent.probe.sockets import peer_uid
from tests.unit.agent.flows.scenes import direct, node, play

OWN = "node-1"
NOBODY = 65534


def judged(*cookies: int) -> tuple[Flow, ...]:
    table = FlowTable(node())
    for cookie in cookies:
        scene = direct(30000 + cookie, cookie=cookie)
        play(table, scene.client(), scene.server())
    return tuple(table.open_flows())


def told_first(*flows: Flow, name: str = OWN) -> Callable[[], Iterable[Message]]:
    return lambda: [Hello(node=name, programs=(1, 2)), Flows(flows=flows), Health()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "probe.sock"


def publisher(path: Path, *flows: Flow, name: str = OWN, uids: tuple[int, ...] = ()) -> Publisher:
    return Publisher(path, initial_messages=told_first(*flows, name=name), uids=uids)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event of its own
            await asyncio.sleep(0.005)


class Heard:
    """A reader's messages, and how often the probe went away."""

    def __init__(self, path: Path, *, own: str | None = OWN) -> None:
        self.messages: list[Message] = []
        self.gone = 0
        self.reader = ProbeReader(path, node=own, on_message=self.messages.append, on_gone=self._gone)

    def _gone(self) -> None:
        self.gone += 1

    @property
    def flows(self) -> list[Flow]:
        return [flow for message in self.messages if isinstance(message, Flows) for flow in message.flows]


@asynccontextmanager
async def running(reader: ProbeReader) -> AsyncIterator[asyncio.Task[None]]:
    """The reader at work; if it crashes, so does the test."""
    task = asyncio.create_task(reader.run())
    try:
        yield task
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def serving(path: Path, *lines: bytes, hang: bool = False) -> AsyncIterator[list[int]]:
    """Something at the socket that says these bytes to each who comes, then closes; a list of who came."""
    came: list[int] = []
    open_ones: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        open_ones.append(outgoing)
        came.append(peer_uid(outgoing.get_extra_info("socket")))
        for line in lines:
            outgoing.write(line)
        if not hang:
            outgoing.close()

    path.parent.mkdir(exist_ok=True)
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield came
    finally:
        server.close()
        for outgoing in open_ones:
            outgoing.close()


# Telling


async def test_reader_hears_hello_then_the_open_flows_then_what_is_new(path: Path) -> None:
    heard = Heard(path)
    async with publisher(path, *judged(1, 2)) as probe, running(heard.reader):
        await until(lambda: probe.readers == 1)
        probe.publish(Flows(flows=judged(3)))
        await until(lambda: len(heard.messages) == 4)
    assert heard.messages[0] == Hello(node=OWN, programs=(1, 2))
    assert [flow.cookie for flow in heard.flows] == [1, 2, 3]
    assert heard.flows == [*judged(1, 2), *judged(3)]
    assert {flow.verdict for flow in heard.flows} == {Verdict.DIRECT}


async def test_every_reader_hears_everything(path: Path) -> None:
    readers = [Heard(path) for _ in range(3)]
    async with publisher(path) as probe, asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(heard.reader.follow()) for heard in readers]
        await until(lambda: probe.readers == 3)
        probe.publish(Health(lost_events=7))
        await until(lambda: all(len(heard.messages) == 4 for heard in readers))
        for task in following:
            task.cancel()
    assert all(heard.messages[-1] == Health(lost_events=7) for heard in readers)


async def test_hello_alone_can_be_asked_for(path: Path) -> None:
    async with publisher(path, *judged(*range(1, 200))):
        assert await read_hello(path) == Hello(node=OWN, programs=(1, 2))


async def test_telling_nobody_is_no_error(path: Path) -> None:
    async with publisher(path) as probe:
        probe.publish(Health())
        assert probe.readers == 0


async def test_largest_message_of_flows_fits_in_a_line(path: Path) -> None:
    flow = judged(1)[0]
    assert len(encode(Flows(flows=(flow,) * FLOWS_MAX))) < LINE_MAX


# Who may read, and who may tell


_AS_NOBODY = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    sys.stdout.buffer.write(client.makefile("rb").readline())
"""
_PROBE_OF_NOBODY = """
import contextlib, os, socket, sys
os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1])
    server.listen()
    print("ready", flush=True)
    while True:
        client, _ = server.accept()
        with client, contextlib.suppress(BrokenPipeError):  # a reader that does not believe us leaves
            client.sendall(sys.argv[2].encode() + b"\\n")
"""


def open_to_all(folder: Path) -> Path:
    """A folder that another user can reach and write to; pytest's own can only its owner enter."""
    folder.chmod(0o777)
    for each in folder.parents:
        if each == Path("/tmp"):
            break
        each.chmod(each.stat().st_mode | 0o011)
    return folder


async def as_nobody(script: str, *arguments: str) -> asyncio.subprocess.Process:
    if os.geteuid() != 0:
        pytest.fail("needs root, to become another user: run `make test` as root")
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdout=asyncio.subprocess.PIPE
    )


async def test_reader_of_another_user_can_not_even_connect(tmp_path: Path) -> None:
    path = open_to_all(tmp_path) / "probe.sock"
    async with publisher(path) as probe:
        said, _ = await (await as_nobody(_AS_NOBODY, str(path))).communicate()
        assert said == b""
        assert (probe.readers, probe.refused) == (0, 0)


async def test_reader_of_a_user_that_the_settings_do_not_name_is_told_nothing(tmp_path: Path) -> None:
    path = open_to_all(tmp_path) / "probe.sock"
    async with publisher(path, uids=(1234,)) as probe:
        said, _ = await (await as_nobody(_AS_NOBODY, str(path))).communicate()
        assert said == b""
        assert (probe.readers, probe.refused) == (0, 1)


async def test_reader_of_a_user_that_the_settings_name_is_told_all(tmp_path: Path) -> None:
    path = open_to_all(tmp_path) / "probe.sock"
    async with publisher(path, uids=(NOBODY,)) as probe:
        said, _ = await (await as_nobody(_AS_NOBODY, str(path))).communicate()
        assert json.loads(said)["hello"] == VERSION
        assert probe.refused == 0


async def test_probe_of_another_user_is_not_believed(tmp_path: Path) -> None:
    path = open_to_all(tmp_path) / "probe.sock"
    hello = encode(Hello(node=OWN)).decode().strip()
    child = await as_nobody(_PROBE_OF_NOBODY, str(path), hello)
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        heard = Heard(path)
        with pytest.raises(PermissionError, match="user 65534"):
            await heard.reader.follow()
        with pytest.raises(PermissionError):
            await read_hello(path)
        assert (heard.messages, heard.gone) == ([], 0)
    finally:
        child.kill()
        await child.wait()


async def test_probe_of_another_node_is_not_believed(path: Path) -> None:
    heard = Heard(path)
    async with publisher(path, *judged(1), name="node-2"):
        with pytest.raises(MessageInvalid, match="node-2, not of node-1"):
            await heard.reader.follow()
    assert (heard.messages, heard.gone) == ([], 0)


async def test_reader_that_asks_for_no_node_takes_any(path: Path) -> None:
    heard = Heard(path, own=None)
    async with publisher(path, name="node-2") as probe, running(heard.reader):
        await until(lambda: probe.readers == 1 and len(heard.messages) == 3)


async def test_only_so_many_readers_are_served(path: Path) -> None:
    async with publisher(path) as probe:
        connections = [await asyncio.open_unix_connection(path) for _ in range(17)]
        await until(lambda: probe.readers == 16 and probe.refused == 1)
        for _, outgoing in connections:
            outgoing.close()
        await until(lambda: probe.readers == 0)
        assert (await read_hello(path)).node == OWN


# What readers tell


class Desk:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.listening: list[int] = []  # the ports of the sockets that came
        self.came_and_left: list[str] = []

    def came(self, reader: Hashable) -> None:
        self.came_and_left.append("came")

    def requested(
        self, reader: Hashable, request: Request, sockets: Sequence[socket.socket]
    ) -> Message | None:
        self.requests.append(request)
        self.listening += [one.getsockname()[1] for one in sockets]
        return Introduced() if isinstance(request, Introduction) else None

    def left(self, reader: Hashable) -> None:
        self.came_and_left.append("left")


async def test_agent_tells_its_sockets_then_what_they_took_then_that_these_are_all(path: Path) -> None:
    desk, accepted = Desk(), AcceptedSockets()
    messages: list[Message] = []
    accepted.accepted(7)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        own = OwnSockets(node=OWN, listeners=[listener, other], accepted=accepted)
        reader = ProbeReader(path, node=OWN, on_message=messages.append, on_gone=lambda: None, own=own)
        made = Publisher(path, initial_messages=told_first(), uids=(), desk=desk)
        async with made, running(reader):
            await until(lambda: len(desk.requests) == 2)
            accepted.accepted(8)
            await until(lambda: len(desk.requests) == 3)
            reader.request(SendCanaries())
            await until(lambda: len(desk.requests) == 4)
        assert desk.listening == [listener.getsockname()[1], other.getsockname()[1]]
    assert desk.requests == [
        Introduction(node=OWN),
        Claims(cookies=(7,)),
        Claims(cookies=(7, 8), complete=True),
        SendCanaries(),
    ]
    assert desk.came_and_left == ["came", "left"]
    assert messages[0] == Hello(node=OWN, programs=(1, 2))


async def test_sockets_that_come_with_a_message_are_closed_after_it(path: Path) -> None:
    desk = Desk()
    async with Publisher(path, initial_messages=told_first(), uids=(), desk=desk):
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as agent:
            await asyncio.to_thread(agent.connect, str(path))
            own = OwnSockets(node=OWN, listeners=[listener], accepted=AcceptedSockets())
            introduce(agent, own)
            await until(lambda: len(desk.requests) == 1)
            address = listener.getsockname()
            listener.close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address).close()


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"{}\n", b'{"agent":1,"node":"node-1"}\n', b"x" * (LINE_MAX + 9)]
)
async def test_reader_that_talks_nonsense_is_cut_off_and_others_are_not(path: Path, line: bytes) -> None:
    desk = Desk()
    async with Publisher(path, initial_messages=told_first(), uids=(), desk=desk) as probe:
        heard = Heard(path)
        async with running(heard.reader):
            await until(lambda: probe.readers == 1)
            incoming, outgoing = await asyncio.open_unix_connection(path)
            outgoing.write(line)
            async with asyncio.timeout(20):
                await incoming.read()
            await until(lambda: probe.readers == 1)
            outgoing.close()
            assert heard.gone == 0
    assert desk.requests == []


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("what", ["a pipe", "a pipe after a socket", "too many at once"])
async def test_reader_that_passes_other_descriptors_is_cut_off_and_none_stays_open(
    path: Path, what: str
) -> None:
    desk = Desk()
    async with Publisher(path, initial_messages=told_first(), uids=(), desk=desk) as probe:
        await read_hello(path)
        await until(lambda: probe.readers == 0)
        before = open_fds()
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as client, socket.socket() as other:
                await asyncio.to_thread(client.connect, str(path))
                await until(lambda: probe.readers == 1)
                reading, writing = os.pipe()
                passed = {
                    "a pipe": [reading, other.fileno(), writing],
                    "a pipe after a socket": [other.fileno(), reading],
                    "too many at once": [other.fileno()] * 9,
                }[what]
                socket.send_fds(client, [b"{"], passed)
                os.close(reading)
                os.close(writing)
                await until(lambda: probe.readers == 0)
        await until(lambda: open_fds() <= before)
    assert desk.requests == []


# The place of the socket


@pytest.fixture
def left_behind(path: Path) -> Iterator[Path]:
    """The socket of a killed probe; the next one must have removed it when it ends."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    yield path
    assert not path.exists()


async def test_socket_of_a_killed_probe_is_replaced(left_behind: Path) -> None:
    async with publisher(left_behind):
        assert (await read_hello(left_behind)).node == OWN


async def test_second_probe_is_refused_and_the_first_one_goes_on(path: Path) -> None:
    async with publisher(path, *judged(1)):
        with pytest.raises(SocketTaken, match="another probe") as refused:
            async with publisher(path, name="node-2"):
                pass
        assert "one probe per node" in refused.value.hint
        assert (await read_hello(path)).node == OWN


def test_file_in_its_place_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")

    async def serve() -> None:
        async with publisher(path):
            pass

    with pytest.raises(SocketTaken) as refused:
        asyncio.run(serve())
    assert "probe.socket" in refused.value.hint
    assert path.read_text() == "precious"


# Slow readers


async def test_slow_reader_is_cut_off_and_others_are_not(path: Path) -> None:
    slow = socket.socket(socket.AF_UNIX)
    heard = Heard(path)
    flows = Flows(flows=judged(1) * FLOWS_MAX)
    size = len(encode(flows))
    with slow:
        async with publisher(path) as probe, running(heard.reader):
            await until(lambda: probe.readers == 1)
            await asyncio.get_running_loop().sock_connect(slow_nonblocking(slow), str(path))
            await until(lambda: probe.readers == 2)
            told = 0
            while probe.readers == 2:
                probe.publish(flows)
                told += 1
                await until(lambda told=told: len(heard.flows) >= told * FLOWS_MAX)  # type: ignore[misc]
                assert told * size < 64 << 20, "never cut off"
            assert probe.cut_off == 1
            assert len(heard.flows) == told * FLOWS_MAX
            assert heard.gone == 0


async def test_reader_that_was_cut_off_hears_all_open_flows_when_it_comes_back(path: Path) -> None:
    open_flows = judged(*range(1, 50))
    async with publisher(path, *open_flows) as probe:
        incoming, outgoing = await asyncio.open_unix_connection(path, limit=1 << 10)
        await until(lambda: probe.readers == 1)
        while probe.readers:  # nobody reads
            probe.publish(Flows(flows=judged(1) * FLOWS_MAX))
            await asyncio.sleep(0)
        assert probe.cut_off == 1
        outgoing.close()
        heard = Heard(path)
        async with running(heard.reader):
            await until(lambda: len(heard.messages) == 3)
        assert [flow.cookie for flow in heard.flows] == list(range(1, 50))
    del incoming


def slow_nonblocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


# What a reader survives


HELLO = encode(Hello(node=OWN))
GARBAGE = {
    "nothing": [],
    "no JSON": [b"\x00\xff\n"],
    "no hello": [encode(Health())],
    "another version": [b'{"hello":1,"node":"node-1","programs":[]}\n'],
    "half a line": [HELLO, b'{"flows":[[1,2'],
    "a list": [HELLO, b"[1,2,3]\n"],
    "a number that is none": [HELLO, b'{"flows":[],"rtts":[["' + b"0" * 32 + b'",NaN]]}\n'],
    "a number without end": [HELLO, b'{"flows":[],"rtts":[["' + b"0" * 32 + b'",1' + b"0" * 400 + b"]]}\n"],
    "deep": [HELLO, b"[" * 100_000 + b"\n"],
    "a line that is too long": [HELLO, b'"' + b"x" * (LINE_MAX + 10) + b'"\n'],
    "a line without end": [b"x" * (2 * LINE_MAX)],
}


async def test_reader_comes_back_to_a_server_that_talks_garbage(tmp_path: Path) -> None:
    """All kinds of it side by side: a reader waits a second before it comes back."""

    async def come_back(number: int, case: str) -> None:
        path = tmp_path / str(number) / "probe.sock"
        heard = Heard(path)
        lines = GARBAGE[case]
        hellos = 2 * (lines[:1] == [HELLO])
        async with serving(path, *lines) as came, running(heard.reader):
            await until(lambda: len(came) == 2 and heard.gone == hellos)
        assert heard.messages == [Hello(node=OWN)] * hellos, case

    await asyncio.gather(*(come_back(number, case) for number, case in enumerate(GARBAGE)))


@pytest.mark.parametrize("case", GARBAGE)
async def test_one_connection_ends_with_what_is_wrong(path: Path, case: str) -> None:
    heard = Heard(path)
    async with serving(path, *GARBAGE[case]):
        with pytest.raises((MessageInvalid, OSError)):
            await heard.reader.follow()


async def test_reader_asks_again_where_there_is_no_socket(path: Path) -> None:
    heard = Heard(path)
    async with running(heard.reader):
        async with publisher(path):
            await until(lambda: len(heard.messages) == 3)
        await until(lambda: heard.gone == 1)


async def test_asking_for_hello_ends_where_nothing_is_said(path: Path) -> None:
    async with serving(path, hang=True):
        with pytest.raises(TimeoutError):
            await read_hello(path)


async def test_probe_that_goes_and_comes_back_is_followed_with_its_verdicts(path: Path) -> None:
    book = FlowBook(own=OWN, canary_interval_s=10.0)
    reader = ProbeReader(
        path, node=OWN, on_message=lambda message: take(book, message), on_gone=book.on_probe_lost
    )
    flow = judged(1)[0]
    async with running(reader):
        async with publisher(path, flow):
            await until(lambda: book.verdict(flow.taken_by) is Verdict.DIRECT)
            assert book.connected
        await until(lambda: not book.connected)
        later = judged(2)[0]
        async with publisher(path, flow, later):
            await until(lambda: book.connected and book.verdict(later.taken_by) is Verdict.DIRECT)
        await until(lambda: not book.connected)


def take(book: FlowBook, message: Message) -> None:
    book.apply(message, 0.0)

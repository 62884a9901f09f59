"""A blob of this node on its way to a client: exact from and to the byte, and nothing left behind."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.content.fileblob import FileBlob
from agent.content.growing import GrowingFile, GrowthWatcher
from agent.content.store import Blob, ContentGone, ContentUnavailable, GrowingBlob, Identity
from agent.transfer.blobs import read_first, send_blob, send_growing
from agent.transfer.sink import ClientGone, ClientSink
from tests.unit.agent.transfer.relay import (
    MIB,
    Handler,
    Received,
    delivered,
    exchanging,
    pattern,
)
from tests.unit.agent.transfer.scripted import NoLeak, until
from tests.unit.inflight import Flight

LARGE = pattern(16 * MIB)  # more than the buffers of two loopback connections hold


@dataclass
class ApiBlob:
    """A blob without a file."""

    content: bytes
    fd: int | None = None
    identity: Identity | None = None

    def __post_init__(self) -> None:
        self.size_bytes = self.available_bytes = len(self.content)

    async def read(self, offset: int, length: int) -> bytes:
        await asyncio.sleep(0)
        return self.content[offset : offset + length]

    def close(self) -> None:
        pass


def sending(blob: Blob, start: int, stop: int) -> Handler:
    async def handler(sink: ClientSink) -> None:
        first = await read_first(blob, start, stop)
        await sink.begin(first)
        await send_blob(blob, sink, start + len(first), stop)

    return handler


@pytest.mark.parametrize("kind", ["file", "api"])
@pytest.mark.parametrize(("start", "stop"), [(0, len(LARGE)), (12_345, 9 * MIB + 1), (77, 78), (5, 5)])
async def test_blob_is_sent_from_and_to_the_exact_byte(
    kind: str, start: int, stop: int, tmp_path: Path
) -> None:
    (tmp_path / "blob").write_bytes(LARGE)
    async with NoLeak():
        blob: Blob = FileBlob(tmp_path / "blob") if kind == "file" else ApiBlob(LARGE)
        async with exchanging(sending(blob, start, stop), length=stop - start) as exchange:
            assert await delivered(exchange, stop - start) == LARGE[start:stop]
            assert exchange.ways.keys() <= {"memory", "sendfile" if kind == "file" else "copy"}
        blob.close()


@pytest.mark.parametrize("kind", ["file", "api"])
async def test_blob_that_became_shorter_is_unavailable_and_never_padded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(LARGE[: 10 * MIB])
    blob: Blob = FileBlob(path) if kind == "file" else ApiBlob(LARGE[: 10 * MIB])
    async with exchanging(sending(blob, 0, len(LARGE)), length=len(LARGE)) as exchange:
        await exchange.over.wait()
        assert isinstance(exchange.error, ContentUnavailable)
        await until(lambda: exchange.received.ended, "the client sees an end")
        assert LARGE.startswith(bytes(exchange.received.body[: 10 * MIB]))
    blob.close()


async def test_blob_without_its_first_bytes_is_unavailable_before_a_head_is_sent(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"short")
    blob = FileBlob(tmp_path / "blob")
    assert await read_first(blob, 0, 5) == b"short"
    assert await read_first(blob, 5, 5) == b""
    with pytest.raises(ContentUnavailable):
        await read_first(blob, 5, 6)
    blob.close()


async def test_reader_of_a_file_that_takes_nothing_is_gone(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(LARGE)

    async def never(reader: asyncio.StreamReader, received: Received) -> None:
        await asyncio.Event().wait()

    async with NoLeak():
        blob = FileBlob(tmp_path / "blob")
        handler = sending(blob, 0, len(LARGE))
        async with exchanging(handler, length=len(LARGE), client=never, stall_s=0.2) as exchange:
            await exchange.over.wait()
            assert isinstance(exchange.error, ClientGone)
        blob.close()


def sending_as_it_grows(blob: GrowingBlob, start: int, stop: int) -> Handler:
    async def handler(sink: ClientSink) -> None:
        await blob.wait_beyond(start)
        first = await read_first(blob, start, min(stop, blob.available_bytes))
        await sink.begin(first)
        await send_growing(blob, sink, start + len(first), stop)

    return handler


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


@pytest.mark.parametrize("kind", ["file", "api"])
@pytest.mark.parametrize(("start", "stop"), [(0, len(LARGE)), (12_345, 9 * MIB + 1), (77, 78)])
async def test_blob_that_grows_is_sent_from_and_to_the_exact_byte(
    kind: str, start: int, stop: int, tmp_path: Path
) -> None:
    path, flight = tmp_path / "data", Flight(LARGE)
    append(path, b"")
    async with NoLeak():
        watcher = GrowthWatcher()
        blob: GrowingBlob = (
            GrowingFile(path, size_bytes=len(LARGE), watcher=watcher) if kind == "file" else flight.open()
        )
        async with exchanging(sending_as_it_grows(blob, start, stop), length=stop - start) as exchange:
            for at in range(0, len(LARGE), MIB):
                append(path, LARGE[at : at + MIB])
                flight.grow(MIB)
                await asyncio.sleep(0)
            assert await delivered(exchange, stop - start) == LARGE[start:stop]
            assert exchange.ways.keys() <= {"memory", "sendfile" if kind == "file" else "copy"}
        blob.close()


async def test_blob_that_is_given_up_ends_the_body_where_it_is(tmp_path: Path) -> None:
    flight = Flight(LARGE, available_bytes=3 * MIB)
    blob = flight.open()
    async with exchanging(sending_as_it_grows(blob, 0, len(LARGE)), length=len(LARGE)) as exchange:
        await until(lambda: len(exchange.received.body) == 3 * MIB, "what is there arrives")
        flight.vanish()
        await exchange.over.wait()
        assert isinstance(exchange.error, ContentGone)
        await until(lambda: exchange.received.ended, "the client sees an end")
        assert bytes(exchange.received.body) == LARGE[: 3 * MIB]
    blob.close()
    assert flight.open_blobs == 0

"""Reading the store again: what is found, what is withdrawn, how fast, in which order. In virtual time."""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.config import ScrubSettings
from agent.content.scrub import Scrubber
from agent.content.store import (
    Blob,
    Change,
    ContentMissing,
    ContentUnavailable,
    Growing,
    GrowingBlob,
    Identity,
    Room,
    TagChange,
    TaggedImage,
)
from agent.documents.scrub import RoundEntry, UnreadableEntry
from agent.documents.times import Moment
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.reference import Repository, Tag
from agent.oci.registry import Registry
from tests.unit.twins import loop_clock, other_tasks, run_in_virtual_time

MIB = 1 << 20
DAY_S = 86400.0
MOMENT = Moment(now_s=0.0, unix_s=0.0)


def digest_of(content: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")


@dataclass
class MemoryBlob:
    """An open blob. Reads of ``unreadable`` ones fail as a broken disk does."""

    content: bytes
    identity: Identity | None
    store: "MemoryStore"
    digest: Digest
    fd: int | None = None

    def __post_init__(self) -> None:
        self.size_bytes = self.available_bytes = len(self.content)
        self.store.open_blobs += 1

    async def read(self, offset: int, length: int) -> bytes:
        if self.store.unavailable:
            raise ContentUnavailable("gone")
        self.store.reads.append((loop_clock(), self.digest, offset))
        return self.content[offset : offset + length]

    def close(self) -> None:
        self.store.open_blobs -= 1
        if self.fd is not None:
            os.close(self.fd)


@dataclass
class MemoryStore:
    """A content store whose files are in memory, and which may be wrong."""

    files: dict[Digest, bytes] = field(default_factory=dict)
    on_disk: dict[Digest, Path] = field(default_factory=dict)  # these have a descriptor
    problem: str | None = None
    detour: str | None = None
    unavailable: bool = False
    open_blobs: int = 0
    reads: list[tuple[float, Digest, int]] = field(default_factory=list)
    withdrawn: list[tuple[Digest, Identity | None]] = field(default_factory=list)
    opened: Callable[[Digest], object] = lambda _: None
    totals: tuple[int, int] = (0, 0)
    outages: int = 0
    unreadable: Mapping[Digest, str] = field(default_factory=dict)
    _written: dict[Digest, int] = field(default_factory=dict)

    def put(self, digest: Digest, content: bytes) -> Identity:
        """Write a file, right or wrong; who it is now."""
        self.files[digest] = content
        self._written[digest] = self._written.get(digest, 0) + 1
        return self.identity(digest)

    def add(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self.put(digest, content)
        return digest

    def room(self) -> Room | None:
        return None

    def receiving(self, digest: Digest) -> bool | None:
        return None

    def growing(self, digest: Digest) -> Growing | None:
        return None

    async def open_growing(self, digest: Digest) -> GrowingBlob:
        raise ContentMissing(digest)

    def identity(self, digest: Digest) -> Identity:
        return 1, 2, self._written.get(digest, 0)

    @property
    def digests(self) -> Set[Digest]:
        return self.files.keys()

    def holds(self, digest: Digest) -> bool:
        return digest in self.files

    def flaw(self, digest: Digest) -> str | None:
        return self.unreadable.get(digest)

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        self.withdrawn.append((digest, identity))
        del self.files[digest]

    async def open(self, digest: Digest) -> Blob:
        if digest not in self.files:
            raise ContentMissing(digest)
        blob = MemoryBlob(self.files[digest], self.identity(digest), self, digest)
        if digest in self.on_disk:
            blob.fd = os.open(self.on_disk[digest], os.O_RDONLY)
        self.opened(digest)
        return blob

    async def run(self) -> None:
        return

    def find(self, repository: Repository, tag: Tag, registry: Registry | None) -> tuple[TaggedImage, ...]:
        return ()

    def images(self, repository: Repository) -> tuple[TaggedImage, ...]:
        return ()

    @property
    def named(self) -> Mapping[Digest, Set[tuple[Registry, Repository]]]:
        return {}

    def on_names(self, listener: Callable[[], None]) -> None:
        raise NotImplementedError

    @property
    def exclusive(self) -> bool:
        return True

    def was_fetched_for(self, digest: Digest, manifest: Digest) -> bool:
        raise NotImplementedError

    def on_tag(self, listener: Callable[[TagChange], None]) -> None:
        raise NotImplementedError

    def watch(self) -> AsyncIterator[Change]:
        raise NotImplementedError

    def read_of(self, digest: Digest) -> list[float]:
        """When each of its first pieces was read."""
        return [at_s for at_s, name, offset in self.reads if name == digest and offset == 0]


@dataclass
class Running:
    """A scrubber at work."""

    scrubber: Scrubber
    store: MemoryStore
    metrics: Metrics
    started_s: float

    @property
    def finished(self) -> int:
        """How many rounds are over."""
        number: int = self.scrubber.document(MOMENT).round.finished
        return number

    async def rounds(self, number: int = 1) -> None:
        """Wait until so many rounds are over."""
        while self.finished < number:  # noqa: ASYNC110 - in virtual time
            await asyncio.sleep(0.01)

    def count(self, name: str) -> float:
        lines = [line for line in self.metrics.expose().decode().splitlines() if line.startswith(f"{name} ")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@asynccontextmanager
async def scrubbing(
    store: MemoryStore, *, bytes_per_s: int = 8 * MIB, round_s: float = DAY_S
) -> AsyncIterator[Running]:
    metrics = Metrics()
    settings = ScrubSettings(bytes_per_s=bytes_per_s, round_s=round_s)
    scrubber = Scrubber(store, settings, metrics, loop_clock)
    task = asyncio.create_task(scrubber.run())
    try:
        yield Running(scrubber, store, metrics, loop_clock())
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), f"it gave up: {task.exception()!r}"
        assert not other_tasks()
        assert store.open_blobs == 0, "a blob was left open"


def virtual(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """A test in virtual time."""

    def run() -> None:
        run_in_virtual_time(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


CORRUPT = 'shorthaul_corrupt_blobs_total{found_by="scrub"}'
SCRUBBED = "shorthaul_scrubbed_bytes_total"


@virtual
async def test_sound_blobs_are_read_whole_and_nothing_happens_to_them() -> None:
    store = MemoryStore()
    contents = [bytes([number]) * size for number, size in enumerate((1, MIB, 3 * MIB + 5, 0))]
    held = {store.add(content) for content in contents}
    sha512 = digest_of(b"another algorithm", "sha512")
    store.put(sha512, b"another algorithm")
    async with scrubbing(store) as run:
        await run.rounds()
        assert store.files.keys() == {*held, sha512}
        assert run.count(SCRUBBED) == sum(map(len, contents)) + len(b"another algorithm")
        document = run.scrubber.document(MOMENT)
        assert document.round == RoundEntry(done=5, of=5, finished=1)
        assert (document.withdrawn, document.reading, document.paused) == ((), None, False)
        assert document.bytes_per_s == 8 * MIB


def test_corrupt_blob_is_withdrawn_as_the_file_that_was_read_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        store = MemoryStore()
        sound, corrupt = store.add(b"sound"), digest_of(b"right")
        identity = store.put(corrupt, b"wrong")
        async with scrubbing(store) as run:
            await run.rounds()
            assert store.withdrawn == [(corrupt, identity)]
            assert store.holds(sound)
            assert run.count(CORRUPT) == 1
            assert run.scrubber.document(MOMENT).withdrawn == (corrupt,)
            store.put(corrupt, b"right")
            assert run.scrubber.document(MOMENT).withdrawn == (), "it was written anew"

    with caplog.at_level(logging.ERROR):
        run_in_virtual_time(main())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert vars(record)["fields"]["digest"] == digest_of(b"right")


@virtual
async def test_blob_that_was_cut_short_and_one_that_grew_are_corrupt() -> None:
    store = MemoryStore()
    store.put(digest_of(b"a" * MIB), b"a" * (MIB - 1))
    store.put(digest_of(b"b" * MIB), b"b" * MIB + b"b")
    store.put(digest_of(b"c" * MIB), b"")
    async with scrubbing(store) as run:
        await run.rounds()
        assert len(store.withdrawn) == 3


@virtual
async def test_blob_that_is_replaced_while_it_is_read_is_looked_at_again_before_it_is_blamed() -> None:
    store = MemoryStore()
    digest = digest_of(b"right")
    store.put(digest, b"wrong")
    store.opened = lambda _: store.files.update({digest: b"right"})  # after the first look began
    async with scrubbing(store) as run:
        await run.rounds()
        assert len(store.read_of(digest)) == 2
        assert store.withdrawn == []
        assert run.count(CORRUPT) == 0


@virtual
async def test_blob_that_goes_away_meanwhile_is_not_missed() -> None:
    store = MemoryStore()
    digests = sorted(store.add(bytes([number])) for number in range(3))
    store.opened = lambda _: store.files.pop(digests[1], None)
    async with scrubbing(store) as run:
        await run.rounds()
        assert store.withdrawn == []
        assert [digest for _, digest, _ in store.reads] == [digests[0], digests[2]]


@virtual
async def test_store_that_does_not_answer_makes_no_blob_corrupt() -> None:
    store = MemoryStore(unavailable=True)
    store.add(b"x")
    async with scrubbing(store) as run:
        await run.rounds()
        assert store.withdrawn == []


def test_files_are_read_by_their_descriptors_and_unreadable_ones_are_corrupt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        store = MemoryStore()
        content = os.urandom(2 * MIB + 77)
        sound, unreadable = store.add(content), store.add(b"what can't be read")
        (tmp_path / "sound").write_bytes(content)
        (tmp_path / "unreadable").mkdir()  # reading a directory fails with an OSError
        store.on_disk = {sound: tmp_path / "sound", unreadable: tmp_path / "unreadable"}
        async with scrubbing(store) as run:
            await run.rounds()
        assert store.reads == []
        assert [digest for digest, _ in store.withdrawn] == [unreadable]
        assert run.count(SCRUBBED) == len(content)

    run_in_virtual_time(main())
    assert any("unreadable" in record.getMessage() for record in caplog.records)


@virtual
async def test_store_is_read_no_faster_than_allowed() -> None:
    store = MemoryStore()
    for number in range(10):
        store.add(bytes([number]) * MIB)
    async with scrubbing(store, bytes_per_s=MIB) as run:
        await run.rounds()
        took_s = loop_clock() - run.started_s
        assert 9.8 <= took_s <= 10.5, "but for a burst of a tenth of a second"


@virtual
async def test_rounds_begin_at_their_times_and_see_what_came_meanwhile() -> None:
    store = MemoryStore()
    first = store.add(b"first")
    async with scrubbing(store, round_s=100.0) as run:
        await run.rounds()
        later = store.add(b"later")
        await run.rounds(3)
        assert [round(at_s - run.started_s) for at_s in store.read_of(first)] == [0, 100, 200]
        assert [round(at_s - run.started_s) for at_s in store.read_of(later)] == [100, 200]


@virtual
async def test_round_that_takes_longer_than_it_may_is_followed_by_the_next_at_once() -> None:
    store = MemoryStore()
    digest = store.add(b"x" * 3 * MIB)
    async with scrubbing(store, bytes_per_s=MIB, round_s=1.0) as run:
        await run.rounds(3)
        first_s, second_s, third_s = store.read_of(digest)[:3]
        assert 2.5 <= second_s - first_s <= 3.5
        assert 2.5 <= third_s - second_s <= 3.5


@virtual
async def test_nothing_is_read_if_it_is_turned_off() -> None:
    store = MemoryStore()
    digest = store.add(b"x")
    store.put(digest, b"wrong")
    async with scrubbing(store, bytes_per_s=0, round_s=10.0) as run:
        run.scrubber.check_soon(digest, None)
        await asyncio.sleep(100.0)
        assert (store.reads, run.finished, store.withdrawn) == ([], 0, [])


@virtual
async def test_round_waits_for_the_store_to_be_looked_at() -> None:
    """At the start the store knows of nothing yet: that is not a round."""
    store = MemoryStore(problem="not looked at yet")
    async with scrubbing(store) as run:
        await asyncio.sleep(5.0)
        assert run.finished == 0
        digest = digest_of(b"right")
        store.put(digest, b"wrong")
        store.problem = None
        await run.rounds()
        assert [name for name, _ in store.withdrawn] == [digest]


@virtual
async def test_round_waits_while_the_store_is_lost() -> None:
    store = MemoryStore()
    digests = sorted(store.add(bytes([number])) for number in range(3))

    def lost(digest: Digest) -> None:
        store.problem = "containerd is gone" if digest == digests[0] else None

    store.opened = lost
    async with scrubbing(store) as run:
        await asyncio.sleep(50.0)
        assert [digest for _, digest, _ in store.reads] == digests[:1]
        assert run.finished == 0
        store.problem = None
        await run.rounds()
        assert [digest for _, digest, _ in store.reads] == digests


@virtual
async def test_pausing_takes_effect_within_a_piece_and_resuming_goes_on_there() -> None:
    store = MemoryStore()
    digest = store.add(b"x" * 10 * MIB)
    async with scrubbing(store, bytes_per_s=MIB) as run:
        await asyncio.sleep(3.5)
        run.scrubber.pause()
        before = run.count(SCRUBBED)
        await asyncio.sleep(1000.0)
        assert run.scrubber.document(MOMENT).paused
        assert run.scrubber.document(MOMENT).reading == digest
        assert run.count(SCRUBBED) <= before + MIB
        run.scrubber.resume()
        await run.rounds()
        assert not run.scrubber.paused
        assert [offset for _, _, offset in store.reads] == [place * MIB for place in range(10)]


@virtual
async def test_state_is_told_from_the_moment_at_which_something_was_asked_for() -> None:
    store = MemoryStore()
    store.add(bytes(10 * MIB))
    async with scrubbing(store, bytes_per_s=MIB) as run:
        scrubber = run.scrubber
        assert scrubber.state == "queued", "the first round, before anything ran"
        await asyncio.sleep(2.5)
        assert scrubber.state == "reading"
        scrubber.pause()
        assert scrubber.state == "paused"
        assert scrubber.start()
        assert scrubber.state == "reading", "the round that is under way"
        await run.rounds()
        await asyncio.sleep(100.0)
        assert (scrubber.state, run.finished) == ("waiting", 1), "it asked for no other round"
        assert scrubber.start()
        assert scrubber.state == "queued"
        store.problem = "gone"
        await asyncio.sleep(100.0)
        document = scrubber.document(MOMENT)
        assert (document.state, document.held_up) == ("queued", "gone")
        store.problem = None
        await asyncio.sleep(2.5)
        assert scrubber.state == "reading"


@virtual
async def test_scrub_that_is_off_says_so_whatever_it_is_told() -> None:
    async with scrubbing(MemoryStore(), bytes_per_s=0) as run:
        assert not run.scrubber.start()
        assert run.scrubber.state == "off"
        run.scrubber.pause()
        assert run.scrubber.state == "off"


@virtual
async def test_blobs_that_can_not_be_read_are_named_up_to_a_number() -> None:
    digests = [digest_of(bytes([number])) for number in range(150)]
    store = MemoryStore(unreadable=dict.fromkeys(digests, "permission denied"))
    async with scrubbing(store) as run:
        document = run.scrubber.document(MOMENT)
        assert document.unreadable_blobs == 150
        assert len(document.unreadable) == 100
        assert document.unreadable[0] == UnreadableEntry(digest=digests[0], reason="permission denied")


@virtual
async def test_doubted_blob_is_looked_at_between_rounds_at_once() -> None:
    store = MemoryStore()
    digest = store.add(b"right")
    async with scrubbing(store) as run:
        await run.rounds()
        await asyncio.sleep(1000.0)
        run.scrubber.check_soon(digest, store.put(digest, b"wrong"))
        await asyncio.sleep(0.1)
        assert [name for name, _ in store.withdrawn] == [digest]
        assert run.finished == 1, "it is no round"


@virtual
async def test_doubted_blob_comes_before_what_the_round_would_read_next() -> None:
    store = MemoryStore()
    digests = sorted(store.add(bytes([number])) for number in range(10))
    run_of: list[Scrubber] = []

    def doubt(digest: Digest) -> None:
        if digest == digests[0]:
            run_of[0].check_soon(digests[9], None)

    store.opened = doubt
    async with scrubbing(store) as run:
        run_of.append(run.scrubber)
        await run.rounds()
        order = [digest for _, digest, _ in store.reads]
        assert order[:3] == [digests[0], digests[9], digests[1]]


@virtual
async def test_file_that_was_found_sound_is_not_read_again_for_each_doubt_but_another_file_is() -> None:
    store = MemoryStore()
    digest = store.add(b"right")
    async with scrubbing(store) as run:
        await run.rounds()
        for _ in range(5):
            run.scrubber.check_soon(digest, store.identity(digest))
            await asyncio.sleep(1.0)
        assert len(store.read_of(digest)) == 1
        identity = store.put(digest, b"right")
        run.scrubber.check_soon(digest, identity)
        run.scrubber.check_soon(digest, identity)
        await asyncio.sleep(1.0)
        assert len(store.read_of(digest)) == 2


@virtual
async def test_what_somebody_else_read_whole_and_found_wrong_is_withdrawn_at_once() -> None:
    store = MemoryStore()
    digest = store.add(b"right")
    async with scrubbing(store, bytes_per_s=0) as run:
        run.scrubber.spoiled(digest, (1, 2, 3), "read")
        assert store.withdrawn == [(digest, (1, 2, 3))]
        assert run.count('shorthaul_corrupt_blobs_total{found_by="read"}') == 1
        assert run.scrubber.document(MOMENT).withdrawn == (digest,)


@virtual
async def test_doubts_are_bounded() -> None:
    store = MemoryStore()
    digests = [store.add(number.to_bytes(4, "big")) for number in range(3000)]
    async with scrubbing(store) as run:
        run.scrubber.pause()
        for digest in digests:
            run.scrubber.check_soon(digest, None)
        run.scrubber.resume()
        await run.rounds()
        assert len(store.reads) <= 3000 + 1024


@virtual
async def test_round_through_files_that_are_all_empty_lets_everybody_else_run() -> None:
    store = MemoryStore()
    for number in range(500):  # what a file system may leave after a power failure
        store.put(digest_of(b"%d" % number), b"")
    turns = 0

    async def somebody_else() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with scrubbing(store) as run:
        other = asyncio.create_task(somebody_else())
        while run.scrubber.document(MOMENT).round.done < 250:  # noqa: ASYNC110
            await asyncio.sleep(0)
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    assert 250 <= turns <= 1000

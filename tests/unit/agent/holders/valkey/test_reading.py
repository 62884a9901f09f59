"""Bitmaps from the server: in one command, and whatever they are."""

from collections.abc import Awaitable, Callable

import pytest

from agent.holders.bitmap import BITMAP_BYTES_MAX, value_of
from agent.holders.valkey.reading import Reader
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from agent.oci.digest import Digest
from tests.unit.agent.holders.valkey.fakeserver import LAYOUT, FakeServer
from tests.unit.twins import hold_up, loop_clock, run_in_virtual_time, sha256

A, B = sha256("a"), Digest("sha512:" + "b" * 128)
EPOCH = 7


def playing(play: Callable[[FakeServer, Reader], Awaitable[None]]) -> None:
    async def main() -> None:
        server = FakeServer()
        await play(server, Reader(server, LAYOUT, clock=loop_clock))

    run_in_virtual_time(main())


def test_all_digests_are_read_in_one_command() -> None:
    async def play(server: FakeServer, reader: Reader) -> None:
        server.values[LAYOUT.bitmap(EPOCH, A)] = value_of([3])
        server.values[LAYOUT.bitmap(EPOCH - 1, A)] = value_of([500])
        server.values[LAYOUT.flight(B)] = value_of([9])
        found = await reader.read([A, B], EPOCH)
        assert found == {A: (1 << 3 | 1 << 500, 0), B: (0, 1 << 9)}
        assert server.counted == {"MGET": 1}

    playing(play)


def test_in_a_cluster_each_command_asks_for_keys_of_one_slot() -> None:
    async def play(server: FakeServer, reader: Reader) -> None:
        server.clustered = True
        digests = [sha256(number) for number in range(40)]
        server.values[LAYOUT.bitmap(EPOCH, digests[7])] = value_of([3])
        found = await reader.read(digests, EPOCH)
        assert len(server.calls) == 1
        assert [digest for digest, bits in found.items() if bits[0]] == [digests[7]]
        assert len(found) == 40

    playing(play)


@pytest.mark.parametrize("wrong", [b"\xff" * (BITMAP_BYTES_MAX + 1), ["a", "list"], 7, {}])
def test_a_value_that_no_agent_can_have_written_says_nothing_and_hides_no_other(wrong: object) -> None:
    async def play(server: FakeServer, reader: Reader) -> None:
        server.values[LAYOUT.bitmap(EPOCH, A)] = wrong
        server.values[LAYOUT.bitmap(EPOCH, B)] = value_of([1])
        assert await reader.read([A, B], EPOCH) == {A: (0, 0), B: (2, 0)}

    playing(play)


def test_after_an_answer_too_long_to_read_no_value_is_read_whole_and_the_long_one_is_removed() -> None:
    async def play(server: FakeServer, reader: Reader) -> None:
        server.values[LAYOUT.bitmap(EPOCH, A)] = b"\xff" * (4 * BITMAP_BYTES_MAX)
        server.values[LAYOUT.bitmap(EPOCH, B)] = value_of([1])
        server.down = IndexDown(IndexTrouble.GARBAGE, "a reply longer than any", "")
        with pytest.raises(IndexDown):
            await reader.read([A, B], EPOCH)
        server.down = None
        assert await reader.read([A, B], EPOCH) == {A: (0, 0), B: (2, 0)}
        assert server.counted["MGET"] == 0
        assert LAYOUT.bitmap(EPOCH, A) not in server.values
        assert LAYOUT.bitmap(EPOCH, B) in server.values
        hold_up(100.0)
        await reader.read([A, B], EPOCH)
        assert server.counted["MGET"] == 1

    playing(play)


def test_the_digest_of_a_key_is_found() -> None:
    async def play(_: FakeServer, reader: Reader) -> None:
        for digest in (A, B):
            for key in (LAYOUT.bitmap(EPOCH, digest), LAYOUT.flight(digest)):
                assert reader.digest_of(key.encode()) == digest

    playing(play)

"""A few near peers are asked themselves, each once, and the silent ones are left alone."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from agent.holders.valkey.nearpeers import NearPeers
from agent.holders.wire import Flying, Question, Reply
from agent.members.member import Peer
from tests.unit.twins import loop_clock, peer, placed, run_in_virtual_time, sha256

A, B = sha256("a"), sha256("b")
ONE, TWO, FAR = (peer(name, placed("eu", "eu-a")) for name in ("one", "two", "far"))


class Asked:
    """Peers that reply as the test says, and what they were asked."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self.questions: list[tuple[str, Question]] = []
        self._replies = replies
        self.near = NearPeers(
            self._ask, follows=lambda name: name != "far", deadline_s=0.05, clock=loop_clock
        )

    async def _ask(self, peer: Peer, question: Question, _deadline_s: float) -> Reply | None:
        self.questions.append((peer.name, question))
        return self._replies.get(peer.name)


def playing(replies: Mapping[str, Reply], play: Callable[[Asked], Awaitable[None]]) -> None:
    async def main() -> None:
        await play(Asked(replies))

    run_in_virtual_time(main())


def test_each_peer_is_asked_once_about_all_digests() -> None:
    async def play(asked: Asked) -> None:
        found = await asked.near.ask({A: [ONE, TWO], B: [ONE]})
        assert found == {A: ["one"], B: ["one"]}
        assert sorted((name, question.digests) for name, question in asked.questions) == [
            ("one", (A, B)),
            ("two", (A,)),
        ]

    playing({"one": Reply(held=frozenset([A, B])), "two": Reply()}, play)


def test_what_nobody_asked_for_is_ignored() -> None:
    async def play(asked: Asked) -> None:
        assert await asked.near.ask({A: [ONE]}) == {}

    playing({"one": Reply(held=frozenset([B]))}, play)


def test_a_silent_peer_is_left_alone_for_a_while() -> None:
    async def play(asked: Asked) -> None:
        for _ in range(5):
            assert await asked.near.ask({A: [ONE]}) == {}
        assert len(asked.questions) == 1
        await asyncio.sleep(11.0)
        await asked.near.ask({A: [ONE]})
        assert len(asked.questions) == 2

    playing({}, play)


def test_who_is_fetching_is_told_for_a_moment_and_only_of_those_that_are_followed() -> None:
    async def play(asked: Asked) -> None:
        await asked.near.ask({A: [ONE, FAR]})
        (flying,) = asked.near.flights(A, ())
        assert (flying.node, flying.available_bytes) == ("one", 5)
        assert asked.near.flights(A, [ONE.name]) == ()  # it has all of it by now
        await asyncio.sleep(1.0)
        assert asked.near.flights(A, ()) == ()

    flying = Reply(in_flight={A: Flying(available_bytes=5, size_bytes=10)})
    playing({"one": flying, "far": flying}, play)


def test_who_gave_nothing_is_not_told_again() -> None:
    async def play(asked: Asked) -> None:
        await asked.near.ask({A: [ONE]})
        asked.near.forget(A, ONE.name)
        assert asked.near.flights(A, ()) == ()

    playing({"one": Reply(in_flight={A: Flying(available_bytes=5, size_bytes=10)})}, play)

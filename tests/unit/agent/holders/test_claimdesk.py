"""The arbiter on a node: questions wait for their verdicts, and cost nothing when their asker has gone."""

import asyncio

from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import (
    LEASE_S,
    Ask,
    ClaimBook,
    ClaimKey,
    Completed,
    Free,
    GivenUp,
    Granted,
    Held,
    Renewed,
)
from agent.holders.claimwire import ClaimCall, ClaimReply
from tests.unit.twins import loop_clock, run_in_virtual_time, sha256
from topology.placement import NodeName

A, B, C = (NodeName(name) for name in "abc")
KEY = ClaimKey(sha256("content"))
WAIT_S = 10.0


def make_desk() -> ClaimDesk:
    return ClaimDesk(ClaimBook(start_s=5.0), clock=loop_clock)


def asks(node: NodeName, wait_s: float = WAIT_S, key: ClaimKey = KEY) -> ClaimCall:
    return ClaimCall(node=node, ask=Ask(key=key, node=node), wait_s=wait_s)


def test_who_has_to_wait_is_answered_when_the_first_bytes_are_there() -> None:
    async def scene() -> None:
        desk = make_desk()
        assert await desk.answer(asks(A)) == ClaimReply(verdict=Granted())
        waiting = asyncio.create_task(desk.answer(asks(B)))
        await asyncio.sleep(1.0)
        assert not waiting.done()
        assert await desk.answer(ClaimCall(node=A, news=(Renewed(KEY, 7),))) == ClaimReply(kept=(True,))
        assert await waiting == ClaimReply(verdict=Held((A,), 7, complete=False))
        desk.close()

    run_in_virtual_time(scene())


def test_who_waited_as_long_as_it_wanted_is_told_whose_turn_it_is() -> None:
    async def scene() -> None:
        desk = make_desk()
        await desk.answer(asks(A))
        began_s = loop_clock()
        assert await desk.answer(asks(B, wait_s=2.0)) == ClaimReply(holder=A)
        assert loop_clock() - began_s == 2.0
        assert desk.book.waiting == 0
        desk.close()

    run_in_virtual_time(scene())


def test_claim_that_nobody_renews_goes_on_by_itself() -> None:
    async def scene() -> None:
        desk = make_desk()
        await desk.answer(asks(A))
        began_s = loop_clock()
        assert (await desk.answer(asks(B))).verdict == Granted()
        assert loop_clock() - began_s == LEASE_S
        desk.close()

    run_in_virtual_time(scene())


def test_asker_that_goes_gives_back_its_place_and_what_it_just_got() -> None:
    async def scene() -> None:
        desk = make_desk()
        await desk.answer(asks(A))
        second, third = (asyncio.create_task(desk.answer(asks(node))) for node in (B, C))
        await asyncio.sleep(0.1)
        second.get_loop().call_soon(second.cancel)  # in the same moment in which it is its turn
        await desk.answer(ClaimCall(node=A, news=(GivenUp(KEY, failed=True),)))
        assert (await third).verdict == Granted()
        assert second.cancelled()
        assert desk.book.holder(KEY) == C
        desk.close()

    run_in_virtual_time(scene())


def test_connection_that_ends_shortens_the_claims_of_its_node() -> None:
    async def scene() -> None:
        desk = make_desk()
        await desk.answer(asks(A))
        waiting = asyncio.create_task(desk.answer(asks(B)))
        await asyncio.sleep(0.1)
        began_s = loop_clock()
        desk.gone(A)
        assert (await waiting).verdict == Granted()
        assert loop_clock() - began_s < LEASE_S / 2 + 0.1
        desk.close()

    run_in_virtual_time(scene())


def test_news_are_answered_one_by_one_and_at_once() -> None:
    async def scene() -> None:
        desk = make_desk()
        other = ClaimKey(sha256("another"))
        await desk.answer(asks(A))
        await desk.answer(asks(B, key=other))
        news = (Renewed(KEY, 1), Renewed(other, 1), Completed(KEY), GivenUp(KEY, failed=True))
        assert (await desk.answer(ClaimCall(node=A, news=news))).kept == (True, False, True, False)
        desk.close()

    run_in_virtual_time(scene())


def test_who_is_told_can_be_decided_elsewhere() -> None:
    async def scene() -> None:
        told: list[object] = []

        def sources(key: ClaimKey, asker: NodeName, held: Held) -> tuple[NodeName, ...]:
            told.append((key, asker))
            return (C, *held.sources)

        desk = ClaimDesk(ClaimBook(start_s=5.0), sources=sources, clock=loop_clock)
        await desk.answer(asks(A))
        await desk.answer(ClaimCall(node=A, news=(Completed(KEY),)))
        assert (await desk.answer(asks(B))).verdict == Held((C, A), 0, complete=True)
        assert told == [(KEY, B)]
        desk.close()

    run_in_virtual_time(scene())


def test_a_thousand_nodes_that_ask_at_once_wait_and_are_told_at_once() -> None:
    async def scene() -> None:
        desk = make_desk()
        await desk.answer(asks(A))
        waiting = [asyncio.create_task(desk.answer(asks(NodeName(f"n{number}")))) for number in range(1000)]
        await asyncio.sleep(0.1)
        assert desk.book.waiting == 1000
        await desk.answer(ClaimCall(node=A, news=(Renewed(KEY, 7),)))
        verdicts = {(await one).verdict for one in waiting}
        assert verdicts == {Held((A,), 7, complete=False)}
        desk.close()

    run_in_virtual_time(scene())


def test_desk_without_claims_needs_no_timer_and_closes_twice() -> None:
    async def scene() -> None:
        desk = make_desk()
        assert (await desk.answer(ClaimCall(node=A, ask=Ask(key=KEY, node=A, takes=False)))).verdict == Free()
        desk.close()
        desk.close()

    run_in_virtual_time(scene())

"""Questions about holders from one agent's channels to another one's desk, over real sockets."""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from agent.documents.cluster import FiguresEntry
from agent.holders.answering import CALLS_MAX, QuestionDesk
from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import TENTATIVE_S, Ask, ClaimBook, ClaimKey, Free, Granted, Held, Renewed
from agent.holders.claimwire import ClaimCall, ClaimReply
from agent.holders.wire import DIGESTS_MAX, QUESTIONS, Flying, Question, Reply
from agent.members.member import Peer
from agent.peering.channels import Channels, NoReply
from agent.peering.dial import Dialer
from agent.tasks import end_all
from tests.unit.agent.admin.test_cluster import FIGURES
from tests.unit.agent.peering.raw import web_server
from tests.unit.agent.transfer.scripted import NoLeak, until
from tests.unit.twins import CREDENTIALS, known_tag, named, node, sha256
from topology.placement import NodeName

AT_MOST_S = 10.0
HELD, OTHER, ARRIVING = sha256("held"), sha256("other"), sha256("arriving")
FLYING = Flying(available_bytes=61, size_bytes=100)
TAG = known_tag(age_s=12.5)


def reply_to(question: Question) -> Reply:
    """Replies as a node that has one digest, fetches another one, and knows one tag."""
    return Reply(
        held=frozenset(question.digests) & {HELD},
        tags=tuple(TAG for tag in question.tags if tag == TAG.name),
        in_flight={digest: FLYING for digest in question.digests if digest == ARRIVING},
    )


@asynccontextmanager
async def asking(
    claims: ClaimDesk | None = None,
    *,
    asker: NodeName | None = None,
    reply: Callable[[Question], Reply] = reply_to,
    figures: Callable[[], FiguresEntry] | None = None,
) -> AsyncIterator[tuple[Channels[Question, Reply], Peer, QuestionDesk]]:
    upgraded: list[object] = []
    desk = QuestionDesk(reply, claims=claims, figures=figures, upgraded=upgraded.append)
    async with (
        NoLeak(),
        web_server(lambda request: desk.serve(request, "127.0.0.1", asker)) as server,
        Dialer(credentials=CREDENTIALS, connect_s=5.0) as dialer,
        Channels(dialer, QUESTIONS) as channels,
    ):
        yield channels, server.peer(), desk
    if claims is not None:
        claims.close()
    assert upgraded


async def test_asker_hears_what_the_other_node_has_and_knows() -> None:
    async with asking() as (channels, peer, _):
        question = Question(digests=(OTHER, HELD), tags=(named(tag="v0"), TAG.name))
        assert await channels.query(peer, question, AT_MOST_S) == Reply(held=frozenset({HELD}), tags=(TAG,))
        assert await channels.query(peer, Question(digests=(OTHER,)), AT_MOST_S) == Reply()


async def test_asker_that_asks_for_figures_gets_them_and_no_other_does() -> None:
    async with asking(figures=lambda: FIGURES) as (channels, peer, _):
        both = Question(digests=(HELD,), figures=True)
        assert await channels.query(peer, both, AT_MOST_S) == Reply(held=frozenset({HELD}), figures=FIGURES)
        assert (await channels.query(peer, Question(digests=(HELD,)), AT_MOST_S)).figures is None


async def test_agent_that_tells_no_figures_answers_the_rest() -> None:
    async with asking() as (channels, peer, _):
        assert await channels.query(peer, Question(figures=True), AT_MOST_S) == Reply()


async def test_asker_hears_what_is_arriving_wherever_in_a_long_question_it_is() -> None:
    async with asking() as (channels, peer, _):
        others = tuple(sha256(number) for number in range(DIGESTS_MAX - 1))
        reply = await channels.query(peer, Question(digests=(*others, ARRIVING)), AT_MOST_S)
        assert reply == Reply(in_flight={ARRIVING: FLYING})


async def test_questions_at_once_get_their_own_replies() -> None:
    async with asking() as (channels, peer, _):
        digests = [HELD, OTHER] * 50
        questions = (channels.query(peer, Question(digests=(digest,)), AT_MOST_S) for digest in digests)
        replies = await asyncio.gather(*questions)
        assert [HELD in reply.held for reply in replies] == [True, False] * 50


async def test_question_that_is_too_long_gets_no_reply_and_the_next_one_does() -> None:
    async with asking() as (channels, peer, _):
        many = Question(digests=tuple(sha256(number) for number in range(DIGESTS_MAX + 1)))
        with pytest.raises(NoReply):
            await channels.query(peer, many, AT_MOST_S)
        assert (await channels.query(peer, Question(digests=(HELD,)), AT_MOST_S)).held == {HELD}


async def test_last_question_and_its_reply_are_not_kept_on_either_end_while_the_next_is_waited_for() -> None:
    names = tuple(named(repository=f"{'x' * 200}/{number}", tag="v1") for number in range(DIGESTS_MAX))
    long, short = Question(tags=names), Question(digests=(OTHER,))
    long_bytes = len(QUESTIONS.encode(0, long))
    many = replace(TAG, descriptor=replace(TAG.descriptor, media_type="m" * (long_bytes // 8)))

    def reply(question: Question) -> Reply:
        return Reply(tags=(many,)) if question.tags else Reply()

    async with asking(reply=reply) as (channels, peer, _):
        crowd = [replace(peer, name=NodeName(f"p{number}")) for number in range(8)]
        for one in crowd:
            await channels.query(one, short, AT_MOST_S)
        tracemalloc.start()
        try:
            for one in crowd:
                assert (await channels.query(one, long, AT_MOST_S)).tags
            gc.collect()
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept_bytes < 4 * long_bytes, "of eight questions and eight replies of this length"


A, B = NodeName("a"), NodeName("b")
KEY = ClaimKey(OTHER)
CLAIMS = ClaimCall(node=A, ask=Ask(key=KEY, node=A))


async def test_look_ups_on_the_same_connection_do_not_wait_behind_a_claim() -> None:
    claims = ClaimDesk(ClaimBook(start_s=5.0))
    async with asking(claims) as (channels, peer, _):
        claims.book.ask(Ask(key=KEY, node=B), 1 << 40, time.monotonic())
        call = replace(CLAIMS, wait_s=AT_MOST_S)
        waiting = asyncio.create_task(channels.query(peer, Question(claims=call), 2 * AT_MOST_S))
        await until(lambda: claims.book.waiting == 1, "it waits")
        assert (await channels.query(peer, Question(digests=(HELD,)), AT_MOST_S)).held == {HELD}
        assert not waiting.done()
        renewed = ClaimCall(node=B, news=(Renewed(KEY, 7),))
        reply = await channels.query(peer, Question(claims=renewed), AT_MOST_S)
        assert reply.claims == ClaimReply(kept=(True,))
        assert (await waiting).claims == ClaimReply(verdict=Held((B,), 7, complete=False))


async def test_agent_that_decides_on_no_claims_leaves_them_out_of_its_reply() -> None:
    async with asking() as (channels, peer, _):
        reply = await channels.query(peer, Question(claims=CLAIMS), AT_MOST_S)
        assert reply == Reply()


async def test_who_vanishes_while_it_waits_is_not_waited_for_and_its_claims_end_soon() -> None:
    claims = ClaimDesk(ClaimBook(start_s=5.0))
    async with asking(claims) as (channels, peer, _):
        reply = await channels.query(peer, Question(claims=CLAIMS), AT_MOST_S)
        assert reply.claims == ClaimReply(verdict=Granted())
        claims.book.ask(Ask(key=ClaimKey(HELD), node=B), 1 << 40, time.monotonic())
        call = ClaimCall(node=A, ask=Ask(key=ClaimKey(HELD), node=A), wait_s=AT_MOST_S)
        waiting = asyncio.create_task(channels.query(peer, Question(claims=call), 2 * AT_MOST_S))
        await until(lambda: claims.book.waiting == 1, "it waits")
        await channels.close()
        with pytest.raises(NoReply):
            await waiting
        await until(lambda: claims.book.waiting == 0, "nobody waits")
        await until(
            lambda: (claims.book.next_s or float("inf")) <= time.monotonic() + TENTATIVE_S, "they end soon"
        )


async def test_nobody_claims_in_the_name_of_another_node() -> None:
    claims = ClaimDesk(ClaimBook(start_s=5.0))
    async with asking(claims, asker=B) as (channels, peer, _):
        with pytest.raises(NoReply):
            await channels.query(peer, Question(claims=CLAIMS), AT_MOST_S)
        assert len(claims.book) == 0
        own = ClaimCall(node=B, ask=Ask(key=KEY, node=B))
        reply = await channels.query(peer, Question(claims=own), AT_MOST_S)
        assert reply.claims == ClaimReply(verdict=Granted())


async def test_agent_that_stops_ends_its_peers_channels() -> None:
    async with asking() as (channels, peer, desk):
        await channels.query(peer, Question(digests=(HELD,)), AT_MOST_S)
        await desk.close()
        await until(lambda: channels.open == (), "it is closed")


async def test_questions_for_a_claim_beyond_those_that_may_wait_are_answered_at_once() -> None:
    claims = ClaimDesk(ClaimBook(start_s=AT_MOST_S))

    def claim(name: str) -> Question:
        ask = Ask(key=ClaimKey(HELD), node=node(name))
        return Question(claims=ClaimCall(node=ask.node, ask=ask, wait_s=AT_MOST_S))

    async with asking(claims) as (channels, peer, _):
        assert (await channels.query(peer, claim("a"), AT_MOST_S)).claims == ClaimReply(verdict=Granted())
        waiting = [asyncio.create_task(channels.query(peer, claim("b"), AT_MOST_S)) for _ in range(CALLS_MAX)]
        await until(lambda: claims.book.waiting == CALLS_MAX, "they wait")
        for _ in range(3):
            reply = await channels.query(peer, claim("b"), AT_MOST_S)
            assert reply.claims == ClaimReply(verdict=Free(), holder=node("a"))
        assert claims.book.waiting == CALLS_MAX
        assert HELD in (await channels.query(peer, Question(digests=(HELD,)), AT_MOST_S)).held
        await end_all(waiting)
    claims.close()

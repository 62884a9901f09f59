"""A granted claim is fenced at the server, and a server that fails costs one deadline. Virtual time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from agent.content.store import Change, ChangeKind
from agent.holders.claimant import Answer, Outcome
from agent.holders.claims import DONE_S, LEASE_S, Held
from agent.holders.fencedclaims import FencedClaims
from agent.holders.fences import Fence, FenceState
from agent.observe.index_metrics import FencedOutcome
from tests.unit.agent.holders.fenceserver import FenceServer, MemoryFences, always, in_turn
from tests.unit.agent.holders.test_clusterclaims import (
    ALONE,
    GRANTED,
    KEY,
    NEIGHBOUR,
    REFUSED,
    TIMEOUT,
    ClaimsTwin,
)
from tests.unit.evidence import MemoryStore
from tests.unit.inflight import Flight
from tests.unit.twins import loop_clock, node, run_in_virtual_time
from topology.placement import NodeName

OWN, OTHER = node("own"), node("other")
MEMBERS = {OWN, OTHER, node("third")}
SCOPED = ("zone", KEY)
WAIT_S = 20.0
START_S = 5.0


@dataclass
class Node:
    """A node that its arbiter tells what ``claims`` says, and the server that it asks as well."""

    server: FenceServer = field(default_factory=FenceServer)
    claims: ClaimsTwin = field(default_factory=lambda: ClaimsTwin(near=GRANTED, far=GRANTED))
    store: MemoryStore = field(default_factory=MemoryStore)
    outcomes: Counter[FencedOutcome] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.fenced = FencedClaims(
            self.claims,
            self.fences(),
            own=OWN,
            store=self.store,
            usable=MEMBERS.__contains__,
            count=lambda outcome: self.outcomes.update((outcome,)),
            clock=loop_clock,
        )

    def fences(self) -> MemoryFences:
        return self.server.of(lambda key: "cluster" if key.cluster else "zone")

    async def ask(
        self, *, beyond_bytes: int = 0, wait_s: float = WAIT_S, despite: NodeName | None = None
    ) -> Answer:
        return await self.fenced.ask(KEY, beyond_bytes=beyond_bytes, wait_s=wait_s, despite=despite)

    async def other_takes(self, **changed: object) -> Fence:
        """Another node, which asked another arbiter, is granted it as well."""
        fence = await self.fences().take(KEY, OTHER, over=None)
        assert fence is not None
        fence = replace(fence, **changed)  # type: ignore[arg-type]
        self.server.set(SCOPED, fence)
        return fence

    async def other_keeps(self, fence: Fence, at_s: float = 0.0) -> None:
        """It renews its fence, and begins at this time."""
        began_s = loop_clock()
        while True:
            begun = bool(at_s) and loop_clock() >= began_s + at_s
            await self.fences().renew({KEY: replace(fence, available_bytes=10 * begun)})
            await asyncio.sleep(0.5)

    def writes(self) -> Flight:
        """Its containerd opened the ingest."""
        flight = self.store.flights[KEY.digest] = Flight(bytes(100))
        return flight

    def commits(self) -> None:
        self.store.flights.pop(KEY.digest, None)
        self.store.held.add(KEY.digest)
        self.store.changes.publish(Change(ChangeKind.ADDED, KEY.digest))

    @property
    def fence(self) -> Fence | None:
        return self.server.look(SCOPED)


def play(scenario: Callable[[Node], Awaitable[None]], made: Node | None = None) -> None:
    async def main() -> None:
        own = made or Node()
        running = asyncio.create_task(own.fenced.run())
        try:
            await scenario(own)
        finally:
            running.cancel()

    run_in_virtual_time(main())


async def took(question: Awaitable[Answer]) -> tuple[Answer, float]:
    began_s = loop_clock()
    return await question, loop_clock() - began_s


def test_who_is_granted_a_claim_has_the_fence_until_it_ends() -> None:
    async def scenario(own: Node) -> None:
        flight = own.writes()
        assert await own.ask() == GRANTED
        own.fenced.use(KEY)
        assert own.fence == Fence(node=OWN, number=1)
        for _ in range(10):
            await asyncio.sleep(1.0)
            flight.grow(5)
        await asyncio.sleep(1.0)
        assert own.fence == Fence(node=OWN, number=1, available_bytes=50)
        own.commits()
        await asyncio.sleep(0.5)
        assert own.fence == Fence(node=OWN, number=1, available_bytes=50, state=FenceState.COMPLETE)
        await asyncio.sleep(DONE_S)
        assert own.fence is None
        assert own.outcomes == {FencedOutcome.GRANTED: 1}

    play(scenario)


@pytest.mark.parametrize("answer", [NEIGHBOUR, TIMEOUT, REFUSED])
def test_who_is_not_to_fetch_asks_no_server(answer: Answer) -> None:
    async def scenario(own: Node) -> None:
        assert await own.ask() == answer
        assert own.server.calls == 0

    play(scenario, Node(claims=ClaimsTwin(near=answer, far=answer)))


@pytest.mark.parametrize("answer", [GRANTED, ALONE])
def test_node_that_another_arbiter_was_asked_by_is_followed_when_it_has_begun(answer: Answer) -> None:
    async def scenario(own: Node) -> None:
        keeping = asyncio.create_task(own.other_keeps(await own.other_takes(), at_s=2.0))
        found, took_s = await took(own.ask())
        keeping.cancel()
        assert found == Answer(outcome=Outcome.FOLLOWED, held=Held((OTHER,), 10, complete=False))
        assert 2.0 <= took_s < 3.0
        assert own.claims.used == ([KEY] if answer is GRANTED else []), "its zone is told what comes"
        assert not own.fenced.has(KEY)
        assert own.outcomes == {FencedOutcome.HELD: 1}
        assert own.server.takes <= 1 + 3.0 / 0.25, "one look in a quarter of a second, and nobody else looks"

    play(scenario, Node(claims=ClaimsTwin(near=answer, far=answer)))


def test_node_that_had_it_a_moment_ago_is_the_source() -> None:
    async def scenario(own: Node) -> None:
        await own.other_takes(state=FenceState.COMPLETE, available_bytes=100)
        answer = await own.ask()
        assert answer.held == Held((OTHER,), 100, complete=True)

    play(scenario)


def test_node_that_needs_more_than_the_other_one_has_waits_for_it() -> None:
    async def scenario(own: Node) -> None:
        keeping = asyncio.create_task(own.other_keeps(await own.other_takes(), at_s=1.0))
        answer, took_s = await took(own.ask(beyond_bytes=10, wait_s=4.0))
        keeping.cancel()
        assert (answer, round(took_s, 1)) == (GRANTED, 4.0)

    play(scenario)


def test_fence_of_a_node_that_died_ends_with_its_lease() -> None:
    async def scenario(own: Node) -> None:
        await own.other_takes()
        answer, took_s = await took(own.ask())
        assert answer == GRANTED
        assert took_s <= LEASE_S + 0.3
        assert own.fence == Fence(node=OWN, number=2)

    play(scenario)


def test_node_that_never_begins_is_overtaken_and_what_it_says_later_changes_nothing() -> None:
    async def scenario(own: Node) -> None:
        theirs = await own.other_takes()
        keeping = asyncio.create_task(own.other_keeps(theirs))
        answer, took_s = await took(own.ask())
        assert answer == GRANTED
        assert START_S <= took_s < START_S + 0.5
        await asyncio.sleep(1.0)
        keeping.cancel()
        assert own.fence == Fence(node=OWN, number=2)
        assert await own.fences().renew({KEY: theirs}) == {KEY: False}
        await own.fences().drop({KEY: theirs})
        assert own.fence == Fence(node=OWN, number=2)

    play(scenario)


def test_node_that_gave_nothing_is_overtaken_at_once() -> None:
    async def scenario(own: Node) -> None:
        await own.other_takes(available_bytes=10)
        assert (await own.ask()).held is not None
        answer, took_s = await took(own.ask(despite=OTHER))
        assert (answer, took_s < 0.01) == (GRANTED, True)
        assert own.fence == Fence(node=OWN, number=2)

    play(scenario)


def test_node_that_is_no_member_is_neither_followed_nor_waited_for() -> None:
    async def scenario(own: Node) -> None:
        own.server.set(SCOPED, Fence(node=node("stranger"), number=5, available_bytes=10))
        answer, took_s = await took(own.ask())
        assert (answer, took_s < 0.01) == (GRANTED, True)

    play(scenario)


def test_second_pull_of_this_node_goes_the_same_way_without_asking_again() -> None:
    async def scenario(own: Node) -> None:
        own.writes()
        assert await asyncio.gather(*(own.ask() for _ in range(3))) == [GRANTED] * 3
        assert [fence.number for fence in own.fenced.kept.values()] == [1]
        for _ in range(2):
            own.fenced.give_back(KEY)
        await asyncio.sleep(1.0)
        assert own.fence is not None
        own.fenced.give_back(KEY)
        await asyncio.sleep(1.0)
        assert own.fence is None
        assert own.claims.returned == [KEY] * 3

    play(scenario)


@pytest.mark.parametrize("other_has_it", [True, False])
def test_second_pull_of_a_node_whose_fence_lapsed_looks_who_has_one_now(other_has_it: bool) -> None:
    async def scenario(own: Node) -> None:
        assert await own.ask() == GRANTED
        own.fenced.use(KEY)
        own.writes()
        await asyncio.sleep(START_S + 1.0)  # nothing comes
        assert own.fence is None
        if other_has_it:
            await own.other_takes(available_bytes=10)
        found = await own.ask()
        assert own.fence is not None
        if other_has_it:
            assert (found.outcome, found.held.sources) == (Outcome.FOLLOWED, (OTHER,))
        else:
            assert (found, own.fence.node) == (GRANTED, OWN)
            await asyncio.sleep(LEASE_S + 1.0)
            assert own.fence is not None  # it is renewed

    play(scenario)


def test_client_that_leaves_while_the_other_node_is_waited_for_gives_its_claim_back() -> None:
    async def scenario(own: Node) -> None:
        keeping = asyncio.create_task(own.other_keeps(await own.other_takes()))
        asking = asyncio.create_task(own.ask())
        await asyncio.sleep(1.0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        keeping.cancel()
        assert own.claims.returned == [KEY]

    play(scenario)


def test_who_fetches_without_a_claim_has_a_fence_until_its_containerd_gives_up() -> None:
    async def scenario(own: Node) -> None:
        own.writes()
        assert await own.ask() == ALONE
        assert own.fence == Fence(node=OWN, number=1)
        await asyncio.sleep(2.0)
        del own.store.flights[KEY.digest]
        await asyncio.sleep(2.0)
        assert own.fence is None

    play(scenario, Node(claims=ClaimsTwin(near=ALONE, far=ALONE)))


def test_agent_that_starts_again_takes_up_the_fence_that_it_left() -> None:
    async def scenario(own: Node) -> None:
        own.server.set(SCOPED, Fence(node=OWN, number=42))
        assert await own.ask() == GRANTED
        assert [fence.number for fence in own.fenced.kept.values()] == [42]

    play(scenario)


@pytest.mark.parametrize(("state", "most_s"), [("down", 0.01), ("slow", 0.16)])
def test_server_that_does_not_answer_costs_one_deadline(state: str, most_s: float) -> None:
    async def scenario(own: Node) -> None:
        answer, took_s = await took(own.ask())
        assert (answer, took_s < most_s) == (GRANTED, True)
        own.fenced.use(KEY)
        assert own.claims.used == [KEY]
        assert own.outcomes == {FencedOutcome.UNAVAILABLE: 1}

    play(scenario, Node(server=FenceServer(state=state)))


def test_server_that_goes_down_while_another_node_is_waited_for_ends_the_wait() -> None:
    async def scenario(own: Node) -> None:
        keeping = asyncio.create_task(own.other_keeps(await own.other_takes()))
        asking = asyncio.create_task(took(own.ask()))
        await asyncio.sleep(1.0)
        own.server.state = "slow"
        answer, took_s = await asking
        keeping.cancel()
        assert (answer, took_s < 1.5) == (GRANTED, True)

    play(scenario)


def test_server_that_is_emptied_is_told_again_within_a_second() -> None:
    async def scenario(own: Node) -> None:
        flight = own.writes()
        await own.ask()
        own.fenced.use(KEY)
        flight.grow(10)
        await asyncio.sleep(1.0)
        own.server.empty()
        await asyncio.sleep(1.3)
        assert own.fence == Fence(node=OWN, number=1, available_bytes=10)

    play(scenario)


def test_server_that_was_away_for_longer_than_a_lease_finds_the_fence_again_or_another_ones() -> None:
    async def scenario(own: Node) -> None:
        flight = own.writes()
        await own.ask()
        own.fenced.use(KEY)
        own.server.state = "slow"
        for _ in range(6):
            await asyncio.sleep(1.0)
            flight.grow(5)
        assert own.fence is None
        own.server.state = "well"
        flight.grow(5)
        await asyncio.sleep(1.3)
        assert own.fence is not None
        own.server.empty()
        await own.other_takes()
        await asyncio.sleep(1.5)
        assert own.fenced.kept == {}
        assert own.outcomes[FencedOutcome.LOST] == 1

    play(scenario)


LIES: dict[str, Callable[..., Fence | None]] = {
    "nothing": lambda _: None,
    "a stranger": always(Fence(node=node("stranger"), number=1, available_bytes=5)),
    "a member that never begins": always(Fence(node=OTHER, number=1)),
    "a member that has it all": always(Fence(node=OTHER, number=1, state=FenceState.COMPLETE)),
    "a member that has begun": always(Fence(node=OTHER, number=1, available_bytes=1)),
    "a queue without end": always(Fence(node=OTHER, number=1, state=FenceState.QUEUED)),
    "one after another": in_turn((OTHER, node("third")), 0),
    "one after another that have begun": in_turn((OTHER, node("third")), 9),
    "this node": always(Fence(node=OWN, number=1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_server_that_lies_costs_no_more_than_the_wait_and_a_few_questions_in_vain(lie: str) -> None:
    """The pull asks again after each node that gave nothing, as `agent.pull.search.Claiming` has it."""

    async def scenario(own: Node) -> None:
        own.writes()
        began_s, left_s, asks = loop_clock(), WAIT_S, 0
        despite: NodeName | None = None
        while (answer := await own.ask(wait_s=left_s, despite=despite)).held is not None:
            despite, asks = answer.held.sources[0] if asks % 2 else None, asks + 1
            left_s = WAIT_S - (loop_clock() - began_s)
        assert answer == GRANTED
        assert asks <= 5
        assert loop_clock() - began_s <= WAIT_S + 0.3
        own.fenced.use(KEY)
        assert own.fenced.has(KEY)
        await asyncio.sleep(5.0)

    play(scenario, Node(server=FenceServer(state="lies", lie=LIES[lie])))


def test_fetch_that_does_not_begin_makes_way_for_the_next_node_of_the_arbiter() -> None:
    async def scenario(own: Node) -> None:
        own.writes()
        await own.ask()
        own.fenced.use(KEY)
        await asyncio.sleep(START_S + 0.5)
        assert own.fence is None
        await own.other_takes()
        await asyncio.sleep(1.0)
        assert own.fence is not None
        assert own.fence.node == OTHER

    play(scenario)

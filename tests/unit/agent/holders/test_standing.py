"""Which peers are greeted, and when. Virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from agent.holders.standing import StandingChannels
from agent.members.member import Peer
from agent.members.roster import Roster
from tests.unit.agent.holders.cluster import EVERYONE, MEMBERS
from tests.unit.twins import node, placed, run_in_virtual_time
from topology.placement import NodeName

EVERY_S = 100.0
PASS_S = 1.0  # far more than it takes to greet all


@dataclass
class Greeted:
    """A roster whose peers are greeted, and who was, in order."""

    roster: Roster
    names: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    returned: Callable[[NodeName], None] = lambda _: None

    async def greet(self, peer: Peer) -> None:
        self.names.append(peer.name)

    async def meet(self, peer: Peer) -> None:
        self.met.append(peer.name)

    def forget(self) -> None:
        self.names.clear()


def play(scenario: Callable[[Greeted], Awaitable[None]], at_once: int = 64) -> None:
    async def main() -> None:
        greeted = Greeted(Roster(own=node("own"), placement=placed("eu", "eu-a")))
        standing = StandingChannels(
            roster=greeted.roster,
            greet=greeted.greet,
            meet=greeted.meet,
            at_once=at_once,
            every_s=EVERY_S,
        )
        greeted.returned = standing.returned
        running = asyncio.create_task(standing.run())
        try:
            await scenario(greeted)
        finally:
            running.cancel()

    run_in_virtual_time(main())


def test_all_that_a_look_up_asks_are_greeted_once_the_nearest_first() -> None:
    async def scenario(greeted: Greeted) -> None:
        greeted.roster.update(MEMBERS)
        await asyncio.sleep(PASS_S)
        assert sorted(greeted.names) == EVERYONE
        assert set(greeted.names[:2]) == {"zone-1", "zone-2"}
        assert greeted.names[-1] == "far-1"

    play(scenario)


def test_no_more_peers_are_greeted_than_a_look_up_asks_at_once() -> None:
    async def scenario(greeted: Greeted) -> None:
        greeted.roster.update(MEMBERS)
        await asyncio.sleep(PASS_S)
        assert sorted(greeted.names) == ["zone-1", "zone-2"]

    play(scenario, at_once=2)


def test_peers_are_greeted_again_before_idle_connections_end() -> None:
    async def scenario(greeted: Greeted) -> None:
        greeted.roster.update(MEMBERS)
        await asyncio.sleep(PASS_S)
        greeted.forget()
        await asyncio.sleep(EVERY_S - 2 * PASS_S)
        assert greeted.names == []
        await asyncio.sleep(2 * PASS_S)
        assert sorted(greeted.names) == EVERYONE

    play(scenario)


def test_new_member_is_greeted_at_once() -> None:
    async def scenario(greeted: Greeted) -> None:
        await asyncio.sleep(PASS_S)
        greeted.roster.update({node("zone-1"): MEMBERS[node("zone-1")]})
        await asyncio.sleep(PASS_S)
        assert greeted.names == ["zone-1"]

    play(scenario)


def test_who_stays_is_not_greeted_again_because_others_come_and_go_and_not_forgotten_either() -> None:
    async def scenario(greeted: Greeted) -> None:
        others = dict(MEMBERS)
        coming = others.pop(node("zone-1"))
        greeted.roster.update(others)
        await asyncio.sleep(PASS_S)
        greeted.forget()
        for number in range(60):  # a change a second, for longer than a greeting lasts
            greeted.roster.update({**others, coming.name: coming} if number % 2 else others)
            await asyncio.sleep(EVERY_S / 50)
        again = [name for name in greeted.names if name != coming.name]
        assert sorted(again) == sorted(others), "each of those who stayed, once more"

    play(scenario)


def test_peer_that_left_or_moved_meanwhile_is_not_greeted_where_it_was() -> None:
    async def scenario(greeted: Greeted) -> None:
        greeted.roster.update(MEMBERS)
        await asyncio.sleep(0.001)
        assert len(greeted.names) == 1, "it pauses after each"
        far = MEMBERS[node("far-1")]
        greeted.roster.update({far.name: replace(far, address="192.0.2.99")})
        greeted.forget()
        await asyncio.sleep(PASS_S)
        assert greeted.names == ["far-1"]

    play(scenario)


def test_only_the_nearest_few_are_met_and_each_once() -> None:
    async def scenario(greeted: Greeted) -> None:
        greeted.roster.update(MEMBERS)
        await asyncio.sleep(3 * EVERY_S)
        assert len(greeted.names) > 2 * len(EVERYONE)
        assert set(greeted.met) == set(EVERYONE) - {"far-1"}
        assert len(greeted.met) == 4

    play(scenario)


def test_peer_that_moved_is_met_again() -> None:
    async def scenario(greeted: Greeted) -> None:
        far = MEMBERS[node("far-1")]
        greeted.roster.update({far.name: far})
        await asyncio.sleep(PASS_S)
        greeted.roster.update({far.name: replace(far, address="192.0.2.99")})
        await asyncio.sleep(PASS_S)
        assert greeted.met == ["far-1", "far-1"]

    play(scenario)


def test_peer_that_shows_itself_again_is_greeted_at_once_and_nobody_else_is() -> None:
    async def scenario(greeted: Greeted) -> None:
        greeted.roster.update(MEMBERS)
        await asyncio.sleep(PASS_S)
        greeted.forget()
        for name in ("far-1", "stranger", "far-1"):
            greeted.returned(node(name))
        await asyncio.sleep(PASS_S)
        assert greeted.names == ["far-1"]
        greeted.returned(node("far-1"))
        await asyncio.sleep(PASS_S)
        assert greeted.names == ["far-1"] * 2

    play(scenario, at_once=1)

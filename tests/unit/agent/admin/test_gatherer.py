"""Figures of others, asked for while somebody looks. Who is gone is noticed; who only seems to be is not."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent.admin.gatherer import LOOKED_S, Gatherer
from agent.documents.cluster import FiguresEntry
from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.peering.channels import NoReply
from agent.pull.regard import Regard
from tests.unit.agent.admin.test_cluster import FIGURES
from tests.unit.twins import located, loop_clock, node, other_tasks, peer, peers, run_in_virtual_time


class Scene:
    """A gatherer among peers whose answers a test decides."""

    def __init__(self, count: int) -> None:
        self.names = [f"n{number}" for number in range(count)]
        self.asked: list[tuple[float, str]] = []
        self.dead: set[str] = set()
        self.refusing: set[str] = set()
        self.frozen: set[str] = set()
        self.cut_off = False
        self.held: asyncio.Event | None = None
        self.figures: FiguresEntry | None = FIGURES
        self.roster = Roster(own=node("own"), placement=located("r", "a"))
        self.regard = Regard(cooloff_s=5.0)
        self.roster.on_change(self.regard.members_changed)
        self.gatherer = Gatherer(roster=self.roster, regard=self.regard, query=self.query, clock=loop_clock)
        self.use(*self.names)

    def use(self, *names: str) -> None:
        self.roster.update(peers(*(peer(name, located("r", "a")) for name in names)))

    async def query(self, asked: Peer, question: Question, timeout_s: float) -> Reply:
        assert question == Question(figures=True)
        self.asked.append((loop_clock(), asked.name))
        await asyncio.sleep(0.001)
        if self.held is not None:
            await self.held.wait()
        if self.cut_off:
            raise NoReply("network is unreachable", own=True)
        if asked.name in self.dead:
            raise NoReply("connection refused")
        if asked.name in self.refusing:
            raise NoReply("status 503", status=503)
        if asked.name in self.frozen:
            await asyncio.sleep(timeout_s)
            raise NoReply("no reply within 2 s")
        return Reply(figures=self.figures)

    def play(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            running = asyncio.create_task(self.gatherer.run())
            await main()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert not other_tasks()

        run_in_virtual_time(run())

    async def look(self, seconds: float) -> None:
        """Somebody looks for so long, as a page does."""
        until_s = loop_clock() + seconds
        while loop_clock() < until_s:
            self.gatherer.look()
            await asyncio.sleep(0.5)


async def waited_s(scene: Scene) -> float:
    """How long the first round takes, if it may take four seconds."""
    began_s = loop_clock()
    await scene.gatherer.first_round(4.0)
    return loop_clock() - began_s


def test_nobody_is_asked_while_nobody_looks() -> None:
    scene = Scene(5)

    async def main() -> None:
        await asyncio.sleep(60)
        assert not scene.asked
        await scene.look(5)
        await asyncio.sleep(LOOKED_S + 1)
        count = len(scene.asked)
        assert count > 0
        await asyncio.sleep(60)
        assert len(scene.asked) == count
        assert not scene.gatherer.answers

    scene.play(main)


def test_all_are_asked_in_turn_and_what_they_told_is_kept() -> None:
    scene = Scene(20)

    async def main() -> None:
        assert await waited_s(scene) < 4.0
        assert {*scene.gatherer.answers} == {*scene.names}
        assert all(answer.figures == FIGURES for answer in scene.gatherer.answers.values())

    scene.play(main)


def most_a_second(scene: Scene) -> int:
    """How many were asked at most within one second."""
    times_s = [at_s for at_s, _ in scene.asked]
    return max(sum(start_s <= at_s < start_s + 1 for at_s in times_s) for start_s in times_s)


def test_no_more_than_ten_are_asked_in_a_second() -> None:
    scene = Scene(200)

    async def main() -> None:
        await scene.look(30)
        assert most_a_second(scene) <= 11
        assert len({name for _, name in scene.asked}) == 200

    scene.play(main)


def test_sample_of_a_large_cluster_is_asked_half_as_fast() -> None:
    scene = Scene(300)

    async def main() -> None:
        await scene.look(60)
        assert most_a_second(scene) <= 6
        assert len({name for _, name in scene.asked}) == 200
        assert scene.gatherer.round_s == 40.0

    scene.play(main)


@pytest.mark.parametrize("count", [3, 200])
def test_node_that_was_killed_is_silent_within_a_second(count: int) -> None:
    scene = Scene(count)

    async def main() -> None:
        await scene.look(5)
        scene.dead.add("n1")
        scene.gatherer.lost(node("n1"))
        await scene.look(1)
        assert scene.regard.silent() == ("n1",)
        assert scene.gatherer.answers[node("n1")].silent
        assert not scene.gatherer.trouble(loop_clock())

    scene.play(main)


def test_node_that_is_frozen_is_silent_within_five_seconds() -> None:
    scene = Scene(20)

    async def main() -> None:
        await scene.look(5)
        scene.frozen.add("n7")
        await scene.look(5)
        assert scene.regard.silent() == ("n7",)

    scene.play(main)


def test_node_that_was_restarted_is_well_again() -> None:
    scene = Scene(5)

    async def main() -> None:
        await scene.look(3)
        scene.dead.add("n1")
        scene.gatherer.lost(node("n1"))
        await scene.look(2)
        scene.dead.clear()
        await scene.look(3)
        assert not scene.regard.silent()
        assert not scene.gatherer.answers[node("n1")].silent

    scene.play(main)


def test_node_that_only_closed_its_connection_is_not_called_silent() -> None:
    scene = Scene(5)

    async def main() -> None:
        await scene.look(3)
        scene.gatherer.lost(node("n1"))
        await scene.look(3)
        assert not scene.regard.silent()

    scene.play(main)


def test_node_that_refuses_the_connection_is_alive_and_says_nothing() -> None:
    scene = Scene(3)
    scene.refusing.add("n1")

    async def main() -> None:
        await scene.look(5)
        assert not scene.regard.silent()
        assert scene.gatherer.answers[node("n1")].figures is None

    scene.play(main)


def test_older_release_is_asked_on_and_nothing_is_held_against_it() -> None:
    scene = Scene(3)
    scene.figures = None

    async def main() -> None:
        await scene.look(5)
        assert {answer.figures for answer in scene.gatherer.answers.values()} == {None}
        assert not [*scene.regard.failures()]

    scene.play(main)


def test_what_failed_here_changes_nothing_for_pulls() -> None:
    scene = Scene(5)
    scene.dead.update(scene.names)

    async def main() -> None:
        await scene.look(10)
        assert not [*scene.regard.cooling(loop_clock())]

    scene.play(main)


def test_node_that_lost_its_own_network_says_so_and_calls_nobody_dead() -> None:
    scene = Scene(20)

    async def main() -> None:
        await scene.look(5)
        scene.frozen.update(scene.names)
        await scene.look(5)
        assert "this node's own network" in scene.gatherer.trouble(loop_clock())
        scene.frozen.clear()
        while scene.gatherer.trouble(loop_clock()):
            await scene.look(0.1)
        assert {*scene.regard.silent()} <= scene.gatherer.doubtful
        await scene.look(6)
        assert not scene.regard.silent()
        assert not scene.gatherer.doubtful

    scene.play(main)


def test_own_fault_is_nobody_elses() -> None:
    scene = Scene(20)
    scene.cut_off = True

    async def main() -> None:
        await scene.look(5)
        assert not scene.regard.silent()
        assert scene.regard.own_failure is not None

    scene.play(main)


def test_many_that_died_while_others_live_are_called_silent() -> None:
    scene = Scene(20)

    async def main() -> None:
        await scene.look(5)
        for name in scene.names[:8]:
            scene.dead.add(name)
            scene.gatherer.lost(node(name))
        await scene.look(5)
        assert {*scene.regard.silent()} == {*scene.names[:8]}
        assert not scene.gatherer.trouble(loop_clock())

    scene.play(main)


async def doubted_s(scene: Scene, seconds: float, *, step_s: float = 0.05) -> list[float]:
    """Look for so long. When, since it began, this node's own network was said to be down."""
    began_s, said_s = loop_clock(), list[float]()
    while (now_s := loop_clock()) < began_s + seconds:
        scene.gatherer.look()
        if scene.gatherer.trouble(now_s):
            said_s.append(now_s - began_s)
        await asyncio.sleep(step_s)
    return said_s


def die(scene: Scene, *names: str, frozen: bool = False) -> None:
    """A killed node breaks its connections. A frozen one does not, nor one that is cut off."""
    if frozen:
        scene.frozen.update(names)
        return
    scene.dead.update(names)
    for name in names:
        scene.gatherer.lost(node(name))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("count", "gone"), [(3, 2), (6, 3), (6, 5), (20, 15), (200, 100)])
def test_those_that_are_dead_while_others_answer_are_no_sign_of_this_nodes_own_network(
    count: int, gone: int, frozen: bool
) -> None:
    scene = Scene(count)

    async def main() -> None:
        await scene.look(5)
        die(scene, *scene.names[:gone], frozen=frozen)
        assert await doubted_s(scene, 60) == []
        assert {*scene.regard.silent()} == {*scene.names[:gone]}
        assert not scene.gatherer.doubtful

    scene.play(main)


def test_one_that_refuses_shows_as_well_as_one_that_answers_that_the_network_works() -> None:
    scene = Scene(6)
    scene.refusing.update(scene.names[3:])

    async def main() -> None:
        await scene.look(5)
        die(scene, *scene.names[:3])
        assert await doubted_s(scene, 30) == []
        assert {*scene.regard.silent()} == {*scene.names[:3]}
        assert not scene.gatherer.doubtful

    scene.play(main)


@pytest.mark.parametrize("gone", [3, 5])
def test_those_that_were_dead_before_anybody_looked_are_none_either(gone: int) -> None:
    scene = Scene(6)
    scene.dead.update(scene.names[:gone])

    async def main() -> None:
        assert await doubted_s(scene, 30) == []

    scene.play(main)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("count", "gone"), [(2, 0), (3, 0), (6, 0), (6, 3), (6, 5), (200, 0), (200, 100), (300, 0)]
)
def test_own_network_that_is_down_is_said_within_five_seconds_and_until_it_is_back(
    count: int, gone: int, frozen: bool
) -> None:
    scene = Scene(count)

    async def main() -> None:
        await scene.look(45)  # a round of a large cluster
        die(scene, *scene.names[:gone], frozen=frozen)
        await scene.look(30)
        die(scene, *scene.names, frozen=frozen)
        said_s = await doubted_s(scene, 40)
        assert said_s[0] <= 5.0
        assert len(said_s) == pytest.approx((40 - said_s[0]) / 0.05, abs=2)
        (scene.frozen if frozen else scene.dead).difference_update(scene.names[gone:])
        said_s = await doubted_s(scene, 30)
        assert all(each_s < 4.0 for each_s in said_s)
        assert {*scene.regard.silent()} - {*scene.names[:gone]} <= scene.gatherer.doubtful
        await scene.look(
            scene.gatherer.round_s * 2
        )  # each has its turn, but no more than every other is theirs
        assert {*scene.regard.silent()} == {*scene.names[:gone]}
        assert not scene.gatherer.doubtful

    scene.play(main)


def test_nobody_is_called_dead_while_it_is_not_sure_whose_fault_it_is() -> None:
    scene = Scene(20)

    async def main() -> None:
        await scene.look(5)
        die(scene, *scene.names)
        await scene.look(1)
        assert not scene.gatherer.trouble(loop_clock())
        assert len(scene.regard.silent()) > 3
        assert {*scene.regard.silent()} <= scene.gatherer.doubtful

    scene.play(main)


def test_if_nobody_answers_from_the_first_that_is_said_at_once() -> None:
    scene = Scene(6)
    scene.dead.update(scene.names)

    async def main() -> None:
        assert await waited_s(scene) < 4.0
        assert "none of the last 6 nodes" in scene.gatherer.trouble(loop_clock())

    scene.play(main)


def test_only_peer_that_dies_is_dead() -> None:
    scene = Scene(1)

    async def main() -> None:
        await scene.look(5)
        die(scene, "n0")
        assert await doubted_s(scene, 30) == []
        assert scene.regard.silent() == ("n0",)
        assert not scene.gatherer.doubtful

    scene.play(main)


@pytest.mark.parametrize(("count", "at_once"), [(3, 1), (3, 2), (6, 1), (6, 3), (40, 10)])
def test_roll_out_is_no_sign_of_this_nodes_own_network(count: int, at_once: int) -> None:
    scene = Scene(count)

    async def main() -> None:
        await scene.look(5)
        for first in range(0, count, at_once):
            die(scene, *scene.names[first : first + at_once])
            assert await doubted_s(scene, 7.3) == []
            scene.dead.clear()
            # The next ones are stopped when these are ready.
            assert await doubted_s(scene, 3.0) == []

    scene.play(main)


def test_node_whose_network_comes_and_goes_says_so_each_time() -> None:
    scene = Scene(6)
    scene.dead.add("n0")

    async def main() -> None:
        await scene.look(5)
        for back_s in (0.3, 1.0, 6.0):
            die(scene, *scene.names, frozen=True)
            assert (await doubted_s(scene, 8))[0] <= 5.0
            scene.frozen.clear()
            while scene.gatherer.trouble(loop_clock()):
                await scene.look(0.1)
            assert await doubted_s(scene, back_s) == []

    scene.play(main)


def test_members_that_come_are_asked_and_those_that_left_are_forgotten() -> None:
    scene = Scene(3)

    async def main() -> None:
        await scene.look(3)
        scene.use("n0", "new")
        await scene.look(3)
        assert {*scene.gatherer.answers} == {"n0", "new"}

    scene.play(main)


def test_first_round_does_not_wait_for_who_does_not_answer_longer_than_it_may() -> None:
    scene = Scene(200)

    async def main() -> None:
        assert 3.9 < await waited_s(scene) < 4.5
        assert 30 < len(scene.gatherer.answers) < 50

    scene.play(main)


def test_node_that_is_alone_has_nobody_to_wait_for() -> None:
    scene = Scene(0)

    async def main() -> None:
        assert await waited_s(scene) < 1.0

    scene.play(main)


@pytest.mark.parametrize("kind", ["dead", "refusing", "well"])
def test_answer_that_comes_when_nobody_looks_any_more_is_not_kept(kind: str) -> None:
    scene = Scene(3)
    scene.dead, scene.refusing = ({*scene.names} if kind == each else set() for each in ("dead", "refusing"))

    async def main() -> None:
        scene.held = asyncio.Event()
        scene.gatherer.look()
        await asyncio.sleep(LOOKED_S + 5)
        assert len(scene.asked) == 3
        scene.held.set()
        await asyncio.sleep(0.1)
        assert not scene.gatherer.answers
        assert not scene.gatherer.trouble(loop_clock())

    scene.play(main)


@pytest.mark.parametrize("kind", ["dead", "refusing", "well"])
def test_answer_of_a_node_that_left_meanwhile_is_not_kept(kind: str) -> None:
    scene = Scene(3)
    scene.dead, scene.refusing = ({*scene.names} if kind == each else set() for each in ("dead", "refusing"))

    async def main() -> None:
        scene.held = asyncio.Event()
        await scene.look(5)
        scene.use("n0")
        scene.held.set()
        await scene.look(1)
        assert {*scene.gatherer.answers} == {"n0"}

    scene.play(main)

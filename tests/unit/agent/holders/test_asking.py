"""Whom a question goes to, when, and what becomes of those who do not reply. Virtual time."""

import asyncio
from dataclasses import dataclass, field, replace

from agent.holders.wire import Question, Reply
from agent.members.member import Peer
from tests.unit.agent.holders.cluster import EVERYONE, HEALTHY_S, LAYER, MEMBERS, SETTINGS, Cluster, play
from tests.unit.twins import FakePeers, hold_up, loop_clock, node, other_tasks

NEAR, MIDDLE = {"zone-1", "zone-2"}, {"region-1", "region-2"}
QUESTION = Question(digests=(LAYER,))


@dataclass
class Asking:
    """A question to the nearest peers, which ends when the nearest holder is known."""

    cluster: Cluster
    steps_most: int = 9
    replied: list[str] = field(default_factory=list)
    holders: dict[str, int] = field(default_factory=dict)

    async def run(self) -> float:
        """Ask, and return how long that took in seconds."""
        started_s = loop_clock()
        await self.cluster.asker.ask_nearest(
            question=self._question,
            on_reply=self._on_reply,
            enough=lambda nearest: bool(self.holders) and min(self.holders.values()) < nearest,
        )
        return loop_clock() - started_s

    def _question(self) -> Question | None:
        self.steps_most -= 1
        return QUESTION if self.steps_most >= 0 and not self.holders else None

    def _on_reply(self, peer: Peer, reply: Reply, ring: int) -> bool:
        self.replied.append(peer.name)
        if reply.held:
            self.holders[peer.name] = ring
        return bool(reply.held)


def test_replies_come_with_the_ring_of_the_peer() -> None:
    async def scenario(cluster: Cluster) -> None:
        asking = Asking(cluster)
        await asking.run()
        assert asking.holders == {"far-1": 2}

    play(scenario, FakePeers(held={"far-1": {LAYER}}))


def test_question_that_ends_is_put_to_no_further_ring() -> None:
    async def scenario(cluster: Cluster) -> None:
        await Asking(cluster, steps_most=2).run()
        assert set(cluster.fakes.asked) == NEAR | MIDDLE

    play(scenario, FakePeers(), replace(SETTINGS, at_once=2))


def test_slow_ring_is_waited_for_during_patience_and_then_the_next_one_is_asked_as_well() -> None:
    async def scenario(cluster: Cluster) -> None:
        asking = Asking(cluster)
        took_s = await asking.run()
        assert SETTINGS.patience_s <= took_s < 2 * SETTINGS.patience_s
        assert [*asking.holders] == ["region-1"]

    slow = dict.fromkeys(NEAR, 3 * SETTINGS.patience_s)
    fakes = FakePeers(held={"region-1": {LAYER}, "zone-1": {LAYER}}, answer_s=slow)
    play(scenario, fakes, replace(SETTINGS, at_once=2))


def test_late_reply_still_counts_after_the_return() -> None:
    async def scenario(cluster: Cluster) -> None:
        asking = Asking(cluster)
        await asking.run()
        assert [*asking.holders] == ["region-1"]
        await asyncio.sleep(SETTINGS.timeout_s)
        assert [*asking.holders] == ["region-1", "zone-1"]

    slow = {"zone-1": 2 * SETTINGS.patience_s, "zone-2": 2 * SETTINGS.patience_s}
    play(scenario, FakePeers(held={"region-1": {LAYER}, "zone-1": {LAYER}}, answer_s=slow))


def test_after_a_first_answer_equal_peers_get_as_much_time_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        asking = Asking(cluster)
        assert await asking.run() < 0.02
        assert [*asking.holders] == ["zone-1", "zone-2"]

    both = {name: {LAYER} for name in NEAR}
    play(scenario, FakePeers(held=both, answer_s={"zone-1": 0.010, "zone-2": 0.019, "far-1": 0.04}))


def test_equal_peer_that_is_much_later_than_the_first_answer_is_not_waited_for() -> None:
    async def scenario(cluster: Cluster) -> None:
        asking = Asking(cluster)
        assert await asking.run() < 0.0201
        assert [*asking.holders] == ["zone-1"]

    both = {name: {LAYER} for name in NEAR}
    play(scenario, FakePeers(held=both, answer_s={"zone-1": 0.010, "zone-2": 0.045}))


def test_refusing_peer_is_not_waited_for() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await Asking(cluster).run() < 0.01

    play(scenario, FakePeers(held={"far-1": {LAYER}}, refusing={"zone-1", "zone-2"}))


def test_node_that_was_held_up_itself_blames_nobody_for_not_replying() -> None:
    async def scenario(cluster: Cluster) -> None:
        asking = asyncio.create_task(Asking(cluster).run())
        await asyncio.sleep(0.001)
        hold_up(2 * SETTINGS.timeout_s)
        await asking
        assert not any(map(cluster.is_cooling, EVERYONE))

    play(scenario, FakePeers(silent=set(EVERYONE)))


def test_silent_peer_cools_off_and_is_asked_last_and_briefly() -> None:
    async def scenario(cluster: Cluster) -> None:
        await Asking(cluster).run()
        assert cluster.is_cooling("zone-1")
        cluster.fakes.questions.clear()
        took_s = await Asking(cluster).run()
        assert cluster.fakes.asked[-1] == "zone-1"
        assert took_s < 2 * SETTINGS.patience_s

    play(scenario, FakePeers(silent={"zone-1"}))


def test_peer_that_replies_does_not_cool_off() -> None:
    async def scenario(cluster: Cluster) -> None:
        await Asking(cluster).run()
        assert not any(map(cluster.is_cooling, EVERYONE))

    play(scenario, FakePeers())


def test_everyone_is_asked_at_once_and_waited_for_until_the_deadline() -> None:
    async def scenario(cluster: Cluster) -> None:
        replied: list[str] = []
        started_s = loop_clock()

        def on_reply(peer: Peer, _reply: Reply, _ring: int) -> bool:
            replied.append(peer.name)
            return False

        await cluster.asker.ask_everyone(QUESTION, on_reply)
        assert sorted(cluster.fakes.asked) == EVERYONE
        assert sorted(replied) == sorted(set(EVERYONE) - {"far-1"})
        assert loop_clock() - started_s == SETTINGS.timeout_s

    play(scenario, FakePeers(silent={"far-1"}))


def test_everyone_does_not_include_those_that_cool_off_unless_nothing_else_is_left() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.regard.failed(node("zone-1"), loop_clock())
        await cluster.asker.ask_everyone(QUESTION, lambda *_: False)
        assert cluster.fakes.asked[-1] == "zone-1"

    play(scenario, FakePeers())


def test_closing_ends_the_questions_that_are_open() -> None:
    async def scenario(cluster: Cluster) -> None:
        asking = Asking(cluster, steps_most=1)
        await asking.run()
        assert other_tasks()
        await cluster.asker.close()
        assert asking.replied == []

    play(scenario, FakePeers(answer_s=dict.fromkeys(EVERYONE, 0.4)))


def test_greeting_tells_how_soon_a_peer_replies_and_blames_nobody() -> None:
    async def scenario(cluster: Cluster) -> None:
        for peer in MEMBERS.values():
            await cluster.asker.greet(peer)
        assert [question for _, question in cluster.fakes.questions] == len(EVERYONE) * [Question()]
        assert not any(map(cluster.is_cooling, EVERYONE))
        cluster.fakes.silent.add("zone-1")
        assert await Asking(cluster).run() < HEALTHY_S, "its usual time is known"

    play(scenario, FakePeers(held={"far-1": {LAYER}}, refusing={"region-1"}))


def test_peer_that_refuses_a_greeting_is_there_again_and_one_that_does_not_answer_is_not() -> None:
    async def scenario(cluster: Cluster) -> None:
        names = [node("zone-1"), node("zone-2")]
        for name in names:
            cluster.regard.unanswered(name, "connection refused", loop_clock())
            await cluster.asker.greet(MEMBERS[name])
        assert [cluster.regard.silence(name) is None for name in names] == [True, False]

    play(scenario, FakePeers(busy={"zone-1"}, refusing={"zone-2"}))


def test_peer_that_this_node_could_not_ask_is_not_blamed_and_one_that_was_silent_is_with_words() -> None:
    async def scenario(cluster: Cluster) -> None:
        await Asking(cluster).run()
        await asyncio.sleep(SETTINGS.timeout_s)
        regard = cluster.regard
        assert set(regard.cooling(loop_clock())) == {"zone-2"}
        failure = regard.failure(node("zone-2"))
        assert failure is not None
        assert failure.words == "zone-2"
        assert regard.failure(node("zone-1")) is None
        assert regard.own_failure is not None
        assert regard.own_failure.words == "no network"

    play(scenario, FakePeers(silent={"zone-2"}, cut_off={"zone-1"}))


def test_peer_that_is_too_busy_for_a_channel_is_neither_silent_nor_left_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await Asking(cluster).run()
        assert not cluster.is_cooling("zone-1")
        assert cluster.regard.silence(node("zone-1")) is None

    play(scenario, FakePeers(busy={"zone-1"}))

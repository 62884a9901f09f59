"""Scatter where not everybody can be asked: a zone of 500 in a cluster of 2,000. Virtual time."""

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial

from agent.holders.asking import PeerAsker
from agent.holders.factory import Askers, make_askers
from agent.holders.index import Holders
from agent.holders.scatter import ScatterIndex
from agent.holders.wire import Question, Reply
from agent.members.member import Peer, Peers
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.pull.asking import AskingPolicy
from agent.pull.nearby import BURST, EVERYBODY_MAX, OTHERS_MAX, QUESTIONS_PER_S, SCATTER_MAX
from agent.pull.regard import Regard
from tests.unit.agent.holders.cluster import LAYER, MEMBERS, OTHER, SETTINGS, Cluster, play
from tests.unit.twins import (
    FakePeers,
    loop_clock,
    named,
    node,
    peer,
    peers,
    placed,
    run_in_virtual_time,
    sha256,
)

ZONE = tuple(f"zone-{number}" for number in range(499))
ELSEWHERE = tuple(f"far-{number}" for number in range(1500))
LARGE: Peers = peers(
    *(peer(name, placed("eu", "eu-a")) for name in ZONE),
    *(peer(name, placed("eu", f"eu-{name[-1]}")) for name in ELSEWHERE),
)
SWEEP = len(ZONE) + OTHERS_MAX
LOOKUP_MOST_S = 2 * 2 * SWEEP / QUESTIONS_PER_S
"""Two searches share the rate, and a look-up waits for one of them to end before its own."""

BESIDE_OTHERS_S = 2 * 3 * SWEEP / QUESTIONS_PER_S
"""The same, while pulls that have a source ask everybody for another one."""

play_large = partial(play, members=LARGE, bounded=True)


def test_a_holder_in_the_own_zone_is_found_whichever_it_is() -> None:
    async def scenario(cluster: Cluster) -> None:
        holders = await cluster.scatter.lookup(LAYER)
        assert holders.nodes == (node(ZONE[-1]),)
        assert len(cluster.fakes.asked) <= SWEEP

    play_large(scenario, FakePeers(held={ZONE[-1]: {LAYER}}))


def test_what_many_of_the_zone_have_takes_one_step() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert (await cluster.scatter.lookup(LAYER)).nodes
        assert len(cluster.fakes.asked) == SETTINGS.at_once

    play_large(scenario, FakePeers(held={name: {LAYER} for name in ZONE[::5]}))


def test_what_nobody_has_is_asked_of_the_zone_and_of_a_few_others_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await cluster.scatter.lookup(LAYER) == Holders(nodes=(), exhaustive=True)
        count = Counter(cluster.fakes.asked)
        assert (len(count), max(count.values())) == (SWEEP, 1)
        assert set(ZONE) < set(count)
        assert (await cluster.scatter.lookup_everyone(LAYER)).exhaustive
        assert len(Counter(cluster.fakes.asked)) == SWEEP, "the same ones are asked again, and nobody else"

    play_large(scenario, FakePeers())


def test_silent_peers_of_the_zone_hide_no_holder() -> None:
    async def scenario(cluster: Cluster) -> None:
        began_s = loop_clock()
        assert (await cluster.scatter.lookup(LAYER)).nodes == (node(ZONE[250]),)
        assert loop_clock() - began_s < 1.0

    play_large(scenario, FakePeers(held={ZONE[250]: {LAYER}}, silent=set(ZONE[:240])))


def test_holder_in_the_zone_that_cools_off_is_found_at_last() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.regard.failed(node(ZONE[7]), loop_clock())
        assert (await cluster.scatter.lookup(LAYER)).nodes == (node(ZONE[7]),)

    play_large(scenario, FakePeers(held={ZONE[7]: {LAYER}}))


def test_a_thousand_lookups_cost_no_more_than_the_budget_and_none_waits_long() -> None:
    async def scenario(cluster: Cluster) -> None:
        took_s: list[float] = []

        async def look_up(number: int) -> None:
            await asyncio.sleep(number / 100)
            began_s = loop_clock()
            assert (await cluster.scatter.lookup(sha256(number))).exhaustive
            took_s.append(loop_clock() - began_s)

        await asyncio.gather(*(look_up(number) for number in range(1000)))
        assert len(cluster.fakes.asked) <= BURST + QUESTIONS_PER_S * loop_clock() + 2 * SETTINGS.at_once
        assert max(took_s) < LOOKUP_MOST_S + 1.0

    play_large(scenario, FakePeers())


def test_holders_are_found_also_while_a_thousand_lookups_of_what_nobody_has_run() -> None:
    held = {sha256(f"held {number}") for number in range(10)}

    async def scenario(cluster: Cluster) -> None:
        nobody_has = [asyncio.create_task(cluster.scatter.lookup(sha256(number))) for number in range(1000)]
        began_s = loop_clock()
        found = await asyncio.gather(*(cluster.scatter.lookup(digest) for digest in held))
        assert {holders.nodes for holders in found} == {(node(ZONE[3]),)}
        assert loop_clock() - began_s < LOOKUP_MOST_S
        await asyncio.gather(*nobody_has)

    play_large(scenario, FakePeers(held={ZONE[3]: held}))


def test_a_hundred_questions_to_everybody_nearby_become_a_few() -> None:
    async def scenario(cluster: Cluster) -> None:
        digests = [sha256(number) for number in range(100)]
        began_s = loop_clock()
        found = await asyncio.gather(*(cluster.scatter.lookup_everyone(digest) for digest in digests))
        assert {holders.nodes for holders in found} == {(node(ZONE[3]),)}
        assert len(cluster.fakes.asked) <= 3 * SWEEP
        assert loop_clock() - began_s < LOOKUP_MOST_S

    play_large(scenario, FakePeers(held={ZONE[3]: {sha256(number) for number in range(100)}}))


def test_pulls_that_look_for_another_source_do_not_keep_those_waiting_that_have_none() -> None:
    async def scenario(cluster: Cluster) -> None:
        ended = asyncio.Event()

        async def look_for_another(number: int) -> None:
            while not ended.is_set():
                await cluster.scatter.lookup_everyone(sha256(f"arriving {number}"))
                await asyncio.sleep(0.01)

        looking = [asyncio.create_task(look_for_another(number)) for number in range(20)]
        took_s: list[float] = []
        for number in range(12):
            began_s = loop_clock()
            await asyncio.gather(*(cluster.scatter.lookup(sha256((number, each))) for each in range(5)))
            took_s.append(loop_clock() - began_s)
        ended.set()
        await asyncio.gather(*looking)
        assert max(took_s) < BESIDE_OTHERS_S + 0.5
        assert len(cluster.fakes.asked) <= BURST + QUESTIONS_PER_S * loop_clock() + 3 * SETTINGS.at_once

    play_large(scenario, FakePeers())


def test_caller_that_left_costs_the_others_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        left = asyncio.create_task(cluster.scatter.lookup(OTHER))
        await asyncio.sleep(0.001)
        left.cancel()
        assert (await cluster.scatter.lookup(LAYER)).nodes == (node(ZONE[9]),)

    play_large(scenario, FakePeers(held={ZONE[9]: {LAYER}}))


def test_a_search_that_waits_for_the_budget_ends_when_the_index_closes() -> None:
    async def scenario(cluster: Cluster) -> None:
        waiting = [asyncio.create_task(cluster.scatter.lookup(sha256(number))) for number in range(600)]
        await asyncio.sleep(0.5)
        await cluster.scatter.close()
        assert not any(holders.exhaustive for holders in await asyncio.gather(*waiting[300:]))

    play_large(scenario, FakePeers())


def test_a_tag_is_asked_of_the_own_zone_alone_in_a_large_cluster() -> None:
    async def scenario(cluster: Cluster) -> None:
        for name in (named(), replace(named(), registry=None)):
            cluster.fakes.questions.clear()
            assert await cluster.finder.find_tag(name, max_age_s=60.0) == ()
            assert set(cluster.fakes.asked) == set(ZONE)

    play_large(scenario, FakePeers())


def test_a_hundred_tags_at_once_that_nobody_knows_are_left_to_the_registry_soon() -> None:
    async def scenario(cluster: Cluster) -> None:
        took_s: list[float] = []

        async def find(number: int) -> None:
            began_s = loop_clock()
            assert await cluster.finder.find_tag(named(tag=f"v{number}"), max_age_s=60.0) == ()
            took_s.append(loop_clock() - began_s)

        await asyncio.gather(*(find(number) for number in range(100)))
        assert max(took_s) < 2.5
        assert len(cluster.fakes.asked) <= BURST + QUESTIONS_PER_S * max(took_s) + SETTINGS.at_once

    play_large(scenario, FakePeers())


def test_a_tag_is_asked_of_everybody_in_a_small_cluster() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.finder.find_tag(named(), max_age_s=60.0)
        assert set(cluster.fakes.asked) == set(MEMBERS)

    play(scenario, FakePeers())


def test_scatter_says_above_two_hundred_peers_that_they_are_too_many_and_what_to_do() -> None:
    async def scenario(cluster: Cluster) -> None:
        (warning,) = cluster.scatter.status().warnings
        assert f"{len(LARGE)} peers" in warning.problem
        assert "registry" in warning.problem
        assert "Valkey" in warning.hint
        cluster.roster.update({name: LARGE[name] for name in [*LARGE][: EVERYBODY_MAX + 1]})
        (warning,) = cluster.scatter.status().warnings
        assert "asks all of them" in warning.problem
        cluster.roster.update({name: LARGE[name] for name in [*LARGE][:EVERYBODY_MAX]})
        assert cluster.scatter.status().warnings == ()

    play(scenario, FakePeers(), members=LARGE)


def test_scatter_asks_everybody_up_to_a_thousand_peers_and_above_that_those_nearby() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.scatter.lookup(LAYER)
        assert len(cluster.fakes.asked) == SWEEP
        cluster.roster.update({name: LARGE[name] for name in [*LARGE][:SCATTER_MAX]})
        cluster.fakes.questions.clear()
        await cluster.scatter.lookup(OTHER)
        assert len(cluster.fakes.asked) == SCATTER_MAX

    play(scenario, FakePeers(), members=LARGE)


def test_nobody_is_asked_much_more_than_it_asks_when_a_whole_zone_falls_back_at_once() -> None:
    names = [f"n{number}" for number in range(40)]
    answered: Counter[str] = Counter()

    async def query(asked: Peer, _question: Question, _timeout_s: float) -> Reply:
        answered[asked.name] += 1
        await asyncio.sleep(0.001)
        return Reply()

    def index_of(own: str) -> tuple[ScatterIndex, Askers]:
        roster, regard = Roster(own=node(own), placement=placed("eu", "eu-a")), Regard(cooloff_s=5.0)
        roster.update(peers(*(peer(name, placed("eu", "eu-a")) for name in names if name != own)))
        policy = AskingPolicy(regard=regard, at_once=8, patience_s=0.05, timeout_s=0.5)
        metrics = Metrics()
        everybody = PeerAsker(roster=roster, policy=policy, query=query, metrics=metrics, clock=loop_clock)
        askers = make_askers(everybody, policy, at_once=8, roster=roster)
        return ScatterIndex(askers.nearby, settings=SETTINGS, metrics=metrics, clock=loop_clock), askers

    async def main() -> None:
        made = [index_of(name) for name in names]
        await asyncio.gather(*(index.lookup(LAYER) for index, _ in made))
        assert set(answered.values()) == {len(names) - 1}, "what nobody has: each is asked once by each"
        for index, askers in made:
            await index.close()
            await askers.everybody.close()

    run_in_virtual_time(main())

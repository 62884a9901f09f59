"""Scatter: which peers it asks and when, what it caches, and that nothing runs at the end. Virtual time."""

import asyncio
from dataclasses import replace

from agent.holders.index import Holders
from agent.holders.wire import DIGESTS_MAX, Flying
from agent.oci.digest import Digest
from tests.unit.agent.holders.cluster import (
    EVERYONE,
    HEALTHY_S,
    LAYER,
    MEMBERS,
    NOBODY,
    OTHER,
    ROUND_S,
    SETTINGS,
    Cluster,
    play,
)
from tests.unit.twins import (
    FakePeers,
    loop_clock,
    node,
    other_tasks,
    sha256,
)


def test_all_are_asked_at_once_and_the_nearest_holder_is_given() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert found == {"zone-1"}
        assert sorted(cluster.fakes.asked) == EVERYONE
        assert took_s < ROUND_S

    play(scenario, FakePeers(held={"zone-1": {LAYER}, "region-1": {LAYER}, "far-1": {LAYER}}))


def test_holder_anywhere_is_found_in_one_round_of_questions() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert found == {"region-2"}
        assert took_s < ROUND_S

    play(scenario, FakePeers(held={"region-2": {LAYER}, "far-1": {LAYER}}))


def test_nobody_has_it_takes_one_round_of_questions() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert (await cluster.lookup())[1] < ROUND_S

    play(scenario, FakePeers())


def test_farther_rings_are_asked_only_beyond_the_number_that_is_asked_at_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert (await cluster.lookup(LAYER))[0] == {"zone-1"}
        assert sorted(cluster.fakes.asked) == ["zone-1", "zone-2"]
        assert (await cluster.lookup(OTHER))[0] == {"region-2"}
        assert sorted(cluster.fakes.asked_for(OTHER)) == ["region-1", "region-2", "zone-1", "zone-2"]

    fakes = FakePeers(held={"zone-1": {LAYER}, "region-2": {OTHER}, "far-1": {LAYER, OTHER}})
    play(scenario, fakes, replace(SETTINGS, at_once=2))


def test_near_peer_that_takes_its_usual_time_is_preferred_to_a_faster_far_one() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert (await cluster.lookup(OTHER))[0] == set()
        found, took_s = await cluster.lookup(LAYER)
        assert (found, round(took_s, 4)) == ({"zone-1"}, 0.02)

    play(scenario, FakePeers(held={"zone-1": {LAYER}, "far-1": {LAYER}}, answer_s={"zone-1": 0.02}))


def test_near_peer_that_takes_far_longer_than_usual_does_not_hold_what_a_far_one_has() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert (await cluster.lookup(OTHER))[0] == set()
        cluster.fakes.silent = {"zone-1"}
        found, took_s = await cluster.lookup(LAYER)
        assert found == {"far-1"}
        assert took_s < HEALTHY_S

    play(scenario, FakePeers(held={"far-1": {LAYER}}))


def test_far_peer_is_not_waited_for_when_a_near_one_has_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert (found, round(took_s, 4)) == ({"zone-1"}, 0.001)

    play(scenario, FakePeers(held={"zone-1": {LAYER}}, answer_s={"region-1": 0.04, "far-1": 0.04}))


def test_equal_holder_that_answers_much_later_is_not_waited_for_but_remembered() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert (found, round(took_s, 4)) == ({"zone-1"}, 0.002)
        await asyncio.sleep(0.002)
        assert await cluster.lookup() == ({"zone-1", "zone-2"}, 0.0)

    fakes = FakePeers(held={"zone-1": {LAYER}, "zone-2": {LAYER}})
    fakes.answer_s = {"zone-1": 0.001, "zone-2": 0.0035}
    play(scenario, fakes)


def test_farther_holder_is_given_when_the_near_one_turned_out_not_to_have_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert (await cluster.lookup())[0] == {"zone-1"}
        cluster.scatter.forget(LAYER, node("zone-1"))
        assert await cluster.lookup() == ({"far-1"}, 0.0)

    play(scenario, FakePeers(held={"zone-1": {LAYER}, "far-1": {LAYER}}))


def test_a_thousand_lookups_at_once_become_a_few_questions_to_each_peer() -> None:
    digests = [sha256(number) for number in range(1000)]

    async def scenario(cluster: Cluster) -> None:
        found = await asyncio.gather(*(cluster.lookup(digest) for digest in digests))
        assert all(nodes == {"zone-2"} for nodes, _ in found)
        assert max(took_s for _, took_s in found) < HEALTHY_S
        assert len(cluster.fakes.asked) <= 10 * len(EVERYONE)
        assert {digest for _, question in cluster.fakes.questions for digest in question.digests} == set(
            digests
        )

    play(scenario, FakePeers(held={"zone-2": set(digests)}))


def test_lookup_that_is_gathered_ends_when_the_index_closes() -> None:
    async def scenario(cluster: Cluster) -> None:
        lookups = [asyncio.create_task(cluster.scatter.lookup(sha256(number))) for number in range(10)]
        await asyncio.sleep(0.001)
        await cluster.scatter.close()
        assert not (await lookups[-1]).exhaustive
        await asyncio.gather(*lookups)

    play(scenario, FakePeers(silent=set(EVERYONE)))


def test_nobody_has_it_only_after_every_peer_said_so() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await cluster.scatter.lookup(LAYER) == NOBODY
        assert sorted(cluster.fakes.asked) == EVERYONE

    play(scenario, FakePeers())


def test_a_node_without_peers_finds_nobody_at_once() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.roster.update({})
        assert await cluster.lookup() == (set(), 0.0)
        assert (await cluster.scatter.lookup_everyone(LAYER)) == NOBODY

    play(scenario, FakePeers())


def test_holder_is_remembered_for_the_positive_lifetime_and_asked_for_again_after_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup()
        await asyncio.sleep(SETTINGS.positive_ttl_s - 1)
        assert await cluster.lookup() == ({"zone-1"}, 0.0)
        assert len(cluster.fakes.asked) == len(EVERYONE)
        await asyncio.sleep(2)
        cluster.fakes.held.clear()
        assert (await cluster.lookup())[0] == set()

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_nobody_is_believed_for_the_negative_lifetime_only() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup()
        cluster.fakes.held["zone-2"] = {LAYER}
        await asyncio.sleep(SETTINGS.negative_ttl_s * 0.9)
        assert await cluster.lookup() == (set(), 0.0)
        await asyncio.sleep(SETTINGS.negative_ttl_s * 0.2)
        assert (await cluster.lookup())[0] == {"zone-2"}

    play(scenario, FakePeers())


def test_remembered_holders_do_not_claim_that_everyone_was_asked() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert not (await cluster.scatter.lookup(LAYER)).exhaustive
        assert not (await cluster.scatter.lookup(LAYER)).exhaustive

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_forgotten_holder_is_not_given_again_while_others_are() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup()
        cluster.scatter.forget(LAYER, node("zone-1"))
        assert await cluster.lookup() == ({"zone-2"}, 0.0)

    play(scenario, FakePeers(held={"zone-1": {LAYER}, "zone-2": {LAYER}}))


def test_when_the_last_holder_is_forgotten_peers_are_asked_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup()
        cluster.fakes.held = {"region-1": {LAYER}}
        cluster.scatter.forget(LAYER, node("zone-1"))
        assert (await cluster.lookup())[0] == {"region-1"}

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_digests_of_one_prefetch_share_one_request_to_each_peer() -> None:
    layers = [sha256(number) for number in range(20)]

    async def scenario(cluster: Cluster) -> None:
        cluster.scatter.prefetch(layers)
        assert all([(await cluster.lookup(layer))[0] == {"zone-1"} for layer in layers])
        assert sorted(cluster.fakes.asked) == EVERYONE
        assert all(question.digests == tuple(layers) for _, question in cluster.fakes.questions)

    play(scenario, FakePeers(held={"zone-1": set(layers)}))


def test_next_ring_is_asked_only_for_what_the_nearer_one_does_not_have() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.scatter.prefetch([LAYER, OTHER])
        assert (await cluster.lookup(LAYER))[0] == {"zone-1"}
        assert (await cluster.lookup(OTHER))[0] == {"region-1"}
        assert set(cluster.fakes.asked_for(LAYER)) == {"zone-1", "zone-2"}

    fakes = FakePeers(held={"zone-1": {LAYER}, "region-1": {LAYER, OTHER}})
    play(scenario, fakes, replace(SETTINGS, at_once=2))


def test_prefetch_asks_nothing_for_what_is_known_or_being_asked() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.scatter.prefetch([LAYER, LAYER])
        await asyncio.sleep(0)
        cluster.scatter.prefetch([LAYER])
        await cluster.lookup()
        cluster.scatter.prefetch([LAYER])
        await asyncio.sleep(0.1)
        assert [question.digests for _, question in cluster.fakes.questions] == 5 * [(LAYER,)]

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_lookups_at_the_same_time_share_one_question() -> None:
    async def scenario(cluster: Cluster) -> None:
        results = await asyncio.gather(*(cluster.lookup() for _ in range(10)))
        assert all(found == {"zone-1"} for found, _ in results)
        assert sorted(cluster.fakes.asked) == EVERYONE

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_caller_that_goes_away_does_not_end_the_lookup_of_others() -> None:
    async def scenario(cluster: Cluster) -> None:
        first = asyncio.create_task(cluster.scatter.lookup(LAYER))
        second = asyncio.create_task(cluster.scatter.lookup(LAYER))
        await asyncio.sleep(0.0005)
        first.cancel()
        assert (await second).nodes == ("zone-1",)
        assert first.cancelled()

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_no_question_has_more_digests_than_a_peer_accepts() -> None:
    digests = [sha256(number) for number in range(DIGESTS_MAX + 1)]

    async def scenario(cluster: Cluster) -> None:
        cluster.scatter.prefetch(digests)
        await asyncio.sleep(1)
        asked: set[Digest] = set()
        for _, question in cluster.fakes.questions:
            assert len(question.digests) <= DIGESTS_MAX
            asked.update(question.digests)
        assert asked == set(digests)

    play(scenario, FakePeers())


def test_silent_peer_of_the_near_ring_holds_the_lookup_for_patience_only() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert found == {"region-1"}
        assert took_s < SETTINGS.patience_s + HEALTHY_S

    play(scenario, FakePeers(held={"region-1": {LAYER}}, silent={"zone-1"}))


def test_silent_peer_does_not_hold_what_another_of_its_ring_has() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert found == {"zone-1"}
        assert took_s < HEALTHY_S

    play(scenario, FakePeers(held={"zone-1": {LAYER}}, silent={"zone-2"}))


def test_silent_peer_does_not_hold_what_another_of_the_only_ring_has() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.roster.update({name: MEMBERS[name] for name in (node("zone-1"), node("zone-2"))})
        found, took_s = await cluster.lookup()
        assert found == {"zone-1"}
        assert took_s <= SETTINGS.patience_s

    play(scenario, FakePeers(held={"zone-1": {LAYER}}, silent={"zone-2"}))


def test_silent_peer_does_not_hold_what_the_farthest_ring_has() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert found == {"far-1"}
        assert took_s <= 2 * SETTINGS.patience_s + HEALTHY_S

    play(scenario, FakePeers(held={"far-1": {LAYER}}, silent={"zone-1"}))


def test_lookup_returns_when_its_own_digest_is_found_though_others_of_the_prefetch_are_not() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.scatter.prefetch([LAYER, OTHER])
        found, took_s = await cluster.lookup(LAYER)
        assert found == {"zone-2"}
        assert took_s <= SETTINGS.patience_s

    play(scenario, FakePeers(held={"zone-2": {LAYER}}, silent={"zone-1"}))


def test_silent_peer_is_cooled_at_its_deadline_and_not_waited_for_by_the_next_lookup() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup(LAYER)
        await asyncio.sleep(SETTINGS.timeout_s)
        assert cluster.is_cooling("zone-1")
        assert not cluster.is_cooling("zone-2")
        cluster.fakes.questions.clear()
        found, took_s = await cluster.lookup(OTHER)
        assert found == {"region-1"}
        assert took_s < HEALTHY_S

    play(scenario, FakePeers(held={"region-1": {LAYER, OTHER}}, silent={"zone-1"}))


def test_cooling_peer_is_the_last_resort_when_nobody_else_has_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.regard.failed(node("zone-1"), loop_clock())
        found, _ = await cluster.lookup()
        assert found == {"zone-1"}
        assert cluster.fakes.asked[-1] == "zone-1"
        assert cluster.is_cooling("zone-1"), "an answer is no proof that it can serve"

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_cooling_peer_that_is_still_silent_costs_no_more_than_patience() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.regard.failed(node("zone-1"), loop_clock())
        found, took_s = await cluster.lookup()
        assert found == set()
        assert took_s <= SETTINGS.patience_s + HEALTHY_S
        assert cluster.is_cooling("zone-1")

    play(scenario, FakePeers(silent={"zone-1"}))


def test_lookup_ends_within_its_bounds_when_every_peer_is_silent() -> None:
    async def scenario(cluster: Cluster) -> None:
        found, took_s = await cluster.lookup()
        assert found == set()
        assert took_s <= 3 * SETTINGS.patience_s + SETTINGS.timeout_s + 0.001

    play(scenario, FakePeers(silent=set(EVERYONE)))


def test_answer_that_comes_after_the_lookup_is_kept() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert (await cluster.lookup())[0] == {"zone-1"}
        await asyncio.sleep(0.2)
        assert await cluster.lookup() == ({"zone-1", "zone-2"}, 0.0)

    fakes = FakePeers(held={"zone-1": {LAYER}, "zone-2": {LAYER}}, answer_s={"zone-2": 0.1})
    play(scenario, fakes)


def test_asking_everyone_passes_by_the_cache() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup()
        cluster.fakes.held["far-1"] = {LAYER}
        assert await cluster.scatter.lookup_everyone(LAYER) == Holders(
            nodes=(node("far-1"),), exhaustive=True
        )

    play(scenario, FakePeers())


def test_asking_everyone_drops_the_holder_that_was_remembered() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup()
        cluster.fakes.held = {"far-1": {LAYER}}
        assert (await cluster.scatter.lookup_everyone(LAYER)).nodes == ("far-1",)
        assert await cluster.lookup() == ({"far-1"}, 0.0)

    play(scenario, FakePeers(held={"zone-1": {LAYER}}))


def test_asking_everyone_finds_the_far_holder_although_a_near_one_answers_first() -> None:
    """A near holder that answers questions but can't serve must not hide one that can."""

    async def scenario(cluster: Cluster) -> None:
        holders = await cluster.scatter.lookup_everyone(LAYER)
        assert set(holders.nodes) == {"zone-1", "far-1"}

    fakes = FakePeers(held={"zone-1": {LAYER}, "far-1": {LAYER}}, answer_s={"far-1": 0.03})
    play(scenario, fakes)


def test_asking_everyone_is_not_held_by_a_silent_peer_beyond_its_deadline() -> None:
    async def scenario(cluster: Cluster) -> None:
        started_s = loop_clock()
        holders = await cluster.scatter.lookup_everyone(LAYER)
        assert set(holders.nodes) == {"region-1"}
        assert loop_clock() - started_s <= SETTINGS.patience_s + SETTINGS.timeout_s

    play(scenario, FakePeers(held={"region-1": {LAYER}}, silent={"zone-1"}))


def test_close_ends_lookups_and_questions_that_are_running() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.scatter.prefetch([LAYER])
        await asyncio.sleep(0.1)  # all rings are being asked
        assert other_tasks()
        await cluster.close()
        assert other_tasks() == set()

    play(scenario, FakePeers(silent=set(EVERYONE)))


def test_closing_twice_does_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.lookup()
        await cluster.close()

    play(scenario, FakePeers())


HALF = Flying(available_bytes=50, size_bytes=100)


async def in_flight(cluster: Cluster, digest: Digest = LAYER) -> dict[str, int]:
    """Who is fetching it, by a look-up, and how much of it each has in per cent."""
    holders = await cluster.scatter.lookup(digest)
    return {each.node: each.percent for each in holders.in_flight}


def test_near_peer_that_is_fetching_it_is_named_beside_those_that_have_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        holders = await cluster.scatter.lookup(LAYER)
        assert holders.nodes == ("zone-2",)
        assert [(each.node, each.percent) for each in holders.in_flight] == [("zone-1", 50)]
        assert not holders.exhaustive

    play(scenario, FakePeers(held={"zone-2": {LAYER}}, flying={"zone-1": {LAYER: HALF}}))


def test_near_peer_that_is_fetching_it_ends_the_search_for_farther_holders() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await in_flight(cluster) == {"zone-1": 50}
        assert sorted(cluster.fakes.asked) == ["zone-1", "zone-2"]

    fakes = FakePeers(held={"far-1": {LAYER}}, flying={"zone-1": {LAYER: HALF}})
    play(scenario, fakes, replace(SETTINGS, at_once=2))


def test_peer_of_another_zone_that_is_fetching_it_is_as_if_it_had_not_said_so() -> None:
    async def scenario(cluster: Cluster) -> None:
        holders = await cluster.scatter.lookup(LAYER)
        assert (holders.nodes, holders.in_flight) == (("far-1",), ())
        assert await cluster.scatter.lookup(OTHER) == NOBODY
        assert (await cluster.scatter.lookup_everyone(LAYER)).in_flight == ()

    flying = {"region-1": {LAYER: HALF, OTHER: HALF}}
    play(scenario, FakePeers(held={"far-1": {LAYER}}, flying=flying), replace(SETTINGS, at_once=2))


def test_what_is_in_flight_is_forgotten_at_once_and_is_neither_found_nor_missing() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await in_flight(cluster) == {"zone-1": 50}
        assert cluster.scatter.remembered(LAYER) is not None
        await asyncio.sleep(0.26)
        assert cluster.scatter.remembered(LAYER) is None
        cluster.fakes.flying = {}
        cluster.fakes.held = {"zone-1": {LAYER}}
        assert (await cluster.lookup())[0] == {"zone-1"}
        assert await in_flight(cluster) == {}

    play(scenario, FakePeers(flying={"zone-1": {LAYER: HALF}}))


def test_that_nobody_had_it_a_moment_ago_does_not_hide_who_is_fetching_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await cluster.scatter.lookup(LAYER) == NOBODY
        cluster.fakes.flying = {"zone-2": {LAYER: HALF}}
        everyone = await cluster.scatter.lookup_everyone(LAYER)
        assert [each.node for each in everyone.in_flight] == ["zone-2"]
        assert everyone.exhaustive
        assert await in_flight(cluster) == {"zone-2": 50}

    play(scenario, FakePeers())


def test_peer_that_gave_nothing_is_not_named_again_until_it_says_so_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await in_flight(cluster) == {"zone-1": 50, "zone-2": 50}
        cluster.scatter.forget(LAYER, node("zone-1"))
        assert await in_flight(cluster) == {"zone-2": 50}
        cluster.scatter.forget(LAYER, node("zone-2"))
        cluster.scatter.forget(LAYER, node("zone-2"))
        assert cluster.scatter.remembered(LAYER) is None
        assert await in_flight(cluster) == {"zone-1": 50, "zone-2": 50}

    play(scenario, FakePeers(flying={"zone-1": {LAYER: HALF}, "zone-2": {LAYER: HALF}}))


def test_answer_of_a_slow_peer_is_in_time_for_the_look_up_that_waited_for_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await in_flight(cluster) == {"zone-1": 50}

    slow = {"zone-2": 0.4}
    fakes = FakePeers(flying={"zone-1": {LAYER: HALF}}, answer_s=slow)
    play(scenario, fakes, replace(SETTINGS, patience_s=0.45))

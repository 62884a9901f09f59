"""Nodes of a zone that claim, wait and fetch, in virtual time: what it costs, and what each fault costs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.holders.claimant import Outcome
from agent.holders.claims import ClaimKey, arbiters
from agent.holders.wire import Question
from agent.tasks import end_all
from tests.unit.agent.holders.claimnet import CONTENT, WAIT_S, ClaimNet, Pulling
from tests.unit.twins import loop_clock, run_in_virtual_time, sha256
from topology.placement import NodeName

NAMES = tuple(f"n{number}" for number in range(6))
KEY = ClaimKey(CONTENT)
SLACK_S = 2.5  # an arbiter that hangs is noticed so late


async def ended(pulls: list[Pulling], at_most_s: float = 120.0) -> None:
    async with asyncio.timeout(at_most_s):
        await asyncio.gather(*(pull.ends.wait() for pull in pulls))


def others(*names: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name not in names)


def run(scene: Callable[[ClaimNet], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def play() -> None:
        async with ClaimNet(NAMES, **options) as net:
            await scene(net)

    run_in_virtual_time(play())


def test_registry_is_asked_once_for_all_nodes_of_a_zone() -> None:
    async def scene(net: ClaimNet) -> None:
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await ended(pulls)
        assert {pull.ended for pull in pulls} == {"whole"}
        assert len(net.requests[CONTENT]) == 1
        assert max(pull.waited_s for pull in pulls) < 0.3, "they are told of the first bytes"

    run(scene)


def test_different_contents_are_fetched_by_different_nodes_at_once() -> None:
    async def scene(net: ClaimNet) -> None:
        contents = [sha256(number) for number in range(12)]
        pulls = [
            net.pull(name, contents[(place + turn) % 12])
            for turn in range(12)
            for place, name in enumerate(NAMES)
        ]
        await ended(pulls)
        assert [len(net.requests[content]) for content in contents] == [1] * 12
        assert len({net.requests[content][0] for content in contents}) > 2

    run(scene)


def test_who_comes_later_follows_at_once_and_who_comes_last_is_told_who_has_it() -> None:
    async def scene(net: ClaimNet) -> None:
        first = net.pull("n0", CONTENT)
        await asyncio.sleep(0.5)
        second = net.pull("n1", CONTENT)
        await ended([first, second])
        third = net.pull("n2", CONTENT)
        await ended([third])
        assert second.waited_s + third.waited_s < 0.1
        assert net.requests[CONTENT] == ["n0"]

    run(scene)


def test_lone_node_waits_not_at_all() -> None:
    async def scene() -> None:
        async with ClaimNet(["n0"]) as net:
            answer = await net.node("n0").claimant.ask(KEY, beyond_bytes=0, wait_s=WAIT_S)
            assert answer.outcome is Outcome.ALONE

    async def timed() -> float:
        began_s = loop_clock()
        await scene()
        return loop_clock() - began_s

    assert run_in_virtual_time(timed()) == 0.0


def test_node_that_gets_its_first_peer_is_alone_no_more() -> None:
    async def scene(net: ClaimNet) -> None:
        claimant, roster = net.node("n0").claimant, net.node("n0").roster
        members = dict(roster.peers)
        roster.update({})
        assert (await claimant.ask(KEY, beyond_bytes=0, wait_s=WAIT_S)).outcome is Outcome.ALONE
        roster.update(members)
        answer = await claimant.ask(KEY, beyond_bytes=0, wait_s=WAIT_S)
        assert answer.outcome is Outcome.REFUSED, "its containerd is not fetching, and somebody says so"

    run(scene)


def test_node_whose_peers_all_failed_a_moment_ago_waits_not_at_all() -> None:
    async def scene(net: ClaimNet) -> None:
        for name in others("n0"):
            net.kill(name)
        await net.node("n0").asker.ask_everyone(Question(digests=(CONTENT,)), lambda *_: False)
        pull = net.pull("n0", CONTENT)
        await ended([pull])
        assert pull.waited_s == 0.0

    run(scene)


def test_node_that_is_cut_off_from_all_others_waits_for_a_moment_once() -> None:
    async def scene(net: ClaimNet) -> None:
        net.split_off("n0")
        first = net.pull("n0", CONTENT)
        await ended([first])
        assert first.waited_s <= 3 * (2.0 + 0.6)

    run(scene)


def test_killed_claimer_is_replaced_by_one_node() -> None:
    async def scene(net: ClaimNet) -> None:
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await asyncio.sleep(0.5)
        (claimer,) = net.requests[CONTENT]
        net.kill(claimer)
        rest = [pull for pull, name in zip(pulls, NAMES, strict=True) if name != claimer]
        await ended(rest)
        assert {pull.ended for pull in rest} == {"whole"}
        assert len(net.requests[CONTENT]) == 2
        assert max(pull.waited_s for pull in rest) < 3.0

    run(scene)


def test_frozen_claimer_is_replaced_when_its_lease_is_over() -> None:
    async def scene(net: ClaimNet) -> None:
        net.registry_s = 2.0  # frozen before its first bytes
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await asyncio.sleep(0.5)
        (claimer,) = net.requests[CONTENT]
        net.freeze(claimer)
        net.registry_s = 0.05
        rest = [pull for pull, name in zip(pulls, NAMES, strict=True) if name != claimer]
        await ended(rest)
        assert len(net.requests[CONTENT]) == 2
        assert max(pull.waited_s for pull in rest) < 6.0

    run(scene)


def test_claimer_that_the_registry_refuses_is_replaced_at_once() -> None:
    async def scene(net: ClaimNet) -> None:
        for name in NAMES[:3]:
            net.node(name).refused = True
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await ended(pulls)
        assert Counter(pull.ended for pull in pulls)["whole"] >= 3
        assert len(net.requests[CONTENT]) <= 4
        assert max(pull.waited_s for pull in pulls) < 3.0

    run(scene)


def test_content_that_no_registry_has_is_asked_for_by_one_node_after_the_other() -> None:
    """Nobody waits for ever, and the registry, which may be refusing too many requests, gets them in turn."""

    async def scene(net: ClaimNet) -> None:
        for node in net.nodes.values():
            node.refused = True
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await ended(pulls)
        assert {pull.ended for pull in pulls} == {"refused"}
        assert max(pull.waited_s for pull in pulls) < len(NAMES) * 0.6

    run(scene)


def test_claimer_that_lies_costs_the_others_a_bounded_time() -> None:
    async def scene(net: ClaimNet) -> None:
        net.node("n0").lies = True
        net.pull("n0", CONTENT)
        await asyncio.sleep(0.1)
        rest = [net.pull(name, CONTENT) for name in others("n0")]
        await ended(rest)
        assert {pull.ended for pull in rest} == {"whole"}
        assert len(net.requests[CONTENT]) == 1
        assert max(pull.waited_s for pull in rest) < 10.0

    run(scene)


def test_claimer_that_says_it_grows_and_gives_nothing_is_replaced_by_one_of_those_that_complain() -> None:
    """They complain while they follow it, and a node that follows leaves other turns to the first one."""

    async def scene(net: ClaimNet) -> None:
        net.node("n0").lies = True
        net.pull("n0", CONTENT)
        await asyncio.sleep(1.1)
        names = others("n0")
        for name in names:
            net.node(name).store.writing[CONTENT] = True
        claimants = [net.node(name).claimant for name in names]
        told = [await each.ask(KEY, beyond_bytes=0, wait_s=WAIT_S) for each in claimants]
        assert {answer.outcome for answer in told} == {Outcome.FOLLOWED}
        liar, began_s = net.node("n0").name, loop_clock()
        asking = [
            asyncio.create_task(each.ask(KEY, beyond_bytes=0, wait_s=WAIT_S, despite=liar))
            for each in claimants
        ]
        done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert [each.result().outcome for each in done] == [Outcome.GRANTED]
        assert 4.0 < loop_clock() - began_s < 7.0
        await end_all(waiting)

    run(scene)


def test_killed_arbiter_costs_no_fetch_as_long_as_the_claimer_lives() -> None:
    async def scene(net: ClaimNet) -> None:
        net.registry_s = 1.0
        arbiter = net.arbiter_of(CONTENT)
        pulls = [net.pull(name, CONTENT) for name in others(arbiter)]
        await asyncio.sleep(0.5)
        net.kill(arbiter)
        await ended(pulls)
        assert {pull.ended for pull in pulls} == {"whole"}
        assert len(net.requests[CONTENT]) == 1

    run(scene)


def test_killed_arbiter_of_several_contents_costs_no_fetch_of_any() -> None:
    """Each of them has another next arbiter, who is told of the claim by the node that has it."""

    async def scene(net: ClaimNet) -> None:
        net.registry_s = 1.0
        nodes = tuple(map(NodeName, NAMES))
        orders = {content: arbiters(ClaimKey(content), nodes) for content in map(sha256, range(100))}
        contents = [content for content, order in orders.items() if order[0] == nodes[0]][:8]
        assert len({orders[content][1] for content in contents}) > 2
        pulls = [net.pull("n1", content) for content in contents]
        await asyncio.sleep(0.1)
        pulls += [net.pull(name, content) for name in others("n0", "n1") for content in contents]
        await asyncio.sleep(0.4)
        net.kill("n0")
        await ended(pulls)
        assert {pull.ended for pull in pulls} == {"whole"}
        assert [net.requests[content] for content in contents] == [["n1"]] * len(contents)

    run(scene)


def test_frozen_arbiter_is_replaced_by_the_next_one() -> None:
    async def scene(net: ClaimNet) -> None:
        arbiter = net.arbiter_of(CONTENT)
        net.freeze(arbiter)
        pulls = [net.pull(name, CONTENT) for name in others(arbiter)]
        await ended(pulls)
        assert len(net.requests[CONTENT]) == 1
        assert max(pull.waited_s for pull in pulls) < 4.0

    run(scene)


def test_zone_that_splits_has_two_claimers_and_nothing_breaks() -> None:
    async def scene(net: ClaimNet) -> None:
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await asyncio.sleep(0.3)
        net.split_off(*NAMES[:3])
        await ended(pulls)
        assert {pull.ended for pull in pulls} == {"whole"}
        assert len(net.requests[CONTENT]) <= 3

    run(scene)


def test_client_that_leaves_while_it_waits_gives_its_place_back_at_once() -> None:
    async def scene(net: ClaimNet) -> None:
        net.registry_s = 1.0
        arbiter = net.arbiter_of(CONTENT)
        claimer, leaver, other = others(arbiter)[:3]
        net.pull(claimer, CONTENT)
        await asyncio.sleep(0.1)
        store = net.node(leaver).store
        store.writing[CONTENT] = True
        leaving = asyncio.create_task(net.node(leaver).claimant.ask(KEY, beyond_bytes=0, wait_s=WAIT_S))
        await asyncio.sleep(0.1)
        book = net.node(arbiter).desk.book
        assert book.waiting == 1
        leaving.cancel()
        await asyncio.sleep(0.01)
        assert book.waiting == 0
        net.kill(claimer)
        stays = net.pull(other, CONTENT)
        await ended([stays])
        assert net.requests[CONTENT] == [claimer, other]

    run(scene)


def test_client_that_leaves_with_a_claim_gives_it_back_at_once() -> None:
    async def scene(net: ClaimNet) -> None:
        claimant = net.node("n0").claimant
        net.node("n0").store.writing[CONTENT] = True
        answer = await claimant.ask(KEY, beyond_bytes=0, wait_s=WAIT_S)
        assert answer.outcome is Outcome.GRANTED
        assert [claim.key for claim in claimant.kept()] == [KEY]
        claimant.give_back(KEY)
        pull = net.pull("n1", CONTENT)
        await ended([pull])
        assert pull.waited_s < 0.1
        assert not claimant.kept()

    run(scene)


def test_node_that_can_not_see_what_it_fetches_takes_no_claim() -> None:
    async def scene(net: ClaimNet) -> None:
        answer = await net.node("n0").claimant.ask(KEY, beyond_bytes=0, wait_s=WAIT_S)
        assert answer.outcome is Outcome.REFUSED
        pull = net.pull("n1", CONTENT)
        await asyncio.sleep(0.01)
        answer = await net.node("n0").claimant.ask(KEY, beyond_bytes=0, wait_s=WAIT_S)
        assert answer.outcome is Outcome.FOLLOWED
        await ended([pull])

    run(scene)


def test_who_waited_in_vain_does_not_wait_for_the_same_bytes_again() -> None:
    async def scene(net: ClaimNet) -> None:
        net.pull("n0", CONTENT)
        await asyncio.sleep(0.2)
        net.registry_s = 3.0
        claimant = net.node("n1").claimant
        began_s = loop_clock()
        first = await claimant.ask(KEY, beyond_bytes=9000, wait_s=2.0)
        again_s = loop_clock()
        second = await claimant.ask(KEY, beyond_bytes=9000, wait_s=2.0)
        assert (first.outcome, second.outcome) == (Outcome.TIMEOUT, Outcome.TIMEOUT)
        assert again_s - began_s >= 2.0
        assert loop_clock() - again_s < 0.1

    run(scene)


def test_client_that_left_after_a_long_wait_does_not_wait_again_where_it_asks_next() -> None:
    """containerd 2.3 waits for a head for 30 s, and then asks its next host: perhaps this agent once more."""

    async def scene(net: ClaimNet) -> None:
        net.pull("n0", CONTENT)
        await asyncio.sleep(0.2)
        net.registry_s = 10.0
        claimant = net.node("n1").claimant

        async def left_after(wait_s: float) -> None:
            asking = asyncio.create_task(claimant.ask(KEY, beyond_bytes=9000, wait_s=100.0))
            await asyncio.sleep(wait_s)
            assert not asking.done()
            await end_all([asking])

        await left_after(1.0)
        await left_after(20.0)
        began_s = loop_clock()
        again = await claimant.ask(KEY, beyond_bytes=9000, wait_s=100.0)
        assert (again.outcome, loop_clock() - began_s < 0.1) == (Outcome.TIMEOUT, True)

    run(scene)


def test_node_that_follows_leaves_what_nobody_asked_for_to_the_first_one() -> None:
    """So the layers of an image come by the node that was first to want its manifest."""

    async def scene(net: ClaimNet) -> None:
        manifest, layer, other = sha256("manifest"), sha256("layer"), sha256("other")
        first = [net.pull("n0", manifest)]
        await asyncio.sleep(0.01)
        first.append(net.pull("n1", manifest))
        await ended(first)
        follower = net.pull("n1", layer)
        await asyncio.sleep(0.1)
        leader = net.pull("n0", layer)
        alone = net.pull("n1", other)
        await ended([follower, leader, alone])
        assert net.requests == {manifest: ["n0"], layer: ["n0"], other: ["n1"]}
        assert leader.waited_s < 0.05
        assert 0.3 <= alone.waited_s < 0.5, "nobody else wants it"

    run(scene)


def test_wait_for_a_node_that_is_busy_with_other_layers_may_last_longer() -> None:
    async def scene(net: ClaimNet) -> None:
        net.slots = 1
        net.registry_s = 1.4  # 28 s for one content
        contents = [sha256(number) for number in range(2)]
        busy = [net.pull("n0", content) for content in contents]
        await asyncio.sleep(0.1)
        waits = net.pull("n1", contents[1])
        await ended([*busy, waits])
        assert WAIT_S < waits.waited_s < 35.0
        assert net.requests == {contents[0]: ["n0"], contents[1]: ["n0"]}

    run(scene)


def test_nodes_that_wait_for_each_other_go_on_after_a_moment() -> None:
    """Each containerd fetches so much at a time, and first asks for all that it wants."""

    async def scene(net: ClaimNet) -> None:
        net.slots = 3
        contents = [sha256(number) for number in range(8)]
        for half, name in ((contents[:4], "n0"), (contents[4:], "n1")):
            for content in half:
                net.node(name).store.writing[content] = True
                answer = await net.node(name).claimant.ask(ClaimKey(content), beyond_bytes=0, wait_s=WAIT_S)
                assert answer.outcome is Outcome.GRANTED
        waits = [net.pull("n0", content) for content in contents[4:]]
        waits += [net.pull("n1", content) for content in contents[:4]]
        await asyncio.sleep(0.05)
        for half, name in ((contents[:4], "n0"), (contents[4:], "n1")):
            waits += [net.fetch(name, content) for content in half]
        await ended(waits)
        assert max(pull.waited_s for pull in waits) < 15.0
        assert sum(map(len, net.requests.values())) < 2 * len(contents)

    run(scene)


@pytest.mark.parametrize("came_s", [0.0, 0.3])
def test_part_that_a_killed_containerd_left_behind_keeps_nobody_waiting(came_s: float) -> None:
    """``came_s``: for how long bytes came before."""

    async def scene(net: ClaimNet) -> None:
        net.registry_s = 0.05 if came_s else 1000.0
        net.pull("n0", CONTENT)
        await asyncio.sleep(came_s)
        net.registry_s = 1000.0
        await asyncio.sleep(70.0)
        net.registry_s = 0.05
        later = net.pull("n1", CONTENT)
        await ended([later])
        assert later.ended == "whole"
        assert later.waited_s < 0.3
        assert net.requests[CONTENT] == ["n0", "n1"]
        assert net.node("n0").claimant.kept() == ()

    run(scene)


def test_claims_and_waits_leave_nothing_behind() -> None:
    async def scene(net: ClaimNet) -> None:
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await ended(pulls)
        await asyncio.sleep(40.0)
        for node in net.nodes.values():
            assert not node.claimant.kept()
            assert not node.claimant.awaits
            assert len(node.desk.book) == 0

    run(scene)


@st.composite
def schedules(draw: st.DrawFn, *, splits: bool) -> list[tuple[float, str, str]]:
    """Faults: when, what, and to whom. One node stays sound."""
    kinds = ["kill", "freeze", "thaw", "refuse"] + (["split", "heal"] if splits else [])
    fault = st.tuples(
        st.sampled_from((0.0, 0.02, 0.2, 0.5, 1.1, 2.5, 4.0)),
        st.sampled_from(kinds),
        st.sampled_from(NAMES[1:]),
    )
    return draw(st.lists(fault, max_size=6))


async def play(net: ClaimNet, faults: list[tuple[float, str, str]], liar: str | None) -> list[Pulling]:
    if liar is not None:
        net.node(liar).lies = True
    pulls = {name: net.pull(name, CONTENT) for name in reversed(NAMES)}
    for after_s, kind, name in faults:
        await asyncio.sleep(after_s)
        node = net.node(name)
        match kind:
            case "kill":
                net.kill(name)
            case "freeze":
                net.freeze(name)
            case "thaw":
                net.thaw(name)
            case "refuse":
                node.refused = True
            case "split":
                net.split |= {node.name}
            case "heal":
                net.split = frozenset()
    alive = [pull for name, pull in pulls.items() if net.node(name).runs and not net.node(name).lies]
    await ended(alive)
    return alive


@settings(max_examples=40)
@given(
    faults=schedules(splits=False),
    liar=st.none() | st.sampled_from(NAMES[1:]),
    registry_s=st.sampled_from((0.02, 0.3)),
)
def test_every_waiter_ends_within_its_bound_and_each_death_costs_one_fetch(
    faults: list[tuple[float, str, str]], liar: str | None, registry_s: float
) -> None:
    async def scene(net: ClaimNet) -> None:
        alive = await play(net, faults, liar)
        assert max(pull.waited_s for pull in alive) <= WAIT_S + SLACK_S
        deaths = {(kind, name) for _, kind, name in faults if kind != "thaw"}
        allowed = 1 + len(deaths) + (liar is not None)
        assert len(net.requests.get(CONTENT, ())) <= allowed

    run(scene, registry_s=registry_s)


@settings(max_examples=40)
@given(
    faults=schedules(splits=True),
    lost=st.lists(st.booleans(), min_size=1, max_size=20),
    registry_s=st.sampled_from((0.02, 0.3)),
)
def test_every_waiter_ends_within_its_bound_whatever_the_network_does(
    faults: list[tuple[float, str, str]], lost: list[bool], registry_s: float
) -> None:
    losses = iter(lost)

    async def scene(net: ClaimNet) -> None:
        alive = await play(net, faults, None)
        assert max(pull.waited_s for pull in alive) <= WAIT_S + SLACK_S
        for name, node in net.nodes.items():
            assert sum(pull.asked_registry for pull in node.pulls) <= 3, f"{name} asks again and again"

    run(scene, registry_s=registry_s, loses=lambda: next(losses, False))


@pytest.mark.parametrize("registry_s", [0.0, 0.05, 2.0])
def test_slow_registries_are_asked_once_all_the_same(registry_s: float) -> None:
    async def scene(net: ClaimNet) -> None:
        pulls = [net.pull(name, CONTENT) for name in NAMES]
        await ended(pulls)
        assert len(net.requests[CONTENT]) == 1

    run(scene, registry_s=registry_s)

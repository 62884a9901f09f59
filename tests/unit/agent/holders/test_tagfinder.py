"""Finding a tag: which peers are asked, and which answers count. Virtual time."""

import pytest

from agent.content.offer import KnownTag
from agent.oci.reference import Named
from tests.unit.agent.holders.cluster import EVERYONE, HEALTHY_S, SETTINGS, Cluster, play
from tests.unit.twins import (
    FakePeers,
    descriptor,
    known_tag,
    loop_clock,
    named,
    node,
)


def known(age_s: float, *, registry: str = "docker.io", content: str = "v1") -> tuple[KnownTag, ...]:
    return (known_tag(named(registry=registry), content, age_s=age_s),)


def test_tag_of_the_nearest_ring_is_taken_though_a_farther_one_is_fresher() -> None:
    async def scenario(cluster: Cluster) -> None:
        answers = await cluster.finder.find_tag(named(), max_age_s=60)
        assert [answer.node for answer in answers] == ["zone-2"]

    play(scenario, FakePeers(tags={"zone-2": known(30), "far-1": known(1)}))


def test_fresher_tag_of_the_same_ring_is_waited_for() -> None:
    async def scenario(cluster: Cluster) -> None:
        answers = await cluster.finder.find_tag(named(), max_age_s=60)
        assert [answer.age_s for answer in answers] == [1, 30]

    tags = {"zone-1": known(30), "zone-2": known(1)}
    play(scenario, FakePeers(tags=tags, answer_s={"zone-1": 0.001, "zone-2": 0.04, "far-1": 0.049}))


def test_tag_too_old_in_the_near_ring_is_looked_for_farther() -> None:
    async def scenario(cluster: Cluster) -> None:
        answers = await cluster.finder.find_tag(named(), max_age_s=60)
        assert [(answer.node, answer.age_s) for answer in answers] == [("region-1", 60)]

    play(scenario, FakePeers(tags={"zone-1": known(61), "region-1": known(60)}))


def test_freshest_answer_to_a_tag_comes_first() -> None:
    async def scenario(cluster: Cluster) -> None:
        answers = await cluster.finder.find_tag(named(), max_age_s=60)
        assert [answer.descriptor for answer in answers] == [descriptor("new"), descriptor("old")]

    play(scenario, FakePeers(tags={"zone-1": known(50, content="old"), "zone-2": known(5, content="new")}))


@pytest.mark.parametrize(
    "other", [named(tag="1.28"), named(repository="library/redis"), named(registry="ghcr.io")]
)
def test_answer_to_another_name_than_the_one_asked_is_ignored(other: Named) -> None:
    async def scenario(cluster: Cluster) -> None:
        assert await cluster.finder.find_tag(named(), max_age_s=60) == ()

    play(scenario, FakePeers(tags={"zone-1": (known_tag(other, 1),)}))


def test_name_without_registry_is_asked_of_everyone_so_that_a_second_registry_shows() -> None:
    async def scenario(cluster: Cluster) -> None:
        answers = await cluster.finder.find_tag(named(registry=None), max_age_s=60)
        assert {answer.name.registry for answer in answers} == {"docker.io", "ghcr.io"}
        assert sorted(cluster.fakes.asked) == EVERYONE

    fakes = FakePeers(tags={"zone-1": known(1), "far-1": known(1, registry="ghcr.io")})
    fakes.answer_s = {"far-1": 0.3}
    play(scenario, fakes)


def test_name_without_registry_is_asked_of_cooling_peers_too() -> None:
    async def scenario(cluster: Cluster) -> None:
        cluster.regard.failed(node("far-1"), loop_clock())
        answers = await cluster.finder.find_tag(named(registry=None), max_age_s=60)
        assert {answer.name.registry for answer in answers} == {"docker.io", "ghcr.io"}

    play(scenario, FakePeers(tags={"zone-1": known(1), "far-1": known(1, registry="ghcr.io")}))


def test_tag_lookup_is_not_held_by_a_silent_peer_when_its_ring_has_the_tag() -> None:
    async def scenario(cluster: Cluster) -> None:
        started_s = loop_clock()
        assert await cluster.finder.find_tag(named(), max_age_s=60)
        assert loop_clock() - started_s <= SETTINGS.patience_s
        started_s = loop_clock()
        assert await cluster.finder.find_tag(named(), max_age_s=60)
        assert loop_clock() - started_s < HEALTHY_S, "it is known by now how long this peer usually takes"

    fakes = FakePeers(tags={"zone-1": known(1)})

    async def whole(cluster: Cluster) -> None:
        assert await cluster.finder.find_tag(named(), max_age_s=60)
        fakes.silent = {"zone-2"}
        await scenario(cluster)

    play(whole, fakes)

"""What every tag finder does, against peers in memory. The suite speaks to `TagFinder` alone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent.oci.reference import Named
from tests.conformance.members import (
    FAR,
    OWN_ZONE,
    A,
    B,
    C,
    Implementations,
    Make,
    Member,
    known_tag,
    tag_name,
)


@pytest.fixture(params=["scatter"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes a cluster with a tag finder of the kind under test."""
    implementations = Implementations()
    kinds: dict[str, Make] = {"scatter": implementations.scatter}
    try:
        yield kinds[request.param]
    finally:
        await implementations.close()


async def test_without_peers_nobody_knows_a_tag(make: Make) -> None:
    assert await (await make({})).finder.find_tag(tag_name(), max_age_s=60) == ()


async def test_when_every_peer_is_silent_the_search_ends_all_the_same_and_never_raises(make: Make) -> None:
    cluster = await make({name: Member(OWN_ZONE, {A}, silent=True) for name in ("one", "two")})
    async with asyncio.timeout(5.0):
        assert await cluster.finder.find_tag(tag_name(), max_age_s=60) == ()


async def test_a_tag_is_found_with_what_its_peer_knows_of_it(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE), "far": Member(FAR, tags=[known_tag(A, age_s=30)])})
    (answer,) = await cluster.finder.find_tag(tag_name(), max_age_s=60)
    assert (answer.node, answer.name, answer.descriptor) == ("far", tag_name(), known_tag(A).descriptor)
    assert answer.age_s == pytest.approx(30, abs=5)
    assert (answer.voucher, answer.imported) == ("seer", False)


@pytest.mark.parametrize("asked", [tag_name("other.test"), tag_name(tag="v2")])
async def test_another_registrys_or_another_tags_answer_is_none(make: Make, asked: Named) -> None:
    cluster = await make({"near": Member(OWN_ZONE, tags=[known_tag(A)])})
    assert await cluster.finder.find_tag(asked, max_age_s=60) == ()


async def test_the_freshest_answer_to_a_tag_is_first(make: Make) -> None:
    ages = {"old": (A, 50.0), "fresh": (B, 1.0), "middle": (C, 20.0)}
    cluster = await make(
        {
            name: Member(OWN_ZONE, tags=[known_tag(digest, age_s=age_s)])
            for name, (digest, age_s) in ages.items()
        }
    )
    answers = await cluster.finder.find_tag(tag_name(), max_age_s=60)
    assert [answer.node for answer in answers] == ["fresh", "middle", "old"]


async def test_answers_older_than_max_age_s_are_left_out(make: Make) -> None:
    cluster = await make(
        {
            "near": Member(OWN_ZONE, tags=[known_tag(A, age_s=100)]),
            "far": Member(FAR, tags=[known_tag(B, age_s=50)]),
        }
    )
    answers = await cluster.finder.find_tag(tag_name(), max_age_s=60)
    assert [answer.node for answer in answers] == ["far"]
    assert await cluster.finder.find_tag(tag_name(), max_age_s=10) == ()


async def test_an_imported_tag_comes_last_and_is_never_too_old(make: Make) -> None:
    cluster = await make(
        {
            "importer": Member(OWN_ZONE, tags=[known_tag(A, age_s=1000, imported=True)]),
            "fresh importer": Member(OWN_ZONE, tags=[known_tag(B, age_s=1, imported=True)]),
            "puller": Member(OWN_ZONE, tags=[known_tag(C, age_s=50)]),
        }
    )
    answers = await cluster.finder.find_tag(tag_name(), max_age_s=60)
    assert [answer.node for answer in answers] == ["puller", "fresh importer", "importer"]


async def test_an_import_nearby_does_not_hide_what_a_far_peer_saw_at_the_registry(make: Make) -> None:
    cluster = await make(
        {
            "near": Member(OWN_ZONE, tags=[known_tag(A, imported=True)]),
            "far": Member(FAR, tags=[known_tag(B, age_s=50)]),
        }
    )
    answers = await cluster.finder.find_tag(tag_name(), max_age_s=60)
    assert [answer.node for answer in answers] == ["far", "near"]


async def test_without_a_registry_the_answers_of_every_registry_in_the_cluster_are_given(make: Make) -> None:
    cluster = await make(
        {
            "near": Member(OWN_ZONE, tags=[known_tag(A, registry="one.test")]),
            "far": Member(FAR, tags=[known_tag(B, registry="two.test")], delay_s=0.02),
        }
    )
    answers = await cluster.finder.find_tag(tag_name(None), max_age_s=60)
    assert {answer.name.registry for answer in answers} == {"one.test", "two.test"}


async def test_a_tag_is_asked_for_anew_each_time(make: Make) -> None:
    cluster = await make({"near": Member(OWN_ZONE, tags=[known_tag(A)])})
    assert len(await cluster.finder.find_tag(tag_name(), max_age_s=60)) == 1
    cluster.members["near"].tags[:] = [known_tag(B)]
    (answer,) = await cluster.finder.find_tag(tag_name(), max_age_s=60)
    assert answer.descriptor.digest == B

"""Six agents in three zones and the scope ``cluster``: one registry fetch, one copy for each further zone."""

from collections.abc import Iterator
from random import Random

import pytest

from .agents import ADMIN, Site, digest_of, wait_for
from .ingesting import Fetcher
from .pulling import Pulls, Registry

CLUSTER = {"cold_start": {"scope": "cluster"}}
NAMES = [f"{zone}{number}" for zone in "abc" for number in (1, 2)]
SIZE_BYTES = 6 << 20
HEADS_BYTES = 64 << 10


@pytest.fixture(scope="module")
def fetchers() -> Iterator[list[Fetcher]]:
    with Site() as site:
        yield _started(site)


def _started(site: Site) -> list[Fetcher]:
    made = [Fetcher(site, name, zone=name[0], **CLUSTER) for name in NAMES]
    for fetcher in made:
        fetcher.node.launch()
    for fetcher in made:
        fetcher.wait()
    wait_for(
        lambda: all(each.node.metric("shorthaul_peers") == 5 for each in made), "everybody knows everybody"
    )
    return made


def crossed_bytes(fetchers: list[Fetcher]) -> float:
    """What went from one zone to another, by the agents' account."""
    every = sum(each.node.metric("shorthaul_zone_bytes_total") for each in fetchers)
    within = sum(
        each.node.metric("shorthaul_zone_bytes_total", source_zone=f"r/{zone}", destination_zone=f"r/{zone}")
        for each in fetchers
        for zone in "abc"
    )
    return every - within


def test_one_node_asks_the_registry_and_one_copy_goes_to_each_further_zone(fetchers: list[Fetcher]) -> None:
    registry = Registry(pause_s=0.02)
    Pulls(registry, Random(1).randbytes(SIZE_BYTES)).all_at_once(fetchers)
    assert len(registry.fetches) == 1
    assert 0 <= crossed_bytes(fetchers) - 2 * SIZE_BYTES < HEADS_BYTES


def test_one_node_asks_the_registry_for_a_manifest(fetchers: list[Fetcher]) -> None:
    registry = Registry(pause_s=0.1)
    manifest = (
        b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
    )
    Pulls(registry, manifest, kind="index").all_at_once(fetchers)
    assert len(registry.fetches) == 1


def test_arbiter_shows_who_fetched_it_and_how_it_travelled(fetchers: list[Fetcher]) -> None:
    registry, content = Registry(pause_s=0.05), Random(3).randbytes(1 << 20)
    Pulls(registry, content).all_at_once(fetchers)
    documents = [each.node.ask("/api/claims", port=ADMIN).json() for each in fetchers]
    (claim,) = (
        claim
        for document in documents
        for claim in document["decided"]
        if claim["digest"] == digest_of(content) and claim["scope"] == "cluster"
    )
    ((name, _),) = registry.fetches
    assert claim["node"] == name
    reached = {way["destination_zone"] for way in claim["ways"]}
    assert reached == {"r/a", "r/b", "r/c"} - {f"r/{name[0]}"}


def test_death_of_who_fetches_costs_one_fetch_more_from_where_it_was(fetchers: list[Fetcher]) -> None:
    """The last test: afterwards one agent less runs."""
    registry = Registry(pause_s=0.02, kills_at=SIZE_BYTES // 2)
    Pulls(registry, Random(2).randbytes(SIZE_BYTES)).all_at_once(fetchers)
    assert len(registry.fetches) == 2
    assert registry.fetches[1][1] > 0

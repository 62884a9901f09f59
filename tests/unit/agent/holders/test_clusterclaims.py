"""One node of the cluster goes to the registry. In each other zone one follows it, and is followed."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from agent.config import ColdStartSettings
from agent.holders.claimant import Answer, Outcome
from agent.holders.claims import ClaimKey, Held
from agent.holders.clusterclaims import TWO_GATEWAYS_BYTES, ClusterClaims
from agent.oci.digest import Digest
from agent.oci.reference import Addressed
from tests.unit.twins import loop_clock, node, run_in_virtual_time, sha256
from topology.placement import NodeName

KEY = ClaimKey(sha256("layer"))
ACROSS = replace(KEY, cluster=True)
GRANTED, ALONE, TIMEOUT = (Answer(outcome=one) for one in (Outcome.GRANTED, Outcome.ALONE, Outcome.TIMEOUT))
REFUSED = Answer(outcome=Outcome.REFUSED)
NEIGHBOUR = Answer(outcome=Outcome.FOLLOWED, held=Held((node("a2"),), 5, False))
GATEWAY = Answer(outcome=Outcome.FOLLOWED, held=Held((node("b1"), node("c1")), 5, False))


@dataclass
class ClaimsTwin:
    """Answers as told, after a while. Notes what was asked, used and given back."""

    near: Answer
    far: Answer
    takes_s: float = 0.0
    size_bytes: int | None = None
    settings: ColdStartSettings = field(default_factory=ColdStartSettings)
    asked: list[tuple[bool, int, float, NodeName | None]] = field(default_factory=list)
    used: list[ClaimKey] = field(default_factory=list)
    returned: list[ClaimKey] = field(default_factory=list)

    def size_of(self, _: Digest) -> int | None:
        return self.size_bytes

    def key_of(self, target: Addressed) -> ClaimKey:
        return ClaimKey(target.digest)

    def has(self, key: ClaimKey) -> bool:
        return key in self.used

    async def ask(
        self, key: ClaimKey, *, beyond_bytes: int, wait_s: float, despite: NodeName | None = None
    ) -> Answer:
        self.asked.append((key.cluster, beyond_bytes, wait_s, despite))
        await asyncio.sleep(self.takes_s)
        return self.far if key.cluster else self.near

    def use(self, key: ClaimKey) -> None:
        self.used.append(key)

    def give_back(self, key: ClaimKey) -> None:
        self.returned.append(key)


def ask(twin: ClaimsTwin, *, despite: str = "x") -> Answer:
    async def asked() -> Answer:
        return await ClusterClaims(twin, size_of=twin.size_of, clock=loop_clock).ask(
            KEY, beyond_bytes=7, wait_s=20.0, despite=node(despite)
        )

    return run_in_virtual_time(asked())


@pytest.mark.parametrize("near", [NEIGHBOUR, TIMEOUT, REFUSED])
def test_node_without_its_zones_claim_asks_nobody_else(near: Answer) -> None:
    twin = ClaimsTwin(near, GRANTED)
    assert ask(twin) == near
    assert [cluster for cluster, *_ in twin.asked] == [False]


def test_node_with_both_claims_goes_to_the_registry_and_keeps_both() -> None:
    twin = ClaimsTwin(GRANTED, GRANTED)
    assert ask(twin) == GRANTED
    claims = ClusterClaims(twin, size_of=twin.size_of)
    claims.use(KEY)
    assert twin.used == [KEY, ACROSS]
    assert claims.has(KEY)


def test_gateway_follows_another_zone_and_its_own_zone_follows_it() -> None:
    twin = ClaimsTwin(GRANTED, GATEWAY)
    assert ask(twin) == GATEWAY
    assert twin.used == [KEY]  # its keeper tells the zone's arbiter what has come
    assert not ClusterClaims(twin, size_of=twin.size_of).has(
        KEY
    )  # so its next question is not sent to the registry at once


def test_gateway_that_gave_nothing_is_left_out_if_there_is_another_source() -> None:
    assert ask(ClaimsTwin(GRANTED, GATEWAY), despite="b1").held == Held((node("c1"),), 5, False)
    only = replace(GATEWAY, held=Held((node("b1"),), 5, False))
    assert ask(ClaimsTwin(GRANTED, only), despite="b1") == only


@pytest.mark.parametrize("far", [TIMEOUT, REFUSED, ALONE])
def test_zones_claim_leads_to_the_registry_if_the_cluster_says_nothing(far: Answer) -> None:
    assert ask(ClaimsTwin(GRANTED, far)) == GRANTED


@pytest.mark.parametrize("far", [GRANTED, GATEWAY, TIMEOUT, ALONE])
def test_node_that_is_alone_in_its_zone_asks_the_cluster_all_the_same(far: Answer) -> None:
    assert ask(ClaimsTwin(ALONE, far)) == far


def test_both_steps_together_wait_no_longer_than_one() -> None:
    twin = ClaimsTwin(GRANTED, GRANTED, takes_s=15.0)
    ask(twin)
    assert twin.asked == [(False, 7, 20.0, node("x")), (True, 7, 5.0, node("x"))]


def test_client_that_leaves_between_the_steps_leaves_no_claim_behind() -> None:
    twin = ClaimsTwin(GRANTED, GRANTED, takes_s=5.0)

    async def left() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.0):
                await ClusterClaims(twin, size_of=twin.size_of, clock=loop_clock).ask(
                    KEY, beyond_bytes=0, wait_s=20.0
                )

    run_in_virtual_time(left())
    assert twin.returned == [KEY]


def test_claim_that_is_not_used_is_given_back_at_both_places() -> None:
    twin = ClaimsTwin(GRANTED, GRANTED)
    ClusterClaims(twin, size_of=twin.size_of).give_back(KEY)
    assert twin.returned == [KEY, ACROSS]


def test_large_content_has_a_second_gateway_which_the_cluster_names() -> None:
    twin = ClaimsTwin(NEIGHBOUR, GATEWAY, size_bytes=TWO_GATEWAYS_BYTES + 1)
    assert ask(twin) == GATEWAY
    assert twin.used == []  # the zone's claim is another node's


@pytest.mark.parametrize("far", [GRANTED, TIMEOUT, ALONE, REFUSED])
def test_second_gateway_follows_its_zone_if_the_cluster_says_nothing_else(far: Answer) -> None:
    twin = ClaimsTwin(NEIGHBOUR, far, size_bytes=TWO_GATEWAYS_BYTES + 1)
    assert ask(twin) == NEIGHBOUR
    assert twin.returned == ([ACROSS] if far is GRANTED else [])


@pytest.mark.parametrize("size_bytes", [None, TWO_GATEWAYS_BYTES])
def test_content_that_is_not_large_has_one_gateway(size_bytes: int | None) -> None:
    twin = ClaimsTwin(NEIGHBOUR, GATEWAY, size_bytes=size_bytes)
    assert ask(twin) == NEIGHBOUR

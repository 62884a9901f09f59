"""Which nodes, which blobs, which image, in which order."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cluster.plan import (
    Bounds,
    Candidate,
    choose,
    choose_image,
    known_blobs,
    latency_budget,
    rest_of_pulls,
)
from benchmarks.cluster.wire import Blob, Image, Look


def nodes(*zones: str) -> list[Candidate]:
    return [Candidate(name=f"{zone}{at}", region="r", zone=zone) for at, zone in enumerate(zones)]


def blob(name: str, size_bytes: int = 100) -> Blob:
    return Blob(registry="r", repository="p", digest=name, size_bytes=size_bytes)


def image(name: str, size_bytes: int) -> Image:
    return Image(name=f"r/{name}@sha256:{name}", digest=f"sha256:{name}", size_bytes=size_bytes)


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 12), st.text(max_size=4))
def test_nodes_are_spread_over_the_zones_as_evenly_as_there_are(
    zones: list[str], most: int, run: str
) -> None:
    choice = choose(nodes(*zones), most, run)
    assert len(choice.nodes) == min(most, len(zones))
    assert len({each.name for each in choice.nodes}) == len(choice.nodes)
    taken = {zone: sum(each.zone == zone for each in choice.nodes) for zone in set(zones)}
    for zone, count in taken.items():
        assert count >= min(zones.count(zone), max(taken.values()) - 1)


def test_another_run_takes_other_nodes() -> None:
    every = nodes(*"a" * 40)
    assert {choose(every, 3, run).nodes for run in ("one", "two", "three")} != {choose(every, 3, "one").nodes}
    assert choose(every, 3, "one") == choose(every[::-1], 3, "one")


def test_what_is_left_out_is_said_and_a_long_list_is_not_spelt_out() -> None:
    unfit = [Candidate(name=f"n{at}", zone="a", unfit="it is not ready") for at in range(8)]
    notes = choose([*unfit, *nodes("b", "c", "d")], 2, "run").notes
    assert notes[0] == "node n0 is left out: it is not ready"
    assert "and 3 nodes more are left out for such reasons" in notes
    assert "1 of 3 zones are left out: name more --nodes" in notes


@given(st.integers(0, 40), st.integers(1, 10**10), st.integers(0, 10**11))
def test_pulls_never_need_more_bytes_than_are_left(count: int, size_bytes: int, left_bytes: int) -> None:
    names = [f"n{at}" for at in range(count)]
    waves = rest_of_pulls(names, size_bytes, left_bytes)
    pulled = [name for _, wave in waves.waves for name in wave]
    assert len(pulled) * size_bytes <= left_bytes
    assert pulled == names[: len(pulled)]
    assert len(pulled) == min(count, left_bytes // size_bytes)


def test_half_pull_at_once_and_then_a_fifth_at_a_time() -> None:
    waves = rest_of_pulls([f"n{at}" for at in range(10)], 1, 100)
    assert [(name, len(each)) for name, each in waves.waves] == [
        ("at once", 5),
        *[("rolling", 2)] * 2,
        ("rolling", 1),
    ]


def test_image_is_the_largest_that_some_have_and_the_bytes_allow_on_two_nodes() -> None:
    looks = {
        "n1": Look(containerd="", images=(image("big", 900), image("mid", 400), image("all", 500))),
        "n2": Look(containerd="", images=(image("all", 500),)),
        "n3": Look(containerd="", images=(image("all", 500),)),
    }
    chosen = choose_image(looks, "", 1000)
    assert (chosen.image, chosen.nodes, chosen.cold) == ("r/mid@sha256:mid", ("n2", "n3"), False)
    assert choose_image(looks, "", 2000).image == "r/big@sha256:big"
    assert choose_image(looks, "", 2000, but=["r/big:v1"]).image == "r/mid@sha256:mid"
    assert "--image" in choose_image({"n1": looks["n2"], "n2": looks["n2"]}, "", 1000).why_not


def test_image_that_is_named_is_pulled_only_where_it_is_not() -> None:
    looks = {"n1": Look(containerd="", names=("r/x:1",)), "n2": Look(containerd="")}
    assert choose_image(looks, "r/x:1", 1).nodes == ("n2",)
    assert choose_image(looks, "r/y:1", 1).cold
    assert "already" in choose_image({"n1": looks["n1"]}, "r/x:1", 1).why_not


def test_blobs_that_only_some_have_come_first_and_small_and_large_in_turn() -> None:
    common, rare, large = blob("common"), blob("rare"), blob("large", 10_000_000)
    looks = {
        "n1": Look(containerd="", blobs=(common, rare, large)),
        "n2": Look(containerd="", blobs=(common, blob("other"))),
    }
    names = [each.digest for each in known_blobs(looks)]
    assert names[0] == "rare"
    assert names[1] == "other"
    assert set(names) == {"common", "rare", "large", "other"}
    assert len(known_blobs(looks, 2)) == 2


@given(st.integers(10**7, 10**13), st.integers(1, 1000), st.floats(30, 10_000))
def test_latencies_take_a_quarter_of_the_bytes_and_a_sixth_of_the_time_at_most(
    most_bytes: int, count: int, seconds: float
) -> None:
    budget = latency_budget(Bounds(nodes=count, bytes=most_bytes, seconds=seconds), count)
    assert budget.bytes_max * count <= most_bytes / 4
    assert budget.seconds <= min(60.0, seconds / 6)

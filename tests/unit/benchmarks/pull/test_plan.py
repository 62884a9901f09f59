"""What is pulled, in which order, and what is left out."""

import pytest

from benchmarks.pull.plan import FIELD, Phase, Size, Way, at_once, batches, that_fit, turns


def test_sizes_are_named_as_the_field_names_its_images() -> None:
    assert [str(size) for size in FIELD] == [
        "10 MB in 1 layer",
        "10 MB in 4 layers",
        "100 MB in 1 layer",
        "100 MB in 4 layers",
        "1 GB in 1 layer",
        "1 GB in 4 layers",
    ]
    assert Size.parse("1GB-4") == FIELD[-1]
    assert Size.parse("10MB-4").layer_bytes == [2_500_000] * 4


@pytest.mark.parametrize("text", ["", "10", "0MB-1", "10MB", "10MB-0", "10TB-1", "10MB-1x", "-1MB-1"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=text or None):
        Size.parse(text)


def test_each_round_has_each_way_once_and_begins_with_another() -> None:
    size = Size.parse("10MB-1")
    found = list(turns([size], [*Way], {size: 3}))
    rounds = [[turn.way for turn in found if turn.number == number] for number in range(3)]
    assert all(sorted(ways, key=str) == sorted(Way, key=str) for ways in rounds)
    assert len({ways[0] for ways in rounds}) == 3


def test_size_is_pulled_as_often_as_wanted_and_no_turn_is_empty() -> None:
    often, once = Size.parse("10MB-1"), Size.parse("100MB-1")
    found = list(turns([often, once], [Way.NGINX, Way.SHORTHAUL], {often: 3, once: 1}))
    assert [turn.sizes for turn in found] == [(often, once)] * 2 + [(often,)] * 4


def test_large_images_are_never_on_the_disk_together() -> None:
    assert [len(batch) for batch in batches(FIELD)] == [4, 1, 1]


def test_rolling_takes_a_fifth_of_the_nodes_rounded_up() -> None:
    assert [at_once(Phase.ROLLING, nodes) for nodes in (1, 5, 6, 10, 50)] == [1, 1, 2, 2, 10]
    assert at_once(Phase.CREATE, 6) == 6


def test_size_without_room_on_the_disk_is_left_out_and_said() -> None:
    fitting, problems = that_fit(FIELD, 6, 15_000_000_000)
    assert fitting == list(FIELD[:4])
    assert len(problems) == 2
    assert all("GB of disk" in problem and "15.0 GB are free" in problem for problem in problems)

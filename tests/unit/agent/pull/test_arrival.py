"""The headers with which agents share content that is still arriving."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pull.arrival import (
    DEPTH_HEADER,
    IN_FLIGHT_HEADER,
    ORIGIN_HEADER,
    SHARED_HEADER,
    SHARED_MAX,
    Arrival,
    read_arrival,
    read_shared,
    shared_headers,
)
from tests.unit.twins import node

NAMES = st.text("abcXYZ019-._é", min_size=1, max_size=40).map(node)
ARRIVALS = st.builds(
    Arrival,
    available_bytes=st.integers(0, 1 << 50),
    origin=st.none() | NAMES,
    depth=st.integers(0, 99),
)


def received(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@given(arrival=ARRIVALS)
def test_what_a_node_says_of_content_in_flight_is_read_as_it_was_said(arrival: Arrival) -> None:
    assert read_arrival(received(arrival.headers)) == arrival
    assert all(value.isascii() and value.isprintable() for value in arrival.headers.values())


@given(nodes=st.lists(NAMES, unique=True, max_size=20))
def test_the_first_names_of_those_who_are_given_it_are_read_in_their_order(nodes: list[str]) -> None:
    assert read_shared(received(shared_headers(map(node, nodes)))) == tuple(nodes[:SHARED_MAX])


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "9" * 20, "٣"])
def test_an_answer_without_a_number_of_bytes_is_not_in_flight(text: str) -> None:
    assert read_arrival({IN_FLIGHT_HEADER.lower(): text}) is None


def test_an_answer_without_the_header_is_complete() -> None:
    assert read_arrival({"content-length": "3"}) is None


@pytest.mark.parametrize("text", ["no name", 'a"b', "a\\b", "x" * 254, "", "%0d%0aSet-Cookie: a"])
def test_an_origin_that_is_no_name_is_ignored(text: str) -> None:
    headers = {IN_FLIGHT_HEADER.lower(): "7", ORIGIN_HEADER.lower(): text, DEPTH_HEADER.lower(): "deep"}
    assert read_arrival(headers) == Arrival(available_bytes=7)


def test_a_depth_beyond_reason_is_cut() -> None:
    arrival = read_arrival({IN_FLIGHT_HEADER.lower(): "7", DEPTH_HEADER.lower(): "1000000"})
    assert arrival is not None
    assert arrival.depth == 99


def test_a_thousand_names_are_read_no_further_than_the_first_few_and_each_once() -> None:
    text = ",".join(["a", "a", "b", "no name"] + [f"n{number}" for number in range(1000)])
    assert read_shared({SHARED_HEADER.lower(): text}) == tuple(map(node, ("a", "b", "n0", "n1", "n2", "n3")))


@pytest.mark.parametrize(
    ("available_bytes", "size_bytes", "percent"),
    [(0, 100, 0), (61, 100, 61), (999, 1000, 99), (100, 100, 100), (200, 100, 100), (0, 0, 100)],
)
def test_percent_is_never_more_than_there_is(available_bytes: int, size_bytes: int, percent: int) -> None:
    assert Arrival(available_bytes=available_bytes).percent_of(size_bytes) == percent

"""Which requests an agent that stops still answers."""

import pytest

from agent.listen.caller import Caller
from agent.listen.draining import Draining
from agent.observe.requests import RequestPath


def caller(listener: RequestPath = RequestPath.HOSTPORT) -> Caller:
    return Caller(listener=listener, address="127.0.0.1", cookie=1, connected_s=0.0)


def draining() -> Draining:
    stopping = Draining()
    stopping.begin()
    return stopping


def test_an_agent_that_does_not_stop_refuses_nothing() -> None:
    assert Draining().refusal(caller(), None, 0.0) is None


@pytest.mark.parametrize("range_header", [None, "bytes=0-", "bytes=0-99", " bytes = 0-"])
def test_a_new_pull_of_this_node_s_containerd_goes_to_its_next_host(range_header: str | None) -> None:
    refusal = draining().refusal(caller(), range_header, 0.0)
    assert refusal is not None
    assert (refusal.status, bool(refusal.hint)) == (503, True)


@pytest.mark.parametrize("range_header", ["bytes=1-", "bytes=1048576-2097151", "bytes=-5"])
def test_a_body_that_is_under_way_goes_on(range_header: str) -> None:
    assert draining().refusal(caller(), range_header, 0.0) is None


@pytest.mark.parametrize("listener", [RequestPath.PEER, RequestPath.NODEPORT])
def test_other_nodes_are_served_until_the_listener_closes(listener: RequestPath) -> None:
    assert draining().refusal(caller(listener), None, 0.0) is None


def test_the_next_range_of_a_layer_is_waited_for_a_moment() -> None:
    stopping = draining()
    assert not stopping.is_between(0.0)
    stopping.refusal(caller(), "bytes=5-", 1.0)
    assert stopping.is_between(1.4)
    assert not stopping.is_between(1.6)

"""How agents know each other: what one puts into a request, another finds there."""

import pytest
from multidict import CIMultiDict

from agent.members.introduction import Introduction
from agent.peering.credentials import Credentials
from tests.unit.twins import located, node, peer

ONE, OTHER = Credentials(own=node("one")), Credentials(own=node("other"))


def test_agent_is_known_by_what_another_one_sent() -> None:
    headers = ONE.headers(peer("other", located()), "GET", "/v2/", {"Range": "bytes=1-"})
    assert headers["Range"] == "bytes=1-"
    assert headers["Accept-Encoding"] == "identity"
    assert OTHER.is_agent("GET", "/v2/", CIMultiDict({k.lower(): v for k, v in headers.items()}))


@pytest.mark.parametrize("user_agent", [None, "", "containerd/2.1.9", "curl/8", "shorthaul-canary"])
def test_nobody_else_is_an_agent(user_agent: str | None) -> None:
    headers = {} if user_agent is None else {"User-Agent": user_agent}
    assert not ONE.is_agent("GET", "/v2/", headers)


def test_headers_of_one_request_win() -> None:
    headers = ONE.headers(peer("other", located()), "GET", "/", {"Accept-Encoding": "gzip"})
    assert headers["Accept-Encoding"] == "gzip"


def test_agent_introduces_itself_and_every_process_is_another_instance() -> None:
    for listener, placement in (("peer", located()), ("admin", None)):
        headers = CIMultiDict({k.lower(): v for k, v in ONE.introduction(listener).items()})
        who = Introduction(name="one", instance=ONE.instance, listener=listener, placement=placement)
        assert OTHER.introduced(headers) == who
    assert Credentials(own=node("one")).instance != ONE.instance


def test_agent_says_where_it_is_now() -> None:
    now = [located("eu", "eu-a")]
    moving = Credentials(own=node("one"), placement=lambda: now[0])
    now[0] = located("eu", "eu-a", ("rack", "7"))
    told = OTHER.introduced(moving.introduction())
    assert told is not None
    assert told.placement == now[0]


@pytest.mark.parametrize(
    "placement", [None, "", "[]", "{", '["r","z",[["rack","1"],["rack","2"]]]', "[" * 3000]
)
def test_agent_of_before_or_with_a_placement_that_is_none_is_introduced_without_one(
    placement: str | None,
) -> None:
    headers = {"Shorthaul-Node": "one", "Shorthaul-Instance": "i"}
    if placement is not None:
        headers["Shorthaul-Placement"] = placement
    assert OTHER.introduced(headers) == Introduction(name="one", instance="i", placement=None)


def test_placement_that_is_too_long_for_a_head_is_not_told() -> None:
    long = located("eu", "eu-a", *((f"level-{number}", "x" * 250) for number in range(30)))
    told = OTHER.introduced(Credentials(own=node("one"), placement=lambda: long).introduction())
    assert told is not None
    assert told.placement is None


@pytest.mark.parametrize("headers", [{}, {"Shorthaul-Node": "one"}, {"Shorthaul-Instance": "x"}])
def test_peer_that_does_not_introduce_itself_says_nothing(headers: dict[str, str]) -> None:
    assert ONE.introduced(headers) is None


def test_name_that_a_peer_gives_is_printable_and_short() -> None:
    odd = "a\x1b[2J" + "x" * 5000
    headers = {"Shorthaul-Node": odd, "Shorthaul-Instance": "i", "Shorthaul-Listener": odd}
    who = ONE.introduced(headers)
    assert who is not None
    for text in (who.name, who.listener):
        assert text.isprintable()
        assert len(text) < 300

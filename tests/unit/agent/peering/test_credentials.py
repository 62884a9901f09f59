"""How agents know each other: what one puts into a request, another finds there."""

from functools import partial

import pytest
from multidict import CIMultiDict

from agent.keyring import parse_keys
from agent.members.introduction import Introduction
from agent.peering.credentials import Credentials
from agent.peering.signature import parse_signature
from tests.unit.twins import located, node, peer

KEY, NEXT = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
ONE, OTHER = Credentials(own=node("one")), Credentials(own=node("other"))


def test_headers_go_to_the_peer_as_they_are_needed() -> None:
    headers = ONE.headers(peer("other", located()), "GET", "/v2/", {"Range": "bytes=1-"})
    assert headers == {"User-Agent": "shorthaul", "Accept-Encoding": "identity", "Range": "bytes=1-"}


def signing(name: str, key: str = KEY, *, is_open: bool = False) -> Credentials:
    return Credentials(own=node(name), ring=partial(parse_keys, key), is_open=is_open)


def test_agent_with_a_key_signs_each_request_anew() -> None:
    one = signing("one")
    made = [one.headers(peer("other", located()), "GET", "/v2/", {"Range": "bytes=1-"}) for _ in range(2)]
    first, second = (parse_signature(headers["Authorization"]) for headers in made)
    assert first is not None
    assert second is not None
    assert first.nonce != second.nonce
    assert (first.sender, first.receiver) == ("one", "other")
    assert first.fits(parse_keys(KEY).signs, "GET", "/v2/", "bytes=1-")


def test_answer_proves_to_who_asked_that_it_comes_from_the_cluster() -> None:
    one, other = signing("one"), signing("other")
    asked = one.headers(peer("other", located()), "GET", "/shorthaul/v1/holders")
    answer = other.answer(CIMultiDict(asked))
    assert one.is_proved(asked, CIMultiDict(answer))
    assert KEY not in str(answer)


@pytest.mark.parametrize(
    "header", ["Shorthaul-Node", "Shorthaul-Instance", "Shorthaul-Listener", "Shorthaul-Proof"]
)
@pytest.mark.parametrize("becomes", [None, "x", "ü"])
def test_answer_with_anything_else_in_it_is_not_proved(header: str, becomes: str | None) -> None:
    one, other = signing("one"), signing("other")
    asked = one.headers(peer("other", located()), "GET", "/shorthaul/v1/holders")
    answer = other.answer(asked)
    del answer[header]
    if becomes is not None:
        answer[header] = becomes
    assert not one.is_proved(asked, answer)
    assert signing("one", is_open=True).is_proved(asked, answer)


def test_answer_to_another_request_is_no_proof() -> None:
    one, other = signing("one"), signing("other")
    first, second = (one.headers(peer("other", located()), "GET", "/") for _ in range(2))
    assert not one.is_proved(second, other.answer(first))


def test_answer_of_another_cluster_or_of_an_open_agent_is_no_proof() -> None:
    one = signing("one")
    asked = one.headers(peer("other", located()), "GET", "/")
    assert not one.is_proved(
        asked, signing("other", "another cluster's: 0123456789abcdef".replace(" ", "")).answer(asked)
    )
    assert not one.is_proved(asked, OTHER.answer(asked))


def test_answer_proves_with_the_key_that_signed_while_two_are_valid() -> None:
    one, other = signing("one", f"{NEXT}\n{KEY}"), signing("other", f"{KEY}\n{NEXT}")
    asked = one.headers(peer("other", located()), "GET", "/")
    assert one.is_proved(asked, other.answer(asked))


def test_request_is_accepted_as_long_as_its_key_is() -> None:
    asked = signing("one").headers(peer("other", located()), "GET", "/shorthaul/v1/holders")
    assert signing("other").still_accepts(asked)
    assert signing("other", f"{NEXT}\n{KEY}").still_accepts(asked)
    assert not signing("other", NEXT).still_accepts(asked)
    assert not signing("other").still_accepts({})
    assert signing("other", NEXT, is_open=True).still_accepts({})


def test_text_of_credentials_has_no_key() -> None:
    assert parse_keys(KEY).signs.peers.hex() not in repr(signing("one"))
    assert KEY not in repr(signing("one").ring())


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

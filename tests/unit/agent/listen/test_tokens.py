"""Which heads have a token that counts."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from agent.listen.refusals import Refusal
from agent.listen.tokens import token_refusal

TOKENS = ("first-token", "second-token")


def refusal(*values: str, tokens: tuple[str, ...] = TOKENS) -> Refusal | None:
    headers = CIMultiDictProxy(CIMultiDict([("Accept", "*/*"), *(("authorization", one) for one in values)]))
    return token_refusal(headers, tokens)


@pytest.mark.parametrize("value", ["Bearer first-token", "Bearer second-token", "bearer first-token"])
def test_the_tokens_of_all_valid_keys_count(value: str) -> None:
    assert refusal(value) is None


def test_without_the_header_there_is_none() -> None:
    assert refusal() is Refusal.TOKEN_MISSING


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer first-tokem",
        "Bearer first-token,second-token",
        "Bearer first-token second-token",
        "Basic first-token",
        "first-token",
        "Bearer \udcff",
        "Bearer é",
        "Bearer " + "x" * 10_000,
        "Bearer FIRST-TOKEN",
    ],
)
def test_anything_else_is_wrong(value: str) -> None:
    assert refusal(value) is Refusal.TOKEN_WRONG


def test_two_headers_are_wrong_also_if_both_have_the_token() -> None:
    assert refusal("Bearer first-token", "Bearer first-token") is Refusal.TOKEN_WRONG


def test_without_valid_tokens_none_is_right() -> None:
    assert refusal("Bearer first-token", tokens=()) is Refusal.TOKEN_WRONG
    assert refusal("Bearer ", tokens=("",)) is Refusal.TOKEN_WRONG

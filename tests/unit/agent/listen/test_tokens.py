"""Which heads have a token that counts."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from agent.listen.tokens import token_refusal
from agent.observe.refusals import Reason

TOKENS = ("first-token", "second-token")


def refusal(*values: str, tokens: tuple[str, ...] = TOKENS) -> Reason | None:
    headers = CIMultiDictProxy(CIMultiDict([("Accept", "*/*"), *(("authorization", one) for one in values)]))
    return token_refusal(headers, tokens)


@pytest.mark.parametrize("value", ["Bearer first-token", "Bearer second-token", "bearer first-token"])
def test_the_tokens_of_all_valid_keys_count(value: str) -> None:
    assert refusal(value) is None


def test_without_the_header_there_is_none() -> None:
    assert refusal() is Reason.NO_PROOF


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic first-token", "first-token", "Bearer " + "x" * 10_000]
)
def test_what_is_no_token_is_malformed(value: str) -> None:
    assert refusal(value) is Reason.MALFORMED


@pytest.mark.parametrize(
    "value",
    [
        "Bearer first-tokem",
        "Bearer first-token,second-token",
        "Bearer first-token second-token",
        "Bearer FIRST-TOKEN",
        "Bearer \udcff",
        "Bearer é",
    ],
)
def test_another_token_is_wrong(value: str) -> None:
    assert refusal(value) is Reason.WRONG_PROOF


def test_two_headers_are_malformed_also_if_both_have_the_token() -> None:
    assert refusal("Bearer first-token", "Bearer first-token") is Reason.MALFORMED


def test_without_valid_tokens_none_is_right() -> None:
    assert refusal("Bearer first-token", tokens=()) is Reason.WRONG_PROOF
    assert refusal("Bearer ", tokens=("",)) is Reason.MALFORMED

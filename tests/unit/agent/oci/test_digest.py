"""Digests: which texts are ones, and computing them."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.digest import HEX_LENGTH, Digest, digest_of, parse_digest
from agent.oci.errors import DigestInvalid

HEX = st.text("0123456789abcdef", min_size=1)


@given(algorithm=st.sampled_from(sorted(HEX_LENGTH)), data=st.data())
def test_registered_algorithm_with_its_number_of_digits_is_a_digest(
    algorithm: str, data: st.DataObject
) -> None:
    length = HEX_LENGTH[algorithm]
    text = f"{algorithm}:{data.draw(st.text('0123456789abcdef', min_size=length, max_size=length))}"
    assert parse_digest(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 63 + "\n",
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "a" * 128,
        "sha512:" + "a" * 64,
        "SHA256:" + "a" * 64,
        "md5:" + "a" * 32,
        "sha256+b64:" + "a" * 64,
        "sha256:../" + "a" * 61,
        "sha256:" + "١" * 64,
        " sha256:" + "a" * 64,
    ],
)
def test_anything_else_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(DigestInvalid) as caught:
        parse_digest(text)
    assert caught.value.status == 400
    assert caught.value.hint


@given(text=st.text() | HEX.map("sha256:{}".format))
def test_no_text_makes_parsing_fail_in_another_way(text: str) -> None:
    with contextlib.suppress(DigestInvalid):
        assert len(parse_digest(text)) == 71


def test_message_does_not_repeat_a_text_of_any_length() -> None:
    with pytest.raises(DigestInvalid) as caught:
        parse_digest("sha256:" + "x" * 100_000)
    assert len(caught.value.message) < 400


@given(content=st.binary())
def test_digest_of_content_is_sha256_without_a_model(content: bytes) -> None:
    assert digest_of(content) == f"sha256:{hashlib.sha256(content).hexdigest()}"


@given(content=st.binary())
def test_digest_of_content_follows_its_models_algorithm(content: bytes) -> None:
    model = Digest("sha512:" + "0" * 128)
    assert digest_of(content, like=model) == f"sha512:{hashlib.sha512(content).hexdigest()}"
    assert parse_digest(digest_of(content, like=model))

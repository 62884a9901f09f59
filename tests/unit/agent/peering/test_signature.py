"""Signatures: what they cover, and what is none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.keyring import parse_keys
from agent.peering.signature import parse_signature, sign
from tests.unit.twins import node

KEY = parse_keys("0123456789abcdef0123456789abcdef").signs
OTHER = parse_keys("fedcba9876543210fedcba9876543210").signs
SIGNED: dict[str, Any] = {
    "method": "GET",
    "target": "/v2/library/nginx/blobs/sha256:1?ns=docker.io",
    "byte_range": "bytes=10-19",
    "sender": node("node-a"),
    "receiver": node("node-b"),
    "time_ms": 1_700_000_000_000,
    "nonce": "0123456789abcdef",
}
REQUEST = (SIGNED["method"], SIGNED["target"], SIGNED["byte_range"])


def test_signature_fits_the_request_and_the_key_that_it_was_made_for() -> None:
    signature = parse_signature(sign(KEY, **SIGNED))
    assert signature is not None
    assert signature.fits(KEY, *REQUEST)
    assert not signature.fits(OTHER, *REQUEST)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "HEAD"),
        ("target", "/v2/library/nginx/blobs/sha256:2?ns=docker.io"),
        ("target", "/v2/library/nginx/blobs/sha256:1?ns=quay.io"),
        ("target", "/v2/library/nginx/blobs/sha256:1"),
        ("target", "/v2/library/nginx/blobs/sha256:1?ns=docker%2eio"),
        ("byte_range", ""),
        ("byte_range", "bytes=10-"),
        ("sender", "node-c"),
        ("receiver", "node-c"),
        ("time_ms", 1_700_000_000_001),
        ("nonce", "0123456789abcdee"),
    ],
)
def test_every_part_of_the_request_is_signed(field: str, value: object) -> None:
    other = parse_signature(sign(KEY, **{**SIGNED, field: value}))
    signature = parse_signature(sign(KEY, **SIGNED))
    assert other is not None
    assert signature is not None
    assert other.mac != signature.mac
    if field in ("method", "target", "byte_range"):
        request = {"method": REQUEST[0], "target": REQUEST[1], "byte_range": REQUEST[2], field: value}
        assert not signature.fits(KEY, *map(str, request.values()))


@given(
    st.text(alphabet=st.characters(categories=["L", "N"], include_characters="-._"), min_size=1, max_size=80)
)
def test_node_may_have_any_name(name: str) -> None:
    header = sign(KEY, **{**SIGNED, "sender": node(name)})
    assert header.isascii()
    signature = parse_signature(header)
    assert signature is not None
    assert signature.sender == name
    assert signature.fits(KEY, *REQUEST)


@given(st.text() | st.from_regex("Shorthaul-HMAC-SHA256 .*"))
def test_other_headers_are_no_signature(header: str) -> None:
    assert parse_signature(header) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("from=", "from= "),
        lambda text: text + " ",
        lambda text: text + ", more=1",
        lambda text: text.upper(),
        lambda text: text.replace(", nonce", ",nonce"),
        lambda text: text[:-1],
        lambda text: text.replace("time=1", "time=-1"),
        lambda text: text.replace("node-a", "node\na"),
        lambda text: text.replace("node-a", "node%0Aa"),
        lambda text: text.replace("node-a", "x" * 900),
        lambda text: f"{text}, {text}",
    ],
)
def test_signature_has_one_form(change: Any) -> None:
    text = sign(KEY, **SIGNED)
    assert parse_signature(text) is not None
    assert parse_signature(change(text)) is None


def test_bytes_that_are_no_text_are_signed_as_they_came() -> None:
    target = b"/v2/\xff".decode(errors="surrogateescape")
    signature = parse_signature(sign(KEY, **{**SIGNED, "target": target}))
    assert signature is not None
    assert signature.fits(KEY, "GET", target, "bytes=10-19")

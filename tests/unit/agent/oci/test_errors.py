"""Errors that a registry client sees: body by the spec, headers, and which statuses never occur."""

import json

import pytest

from agent.oci.errors import (
    BlobUnknown,
    DigestInvalid,
    Internal,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    OciError,
    RangeInvalid,
    RequestInvalid,
    Unavailable,
    Unsupported,
)

# Every code of the distribution spec 1.1, and the ones that it leaves to the server.
SPEC_CODES = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
OWN_CODES = {"UNKNOWN", "UNAVAILABLE", "RANGE_INVALID"}


def test_body_is_the_specs_json_with_the_hint_in_the_detail() -> None:
    error = BlobUnknown("gone", hint="wait", detail={"digest": "sha256:0"})
    assert json.loads(error.body()) == {
        "errors": [
            {"code": "BLOB_UNKNOWN", "message": "gone", "detail": {"digest": "sha256:0", "hint": "wait"}}
        ]
    }


def test_body_without_hint_has_no_detail() -> None:
    assert json.loads(NameUnknown("no").body()) == {"errors": [{"code": "NAME_UNKNOWN", "message": "no"}]}


def test_body_takes_any_text() -> None:
    text = 'quote " newline \n lone surrogate \udc80 zürich'
    assert json.loads(NameInvalid(text).body())["errors"][0]["message"] == text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NameInvalid("x"), 400),
        (DigestInvalid("x"), 400),
        (RequestInvalid("x"), 400),
        (NameUnknown("x"), 404),
        (ManifestUnknown("x"), 404),
        (BlobUnknown("x"), 404),
        (Unsupported("x"), 405),
        (RangeInvalid("x"), 416),
        (Unavailable("x"), 503),
        (Internal("x"), 500),
    ],
)
def test_status_says_what_the_client_should_do(error: OciError, status: int) -> None:
    assert error.status == status


def test_no_error_has_a_status_that_containerd_repeats_without_a_pause() -> None:
    classes = OciError.__subclasses__()
    assert len(classes) >= 10
    assert not {408, 429} & {error.status for error in classes}


def test_every_code_is_the_specs_or_a_known_one_of_our_own() -> None:
    assert {error.code for error in OciError.__subclasses__()} <= SPEC_CODES | OWN_CODES


def test_unsatisfiable_range_tells_the_size() -> None:
    assert RangeInvalid("x", size_bytes=0).headers == {"Content-Range": "bytes */0"}
    assert RangeInvalid("x").headers == {}


def test_refused_method_is_answered_with_the_allowed_ones() -> None:
    assert Unsupported("x").headers == {"Allow": "GET, HEAD"}

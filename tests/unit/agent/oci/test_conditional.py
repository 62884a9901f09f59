"""Conditional requests: what the client has already, and whether its part is of this content."""

import pytest

from agent.oci.conditional import client_has, etag, if_range_holds
from agent.oci.digest import digest_of

DIGEST, OTHER = digest_of(b"this"), digest_of(b"other")


@pytest.mark.parametrize(
    "header", [etag(DIGEST), f"W/{etag(DIGEST)}", f"{etag(OTHER)} , {etag(DIGEST)}", "*"]
)
def test_client_that_names_the_content_has_it(header: str) -> None:
    assert client_has(header, DIGEST)


@pytest.mark.parametrize("header", [None, "", etag(OTHER), DIGEST, f"W/{etag(OTHER)}", '"*"'])
def test_client_that_names_other_content_does_not_have_it(header: str | None) -> None:
    assert not client_has(header, DIGEST)


@pytest.mark.parametrize("header", [None, etag(DIGEST), f" {etag(DIGEST)} "])
def test_range_counts_for_the_content_that_the_client_has_a_part_of(header: str | None) -> None:
    assert if_range_holds(header, DIGEST)


@pytest.mark.parametrize("header", ["", etag(OTHER), f"W/{etag(DIGEST)}", "Sun, 22 Nov 2026 18:00:00 GMT"])
def test_range_does_not_count_for_other_content_nor_by_a_weak_tag_or_a_date(header: str) -> None:
    assert not if_range_holds(header, DIGEST)

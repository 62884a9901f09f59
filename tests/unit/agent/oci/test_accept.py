"""Which media types a client accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.accept import accepts
from agent.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

CONTAINERD = [
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"
]


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ([], True),
        ([""], True),
        (["nonsense"], True),
        (["*/*"], True),
        (["application/*"], True),
        (["image/*"], False),
        ([OCI_MANIFEST], True),
        ([OCI_MANIFEST.upper()], True),
        ([OCI_INDEX], False),
        ([f"{OCI_INDEX},{OCI_MANIFEST}"], True),
        ([OCI_INDEX, OCI_MANIFEST], True),
        ([DOCKER_MANIFEST, f"{OCI_MANIFEST};q=0.5"], True),
        ([f"*/*, {OCI_MANIFEST};q=0"], False),
        ([f"{OCI_MANIFEST} ; Q=0.0, */*"], False),
        (["*/*;q=0"], False),
        (["application/*;q=0, */*"], False),
        ([f"{OCI_MANIFEST};charset=utf-8;q=1"], True),
        ([f"{OCI_MANIFEST};q=x"], True),
        (CONTAINERD, True),
    ],
)
def test_the_most_specific_range_decides(headers: list[str], accepted: bool) -> None:
    assert accepts(headers, OCI_MANIFEST) is accepted


@given(headers=st.lists(st.text() | st.text("*/;q=0.,ab ")))
def test_any_header_gives_an_answer(headers: list[str]) -> None:
    assert accepts(headers, OCI_MANIFEST) in (True, False)

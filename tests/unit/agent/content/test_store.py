"""The names in a store: the same name twice is one, and the image that was written last counts."""

import pytest

from agent.content.store import Names, TaggedImage
from tests.unit.twins import descriptor, named


def image(content: str, seen_s: float) -> TaggedImage:
    return TaggedImage(name=named(), descriptor=descriptor(content), seen_s=seen_s)


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_records_of_one_name_the_newer_one_counts(order: int) -> None:
    names = Names()
    names.replace([image("old", 1.0), image("new", 2.0)][::order])
    for found in (names.find(named().repository, named().tag, None), names.of(named().repository)):
        assert [each.descriptor for each in found] == [descriptor("new")]

"""Parts of pages between marks."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reporting.marks import fill, parts_of

_PAGE = """# Title

<!-- bench: one -->
old
<!-- /bench: one -->

between

<!-- bench: two -->
<!-- /bench: two -->
<!-- other: one -->
stays
<!-- /other: one -->
"""
_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r<"), max_size=30).map(
    lambda text: text.rstrip("\n")
)


def test_parts_are_replaced_and_the_rest_stays() -> None:
    page = fill(_PAGE, "bench", {"one": "new\nlines", "unknown": "nowhere"})
    assert page == _PAGE.replace("old", "new\nlines")


@given(one=_TEXTS, two=_TEXTS)
def test_what_was_filled_in_is_read_back(one: str, two: str) -> None:
    parts = {"one": one, "two": two}
    page = fill(_PAGE, "bench", parts)
    assert dict(parts_of(page, "bench")) == parts
    assert fill(page, "bench", parts) == page
    assert (
        fill(page, "bench", {"one": "old", "two": ""}).replace("\n\n<!-- /bench: two", "\n<!-- /bench: two")
        == _PAGE
    )

"""What of a file is ours, and what was made with it."""

import re

import pytest

from agent.hosts.part import Made, PartBroken, find_part, has_marks, make_part, owners_text


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("made", [(), (Made.FILE,), (Made.NEWLINE,), tuple(Made)])
def test_what_was_made_is_in_the_mark(made: tuple[Made, ...], newline: str) -> None:
    text = make_part(f"a = 1{newline}", made, newline)
    part = find_part(text)
    assert part is not None
    assert part.made == set(made)
    assert (part.start, part.end) == (0, len(text))


def test_a_newline_that_was_added_goes_too_unless_more_follows() -> None:
    part = make_part("a = 1\n", [Made.NEWLINE], "\n")
    assert owners_text(f"x = 1\n{part}") == "x = 1"
    assert owners_text(f"x = 1\n{part}y = 2") == "x = 1\ny = 2"


def test_a_file_without_a_part_is_its_owners() -> None:
    assert find_part("a = 1\n") is None
    assert owners_text("a = 1\n") == "a = 1\n"


@pytest.mark.parametrize(
    "text",
    [
        "# >>> shorthaul >>> x\na = 1\n",
        "a = 1\n# <<< shorthaul <<<\n",
        "# <<< shorthaul <<<\n# >>> shorthaul >>>\n",
        2 * make_part("", [], "\n"),
    ],
)
def test_marks_that_do_not_belong_together_are_an_error(text: str) -> None:
    with pytest.raises(PartBroken):
        find_part(text)


def test_a_part_of_an_older_release_with_other_words_is_found() -> None:
    text = "a = 1\n# >>> shorthaul >>> written in other words [file]\nb = 1\n# <<< shorthaul <<< the end"
    assert owners_text(text) == "a = 1\n"


def test_marks_are_seen_also_in_what_is_no_text() -> None:
    assert has_marks(b"\xff\n# >>> shorthaul >>> x")
    assert has_marks(b"# <<< shorthaul <<<\r\n")
    assert not has_marks(b"# about shorthaul\n x # >>> shorthaul >>>\n")


@pytest.mark.parametrize("made", [(), (Made.NEWLINE,)])
@pytest.mark.parametrize("mode", [0o644, 0o4755, 0o40])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_mode_that_the_file_had_is_in_the_mark(mode: int, made: tuple[Made, ...], newline: str) -> None:
    part = find_part(make_part(f"a = 1{newline}", made, newline, mode=mode))
    assert part is not None
    assert part.mode == mode
    assert part.made == set(made)


def test_release_that_knows_no_modes_still_finds_what_was_made() -> None:
    """After a roll-back: the pattern of that release."""
    text = make_part("a = 1\n", [Made.FILE, Made.DIRECTORY], "\n", mode=0o644)
    older = re.compile(r"^# >>> shorthaul >>>[^\n]*?(?: \[(?P<made>[a-z., ]*)\])?\r?$", re.MULTILINE)
    found = older.search(text)
    assert found is not None
    assert found["made"] == "file, directory"

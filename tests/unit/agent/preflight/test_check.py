"""Foreign text in a finding."""

from agent.preflight.check import listed, shown


def test_foreign_text_is_shown_on_one_printable_line() -> None:
    assert shown("a\x1b[31m\nb\x00c") == "a?[31m b?c"
    assert len(shown("x" * 1000)) == 120
    assert listed(["1", "2", "3"], 2) == "1, 2 and 1 more"

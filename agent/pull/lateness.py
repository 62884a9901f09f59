"""Whether this node did not run for a while: it was suspended, or far too busy. Pure.

A timer that ends a wait is then late. What peers sent meanwhile may be there, unread. So the wait says
nothing about them.
"""

HELD_UP_S = 0.5
"""A timer that is later than that shows that this node did not run."""

CATCH_UP_S = 1.0
"""Then it gets so long to read what has arrived meanwhile, and to ask again."""


def held_up(late_s: float) -> bool:
    """Whether a timer that is so late shows that this node did not run."""
    return late_s > HELD_UP_S


def in_words(late_s: float) -> str:
    """That this node did not run, for people."""
    return f"this node was held up for {late_s:.1f} s"

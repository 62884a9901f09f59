"""The headers between agents about content that the sender is still fetching itself. Pure.

An answer with such content has the length of the whole, and its bytes come as the sender gets them. A 404
with `IN_FLIGHT_HEADER` says that the sender is not ahead of what was asked for.
"""

IN_FLIGHT_HEADER = "Shorthaul-In-Flight"
"""How many bytes of the content the sender has, counted from byte 0. Nobody has verified them."""

ORIGIN_HEADER = "Shorthaul-Origin"
"""The node that the bytes came from first: the one that fetches from the registry, or has all of it."""

DEPTH_HEADER = "Shorthaul-Depth"
"""How many agents the bytes pass before they are at the sender: 0 if it fetches from the registry."""

_MOST_DIGITS = 19


def parse_count(text: str | None) -> int | None:
    """The number in such a header. None: it is not there, or no number."""
    if text is None or not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        return None
    return int(text)

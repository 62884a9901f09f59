"""Tells what the agent reads again while it runs: what changed, or why the old state stays."""

import logging
from collections.abc import Callable, Iterable

_log = logging.getLogger("shorthaul")

_SHOWN = 5

Count = Callable[[str, str], None]
"""Count one reload: what was read, and its result."""


class Reloads:
    """Logs and counts each reload. ``count``: see `Count`.

    ``what`` is ``peers``, ``labels``, ``settings`` or ``certificate``. The results are ``changed``,
    ``unchanged``, ``failed``.
    """

    def __init__(self, count: Count = lambda _what, _result: None) -> None:
        self.count = count

    def changed(self, what: str, fields: dict[str, object]) -> None:
        """It was read, and what is new is used from now on. ``fields``: what changed."""
        self.count(what, "changed")
        _log.info("%s changed", what, extra={"fields": fields})

    def unchanged(self, what: str) -> None:
        """It was read, and says what is used already."""
        self.count(what, "unchanged")
        _log.info("%s read again: nothing changed", what)

    def failed(self, what: str, mistakes: Iterable[str], hint: str) -> None:
        """It can't be used. The old state stays."""
        self.count(what, "failed")
        found = [*mistakes]
        more = f" (and {len(found) - _SHOWN} more mistakes)" if len(found) > _SHOWN else ""
        _log.error(
            "%s can't be used, the old state stays: %s%s",
            what,
            "; ".join(found[:_SHOWN]),
            more,
            extra={"fields": {"hint": hint}},
        )


def first_names(names: Iterable[str]) -> str:
    """The first few names, and how many more there are. Empty if there is none."""
    listed = sorted(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more

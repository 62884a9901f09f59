"""Keeps one of equal values. Pure.

Thousands of nodes say the same of where they are, each in an object of its own. One object for all of them
costs less memory, and is compared at no cost.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T", bound=Hashable)

KEPT_MAX = 1024
"""So many different values are remembered. Beyond that all are forgotten, which costs nothing but memory."""


class Interned(Generic[_T]):
    """The values of one kind that were met. ``most``: see `KEPT_MAX`."""

    def __init__(self, most: int = KEPT_MAX) -> None:
        self._most = most
        self._known: dict[_T, _T] = {}

    def of(self, value: _T) -> _T:
        """The first value that was equal to this one."""
        if len(self._known) >= self._most:
            self._known.clear()
        return self._known.setdefault(value, value)

"""How two settings differ, by their keys. Pure."""

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")


def changed_keys(one: Any, other: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Each key whose value differs, such as ``tags.exclude``, and its value in ``other``."""
    for entry in dataclasses.fields(one):
        before, after = getattr(one, entry.name), getattr(other, entry.name)
        if "group" in entry.metadata and None not in (before, after):
            yield from changed_keys(before, after, f"{prefix}{entry.name}.")
        elif before != after:
            yield f"{prefix}{entry.name}", after


def adopted(settings: _T, other: _T, keys: Collection[str], prefix: str = "") -> _T:
    """``settings`` with the values that ``other`` has for these keys."""
    values: dict[str, object] = {}
    for entry in dataclasses.fields(settings):  # type: ignore[arg-type]
        mine, theirs = getattr(settings, entry.name), getattr(other, entry.name)
        key = f"{prefix}{entry.name}"
        if "group" in entry.metadata and None not in (mine, theirs):
            values[entry.name] = adopted(mine, theirs, keys, f"{key}.")
        else:
            values[entry.name] = theirs if key in keys else mine
    return type(settings)(**values)

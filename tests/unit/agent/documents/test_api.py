"""docs/api.md says what the admin API answers: every page, parameter and field, with its type."""

import ast
import re
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin

import pytest

from tests.unit.agent.documents.test_codec import DOCUMENTS
from tests.unit.twins import REPOSITORY_ROOT

_SCALARS = {str: "text", bool: "yes or no", int: "whole number", float: "number"}
_ROW = re.compile(r"\| `(?P<key>\w+)` \| (?P<kind>[^|]+) \| (?P<meaning>[^|]+) \|")
_TIMES = re.compile(r"(_at|^time|^since)$")
_UNITS = {
    "_s": "seconds",
    "_us": "microseconds",
    "usd": "US dollars",
    "usd_saved": "US dollars",
    "bytes": "bytes",
    "bytes_saved": "bytes",
    "bytes_per_s": "bytes per second",
}
_UNITLESS = {"seconds"}  # its name is its unit


def words(kind: Any) -> str:
    """A type as the page writes it."""
    if is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]
        return f"[{name}](#{name.lower()})"
    if isinstance(kind, UnionType):
        (inner,) = (each for each in get_args(kind) if each is not type(None))
        return f"{words(inner)} or null"
    if get_origin(kind) is tuple:
        inner, *rest = get_args(kind)
        if rest == [...]:
            return f"list of {words(inner)}"
        return f"pair of {words(inner)} and {words(*rest)}"
    return _SCALARS[kind]


def keys(kind: type[Any]) -> dict[str, str]:
    """The keys of a document or an entry in the JSON, with their types in words."""
    return {str(each.metadata.get("key", each.name)): words(each.type) for each in fields(kind)}


@cache
def page() -> dict[str, dict[str, tuple[str, str]]]:
    """The tables of the page: by heading, the type and the meaning of each key."""
    text = (REPOSITORY_ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    sections = re.split(r"^### (\w+)$", text, flags=re.MULTILINE)[1:]
    return {
        name: {row["key"]: (row["kind"], row["meaning"]) for row in _ROW.finditer(body)}
        for name, body in zip(sections[::2], sections[1::2], strict=True)
    }


def entries_below(kind: Any) -> set[type[Any]]:
    """The entries in a type, at any depth."""
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return {kind}.union(*(entries_below(each.type) for each in fields(kind)))
    return set().union(*(entries_below(inner) for inner in get_args(kind)))


SHAPES = sorted(set().union(*map(entries_below, DOCUMENTS)), key=lambda shape: shape.__name__)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_page_has_every_field_with_its_type_and_no_other(shape: type[Any]) -> None:
    told = {key: kind for key, (kind, _) in page().get(shape.__name__, {}).items()}
    rows = "\n".join(f"| `{key}` | {kind} | MEANING |" for key, kind in keys(shape).items())
    assert told == keys(shape), f"docs/api.md, ### {shape.__name__}, needs these rows:\n{rows}"


def test_page_has_no_shape_that_is_gone() -> None:
    assert set(page()) == {shape.__name__ for shape in SHAPES}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_meaning_of_a_quantity_names_its_unit_and_that_of_a_moment_says_utc(shape: type[Any]) -> None:
    for key, (kind, meaning) in page()[shape.__name__].items():
        if _TIMES.search(key):
            assert (kind.removesuffix(" or null"), "UTC" in meaning) == ("text", True), key
        ends = [end for end in _UNITS if key.endswith(end)]
        if ends and "number" in kind and key not in _UNITLESS:
            assert _UNITS[max(ends, key=len)] in meaning.lower().replace("us dollars", "US dollars"), key


def _routes() -> set[tuple[str, tuple[str, ...]]]:
    """The path expressions of all routes, and their parameters, from the source."""
    source = (REPOSITORY_ROOT / "agent/admin/routes.py").read_text(encoding="utf-8")
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Route":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            query = given.get("query")
            found.add((_path(given["path"]), () if query is None else ast.literal_eval(query)))
    return found


def _path(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        documents = {document.__name__: document for document in DOCUMENTS}
        return str(getattr(documents[node.value.id], node.attr))
    return str(ast.literal_eval(node))


def test_page_has_every_path_and_its_parameters() -> None:
    text = (REPOSITORY_ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    overview = text[: text.index("\n## /api")]
    for path, query in _routes():
        (row,) = (line for line in overview.splitlines() if line.startswith("| `") and f" {path}` |" in line)
        assert all(f"`{parameter}`" in row for parameter in query), row

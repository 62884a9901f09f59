"""Encodes documents as JSON and decodes them, by the types of their fields. Pure.

Documents and entries are frozen dataclasses whose fields are text, numbers, flags, other entries, tuples
of these, or None where a value may be unknown. A field's name is its key, unless `json_key` names another.

Encoding: every number in the JSON is finite. NaN and infinity become null, because JSON can't express them.
Decoding is strict about types. It ignores unknown keys: a newer agent may send them. A missing key and null
are read as the field's default. A field that may be None needs no default for that.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

_T = TypeVar("_T")
_Text = Callable[[str], str]
_Reader = Callable[[Any, _Text], Any]

_KEY = "key"
_SLICE = 512  # some tenths of a millisecond
_INT_BITS = 64  # the largest numbers are the kernel's cookies of sockets


class DocumentInvalid(ValueError):
    """A value is missing or of another type. The message says which one, and never quotes the value."""


def json_key(name: str) -> dict[str, str]:
    """The ``metadata`` of a field whose key in the JSON is not the field's name."""
    return {_KEY: name}


def encode(document: object) -> str:
    """The document, or the tuple of documents, as JSON text."""
    return json.dumps(to_plain(document))


def encode_parts(document: object) -> Iterator[str]:
    """The same text as `encode` in many parts: each item of the document's lists is a part, or some hundreds
    of them where they are no entries.

    Between the parts of a large document the caller can let other tasks run.
    """
    if isinstance(document, tuple):
        yield from _list_parts(document)
        return
    before = "{"
    for name, key in _keys_of(document):
        yield f"{before}{json.dumps(key)}: "
        value = getattr(document, name)
        if isinstance(value, tuple):
            yield from _list_parts(value)
        else:
            yield encode(value)
        before = ", "
    yield "}"


def to_plain(value: Any) -> Any:
    """The document, or a part of one, as dictionaries, lists and finite numbers."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return {key: to_plain(getattr(value, name)) for name, key in _keys_of(value)}


def decode(kind: type[_T], value: object, *, text: Callable[[str], str] = str) -> _T:
    """A value of JSON as a document. ``text`` is applied to every text in it. Raises `DocumentInvalid`.

    A number that is not finite is read as None where None is allowed, and else as infinity.
    """
    document_type: Any = kind
    document: _T = _reader(document_type)(value, text)
    return document


def _list_parts(items: tuple[Any, ...]) -> Iterator[str]:
    yield "["
    if all(item is None or isinstance(item, str | int | float) for item in items):
        for start in range(0, len(items), _SLICE):  # a column of thousands: a part for each would cost more
            part = encode(items[start : start + _SLICE])[1:-1]
            yield f", {part}" if start else part
    else:
        for number, item in enumerate(items):
            yield f", {encode(item)}" if number else encode(item)
    yield "]"


def _keys_of(document: object) -> tuple[tuple[str, str], ...]:
    kind: Any = type(document)
    return _keys(kind)


@cache
def _keys(kind: Any) -> tuple[tuple[str, str], ...]:
    """The names of a dataclass's fields and their keys in the JSON."""
    return tuple((each.name, _key(each)) for each in fields(kind))


def _key(of: "Field[Any]") -> str:
    return str(of.metadata.get(_KEY, of.name))


@cache
def _reader(kind: Any) -> _Reader:
    """The function that reads a value of this type. Made once for each type: an answer has many values."""
    if is_dataclass(kind):
        return _read_object(kind)
    if get_origin(kind) is tuple:
        return _read_tuple(*get_args(kind))
    if isinstance(kind, UnionType):
        (inner,) = (each for each in get_args(kind) if each is not type(None))
        return _read_optional(inner)
    return _SCALARS[kind]


def _read_object(kind: Any) -> _Reader:
    readers = [_field_reader(each) for each in fields(kind)]

    def read(value: Any, text: _Text) -> Any:
        if not isinstance(value, dict):
            raise _not_a("object", value)
        found = {}
        for name, key, reader, default in readers:
            item = value.get(key)
            if item is None and default is not MISSING:
                found[name] = default
                continue
            try:
                found[name] = reader(item, text)
            except DocumentInvalid as error:
                raise DocumentInvalid(f"{key}: {error}") from error
        return kind(**found)

    return read


def _field_reader(of: "Field[Any]") -> tuple[str, str, _Reader, Any]:
    kind: Any = of.type
    return of.name, _key(of), _reader(kind), _default(of)


def _default(of: "Field[Any]") -> Any:
    if of.default is MISSING and isinstance(of.type, UnionType):
        return None
    return of.default


def _read_tuple(*kinds: Any) -> _Reader:
    """``tuple[X, ...]`` takes any number of items, ``tuple[X, Y]`` two."""
    if kinds[-1] is not Ellipsis:
        return _read_row(*kinds)
    item = _reader(kinds[0])
    return lambda value, text: tuple([item(each, text) for each in _list(value)])


def _read_row(*kinds: Any) -> _Reader:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any, text: _Text) -> Any:
        items = _list(value)
        if len(items) != len(readers):
            raise DocumentInvalid(f"{len(items)} items in place of {len(readers)}")
        return tuple(reader(item, text) for reader, item in zip(readers, items, strict=True))

    return read


def _read_optional(kind: Any) -> _Reader:
    inner = _reader(kind)

    def read(value: Any, text: _Text) -> Any:
        if value is None:
            return None
        found = inner(value, text)
        return None if isinstance(found, float) and math.isinf(found) else found

    return read


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _not_a("list", value)
    return value


def _read_text(value: Any, text: _Text) -> str:
    if not isinstance(value, str):
        raise _not_a("text", value)
    return text(value)


def _read_flag(value: Any, _: _Text) -> bool:
    if not isinstance(value, bool):
        raise _not_a("flag", value)
    return value


def _read_int(value: Any, _: _Text) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value.bit_length() > _INT_BITS:
        raise _not_a("whole number", value)
    return value


def _read_float(value: Any, _: _Text) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _not_a("number", value)
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return number if math.isfinite(number) else math.inf


_SCALARS: dict[Any, _Reader] = {str: _read_text, bool: _read_flag, int: _read_int, float: _read_float}


def _not_a(expected: str, value: Any) -> DocumentInvalid:
    found = "nothing" if value is None else type(value).__name__
    return DocumentInvalid(f"{found} in place of a {expected}")

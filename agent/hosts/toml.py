"""TOML as containerd reads it, and as people wrote it. The only module that imports tomlkit. Pure."""

import tomllib
from collections.abc import Callable
from typing import Any

BYTES_MAX = 1 << 20
"""A longer hosts.toml or config.toml is nobody's."""


class TomlInvalid(Exception):
    """This is not TOML. The message says where, in one line."""


def decode(data: bytes) -> str:
    """The text of a file. Raises `TomlInvalid` if it can't be TOML."""
    if len(data) > BYTES_MAX:
        raise TomlInvalid(f"it has more than {BYTES_MAX >> 20} MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise TomlInvalid(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    if text.startswith("\ufeff"):
        raise TomlInvalid("it begins with a byte order mark, for which containerd 2.x drops the file")
    return text


def parse(text: str) -> dict[str, Any]:
    """The document. Raises `TomlInvalid`."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise TomlInvalid(" ".join(str(error).split())[:200] or type(error).__name__) from error


def parses(text: str) -> bool:
    """Whether this is TOML."""
    try:
        parse(text)
    except TomlInvalid:
        return False
    return True


def quoted(text: str) -> str:
    """A TOML string, or a quoted key."""
    escaped = "".join(_escape(character) for character in text)
    return f'"{escaped}"'


def _escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if not character.isprintable():
        return f"\\u{ord(character):04x}" if ord(character) < 1 << 16 else f"\\U{ord(character):08x}"
    return character


def with_paths(text: str, moved: Callable[[str], str]) -> str:
    """A hosts.toml with the paths of its certificates (``ca``, ``client``) changed, else as it was."""
    import tomlkit  # here, because only a copied file needs it

    document = tomlkit.parse(text)
    hosts = document.get("host")
    tables: list[Any] = [document]
    if isinstance(hosts, dict):
        tables += [table for table in hosts.values() if isinstance(table, dict)]
    for table in tables:
        for key in ("ca", "client"):
            if key in table and (new := _moved(table[key], moved)) != table[key]:
                table[key] = new
    return tomlkit.dumps(document)


def _moved(value: Any, moved: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return moved(str(value)) if value else ""
    if isinstance(value, list):
        return [_moved(each, moved) for each in value]
    return value

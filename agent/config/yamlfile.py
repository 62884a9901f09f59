"""Reads YAML that a person wrote. Whatever is wrong with it becomes one kind of error."""

from pathlib import Path

import yaml

from agent.files import read_regular

# What PyYAML raises for tags that do not fit their value, impossible dates, and deep nesting.
_ESCAPES = (ValueError, KeyError, AttributeError, IndexError, TypeError, OverflowError, RecursionError)

_FILE_MAX_BYTES = 64 << 20  # 10,000 peers with all their labels take a few MB
_DIGITS_MAX = 40  # no number here is that long, and Python refuses to print one with 4,300 digits


class YamlInvalid(Exception):
    """The text is not YAML. The message says where, in one line. ``hint``: what to do."""

    def __init__(self, message: str, hint: str = "check the indentation and quotes there") -> None:
        super().__init__(message)
        self.hint = hint


def parse_yaml(text: str) -> object:
    """The document in a text. Raises `YamlInvalid`."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlInvalid(f"not YAML: {' '.join(str(error).split())}") from error
    except _ESCAPES as error:
        raise YamlInvalid(f"not YAML: {type(error).__name__} {error}"[:300]) from error


def read_yaml(path: Path) -> object:
    """The document in a regular file. Raises `YamlInvalid`, or OSError if the file can't be read."""
    try:
        text = read_regular(path, most_bytes=_FILE_MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise YamlInvalid(f"not YAML: not UTF-8: {error}") from error
    return parse_yaml(text)


# libyaml's parser is ten times as fast, and a list of thousands of peers is read while pulls are served.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, without absurdly long numbers, and without keys that are there twice."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flattened: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Take in what ``<<`` names. Raises `YamlInvalid` if a key is there twice, as YAML 1.2 demands.

        Without that, the last one would count, and nobody would know that the first one does not.
        """
        if id(node) not in self._flattened:  # afterwards it has the keys of both, and its own ones win
            self._flattened.add(id(node))
            _require_each_key_once(node)
        super().flatten_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number. Raises ValueError if it is absurdly long."""
        if len(str(node.value)) > _DIGITS_MAX:
            raise ValueError(f"a number of {len(str(node.value))} characters")
        return int(super().construct_yaml_int(node))


def _require_each_key_once(node: yaml.MappingNode) -> None:
    known: dict[tuple[str, str], yaml.ScalarNode] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and known.setdefault((key.tag, key.value), key) is not key:
            first = known[key.tag, key.value].start_mark.line + 1
            raise YamlInvalid(
                f"line {key.start_mark.line + 1}: the key {str(key.value)[:80]!r} is there twice, "
                f"first in line {first}",
                hint="leave one of them, or put what belongs together below one key",
            )


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

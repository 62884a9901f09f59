"""Reading YAML that a person wrote: whatever is wrong with it is one kind of error."""

import os
import stat
from pathlib import Path

import yaml

# What PyYAML lets escape for tags that do not fit their value, dates that are none, and deep nesting.
_ESCAPES = (ValueError, KeyError, AttributeError, IndexError, TypeError, OverflowError, RecursionError)


class YamlInvalid(Exception):
    """The text is not YAML; the message says where, in one line."""


def parse_yaml(text: str) -> object:
    """The document in a text. Raises `YamlInvalid`."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise YamlInvalid(f"not YAML: {' '.join(str(error).split())}") from error
    except _ESCAPES as error:
        raise YamlInvalid(f"not YAML: {type(error).__name__} {error}"[:300]) from error


def read_yaml(path: Path) -> object:
    """The document in a regular file. Raises `YamlInvalid`, or OSError when it can't be read."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - reading a FIFO would wait for ever
        raise YamlInvalid("not a regular file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise YamlInvalid(f"not YAML: not UTF-8: {error}") from error
    return parse_yaml(text)

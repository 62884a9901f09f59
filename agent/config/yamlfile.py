"""Reads YAML that a person wrote. Whatever is wrong with it becomes one kind of error."""

from pathlib import Path

import yaml
from yaml.composer import Composer, ComposerError

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


# libyaml's parser is ten times as fast, and a list of thousands of peers is read while pulls are served. What
# makes nodes of its events is Python's, because libyaml's makes those of a whole document at once.
_CParser = getattr(yaml, "CSafeLoader", None)
_BASES = (yaml.SafeLoader,) if _CParser is None else (Composer, _CParser)


class _Loader(*_BASES):  # type: ignore[misc]
    """The safe loader, without absurdly long numbers, and without keys that are there twice."""

    def __init__(self, stream: str) -> None:
        if _CParser is not None:
            Composer.__init__(self)
        _BASES[-1].__init__(self, stream)
        self._flattened: set[int] = set()

    def get_single_data(self) -> object:
        """The document. A list is made entry by entry.

        So the nodes of 5,000 peers, which take 60 MiB, are never in memory together.
        """
        self.get_event()  # the stream's start
        if self.check_event(yaml.StreamEndEvent):
            return None
        start = self.get_event()
        root = self.peek_event()
        is_plain = isinstance(root, yaml.SequenceStartEvent) and root.anchor is None and root.tag is None
        document = self._entries() if is_plain else self.construct_document(self.compose_node(None, None))
        self.get_event()  # the document's end
        if not self.check_event(yaml.StreamEndEvent):
            what = "expected a single document in the stream", start.start_mark
            raise ComposerError(*what, "but found another document", self.peek_event().start_mark)
        return document

    def _entries(self) -> list[object]:
        """The list that begins here. What follows an anchor is made together: it may be named again."""
        start, entries = self.get_event(), list[object]()
        while not self.check_event(yaml.SequenceEndEvent):
            node = self.compose_node(None, None)
            if self.anchors:
                return [*entries, *self._rest(start.start_mark, node)]
            entries.append(self.construct_document(node))
            self._flattened.clear()
        self.get_event()
        return entries

    def _rest(self, mark: yaml.Mark, first: yaml.Node) -> list[object]:
        nodes = [first]
        while not self.check_event(yaml.SequenceEndEvent):
            nodes.append(self.compose_node(None, None))
        self.get_event()
        sequence = yaml.SequenceNode("tag:yaml.org,2002:seq", nodes, mark, mark)
        made: list[object] = self.construct_document(sequence)
        return made

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

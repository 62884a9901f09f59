"""Changes of files as a person reads them: a unified diff without the secrets. Pure."""

import difflib
import re

_TABLE = re.compile(r"^\s*\[(?P<path>.*)\]\s*(?:#.*)?$")
_HEADER_TABLE = re.compile(r"(?:^|\.)\s*[\"']?header[\"']?\s*$")
_VALUE = re.compile(r"^(?P<key>[^=\n]+=\s*).*?(?P<end>\r?\n?)$", re.DOTALL)
_INLINE = re.compile(r"^(?P<key>\s*(?:[^=]*\.)?[\"']?header[\"']?[^=]*=\s*).*?(?P<end>\r?\n?)$", re.DOTALL)


def diff(path: str, before: bytes | None, after: bytes | None) -> str:
    """The change of one file. Values of header tables, which hold tokens, are not shown."""
    old, new = (_lines(each) for each in (before, after))
    names = [path if each is not None else "/dev/null" for each in (before, after)]
    lines = difflib.unified_diff(old, new, names[0], names[1])
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _lines(data: bytes | None) -> list[str]:
    text = (data or b"").decode(errors="replace")
    found, secret = [], False
    for line in text.splitlines(keepends=True):
        table = _TABLE.match(line)
        if table is not None:
            secret = _HEADER_TABLE.search(table["path"]) is not None
        found.append(line if table else _shown(line, secret))
    return found


def _shown(line: str, secret: bool) -> str:
    if secret and line.strip() and not line.lstrip().startswith("#"):
        hidden = _VALUE.sub(r"\g<key>(not shown)\g<end>", line)
        return hidden if hidden != line else "(not shown)\n"  # a value of several lines
    return _INLINE.sub(r"\g<key>(not shown)\g<end>", line)

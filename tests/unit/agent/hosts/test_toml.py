"""TOML read as containerd reads it, and written so that comments stay."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hosts.toml import TomlInvalid, decode, parse, parses, quoted, with_paths


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_can_be_quoted(text: str) -> None:
    assert tomllib.loads(f"a = {quoted(text)}") == {"a": text}
    assert tomllib.loads(f"{quoted(text)} = 1") == {text: 1}


def test_paths_of_certificates_change_and_nothing_else() -> None:
    text = '# c\nca = "a" # x\nserver = "a"\n[host."h"]\nclient = [["b", ""], "c"] # y\nheader = {ca = "z"}\n'
    new = with_paths(text, lambda path: f"../{path}")
    assert tomllib.loads(new) == {
        "ca": "../a",
        "server": "a",
        "host": {"h": {"client": [["../b", ""], "../c"], "header": {"ca": "z"}}},
    }
    assert "# c\n" in new
    assert "# x" in new
    assert with_paths(text, lambda path: path) == text


def test_what_is_not_toml_is_said_in_one_line() -> None:
    for text in ("[", "a = 1\na = 2", "x = " + "[" * 9999):
        assert not parses(text)
        with pytest.raises(TomlInvalid) as invalid:
            parse(text)
        assert str(invalid.value)
        assert "\n" not in str(invalid.value)
    with pytest.raises(TomlInvalid, match="UTF-8"):
        decode(b"\xff")

"""Whatever is wrong with a file that a person wrote, it is one kind of error, in one line."""

import contextlib
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.yamlfile import YamlInvalid, parse_yaml, read_yaml


def test_document_is_what_is_written() -> None:
    assert parse_yaml("a: [1, x, null]\nb: {c: 1.5}") == {"a": [1, "x", None], "b": {"c": 1.5}}


@pytest.mark.parametrize(
    "text",
    [
        "- {",
        "a: b: c",
        "\t- a",
        "[" * 2_000,
        "!!timestamp foo",
        "!!timestamp 2021-99-99",
        "{port: !!bool foo}",
        "!!python/object/apply:os.system [true]",
        "1" * 5000,
        "*unknown",
        "\0",
    ],
)
def test_what_is_no_yaml_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(YamlInvalid) as refused:
        parse_yaml(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\n'a': 3", 3),
        ("- {a: 1, a: 1}", 1),
        ("a:\n  b:\n    c: 1\n    c: 2", 4),
        ("1: a\n1: b", 2),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x", 4),
    ],
)
def test_key_that_is_there_twice_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(YamlInvalid, match=rf"line {line}: the key .* is there twice") as refused:
        parse_yaml(text)
    assert "leave one" in refused.value.hint


def test_key_that_wins_over_a_merged_one_is_not_there_twice() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\nd: *b"
    assert parse_yaml(text) == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 2, "y": 1},
        "c": {"x": 2, "y": 3},
        "d": {"x": 2, "y": 1},
    }


@given(text=st.text(max_size=60))
def test_any_text_is_a_document_or_that_error(text: str) -> None:
    with contextlib.suppress(YamlInvalid):
        parse_yaml(text)


def test_file_is_read_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes("zone: straße".encode())
    assert read_yaml(path) == {"zone": "straße"}
    path.write_bytes("zone: straße".encode("latin-1"))
    with pytest.raises(YamlInvalid, match="not UTF-8"):
        read_yaml(path)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, kind in ((pipe, "a FIFO"), (tmp_path, "a directory"), (Path("/dev/null"), "a device")):
        with pytest.raises(OSError, match=kind):
            read_yaml(path)


def test_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("[]", []),
        ("- a\n- {b: [c]}\n", ["a", {"b": ["c"]}]),
        ("- &x {a: 1}\n- *x\n- {<<: *x, b: 2}\n", [{"a": 1}, {"a": 1}, {"a": 1, "b": 2}]),
        ("- a\n- &x [b]\n- c\n- *x\n", ["a", ["b"], "c", ["b"]]),
        ("&all [a]", ["a"]),
        ("!!set {a, b}", {"a", "b"}),
        ("", None),
        ("--- []\n...\n", []),
    ],
)
def test_list_is_read_entry_by_entry_as_if_it_were_read_whole(text: str, document: object) -> None:
    assert parse_yaml(text) == document


@pytest.mark.parametrize(
    "text", ["- a\n---\n- b\n", "- a\n- *later\n- &later b\n", "- a\n- [b\n", "- !x y\n"]
)
def test_list_with_something_wrong_in_it_is_refused(text: str) -> None:
    with pytest.raises(YamlInvalid):
        parse_yaml(text)


def test_long_list_takes_little_more_memory_than_what_it_says() -> None:
    text = "".join(
        f"- {{name: node-{number}, address: 10.0.0.1, port: 1, zone: a}}\n" for number in range(2000)
    )
    parse_yaml(text)
    tracemalloc.start()
    try:
        document = parse_yaml(text)
        kept_bytes, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(document) == 2000  # type: ignore[arg-type]
    assert most_bytes < 1.5 * kept_bytes + (1 << 20), "the nodes of all entries would be ten times as much"

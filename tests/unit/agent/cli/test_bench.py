"""The command line of ``shorthaul bench``. What it measures: tests/server/test_bench.py."""

import argparse

import pytest

from agent.cli.bench import parse_address, parse_bytes
from agent.cli.commands import run


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7", 7),
        ("500MB", 500_000_000),
        ("2GiB", 2 << 30),
        ("1.5kb", 1500),
        ("3 mb".replace(" ", ""), 3_000_000),
    ],
)
def test_sizes_are_read_with_their_units(text: str, found: int) -> None:
    assert parse_bytes(text) == found


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "1XB", "1MBMB", "nan", "inf", "1e999"])
def test_what_is_no_size_is_refused_in_words(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write it like 500MB or 2GiB"):
        parse_bytes(text)


def _wrong(words: str) -> None:
    raise SystemExit(words)


def test_address_of_the_hostport() -> None:
    assert parse_address(argparse.Namespace(hostport="127.0.0.1:30020")) == ("127.0.0.1", 30020)
    for text in ("127.0.0.1", ":30020", "127.0.0.1:x", "127.0.0.1:70000"):
        with pytest.raises(SystemExit, match="is not HOST:PORT"):
            parse_address(argparse.Namespace(hostport=text, wrong=_wrong))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seconds", "-1"], "--seconds: it must be above 0"),
        (["--rate", "0.0"], "--rate: it must be above 0"),
        (["--json", "/"], "--json: / is a folder: name a file in it"),
        (["--html", "/tmp"], "--html: /tmp is a folder: name a file in it"),
        (["--seconds", "inf"], "--seconds: it must be above 0, and have an end"),
        (["--seconds", "nan"], "--seconds: it must be above 0"),
        (["--rate", "inf"], "--rate: it must be above 0, and have an end"),
        (["--json", "/nowhere/report.json"], "--json: there is no folder /nowhere"),
        (["--compare", "/nowhere.json"], "cannot read /nowhere.json"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_measured(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["bench", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err

"""The demo's table in terminals of any width: MB and seconds are always there."""

import io
import re

import pytest
from rich.console import Console

from benchmarks.demo.view import Arriving, Row, Source, bytes_line, pulls_view

DIGESTS = ["m", "c", *(f"l{number}" for number in range(1, 9))]
COLUMNS = dict(zip(DIGESTS, ["manifest", "config", *(f"layer {n}" for n in range(1, 9))], strict=True))
NOTE = "Each node pulls registry.demo/demo/app:v1, one after the other."


def row(node: str, zone: str, sources: list[tuple[str, str]]) -> Row:
    """A pull of 200 MB from these sources."""
    made = Row(node, zone, "done", 12.34)
    for digest, (name, tier) in zip(DIGESTS, sources, strict=True):
        made.sources[digest] = Source(name, tier, 20_000_000)
    return made


ROWS = [
    row("a1", "r1/a", [("registry", "registry")] * 10),
    row("b1", "r1/b", [("a1", "region")] * 4 + [("a2", "region")] * 6),
    row("c1", "r2/c", [("b2", "remote")] * 10),
    Row("c2", "r2/c"),
]


def shown(width: int, rows: list[Row] | None = None) -> list[str]:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    console.print(pulls_view(NOTE, ROWS if rows is None else rows, COLUMNS, width=width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 160, 159, 120, 100, 99, 80, 78, 77, 60, 50, 40])
def test_megabytes_and_seconds_are_shown_in_every_width(width: int) -> None:
    lines = shown(width)
    assert all(len(line.rstrip()) <= width for line in lines)
    (heading,) = [line for line in lines if "node" in line and "seconds" in line]
    assert "MB" in heading
    for name in ("a1", "b1", "c1"):
        (line,) = [line for line in lines if re.match(rf"[│ ]*{name} ", line)]
        assert re.search(r" 200[ │]+12\.34", line), line
    assert not any("…" in line for line in lines), "something was cut off"


def test_wide_table_tells_names_and_tiers_in_words() -> None:
    text = "\n".join(shown(160))
    assert "layer 8" in text
    assert "a2 region" in text
    assert "b2 remote" in text


def test_narrow_table_still_has_a_column_for_each_blob() -> None:
    (heading,) = [line for line in shown(80) if "seconds" in line]
    assert heading.split() == ["node", "zone", "mf", "cf", *(f"L{n}" for n in range(1, 9)), "MB", "seconds"]


def test_very_narrow_table_sums_up_where_the_blobs_came_from() -> None:
    text = "\n".join(shown(50))
    assert "10 blobs registry" in text
    assert "6 blobs a2" in text


def test_pull_that_runs_shows_that_it_does() -> None:
    for width in (160, 80, 50):
        assert "…" in "\n".join(shown(width, [Row("a1", "r1/a", "pulling")]))


@pytest.mark.parametrize("width", [200, 160, 80])
def test_blob_that_arrives_shows_how_much_of_it_is_there(width: int) -> None:
    pulling = Row("a2", "r1/a", "pulling")
    pulling.arriving["l1"] = Arriving(name="registry", tier="registry", percent=61)
    pulling.arriving["l2"] = Arriving(name="a1", tier="zone", percent=100)
    text = "\n".join(shown(width, [pulling]))
    assert "61%" in text
    assert "99%" in text, "it is not complete before it is committed"
    assert ("a1 99%" in text) == (width >= 160)


@pytest.mark.parametrize("good", [True, False])
def test_sum_of_bytes_fits_into_80_columns(good: bool) -> None:
    line = bytes_line(
        "from the registry", 12_345_678_900, 12_345_678_900, "one copy per further zone", good=good
    )
    assert len(line.plain) <= 80
    assert line.plain.startswith("✓" if good else "✗")

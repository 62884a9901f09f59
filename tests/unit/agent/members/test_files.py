"""A file is followed: an answer at once, and one after each change. In virtual time."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.members.files import follow_file
from tests.unit.twins import run_in_virtual_time

POLL_S = 1.0


def seen(path: Path, *changes: Callable[[], object]) -> int:
    """How many answers there were, when these changes were made one after the other."""
    answers = 0

    async def follow() -> None:
        nonlocal answers
        async for _ in follow_file(path, poll_s=POLL_S):
            answers += 1

    async def main() -> None:
        task = asyncio.create_task(follow())
        await asyncio.sleep(2.5 * POLL_S)
        for change in changes:
            change()
            await asyncio.sleep(2 * POLL_S)
        task.cancel()

    run_in_virtual_time(main())
    return answers


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("one")
    return tmp_path / "file"


def test_unchanged_file_is_told_of_once(path: Path) -> None:
    assert seen(path) == 1


def test_missing_file_is_told_of_as_well(path: Path) -> None:
    assert seen(path.with_name("none")) == 1


def test_each_change_is_told_of(path: Path) -> None:
    new = path.with_name("new")

    def replace() -> None:
        new.write_text("two")
        new.replace(path)

    assert seen(path, lambda: path.write_text("longer"), replace, path.unlink, path.touch) == 5


def test_link_that_is_led_elsewhere_is_a_change(path: Path) -> None:
    link, other = path.with_name("link"), path.with_name("other")
    link.symlink_to(path)
    other.write_text("another file")

    def lead_elsewhere() -> None:
        link.unlink()
        link.symlink_to(other)

    assert seen(link, lead_elsewhere) == 2

"""The streams of all tabs: one task for all, none while no tab is open, and nobody waits for another."""

import asyncio
from collections.abc import Sequence

import pytest

from agent.admin.feed import BEAT_S, TABS_MAX, Feed, Tab
from agent.admin.frames import FRAMES_MAX
from agent.admin.sections import Section, Told
from agent.documents.events import BeatDocument, HelloDocument
from agent.documents.times import Moment
from tests.unit.twins import loop_clock, other_tasks, run_in_virtual_time


class Counting:
    """A section with one new number at each look. ``broken``: it has a bug."""

    def __init__(self) -> None:
        self.looks = 0
        self.quiet = self.broken = False

    async def whole(self, _moment: Moment) -> Sequence[Told]:
        return (("whole", BeatDocument(time="")),)

    async def news(self, _moment: Moment) -> Sequence[Told]:
        if self.broken:
            raise ValueError("a bug")
        self.looks += 1
        return () if self.quiet else (("news", BeatDocument(time=str(self.looks))),)


class Scene:
    """A feed over one section."""

    def __init__(self) -> None:
        self.counting = Counting()
        self.made = self.watched = 0
        self.feed = Feed(sections=self._sections, hello=_hello, clock=_moment, watched=self._watch)

    def _sections(self) -> Sequence[Section]:
        self.made += 1
        return (self.counting,)

    def _watch(self) -> None:
        self.watched += 1

    def tab(self) -> Tab:
        tab = self.feed.join()
        assert tab is not None
        return tab


def _moment() -> Moment:
    return Moment(now_s=loop_clock(), unix_s=0.0)


def _hello(moment: Moment) -> HelloDocument:
    return HelloDocument(
        time=moment.text, node="n", version="1", instance="i", interval_s=0.5, beat_s=5.0, tabs_max=64
    )


async def events(tab: Tab, count: int) -> list[str]:
    """The names of the next events of a tab, at least so many."""
    found: list[str] = []
    while len(found) < count:
        data = await tab.next()
        assert data is not None
        found += [line[7:] for line in data.decode().split("\n") if line.startswith("event: ")]
    return found


def test_tab_gets_hello_then_all_then_what_changes() -> None:
    async def main() -> None:
        scene = Scene()
        assert (await events(scene.tab(), 4))[:4] == ["hello", "whole", "news", "news"]
        await scene.feed.close()

    run_in_virtual_time(main())


def test_nothing_runs_while_no_tab_is_open() -> None:
    async def main() -> None:
        scene = Scene()
        tab = scene.tab()
        await events(tab, 3)
        scene.feed.leave(tab)
        await asyncio.sleep(1)
        assert not other_tasks()
        looks, watched = scene.counting.looks, scene.watched
        await asyncio.sleep(60)
        assert (scene.counting.looks, scene.watched, scene.feed.tabs) == (looks, watched, 0)
        await events(scene.tab(), 3)
        assert scene.made == 2
        await scene.feed.close()

    run_in_virtual_time(main())


def test_fifty_tabs_cost_one_look() -> None:
    async def main() -> None:
        scene = Scene()
        tabs = [scene.tab() for _ in range(50)]
        reading = [asyncio.create_task(events(tab, 21)) for tab in tabs]
        assert all(len(found) >= 21 for found in await asyncio.gather(*reading))
        assert scene.counting.looks <= 21
        await scene.feed.close()

    run_in_virtual_time(main())


def test_quiet_stream_beats() -> None:
    async def main() -> None:
        scene = Scene()
        scene.counting.quiet = True
        tab = scene.tab()
        await events(tab, 2)
        began_s = loop_clock()
        assert await events(tab, 3) == ["beat"] * 3
        assert loop_clock() - began_s <= 3 * BEAT_S + 0.1
        await scene.feed.close()

    run_in_virtual_time(main())


def test_tab_that_does_not_read_holds_nobody_up_and_gets_the_whole_picture_again() -> None:
    async def main() -> None:
        scene = Scene()
        slow, quick = scene.tab(), scene.tab()
        reading = asyncio.create_task(events(quick, FRAMES_MAX + 10))
        await asyncio.sleep(0.5 * (FRAMES_MAX + 30))
        assert len(await reading) >= FRAMES_MAX + 10
        assert len(slow.waiting) <= FRAMES_MAX
        assert (await events(slow, 2))[:2] == ["hello", "whole"]
        await scene.feed.close()

    run_in_virtual_time(main())


def test_there_are_no_more_tabs_than_there_may_be() -> None:
    async def main() -> None:
        scene = Scene()
        tabs = [scene.tab() for _ in range(TABS_MAX)]
        assert scene.feed.join() is None
        scene.feed.leave(tabs[0])
        assert scene.feed.join() is not None
        await scene.feed.close()

    run_in_virtual_time(main())


def test_streams_end_at_once_when_another_agent_answers_and_tabs_may_come_again() -> None:
    async def main() -> None:
        scene = Scene()
        tab = scene.tab()
        await events(tab, 2)
        waiting = asyncio.create_task(tab.next())
        await asyncio.sleep(0)
        scene.feed.end()
        while await waiting is not None:
            waiting = asyncio.create_task(tab.next())
        scene.feed.leave(tab)
        assert (await events(scene.tab(), 2))[0] == "hello"
        await scene.feed.close()
        await asyncio.sleep(0)
        assert not other_tasks()

    run_in_virtual_time(main())


def test_bug_in_a_section_ends_the_streams_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        scene = Scene()
        tab = scene.tab()
        await events(tab, 2)
        scene.counting.broken = True
        async with asyncio.timeout(10):
            while await tab.next() is not None:
                pass
        scene.feed.leave(tab)
        scene.counting.broken = False
        assert (await events(scene.tab(), 2))[0] == "hello"
        await scene.feed.close()

    run_in_virtual_time(main())
    assert "a bug" in caplog.text


def test_process_that_was_stopped_tells_no_burst_afterwards() -> None:
    async def main() -> None:
        scene = Scene()
        tab = scene.tab()
        await events(tab, 3)
        looks = scene.counting.looks
        await asyncio.sleep(0)
        scene.counting.quiet = True
        await asyncio.sleep(5)
        assert scene.counting.looks <= looks + 12
        await scene.feed.close()

    run_in_virtual_time(main())

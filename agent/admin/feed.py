"""One task makes the events for all open tabs, while any is open. Each frame is encoded once.

A tab that comes gets the whole picture, and then what changes. One that reads too slowly gets the whole
picture again. Nobody waits for it: see `agent.admin.frames`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from agent.admin.encoding import encoded
from agent.admin.frames import Waiting, frame
from agent.admin.sections import Section, Told
from agent.documents.events import BeatDocument, HelloDocument
from agent.documents.times import Moment
from agent.tasks import end_all

_log = logging.getLogger("shorthaul")

INTERVAL_S = 0.5
"""So often the sections are asked for news."""

BEAT_S = 5.0
"""A stream is quiet for so long at most."""

TABS_MAX = 64
"""So many streams may be open. A tab costs the agent a connection and what waits for it."""

_TOGETHER_S = 0.05  # tabs that come at once are given one picture


class Tab:
    """One open stream."""

    def __init__(self, wanting: Callable[[], None]) -> None:
        self.waiting = Waiting()
        self._wanting = wanting
        self._changed = asyncio.Event()
        self._ended = False

    def changed(self) -> None:
        """Something waits for it."""
        self._changed.set()

    def end(self) -> None:
        """It is to connect anew."""
        self._ended = True
        self._changed.set()

    async def next(self) -> bytes | None:
        """What is sent next. None: the stream ends."""
        while not self._ended:
            data = self.waiting.take()
            if data:
                return data
            if self.waiting.wants_whole:
                self._wanting()
            self._changed.clear()
            await self._changed.wait()
        return None


class Feed:
    """The streams of all tabs.

    ``sections``: makes those for the next time in which a tab is open. ``hello``: the first event.
    ``watched``: is called every `INTERVAL_S` while a tab is open.
    """

    def __init__(
        self,
        *,
        sections: Callable[[], Sequence[Section]],
        hello: Callable[[Moment], HelloDocument],
        clock: Callable[[], Moment],
        watched: Callable[[], None] = lambda: None,
    ) -> None:
        self._make_sections = sections
        self._hello = hello
        self._clock = clock
        self._watched = watched
        self._tabs: set[Tab] = set()
        self._producer: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._number = 0
        self._sent_s = 0.0

    @property
    def tabs(self) -> int:
        """How many streams are open."""
        return len(self._tabs)

    def join(self) -> Tab | None:
        """Another tab. It has to `leave`. None: there are as many as there may be."""
        if len(self._tabs) >= TABS_MAX:
            return None
        tab = Tab(self._wanted.set)
        self._tabs.add(tab)
        if self._producer is None:
            self._producer = asyncio.create_task(self._produce(), name="events")
            self._producer.add_done_callback(self._produced)
        return tab

    def leave(self, tab: Tab) -> None:
        """The tab is gone."""
        self._tabs.discard(tab)
        self._wanted.set()

    def end(self) -> None:
        """End the streams of now: another agent of this node answers, or this one stops."""
        for tab in self._tabs:
            tab.end()

    async def close(self) -> None:
        """End all streams, and the task behind them."""
        self.end()
        if self._producer is not None:
            await end_all([self._producer])

    def _produced(self, task: asyncio.Task[None]) -> None:
        self._producer = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the stream of events ended: a bug", exc_info=error)
        self.end()  # those that came meanwhile connect anew

    async def _produce(self) -> None:
        sections = self._make_sections()
        while self._tabs:
            self._wanted.clear()
            self._watched()
            await self._tell(sections)
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):
                    await self._wanted.wait()
                    await asyncio.sleep(_TOGETHER_S)

    async def _tell(self, sections: Sequence[Section]) -> None:
        moment = self._clock()
        if any(tab.waiting.is_whole for tab in self._tabs):
            await self._tell_news(sections, moment)
        if any(tab.waiting.wants_whole for tab in self._tabs):
            told: list[Told] = [(HelloDocument.EVENT, self._hello(moment))]
            for section in sections:
                told += await section.whole(moment)
            frames = await self._frames(told)
            for tab in self._tabs:
                if tab.waiting.wants_whole:
                    tab.waiting.give_whole(frames)
                    tab.changed()
            self._sent_s = moment.now_s

    async def _tell_news(self, sections: Sequence[Section], moment: Moment) -> None:
        told: list[Told] = []
        for section in sections:
            told += await section.news(moment)
        if not told and moment.now_s - self._sent_s >= BEAT_S - INTERVAL_S:
            told.append((BeatDocument.EVENT, BeatDocument(time=moment.text)))
        if not told:
            return
        self._sent_s = moment.now_s
        frames = await self._frames(told)
        for tab in self._tabs:
            for one in frames:
                tab.waiting.give(one)
            tab.changed()

    async def _frames(self, told: Iterable[Told]) -> tuple[bytes, ...]:
        frames = []
        for event, document in told:
            self._number += 1
            frames.append(frame(event, self._number, await encoded(document)))
        return tuple(frames)

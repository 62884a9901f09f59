"""What the stream of events tells, by subject: all of it for who comes, and what changed for the rest.

Each section remembers what it told last. A section lives while a tab is open.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from agent.admin.cluster import WAITING
from agent.admin.history import history_view
from agent.admin.map import Drawn, MapView, zones_of
from agent.documents.cluster import ClusterDocument
from agent.documents.pulls import PullEntry, PullsDocument
from agent.documents.requests import RequestDocument
from agent.documents.times import Moment
from agent.observe.pulls import ImagePulls
from agent.observe.requests import RecentRequests, RequestRecord
from agent.observe.tally import Tally, Track
from topology.placement import NodeName

_Document = TypeVar("_Document")

Told = tuple[str, object]
"""An event, and its document or documents."""

REQUESTS_FIRST, REQUESTS_MAX, PULLS_MAX = 50, 100, 30
_PULLS_S = 1.0
_CLUSTER_S, _CLUSTER_SOON_S = 5.0, 1.0
_VERDICT_S = 5.0  # a connection is judged in less
_FEW_NODES = 500  # a map of so many takes a few milliseconds
_REDRAW_S, _REDRAW_MANY_S = 1.0, 10.0
_LOOK_S = 30.0  # so often the costs between zones and this node's choice are looked at
_JUMP_S = 2.0  # the clock of the day was set


class Section(Protocol):
    """One subject. Both may let other tasks run."""

    async def whole(self, moment: Moment) -> Sequence[Told]:
        """All of it, for a tab that has nothing. Others are told the rest by `news`."""

    async def news(self, moment: Moment) -> Sequence[Told]:
        """What changed since the last call, if it is time to tell."""


class Watched(Generic[_Document]):
    """A document that is told when it changed, at most every ``every_s``.

    ``same``: the document without what changes by itself, such as ages. ``mark``: a cheap look that differs
    whenever the document may; None: there is none, and the document is made.
    """

    def __init__(
        self,
        event: str,
        look: Callable[[Moment], _Document],
        *,
        every_s: float,
        same: Callable[[_Document], object] = lambda document: document,
        mark: Callable[[Moment], object] | None = None,
    ) -> None:
        self._event = event
        self._look = look
        self._every_s = every_s
        self._same = same
        self._mark = mark
        self._marked: object = None
        self._told: object = None
        self._due_s = float("-inf")

    async def whole(self, moment: Moment) -> Sequence[Told]:
        """The document of now."""
        document = self._look(moment)
        if self._told is None:
            self._told = self._same(document)
            self._marked = None if self._mark is None else self._mark(moment)
            self._due_s = moment.now_s + self._every_s
        return ((self._event, document),)

    async def news(self, moment: Moment) -> Sequence[Told]:
        """The document, if it changed."""
        if moment.now_s < self._due_s:
            return ()
        self._due_s = moment.now_s + self._every_s
        if self._mark is not None:
            marked = self._mark(moment)
            if marked == self._marked and self._told is not None:
                return ()
            self._marked = marked
        document = self._look(moment)
        same = self._same(document)
        if same == self._told:
            return ()
        self._told = same
        return ((self._event, document),)


@dataclass(slots=True)
class _Unjudged:
    record: RequestRecord
    until_s: float


class NewRequests:
    """The requests that ended, oldest first. One whose connection is judged later comes once more."""

    def __init__(self, recent: RecentRequests) -> None:
        self._recent = recent
        self._seen = recent.added
        self._unjudged: list[_Unjudged] = []

    async def whole(self, moment: Moment) -> Sequence[Told]:
        """The last requests that others were told of, too."""
        skipped = self._recent.added - self._seen
        last = self._recent.newest(skipped + REQUESTS_FIRST)[skipped:]
        return (("requests", _documents(reversed(last))),)

    async def news(self, moment: Moment) -> Sequence[Told]:
        """Those that ended since, and those that were judged since."""
        added = self._recent.added - self._seen
        if not added and not self._unjudged:
            return ()
        self._seen += added
        new = [*reversed(self._recent.newest(min(added, REQUESTS_MAX)))]
        judged = [each.record for each in self._unjudged if each.record.verdict is not None]
        self._unjudged = [
            each for each in self._unjudged if each.record.verdict is None and moment.now_s < each.until_s
        ]
        self._unjudged += [_Unjudged(one, moment.now_s + _VERDICT_S) for one in new if one.verdict is None]
        told = _documents([*judged, *new])
        return (("requests", told),) if told else ()


def _documents(records: Iterable[RequestRecord]) -> tuple[RequestDocument, ...]:
    return tuple(record.document() for record in records)


class Pulls:
    """Pulls of images: the last of them, then those that changed. Bytes move while one is under way."""

    def __init__(self, own: NodeName, pulls: ImagePulls) -> None:
        self._own = own
        self._pulls = pulls
        self._told: dict[str, PullEntry] = {}
        self._changes = -1
        self._due_s = float("-inf")

    async def whole(self, moment: Moment) -> Sequence[Told]:
        """The last pulls."""
        return (self._event(moment, self._pulls.newest_first(PULLS_MAX)),)

    async def news(self, moment: Moment) -> Sequence[Told]:
        """Those that changed since."""
        moves = self._pulls.under_way or self._changes != self._pulls.changes
        if moment.now_s < self._due_s or not moves:
            return ()
        self._due_s = moment.now_s + _PULLS_S
        self._changes = self._pulls.changes
        now = {pull.id: pull for pull in self._pulls.newest_first()}  # an old one may be under way in a page
        changed = tuple(pull for pull in now.values() if self._told.get(pull.id) != pull)
        self._told = now
        return (self._event(moment, changed),) if changed else ()

    def _event(self, moment: Moment, pulls: tuple[PullEntry, ...]) -> Told:
        return "pulls", PullsDocument(time=moment.text, node=self._own, pulls=pulls)


class History:
    """The steps that ended. All of them again if the clock of the day was set: their times moved with it."""

    def __init__(self, own: NodeName, tally: Tally) -> None:
        self._own = own
        self._tally = tally
        self._tracks: tuple[Track, ...] = (tally.steps, tally.minutes)
        self._told = [track.added for track in self._tracks]
        self._offset_s: float | None = None

    async def whole(self, moment: Moment) -> Sequence[Told]:
        """All steps that are kept."""
        return tuple(self._event(track, moment, None) for track in self._tracks)

    async def news(self, moment: Moment) -> Sequence[Told]:
        """One new step of a track, or all, if there were several or the clock was set."""
        offset_s, before_s = moment.unix_s - moment.now_s, self._offset_s
        jumped = before_s is not None and abs(offset_s - before_s) > _JUMP_S
        self._offset_s = offset_s if before_s is None or jumped else before_s
        told = []
        for place, track in enumerate(self._tracks):
            new = track.added - self._told[place]
            self._told[place] = track.added
            if new or jumped:
                told.append(self._event(track, moment, 1 if new == 1 and not jumped else None))
        return told

    def _event(self, track: Track, moment: Moment, last: int | None) -> Told:
        return "history", history_view(self._own, self._tally, track, moment, last=last)


class Cluster:
    """What was gathered from all nodes: soon after a tab comes, and then about as often as it changes.

    ``silent``: who does not answer. If others do so than before, the map says so within a second, and the
    figures are not to contradict it for longer.
    """

    def __init__(
        self,
        look: Callable[[Moment], ClusterDocument],
        *,
        silent: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._look = look
        self._silent = silent
        self._told_silent = silent()
        self._told_s = float("-inf")
        self._told: ClusterDocument | None = None
        self._due_s = float("-inf")

    async def whole(self, moment: Moment) -> Sequence[Told]:
        """What is known by now."""
        return (("cluster", self._look(moment)),)

    async def news(self, moment: Moment) -> Sequence[Told]:
        """What changed, but for ages."""
        silent = self._silent()
        is_outdated = silent != self._told_silent and moment.now_s - self._told_s >= _CLUSTER_SOON_S
        if moment.now_s < self._due_s and not is_outdated:
            return ()
        document = self._look(moment)
        self._told_silent, self._told_s = silent, moment.now_s
        is_begun = not any(node.says == WAITING for node in document.nodes)
        self._due_s = moment.now_s + (max(_CLUSTER_S, document.round_s) if is_begun else _CLUSTER_SOON_S)
        same = _ageless(document)
        if same == self._told:
            return ()
        self._told = same
        return (("cluster", document),)


def _ageless(document: ClusterDocument) -> ClusterDocument:
    """Without what changes by itself."""
    return replace(
        document,
        time="",
        window=replace(document.window, seconds=0.0),
        total=replace(document.total, seconds=0.0),
        zones=tuple(
            replace(
                zone,
                oldest_s=None,
                window=replace(zone.window, seconds=0.0),
                total=replace(zone.total, seconds=0.0),
            )
            for zone in document.zones
        ),
        nodes=tuple(replace(node, age_s=None, uptime_s=None) for node in document.nodes),
    )


class Map:
    """The map, and what changes in it. A map of many nodes is drawn anew at most every ten seconds."""

    def __init__(self, view: MapView) -> None:
        self._view = view
        self._drawn: Drawn | None = None
        self._number = 0
        self._drawn_s = self._looked_s = self._changes_s = float("-inf")

    async def whole(self, moment: Moment) -> Sequence[Told]:
        """The map, as up to date as others have it."""
        drawn = self._drawn or await self._draw(moment)
        return (("map", drawn.document(self._view.roster.own, moment)),)

    async def news(self, moment: Moment) -> Sequence[Told]:
        """A new map if nodes came, left or moved; else the nodes that changed."""
        drawn = self._drawn
        if drawn is None:
            return await self.whole(moment)
        if self._is_outdated(drawn, moment.now_s):
            drawn = await self._draw(moment)
            return (("map", drawn.document(self._view.roster.own, moment)),)
        if moment.now_s - self._looked_s >= _LOOK_S and await self._looks_different(drawn, moment):
            return (("map", drawn.document(self._view.roster.own, moment)),)
        if moment.now_s - self._changes_s < 1.0:
            return ()
        self._changes_s = moment.now_s
        changes = self._view.changes(drawn, moment)
        return () if changes is None else (("nodes", changes),)

    def _is_outdated(self, drawn: Drawn, now_s: float) -> bool:
        snapshot = self._view.roster.snapshot
        many = len(snapshot.standings) > _FEW_NODES
        if now_s - self._drawn_s < (_REDRAW_MANY_S if many else _REDRAW_S):
            return False
        return snapshot.generation != drawn.generation or zones_of(snapshot) != drawn.zones

    async def _looks_different(self, drawn: Drawn, moment: Moment) -> bool:
        """Whether the costs between zones or this node's choice changed. They are in the map then."""
        self._looked_s = moment.now_s
        return await self._view.look_again(drawn, moment)

    async def _draw(self, moment: Moment) -> Drawn:
        self._number += 1
        self._drawn = await self._view.draw(moment, self._number)
        self._drawn_s = self._looked_s = self._changes_s = moment.now_s
        return self._drawn

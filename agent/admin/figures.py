"""What this node tells others about itself, when they ask. Made at most once a second, whoever asks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent import __version__
from agent.admin.readiness import Phase, Readiness
from agent.admin.sums import sums_entry
from agent.content.scrub import Scrubber
from agent.content.store import ContentStore
from agent.documents.cluster import FiguresEntry
from agent.documents.index import IndexState
from agent.flows.book import FlowBook
from agent.holders.index import HolderIndex
from agent.listen.traffic import Traffic
from agent.observe.tally import Tally
from agent.transfer.executor import Puller

_FRESH_S = 1.0
_WORDS_MAX = 120

_PHASES = {
    Phase.STARTING: "starting",
    Phase.TAKING_OVER: "starting",
    Phase.SERVING: "serving",
    Phase.STANDING_BY: "standing_by",
    Phase.STOPPING: "stopping",
}


@dataclass(slots=True, kw_only=True)
class Figures:
    """Reads the state of the agent's parts."""

    store: ContentStore
    scrubber: Scrubber
    index: HolderIndex
    puller: Puller
    traffic: Traffic
    book: FlowBook
    readiness: Readiness
    tally: Tally
    clock: Callable[[], float] = time.monotonic
    _made: tuple[float, FiguresEntry] | None = field(default=None, init=False)

    def now(self) -> FiguresEntry:
        """The figures of now, or of a second ago."""
        now_s = self.clock()
        if self._made is None or not 0 <= now_s - self._made[0] < _FRESH_S:
            self._made = now_s, self._make(now_s)
        return self._made[1]

    def _make(self, now_s: float) -> FiguresEntry:
        reason, tally = self.readiness.reason(), self.tally
        return FiguresEntry(
            version=__version__,
            uptime_s=round(max(0.0, now_s - tally.began_s), 3),
            ready=reason is None,
            why_not_ready=(reason or "")[:_WORDS_MAX],
            phase=_PHASES[self.readiness.phase],
            proved=self.book.proved(now_s)[0] if self.book.connected else None,
            index_down=self.index.status().state is IndexState.DOWN,
            unreadable=len(self.store.unreadable),
            corrupt=len(self.scrubber.withdrawn),
            uploads=self.traffic.uploads,
            downloads=len(self.puller.running),
            window=sums_entry(tally.window(), tally.window_s(now_s)),
            total=sums_entry(tally.total(), now_s - tally.began_s),
        )

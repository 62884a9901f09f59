"""What this node tells others: small, and made at most once a second, whoever asks."""

from typing import Any

from agent.admin.cluster import is_plausible
from agent.admin.figures import Figures
from agent.admin.readiness import Phase, Readiness
from agent.config import ScrubSettings
from agent.content.scrub import Scrubber
from agent.documents.codec import encode
from agent.flows.book import FlowBook
from agent.observe.components import Component
from agent.observe.metrics import Metrics
from agent.observe.tally import Tally
from tests.unit.agent.admin.test_index import DOWN
from tests.unit.agent.content.test_scrub import MemoryStore
from tests.unit.agent.observe.test_tally import Clock, local
from topology.ledger import CostLedger, Prices


class Nothing:
    """The parts of an agent that has nothing under way."""

    running: tuple[()] = ()
    uploads = 0

    def status(self) -> Any:
        return DOWN


def made(clock: Clock, *, problem: str | None = None) -> tuple[Figures, Readiness, Tally]:
    store, nothing, readiness = MemoryStore(), Nothing(), Readiness()
    readiness.watch([Component(key="the_store", name="the store", problem=lambda: problem, hint="")])
    tally = Tally(CostLedger(Prices()), clock=clock)
    figures = Figures(
        store=store,
        scrubber=Scrubber(store, ScrubSettings(), Metrics()),
        index=nothing,  # type: ignore[arg-type]
        puller=nothing,  # type: ignore[arg-type]
        traffic=nothing,  # type: ignore[arg-type]
        book=FlowBook(own="n", canary_interval_s=15.0),
        readiness=readiness,
        tally=tally,
        clock=clock,
    )
    return figures, readiness, tally


def test_figures_are_plausible_and_smaller_than_two_kilobytes() -> None:
    clock = Clock()
    figures, readiness, tally = made(clock, problem="x" * 500)
    readiness.phase = Phase.SERVING
    for _ in range(1000):
        tally.request(local(10**9))
    clock.now_s += 100_000
    found = figures.now()
    assert is_plausible(found)
    assert len(encode(found)) < 2000
    assert (found.ready, found.why_not_ready, found.phase) == (False, "x" * 120, "serving")
    assert found.proved is None


def test_figures_are_made_at_most_once_a_second() -> None:
    clock = Clock()
    figures, readiness, tally = made(clock)
    readiness.phase = Phase.SERVING
    first = figures.now()
    tally.request(local())
    clock.now_s += 0.9
    assert figures.now() is first
    clock.now_s += 0.2
    assert figures.now().total.requests == 1


def test_every_phase_has_its_word() -> None:
    words = set()
    for phase in Phase:
        figures, readiness, _ = made(Clock())
        readiness.phase = phase
        words.add(figures.now().phase)
    assert words == {"starting", "serving", "standing_by", "stopping"}

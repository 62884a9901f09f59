"""Pulls each size by each way in turn, and tells the report. What fails is said, and left out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.coldstart.fleet import Outcome, Release
from benchmarks.lab.process import LabError
from benchmarks.pull.plan import Phase, Size, Turn, Way, batches, turns
from benchmarks.pull.stage import Pulls, Stage
from benchmarks.reporting.format import Better, Figure
from benchmarks.reporting.losses import losses, middle
from benchmarks.reporting.quantiles import at, shown
from benchmarks.reporting.recorder import Recorder

_MB = 1e6
_WARM = Size(megabytes=1, layers=1)
_ALONE = Size(megabytes=10, layers=1)
ALONE = "pull: one node alone, which is the first"
OURS = (Way.SHORTHAUL.value, Way.CLUSTER.value)
THEIRS = (Way.REGISTRY.value, Way.NGINX.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    """One line of the table of a size. ``between``: it is about what is between the nodes and the registry,
    so there is no such figure where nothing is.
    """

    what: str
    unit: str
    of: Callable[[Pulls], float]
    between: bool = False

    def is_of(self, way: Way) -> bool:
        """Whether that way has it."""
        return way is not Way.REGISTRY or not self.between


def _pull_s(share: float) -> Callable[[Pulls], float]:
    return lambda pulls: at(sorted(pulls.outcome.seconds.values()), share)


_FIGURES = (
    _Figure(what="a node's pull, p50", unit="s", of=_pull_s(0.5)),
    _Figure(what="a node's pull, p95", unit="s", of=_pull_s(0.95)),
    _Figure(what="until the last node has it", unit="s", of=lambda pulls: pulls.outcome.whole_s),
    _Figure(what="from the registry", unit="MB", of=lambda pulls: pulls.outcome.registry_bytes / _MB),
    _Figure(
        what="from zone to zone",
        unit="MB",
        of=lambda pulls: pulls.outcome.crossed_bytes / _MB,
        between=True,
    ),
    _Figure(
        what="CPU of all agents, or of nginx", unit="CPU-s", of=lambda pulls: pulls.mirror_cpu_s, between=True
    ),
    _Figure(what="CPU of everything", unit="CPU-s", of=lambda pulls: pulls.all_cpu_s),
)
_LAST = _FIGURES[2]


Images = Mapping[Phase, Release]
"""What one size needs: a release for each phase."""


class Measurement:
    """All turns of a run. ``method``: in words, for the report."""

    def __init__(self, report: Recorder, stage: Stage, method: str) -> None:
        self._report = report
        self._stage = stage
        self._method = method
        self._small: tuple[Release, Release] | None = None

    def run(self, rounds: Mapping[Size, int], ways: Sequence[Way]) -> None:
        """Measure all, batch after batch. ``rounds``: how often each size."""
        self._begin_alone()
        for batch in batches(rounds):
            made = {size: images for size in batch if (images := self._images(size)) is not None}
            for turn in turns([*made], ways, rounds) if made else ():
                self._take(turn, made)
            for size in made:
                self._judge(section_name(size))
        self._judge(ALONE)

    def _images(self, size: Size) -> Images | None:
        """A release for each phase. None: they could not be made, which is said."""
        self._report.step(f"images of {size}")
        try:
            self._small = self._small or (self._stage.release(_WARM, 100), self._stage.release(_ALONE, 101))
            return {phase: self._stage.release(size, 1 + number) for number, phase in enumerate(Phase)}
        except (LabError, OSError) as error:
            self._report.problem(f"{size}: left out, because its images could not be made: {error}")
            return None

    def _begin(self, size: Size) -> None:
        self._report.begin(
            section_name(size),
            question=f"How long do {len(self._stage.nodes)} nodes take to get an image of {size}, and what "
            "does it cost the registry, the network between zones and the processors?",
            method=self._method,
        )

    def _begin_alone(self) -> None:
        self._report.begin(
            ALONE,
            question="What does it cost the first node that something is between it and the registry?",
            method=f"One node pulls an image of {_ALONE} that no other node has, before each turn of the "
            "other tables. A mirror can't help here: it is asked first, and then the registry all the same.",
        )

    def _take(self, turn: Turn, made: Mapping[Size, Images]) -> None:
        name = f"round {turn.number + 1}, {turn.way.value}"
        self._report.step(name)
        left = [(size, phase) for size in turn.sizes for phase in Phase]
        alone_is_told = False
        try:
            with self._stage.ready(turn.way):
                self._tell_alone(turn.way, self._alone(turn.way))
                alone_is_told = True
                for size, phase in [*left]:
                    self._report.step(f"{name}: {size}, {phase.value}")
                    self._tell(turn.way, size, phase, self._stage.pull(turn.way, phase, made[size][phase]))
                    left.remove((size, phase))
        except (LabError, OSError) as error:
            self._report.problem(f"{name}: {error}")
        if not alone_is_told:
            self._tell_alone(turn.way, None)
        for size, phase in left:
            self._tell(turn.way, size, phase, None)

    def _alone(self, way: Way) -> Pulls:
        """Before that, every part does all of it once: nothing is compiled or loaded while it is measured."""
        assert self._small is not None, "made with the first images"
        warm, alone = self._small
        self._stage.pull(way, Phase.CREATE, warm)
        return self._stage.pull(way, Phase.CREATE, alone, [self._stage.nodes[0].name])

    def _tell_alone(self, way: Way, pulls: Pulls | None) -> None:
        """``pulls``: None if it failed. Rounds are compared by their number, so it has its place."""
        self._begin_alone()
        whole = None if pulls is None else self._whole(f"{way.value}, one node alone", pulls)
        self._report.value(
            f"{_ALONE}: the pull",
            "s",
            whole.outcome.whole_s if whole else None,
            way=way.value,
            baseline=Way.REGISTRY.value,
        )

    def _tell(self, way: Way, size: Size, phase: Phase, pulls: Pulls | None) -> None:
        self._begin(size)
        whole = None if pulls is None else self._whole(f"{way.value}, {size}, {phase.value}", pulls)
        for figure in _FIGURES:
            if figure.is_of(way):
                self._report.value(
                    f"{phase.value}: {figure.what}",
                    figure.unit,
                    None if whole is None else figure.of(whole),
                    way=way.value,
                    baseline=(Way.NGINX if figure.between else Way.REGISTRY).value,
                    better=Better.LOWER,
                )

    def _whole(self, name: str, pulls: Pulls) -> Pulls | None:
        """The pulls, if nothing went wrong. Otherwise says what did: survivors alone would look too good."""
        for problem in problems(name, pulls.outcome, pulls.dead):
            self._report.problem(problem)
        return None if pulls.outcome.failures or pulls.dead else pulls

    def _judge(self, name: str) -> None:
        section = next((each for each in self._report.sections if each.name == name), None)
        if section is None:
            return
        self._report.begin(name)
        for phase in Phase:
            figure = section.figure(f"{phase.value}: {_LAST.what}")
            if figure is not None and (words := _in_a_row(figure)):
                self._report.verdict(f"{phase.value}, the last node has it after {words}")
        for words in losses(section, OURS, THEIRS):
            self._report.loss(words)


def _in_a_row(figure: Figure) -> str:
    """What each way took, the fastest first."""
    found = [(value, each.way) for each in figure.series if (value := middle(figure, each.way)) is not None]
    return ", ".join(f"{shown(value)} {figure.unit} ({way})" for value, way in sorted(found))


def section_name(size: Size) -> str:
    """The section of a size."""
    return f"pull: {size}"


def problems(name: str, outcome: Outcome, dead: Sequence[str]) -> Iterator[str]:
    """What went wrong in one measurement, in words."""
    count = len(outcome.seconds) + len(outcome.failures)
    if outcome.failures:
        yield (
            f"{name}: {len(outcome.failures)} of {count} pulls failed, so this round is left out: "
            f"{outcome.failures[0]}"
        )
    for each in dead:
        yield f"{name}: {each} ended meanwhile, so this round is left out. It is started again for the next"

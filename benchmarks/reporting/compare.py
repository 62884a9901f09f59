"""What changed between two reports, and what of it is larger than noise. Pure.

On another machine seconds are not comparable. Counts are, and so are ratios between ways that were measured
in turn in one run, because both met the same machine in the same minute.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from benchmarks.reporting.format import Better, Figure, Machine, Report, Section, Series
from benchmarks.reporting.histogram import from_text, quantile_s
from benchmarks.reporting.noise import ENOUGH, FLOOR, Change, change, changed, suspected
from benchmarks.reporting.quantiles import COUNTED_UNITS, TIMED_UNITS, in_unit

YARDSTICK = "yardstick"
"""The section that times the machine itself, in every report."""

_BUSY_PERCENT = 25.0

QUANTILES = ((0.5, "p50"), (0.99, "p99"))
"""Which quantiles of histograms are compared."""


class Incomparable(Exception):
    """The two reports have nothing in common that could be compared. ``hint``: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Verdict(StrEnum):
    """What a change is."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    NOISE = "noise"
    PERHAPS = "perhaps"
    """It looks so, with too few repeats to be sure, or among so many figures that chance does as much."""
    UNKNOWN = "too few repeats"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure in both reports. ``what``: with the way and the quantile."""

    section: str
    what: str
    unit: str
    better: str
    change: Change
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``notes``: what must be known to read the rows. ``floor``: what a change had to exceed, as a share."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    floor: float = FLOOR

    def only(self, *verdicts: Verdict) -> list[Row]:
        """The rows with these verdicts."""
        return [row for row in self.rows if row.verdict in verdicts]


@dataclass(frozen=True, slots=True)
class _Pair:
    """The values of one figure in both reports, one for each repeat."""

    section: str
    what: str
    unit: str
    better: str
    old: Sequence[float]
    new: Sequence[float]
    one_go: bool = False
    """The values are of one repeat: they don't show how much runs differ."""

    @property
    def change(self) -> Change | None:
        """What changed."""
        found = change(self.old, self.new, counted=self.unit in COUNTED_UNITS and not self.one_go)
        return replace(found, repeats=1) if self.one_go and found is not None else found


def compare(old: Report, new: Report) -> Comparison:
    """Compare every figure that both have. Raises `Incomparable` if there is none."""
    same_machine = old.machine.identity == new.machine.identity
    drift = _drift(old, new) if same_machine else _Drift()
    pairs = [*_pairs(old, new, ratios_too=bool(not same_machine or drift.most))]
    if not same_machine:
        pairs = [pair for pair in pairs if pair.unit not in TIMED_UNITS]
    if not pairs:
        raise _nothing(old, new, same_machine=same_machine)
    floor = max(FLOOR, drift.most)
    busy = any(_busy(report.machine) for report in (old, new))
    changes = [pair.change for pair in pairs]
    rows = tuple(
        _row(pair, found, likely and not (busy and pair.unit in TIMED_UNITS), floor)
        for pair, found, likely in zip(pairs, changes, changed(changes, floor), strict=True)
        if found is not None
    )
    notes = (*_machine_notes(old.machine, new.machine), *drift.notes, *_report_notes(old, new))
    return Comparison(rows=rows, notes=notes, floor=floor)


def _row(pair: _Pair, found: Change, likely: bool, floor: float) -> Row:
    return Row(
        section=pair.section,
        what=pair.what,
        unit=pair.unit,
        better=pair.better,
        change=found,
        verdict=_verdict(pair.better, found, likely, floor),
    )


def _verdict(better: str, found: Change, likely: bool, floor: float) -> Verdict:
    if not likely:
        if suspected(found, floor):
            return Verdict.PERHAPS
        return Verdict.NOISE if found.exact or found.repeats >= ENOUGH else Verdict.UNKNOWN
    if better == Better.NEITHER:
        return Verdict.CHANGED
    return Verdict.BETTER if (found.ratio < 0) == (better == Better.LOWER) else Verdict.WORSE


def _pairs(old: Report, new: Report, *, ratios_too: bool) -> Iterator[_Pair]:
    """``ratios_too``: of ways of one run, where the machine is not the same or not as fast.

    Otherwise they would say everything twice, and the more figures there are, the less is sure of each.
    """
    for section in new.sections:
        before = old.section(section.name)
        if before is not None and section.name != YARDSTICK:
            yield from _section_pairs(before, section, ratios_too=ratios_too)


def _section_pairs(old: Section, new: Section, *, ratios_too: bool = False) -> Iterator[_Pair]:
    for figure in new.figures:
        before = old.figure(figure.what)
        if before is None or before.unit != figure.unit:
            continue
        for series in figure.series:
            other = before.way(series.way)
            if other is not None:
                yield from _series_pairs(new.name, figure, other, series)
        if ratios_too:
            yield from _ratio_pairs(new.name, before, figure)


def _series_pairs(section: str, figure: Figure, old: Series, new: Series) -> Iterator[_Pair]:
    what = f"{figure.what}, {new.way}" if new.way else figure.what
    if new.histograms and old.histograms:
        for quantile, name in QUANTILES:
            before, now = (of_repeats(each, quantile, figure.unit) for each in (old, new))
            yield _Pair(section, f"{what}, {name}", figure.unit, figure.better, before, now)
    elif old.measured and new.measured:
        one_go = old.samples is not None or new.samples is not None
        yield _Pair(section, what, figure.unit, figure.better, old.measured, new.measured, one_go)


def _ratio_pairs(section: str, old: Figure, new: Figure) -> Iterator[_Pair]:
    """Each way divided by the baseline, round by round."""
    for series in new.series:
        if not new.baseline or series.way == new.baseline:
            continue
        before, now = (ratios(figure, series.way) for figure in (old, new))
        if before and now:
            what = f"{new.what}, {series.way} / {new.baseline}"
            yield _Pair(section, what, "×", new.better, before, now)


def ratios(figure: Figure, way: str) -> list[float]:
    """A way's values, or its p50, divided by the baseline's of the same round. Empty without both."""
    mine, base = figure.way(way), figure.way(figure.baseline)
    if mine is None or base is None:
        return []
    pairs = zip(_repeats(mine, figure.unit), _repeats(base, figure.unit), strict=False)
    return [one / other for one, other in pairs if one is not None and other]


def same_rounds(figure: Figure, way: str) -> bool:
    """Whether a way and the baseline were measured in the same rounds."""
    mine, base = figure.way(way), figure.way(figure.baseline)
    if mine is None or base is None:
        return False
    known, known_base = ([each is not None for each in _repeats(one, figure.unit)] for one in (mine, base))
    return known == known_base


def _repeats(series: Series, unit: str) -> Sequence[float | None]:
    """One for each round. None: nothing was measured in it, and the others keep their places."""
    if not series.histograms:
        return series.values
    rounds = [quantile_s(from_text(each), 0.5) for each in series.histograms]
    return [None if math.isnan(each) else in_unit(each, unit) for each in rounds]


def of_repeats(series: Series, quantile: float, unit: str) -> list[float]:
    """This quantile of each repeat's histogram, in the unit that the figure is shown in."""
    found = (from_text(each) for each in series.histograms)
    return [in_unit(quantile_s(each, quantile), unit) for each in found if each.get_total_count()]


@dataclass(frozen=True, slots=True)
class _Drift:
    """How much the machine itself changed between the reports. ``most``: as a share."""

    most: float = 0.0
    notes: tuple[str, ...] = field(default=())


def _drift(old: Report, new: Report) -> _Drift:
    before, after = old.section(YARDSTICK), new.section(YARDSTICK)
    if before is None or after is None:
        return _Drift(0.0, ("one report has no yardstick: whether the machine was as fast is not known",))
    pairs = [*_section_pairs(before, after)]
    changes = [change(pair.old, pair.new) for pair in pairs]
    found = [
        (abs(each.ratio), f"{pair.what} {100 * each.ratio:+.0f} %")
        for pair, each, likely in zip(pairs, changes, changed(changes), strict=True)
        if each is not None and likely
    ]
    if not found:
        return _Drift()
    words = ", ".join(text for _, text in found)
    most = max(share for share, _ in found)
    return _Drift(
        most,
        (f"the machine itself changed ({words}): smaller changes than {100 * most:.0f} % count as noise",),
    )


def _machine_notes(old: Machine, new: Machine) -> Iterator[str]:
    if old.identity != new.identity:
        yield (
            f"another machine (then {_machine(old)}; now {_machine(new)}): seconds and rates are left out, "
            "and ratios between ways of one run are compared"
        )
    elif old.kernel != new.kernel:
        yield f"another kernel: then {old.kernel}, now {new.kernel}"
    for when, machine in (("then", old), ("now", new)):
        if _busy(machine):
            yield (
                f"{when} others took {machine.busy_percent:.0f} % of the processors while nothing was "
                "measured: times are “perhaps” changed at most"
            )
        if machine.steal_percent is not None and machine.steal_percent >= 5:
            yield f"{when} other guests took {machine.steal_percent:.0f} % of the processors"


def _busy(machine: Machine) -> bool:
    return machine.busy_percent is not None and machine.busy_percent > _BUSY_PERCENT


def _machine(machine: Machine) -> str:
    memory = f"{machine.memory_mib / 1024:.0f} GiB"
    return ", ".join(
        filter(None, (machine.processor, f"{machine.processors} processors", memory, machine.virtual))
    )


def _report_notes(old: Report, new: Report) -> Iterator[str]:
    for when, report in (("the old report", old), ("the new report", new)):
        if not report.complete:
            yield f"{when} is not complete: {'; '.join(report.problems) or 'it does not say why'}"
    missing = [each.name for each in old.sections if new.section(each.name) is None]
    if missing:
        yield f"only the old report has: {', '.join(missing)}"


def _nothing(old: Report, new: Report, *, same_machine: bool) -> Incomparable:
    if not same_machine and [*_pairs(old, new, ratios_too=True)]:
        return Incomparable(
            f"the old report is of another machine ({_machine(old.machine)}), and nothing in it is a "
            "count or a ratio between ways of one run",
            "measure the older version again on this machine",
        )
    return Incomparable(
        f"the old report ({old.name}) and this one ({new.name}) have no figure in common",
        f"compare with a report of: python -m benchmarks {new.name} --json FILE",
    )

"""Writes the figures of a run into the pages that show them: between two marks, and the rest stays.

<!-- simulator: everyone -->
... a table, written anew ...
<!-- /simulator: everyone -->
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.reporting import marks
from benchmarks.simulator.figures import Figures
from benchmarks.simulator.judging import Judged
from benchmarks.simulator.plots import words
from benchmarks.simulator.table import copies, markdown, number, verdicts

_KIND = "simulator"


def fill(text: str, parts: Mapping[str, str]) -> str:
    """The page with these parts. A part that is not given stays as it is."""
    return marks.fill(text, _KIND, parts)


def marked(text: str) -> Sequence[str]:
    """The names of the parts that a page has."""
    return [name for name, _ in marks.parts_of(text, _KIND)]


def parts_of(runs: Sequence[Figures], judged: Sequence[Judged]) -> Mapping[str, str]:
    """All parts: a table for each workload, the short table of the README, the picture, the promises."""
    by_workload: dict[str, list[Figures]] = {}
    for run in runs:
        by_workload.setdefault(run.workload, []).append(run)
    parts = {workload: f"{size(these)}\n\n{markdown(these)}" for workload, these in by_workload.items()}
    everyone = by_workload.get("everyone", [])
    if everyone:
        parts["short"] = f"{size(everyone)}\n\n{_short(everyone)}"
        parts["picture"] = f"![{words(everyone)}](docs/pictures/simulator-everyone.png)"
        parts["picture-here"] = f"![{words(everyone)}](pictures/simulator-everyone.png)"
    parts["promises"] = "\n".join(f"- {line}" for line in verdicts(judged))
    return parts


def write_pages(pages: Sequence[Path], parts: Mapping[str, str]) -> None:
    """Write the parts into the pages."""
    for page in pages:
        page.write_text(fill(page.read_text(), parts))


def size(runs: Sequence[Figures]) -> str:
    """Of which size the runs are, in a sentence."""
    sizes = dict.fromkeys((run.nodes, run.zones, run.size_bytes, run.seed) for run in runs)
    texts = [
        f"{nodes:,} nodes in {zones} zones, {size_bytes / 1e6:,.0f} MB, seed {seed}"
        for nodes, zones, size_bytes, seed in sizes
    ]
    return "; ".join(texts) + "."


_SHORT: Sequence[tuple[str, Callable[[Figures], str]]] = (
    ("policy", lambda run: run.policy if run.scope == "none" else f"{run.policy}, scope {run.scope}"),
    ("p50, s", lambda run: number(run.p50_s)),
    ("p99, s", lambda run: number(run.p99_s)),
    ("registry asked, per blob and scope", lambda run: number(run.fetches_per_scope)),
    ("registry sent, GB", lambda run: number(run.registry_copies * run.size_bytes / 1e9)),
    ("across zones, × the least", lambda run: copies(run.crossed_copies)),
    ("USD", lambda run: f"{run.usd:,.2f}"),
)


def _short(runs: Sequence[Figures]) -> str:
    rows = [[head for head, _ in _SHORT], ["---"] * len(_SHORT)]
    rows += [[value(run) for _, value in _SHORT] for run in runs]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)

"""Findings of the preflight as a table, for ``verify`` and ``doctor``."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from agent.preflight.check import Check, Status

_STATUS_STYLES = {
    Status.GOOD: "green",
    Status.WARN: "yellow",
    Status.BAD: "bold red",
    Status.UNKNOWN: "magenta",
}


def checks_table(checks: Iterable[Check], *, title: str) -> Table:
    """Findings, one a row: how it is, what was looked at, what was found and what to do."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", show_header=False)
    for check in checks:
        detail = Text(check.detail, overflow="fold")  # a path is worth nothing without its end
        if check.hint and check.status is not Status.GOOD:
            detail.append(f"\n→ {check.hint}", style="dim")
            for line in check.lines:
                detail.append(f"\n    {line}" if line else "\n", style="bold")
        table.add_row(Text(check.status.value, style=_STATUS_STYLES[check.status]), check.name, detail)
    return table

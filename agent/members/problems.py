"""What is wrong around this node, as an operator should know it: `/api/topology` lists it, the log tells it.

Whoever finds problems owns a source here, and replaces its problems as a whole. A problem is logged when it
appears and when it is over, not each time that it is found again.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from topology.placement import NodeName

_log = logging.getLogger("shorthaul")

_EACH_MAX = 20  # problems of one source: after so many, a person looks for their common cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem with a node, and what to do about it."""

    node: NodeName
    problem: str
    hint: str


class Problems:
    """The problems of now, by their sources."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[Problem, ...]] = {}
        self._more: dict[str, int] = {}  # how many others a source has

    @property
    def all(self) -> tuple[Problem, ...]:
        """All problems, by source."""
        return tuple(problem for found in self._found.values() for problem in found)

    def found(self, source: str, problems: Iterable[Problem]) -> None:
        """These are the problems of this source now. Logs the new ones, and those that are over."""
        before, now = self._found.get(source, ()), tuple(dict.fromkeys(problems))
        more_before, more = self._more.get(source, 0), max(0, len(now) - _EACH_MAX)
        self._found[source], self._more[source] = now[:_EACH_MAX], more
        for problem in now[:_EACH_MAX]:
            if problem not in before:
                _log.warning(
                    "%s: %s",
                    source,
                    problem.problem,
                    extra={"fields": {"node": problem.node, "hint": problem.hint}},
                )
        if more and more != more_before:
            _log.warning("%s: %s more problems", source, more)
        for problem in before:
            if problem not in now:
                _log.info("%s: over: %s", source, problem.problem, extra={"fields": {"node": problem.node}})

"""What is wrong around this node, as an operator should know it: `/api/topology` lists it, the log tells it.

Whoever finds problems owns a source here, and replaces its problems as a whole. A problem is logged when it
appears and when it is over, not each time that it is found again.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

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
        self._found: dict[str, dict[Problem, None]] = {}
        self._logged: dict[str, dict[Problem, None]] = {}  # of those, the ones that the log has
        self._more: dict[str, int] = {}  # how many others a source had when the log was told last

    @property
    def all(self) -> tuple[Problem, ...]:
        """All problems, by source; of one source the first few."""
        return tuple(problem for found in self._found.values() for problem in islice(found, _EACH_MAX))

    def __len__(self) -> int:
        """How many there are, those that are not listed included."""
        return sum(map(len, self._found.values()))

    def found(self, source: str, problems: Iterable[Problem]) -> None:
        """These are the problems of this source now. Logs the new ones, and those that are over.

        Of many it logs a few, also if they come and go one by one.
        """
        before, now = self._found.get(source, {}), dict.fromkeys(problems)
        logged = self._logged.setdefault(source, {})
        self._found[source] = now
        for problem in islice(now, _EACH_MAX):
            if problem not in before:
                logged[problem] = None
                _log.warning(
                    "%s: %s",
                    source,
                    problem.problem,
                    extra={"fields": {"node": problem.node, "hint": problem.hint}},
                )
        self._log_more(source, max(0, len(now) - _EACH_MAX))
        for problem in [problem for problem in logged if problem not in now]:
            del logged[problem]
            _log.info("%s: over: %s", source, problem.problem, extra={"fields": {"node": problem.node}})

    def _log_more(self, source: str, more: int) -> None:
        if more > 2 * self._more.get(source, 0):
            _log.warning("%s: %s more problems", source, more)
            self._more[source] = more
        elif not more:
            self._more[source] = 0

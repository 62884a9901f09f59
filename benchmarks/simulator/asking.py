"""Look-ups without a server: the peers nearby are asked in steps, as `agent.pull.nearby` has it.

Each node asks the others in an order of its own, which begins at another place of the same list. Questions
go over connections that stand, so a dead peer costs the patience for its step, and no dial.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent.pull.nearby import NEAR_MAX, OTHERS_MAX, SEARCHES_MAX, QuestionBudget
from benchmarks.simulator.agents import Agent
from benchmarks.simulator.clock import VirtualLoop
from benchmarks.simulator.places import Places
from benchmarks.simulator.scenario import Scenario

_ANSWERED_S = 0.0003  # what a peer needs for an answer, and the asker to read a step's


class Tell(Protocol):
    """Is told of those that have it, those where it arrives, and whether everybody was asked."""

    def __call__(self, nodes: list[int], arriving: list[int], *, all_asked: bool) -> None:
        """See above."""
        ...


@dataclass(slots=True)
class _Wanted:
    content: int
    tell: Tell
    everyone: bool
    nodes: list[int] = field(default_factory=list)
    arriving: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Searches:
    """The searches of one node. ``waiting``: what is looked up by the next one."""

    budget: QuestionBudget = field(default_factory=QuestionBudget)
    running: int = 0
    waiting: list[_Wanted] = field(default_factory=list)


class Asking:
    """``having``: whether a node has a content, a part of it (False), or nothing (None)."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        loop: VirtualLoop,
        places: Places,
        having: Callable[[int, int], bool | None],
        reaches: Callable[[int, int], bool],
    ) -> None:
        self._scenario, self._loop, self._places = scenario, loop, places
        self._having, self._reaches = having, reaches
        self._others: dict[int, list[int]] = {}
        self._others_of = -1

    def ask(self, agent: Agent, content: int, tell: Tell, *, everyone: bool, nearby: bool) -> None:
        """Look a content up. ``nearby``: not all peers are asked."""
        searches = agent.searches = agent.searches or Searches()
        searches.waiting.append(_Wanted(content, tell, everyone))
        if searches.running < (SEARCHES_MAX if nearby else len(searches.waiting)):
            self._start(agent, searches, nearby)

    def _start(self, agent: Agent, searches: Searches, nearby: bool) -> None:
        if not searches.waiting or (nearby and searches.running >= SEARCHES_MAX):
            return
        searches.running += 1
        wanted, searches.waiting = searches.waiting, []
        self._step(agent, searches, wanted, self._steps(agent, nearby), nearby)

    def _step(
        self, agent: Agent, searches: Searches, wanted: list[_Wanted], steps: list[list[int]], nearby: bool
    ) -> None:
        """Ask the peers of the first step, and then go on with what is left."""
        step = steps.pop(0) if steps else []
        now_s = self._loop.now_s
        wait_s = searches.budget.take(len(step), now_s) if nearby else 0.0
        silent = any(not self._reaches(agent.number, each) for each in step)
        far = any(self._places.zone_of[each] != agent.zone for each in step)
        links = self._scenario.links
        took_s = _ANSWERED_S + (links.region_rtt_s if far else links.zone_rtt_s)
        if silent and not self._found(agent, wanted, step):
            took_s = self._scenario.lookup.patience_s
        self._loop.after(wait_s + took_s, self._answered, agent, searches, wanted, step, steps, nearby)

    def _found(self, agent: Agent, wanted: list[_Wanted], step: list[int]) -> bool:
        """Whether this step answers all that is left."""
        return all(
            any(self._having(each.content, node) is not None for node in step) for each in wanted
        ) and not any(each.everyone for each in wanted)

    def _answered(
        self,
        agent: Agent,
        searches: Searches,
        wanted: list[_Wanted],
        step: list[int],
        steps: list[list[int]],
        nearby: bool,
    ) -> None:
        left = []
        for each in wanted:
            for node in step:
                has = self._having(each.content, node)
                if has is not None and self._reaches(agent.number, node):
                    if has:
                        each.nodes.append(node)
                    elif self._places.zone_of[node] == agent.zone:
                        each.arriving.append(node)
            if steps and (each.everyone or not (each.nodes or each.arriving)):
                left.append(each)
            else:
                each.tell(each.nodes, each.arriving, all_asked=not steps)
        if left:
            self._step(agent, searches, left, steps, nearby)
        else:
            searches.running -= 1
            self._start(agent, searches, nearby)

    def _steps(self, agent: Agent, nearby: bool) -> list[list[int]]:
        """Whom this node asks, in steps: the zone from its own place on, then others."""
        zone = self._scenario.zone_nodes(agent.zone)
        turn = (agent.number - zone.start) * 7919 % max(1, len(zone))
        near = [*range(zone.start + turn, zone.stop), *range(zone.start, zone.start + turn)]
        near = [each for each in near if each != agent.number and self._is_member(each)]
        others = self._elsewhere(agent.zone)
        if nearby:
            start = agent.number * 104729 % max(1, len(others))
            near, others = near[:NEAR_MAX], (others[start:] + others[:start])[:OTHERS_MAX]
        at_once = self._scenario.lookup.at_once
        steps = [near[first : first + at_once] for first in range(0, len(near), at_once)]
        return [*steps, others] if others else steps or [[]]

    def _elsewhere(self, zone: int) -> list[int]:
        if self._others_of != self._places.generation:
            self._others, self._others_of = {}, self._places.generation
        if zone not in self._others:
            own = self._scenario.zone_nodes(zone)
            self._others[zone] = [
                number
                for number in range(self._scenario.nodes)
                if number not in own and self._is_member(number)
            ]
        return self._others[zone]

    def _is_member(self, number: int) -> bool:
        return self._places.names[number] in self._places.members

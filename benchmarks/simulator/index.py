"""The index as the look-ups of the nodes find it: with a server, or by asking each other.

What a look-up makes of the server's bitmaps is the product's (`agent.holders.bitmap`, and the rules of
`agent.holders.valkey.index`), and so is how many peers are asked without a server (`agent.pull.nearby`). No
answer is kept here, where the product keeps one that names holders for ten seconds.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from agent.holders.bitmap import Masks, Part, masks_of, nearest, nearest_of_each
from agent.holders.index import Holders, InFlight
from agent.holders.valkey.index import FLYING_ASKED_MAX, NEAREST_MAX
from agent.pull.nearby import EVERYBODY_MAX
from benchmarks.simulator.agents import Agent
from benchmarks.simulator.asking import Asking
from benchmarks.simulator.clock import VirtualLoop
from benchmarks.simulator.contents import Contents
from benchmarks.simulator.network import Network
from benchmarks.simulator.places import Places
from benchmarks.simulator.scenario import Scenario
from benchmarks.simulator.telling import Telling
from topology.placement import NodeName

Tell = Callable[[Holders], None]


class Index:
    """``reaches``: whether a message arrives. ``follows``: whether what still arrives is of use."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        loop: VirtualLoop,
        places: Places,
        contents: Contents,
        network: Network,
        telling: Telling,
        reaches: Callable[[int, int], bool],
        follows: bool,
    ) -> None:
        self._scenario, self._loop, self._places = scenario, loop, places
        self._contents, self._network, self._reaches = contents, network, reaches
        self._follows = follows
        self.telling = telling
        self._asking = Asking(scenario, loop=loop, places=places, having=self._having, reaches=reaches)
        self._masks: dict[tuple[int, int], Masks] = {}
        self._masks_of = -1, -1
        self.lookups = 0

    def look_up(self, agent: Agent, content: int, tell: Tell, *, everyone: bool) -> None:
        """Ask who has it. ``tell`` is called with the answer. ``everyone``: also far from here."""
        self.lookups += 1
        if not self._scenario.index.server or not self.telling.is_there(agent.zone):
            self._ask_nodes(agent, content, everyone, tell)
        else:
            self._loop.after(self._scenario.index.latency_s, self._answer, agent, content, everyone, tell)

    def _answer(self, agent: Agent, content: int, everyone: bool, tell: Tell) -> None:
        if not self.telling.is_there(agent.zone):  # no answer comes
            self._loop.after(self._scenario.index.timeout_s, self._ask_nodes, agent, content, everyone, tell)
            return
        masks = self._masks_for(agent)
        own = ~(1 << self.telling.number_of(agent.name))
        complete, flying = self.telling.complete[content] & own, self.telling.flying[content] & own
        zone = masks.part(Part.ZONE)
        heard = partial(self._heard, agent, content, masks, complete, flying & zone, everyone, tell)
        if self._follows and flying & zone and not complete & zone:
            digest = self._contents.all[content].digest
            asked = nearest(flying & zone, masks, at_most=FLYING_ASKED_MAX, lots=masks.lots(digest))
            self._loop.after(self._scenario.links.zone_rtt_s, heard, asked)
        else:
            heard(())

    def _heard(
        self,
        agent: Agent,
        content: int,
        masks: Masks,
        complete: int,
        flying: int,
        everyone: bool,
        tell: Tell,
        asked: Iterable[NodeName],
    ) -> None:
        """A few nodes of the zone said how far they are."""
        arriving: list[InFlight] = []
        for name in asked:
            number = self._places.number_of[name]
            if self._places.names[number] != name or not self._reaches(agent.number, number):
                continue
            if self._contents.complete[content, number]:
                complete |= 1 << self.telling.number_of(name)
            elif self._contents.arriving[content, number]:
                arriving.append(self._in_flight(content, number))
        choose = nearest_of_each if everyone else nearest
        nodes: tuple[NodeName, ...] = ()
        if complete & masks.known:
            lots = masks.lots(self._contents.all[content].digest)
            nodes = choose(complete, masks, at_most=NEAREST_MAX, lots=lots)
        is_complete, nobody = self.telling.is_warm(agent), not nodes and not arriving
        exhaustive = is_complete or bool(nodes) if everyone else nobody and is_complete
        if nobody and not exhaustive:
            self._ask_nodes(agent, content, everyone, tell)
            return
        number_arriving = (flying & ~complete).bit_count() if everyone else None
        tell(Holders(nodes=nodes, exhaustive=exhaustive, in_flight=tuple(arriving), arriving=number_arriving))

    def _ask_nodes(self, agent: Agent, content: int, everyone: bool, tell: Tell) -> None:
        nearby = self._scenario.index.server or self._scenario.nodes > EVERYBODY_MAX
        self._asking.ask(
            agent, content, partial(self._asked, content, tell), everyone=everyone, nearby=nearby
        )

    def _asked(
        self, content: int, tell: Tell, nodes: list[int], arriving: list[int], *, all_asked: bool
    ) -> None:
        names = self._places.names
        in_flight = tuple(self._in_flight(content, each) for each in arriving) if self._follows else ()
        exhaustive = all_asked and not nodes and not in_flight
        tell(Holders(nodes=tuple(names[each] for each in nodes), exhaustive=exhaustive, in_flight=in_flight))

    def _having(self, content: int, node: int) -> bool | None:
        """Whether a node has a content; False: a part of it. None: nothing."""
        if self._contents.complete[content, node]:
            return True
        return False if self._contents.arriving[content, node] else None

    def _in_flight(self, content: int, node: int) -> InFlight:
        return InFlight(
            node=self._places.names[node],
            available_bytes=int(self._network.have[content, node]),
            size_bytes=self._contents.all[content].size_bytes,
        )

    def _masks_for(self, agent: Agent) -> Masks:
        """The members as this node sees them. Those of a rack share all but the name."""
        made_of = self._places.generation, len(self.telling.numbers)
        if made_of != self._masks_of:
            self._masks, self._masks_of = {}, made_of
        rack = self._places.racks[agent.number]
        known = self._masks.get(rack)
        if known is None:
            members = self._places.members
            names = (name for name in self._places.number_of if name in members)
            numbers = {name: self.telling.number_of(name) for name in names}
            known = self._masks[rack] = masks_of(numbers, self._places.base(agent.number))
            self._masks_of = self._places.generation, len(self.telling.numbers)
        return replace(known, own=agent.name)

"""Executes one pull: the commands of the product's state machine, in simulated time.

As `agent.transfer.executor`: the results go to the machine as events, and nothing is decided here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import Any, cast

import numpy as np

from agent.holders.claims import Held
from agent.holders.index import Holders
from agent.pull.events import (
    Abandon,
    AskClaim,
    Avoid,
    Broke,
    ClientGone,
    Command,
    Commands,
    Commend,
    Completed,
    Cut,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Forget,
    Found,
    Gathered,
    GiveUp,
    LaneFailed,
    Lookup,
    NotFound,
    Relieve,
    Responded,
    Shun,
    Stripe,
    Ticked,
    WakeAt,
)
from agent.pull.fanout import LEAST_BYTES
from agent.pull.following import as_follower, is_in_flight, stall_s
from agent.pull.machine import Pull
from agent.pull.meter import TICK_S, Meter
from agent.pull.striping import Gain
from agent.transfer.attempts import Attempts, Crashed
from agent.transfer.turns import OwnTurn
from benchmarks.simulator.agents import Agent
from benchmarks.simulator.clock import Alarm
from benchmarks.simulator.network import Flow
from benchmarks.simulator.scenario import Choosing
from benchmarks.simulator.serving import Answered, Request, Serving
from benchmarks.simulator.world import World
from topology.placement import NodeName, Tier
from topology.ranking import Condition, Ranked

_SEGMENTS = 4  # the default stripe buffer holds so many; see `TransferSettings.stripe_buffer_bytes`
_FROZEN_S = 0.25  # how often it is looked whether a node goes on
_LOOKS, _LOOK_MOST_S = 8, 1.0  # a body that is older is looked at less often than each `TICK_S`
_SOURCE_BOUND = 0.98  # of what the reader takes: a body that is slower waits for its source


class End(Enum):
    """How a pull ended."""

    WHOLE = "whole"
    CUT = "cut"
    NOT_FOUND = "not found"


class Attempt:
    """One attempt. ``flow``: its body, once it is delivered."""

    __slots__ = ("began_s", "flow", "holder", "looked_s", "meter", "number", "request")

    def __init__(self, number: int, holder: Ranked, request: Request, began_s: float) -> None:
        self.number, self.holder, self.request, self.began_s = number, holder, request, began_s
        self.flow: Flow | None = None
        self.meter: Meter | None = None
        self.looked_s = began_s


class RunningPull(Answered):
    """One pull of a content for the node's own containerd. ``ended`` is called once.

    ``begins``: from which byte on.
    """

    def __init__(
        self,
        world: World,
        serving: Serving,
        agent: Agent,
        content: int,
        begins: int,
        ended: Callable[[End], None],
    ) -> None:
        self._world, self._serving, self._agent = world, serving, agent
        self._content, self._begins, self._ended = world.contents.all[content], begins, ended
        self._number = content
        self._follow = world.approach.follows and world.scenario.cold_start.claims
        self._attempts: dict[int, Attempt] = {}
        self._by_request: dict[int, Attempt] = {}
        self._delivering: Attempt | None = None
        self._lanes: dict[NodeName, Attempt] = {}
        self._gain: Gain | None = None
        self._alone_bytes_per_s = 1.0
        self._given: dict[NodeName, int] = {}
        self._offset = 0
        self._over = False
        self._wake_s = self._alarm_s = float("inf")
        self._alarm: Alarm | None = None
        self._turn: OwnTurn | None = None
        claims = None
        if world.approach.claims and world.scenario.cold_start.claims:
            claims = world.scenario.cold_start
            self._turn = OwnTurn(
                world.claiming.claims_of(agent),
                self._content.target,
                attempts=cast(Attempts, self),
                rank=self._rank_claimed,
                report=self._report,
            )
        begun = self._turn is not None and self._turn.begun
        limits = agent.policy.limits(
            in_chunks=False,
            resumes=begins > 0 and not begun,
            claims=claims,
            size_bytes=self._content.size_bytes,
        )
        self._machine = Pull(limits=limits)

    def start(self) -> None:
        """Begin."""
        self._agent.pulls += 1
        self._world.snapshot(self._agent)
        self._execute(self._machine.start(self._world.now_s))

    def abort(self) -> None:
        """The client is gone."""
        if not self._over:
            self._close()

    # What `OwnTurn` needs of the attempts.

    def run(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[Any]:
        """See `Attempts.run`."""
        return self._world.loop.spawn(cast(Any, work()))

    # Events.

    def _report(self, event: Event | Crashed) -> None:
        """What came of a question. It is told when the task that asked has ended."""
        assert not isinstance(event, Crashed), "errors end the simulation"
        self._world.loop.soon(self._tell, event)

    def _tell(self, event: Event) -> None:
        if self._agent.frozen:  # it finds out when it goes on
            self._world.loop.after(_FROZEN_S, self._tell, event)
        elif not self._over:
            self._execute(self._machine.on(event, self._world.now_s))

    def _execute(self, commands: Commands) -> None:
        for command in commands:
            if self._over:
                return
            _DO[type(command)](self, command)

    def _look_up(self, command: Lookup) -> None:
        self._world.index.look_up(self._agent, self._number, self._found, everyone=command.everyone)

    def _found(self, holders: Holders) -> None:
        if self._over:
            return
        choose = self._world.approach.choose
        if choose is not None:
            self._tell(Found(holders=self._chosen(), exhaustive=True))
            return
        ranked = self._agent.policy.found(
            self._content.digest,
            holders.nodes,
            holders.in_flight,
            self._world.snapshot(self._agent),
            self._world.now_s,
            position=self._position,
            size_bytes=self._content.size_bytes,
            follows=self._follow,
        )
        neighbours = self._agent.policy.neighbours(
            holders.nodes, holders.in_flight, holders.arriving, self._world.snapshot(self._agent)
        )
        self._tell(Found(holders=ranked, exhaustive=holders.exhaustive, neighbours=neighbours))

    def _chosen(self) -> tuple[Ranked, ...]:
        """The choice of another approach."""
        world, number, agent = self._world, self._number, self._agent
        complete = np.flatnonzero(world.contents.complete[number])
        arriving = np.flatnonzero(world.contents.arriving[number]) if self._follow else complete[:0]
        arriving = arriving[world.network.have[number, arriving] > self._position]
        snapshot, choose = world.snapshot(agent), world.approach.choose
        assert choose is not None
        chosen = choose(
            Choosing(
                asker=agent.number,
                content=number,
                complete=complete[complete != agent.number],
                arriving=arriving[arriving != agent.number],
                zones=world.places.zones,
                have_bytes=world.network.have[number],
                sending=world.network.sending(),
                rtt_s=partial(world.places.rtt_s, agent.number),
                snapshot=snapshot,
                names=world.places.names,
                now_s=world.now_s,
                lot=world.lot,
            )
        )
        ranked = []
        for place, each in enumerate(chosen, start=1):
            name, whole = world.places.names[each], world.contents.complete[number, each]
            condition = Condition(in_flight=None if whole else 0)
            ranked.append(Ranked(name, snapshot.tier(name), place, snapshot.standings.get(name), condition))
        return tuple(ranked)

    def _rank_claimed(self, held: Held) -> tuple[Ranked, ...]:
        snapshot, now_s = self._world.snapshot(self._agent), self._world.now_s
        policy, digest = self._agent.policy, self._content.digest
        return policy.claimed(digest, held.sources, snapshot, now_s, complete=held.complete)

    # Attempts.

    def _fetch(self, command: Fetch) -> None:
        self._attempts[command.attempt] = self._dial(command.attempt, command.holder, command.offset)

    def _dial(self, number: int, holder: Ranked, offset: int) -> Attempt:
        world, agent = self._world, self._agent
        source = world.places.number_of[holder.node]
        waits, position = is_in_flight(holder), self._begins + offset
        request = Request(agent, source, self._number, position, self._follow, waits, self)
        attempt = Attempt(number, holder, request, world.now_s)
        self._by_request[id(request)] = attempt
        agent.dials += 1
        if world.places.names[source] != holder.node or not world.reaches(agent.number, source):
            agent.dead_dials += 1
            world.loop.after(world.scenario.pull.connect_s, self.refused, request, Failure.UNREACHABLE)
        else:
            way_s = 1.5 * world.places.rtt_s(agent.number, source) + world.scenario.links.served_s
            world.loop.after(way_s, self._serving.ask, request)
        return attempt

    def answered(self, request: Request, percent: int | None) -> None:
        """See `Answered`."""
        attempt = self._by_request.get(id(request))
        if attempt is None or self._over or request.closed:
            return
        holder = attempt.holder
        if percent != holder.condition.in_flight:
            holder = attempt.holder = holder._replace(condition=holder.condition._replace(in_flight=percent))
        if attempt.number < 0:
            self._flow(attempt)
            return
        if not is_in_flight(holder):
            took_s = self._world.now_s - attempt.began_s
            self._agent.policy.first_byte(holder.tier, took_s, manifest=self._content.manifest)
        self._tell(Responded(attempt=attempt.number, holder=holder))

    def refused(
        self,
        request: Request,
        failure: Failure,
        *,
        told_s: float | None = None,
        instead: tuple[NodeName, ...] = (),
    ) -> None:
        """See `Answered`."""
        attempt = self._by_request.pop(id(request), None)
        if attempt is None or self._over:
            return
        request.closed = True
        policy, now_s, node = self._agent.policy, self._world.now_s, attempt.holder.node
        policy.attempt_failed(node, failure, failure.value, now_s)
        wait_s = policy.busy_wait_s(failure, told_s)
        if attempt.number < 0:
            self._lane_lost(attempt, failure, wait_s)
            return
        self._attempts.pop(attempt.number, None)
        others: tuple[Ranked, ...] = ()
        if instead:
            snapshot = self._world.snapshot(self._agent)
            others = policy.told_of(self._content.digest, instead, attempt.holder, snapshot, now_s)
        self._tell(Failed(attempt=attempt.number, failure=failure, wait_s=wait_s, instead=others))

    def _abandon(self, command: Abandon) -> None:
        attempt = self._attempts.pop(command.attempt, None)
        if attempt is None:
            return
        if attempt is self._delivering:
            self._agent.regard.fetching(attempt.holder.node, -1)
            self._lanes.pop(attempt.holder.node, None)
            self._delivering = None
        elif not is_in_flight(attempt.holder):
            waited_s = self._world.now_s - attempt.began_s
            self._agent.policy.no_first_byte(attempt.holder.tier, waited_s, client_left=False)
        if command.failure is not None:
            self._agent.policy.attempt_failed(
                attempt.holder.node, command.failure, "no first byte", self._world.now_s
            )
        self._release(attempt)

    def _release(self, attempt: Attempt, *, whole: bool = False) -> None:
        """Its body ends, and its place at the source."""
        self._by_request.pop(id(attempt.request), None)
        if attempt.flow is not None:
            moved, attempt.flow = self._world.ended(attempt.flow), None
            node = attempt.holder.node
            self._given[node] = self._given.get(node, 0) + moved
            upload, giver = attempt.request.upload, attempt.request.giver
            if upload is not None and giver is not None:
                giver.admission.sent(upload, moved - upload.sent_bytes)
        self._serving.close(attempt.request, whole=whole)

    # The body.

    def _deliver(self, command: Deliver) -> None:
        attempt = self._delivering = self._attempts[command.attempt]
        attempt.holder = command.holder
        world, node = self._world, command.holder.node
        self._agent.regard.fetching(node, +1)
        depths, source = self._agent.depths, world.agents[attempt.request.source]
        depth = source.depths.get(self._number, 0) if is_in_flight(command.holder) else 0
        depths[self._number] = depth + 1
        self._say_that_it_arrives()
        if self._turn is not None:
            self._turn.delivering(far=command.holder.tier > Tier.ZONE)
        self._flow(attempt)

    def _flow(self, attempt: Attempt) -> None:
        world, usual_s, now_s = self._world, self._world.scenario.pull.stall_s, self._world.now_s
        links = world.scenario.links
        source = world.agents[attempt.request.source]
        depth = source.depths.get(self._number, 0)
        patience_s = stall_s(usual_s, depth) if is_in_flight(attempt.holder) else usual_s
        attempt.meter, attempt.looked_s = Meter(now_s, window_s=usual_s), now_s
        attempt.flow = world.network.open(
            attempt.request.source,
            self._agent.number,
            self._number,
            self,
            limit=min(links.stream_bytes_per_s, links.containerd_bytes_per_s),
            now_s=now_s,
            patience_s=patience_s,
            look_s=now_s + TICK_S,
        )

    def look(self, flow: Flow) -> None:
        """See `Receiver`."""
        world, now_s = self._world, self._world.now_s
        attempt = self._of(flow)
        began_s = now_s if attempt is None or attempt.meter is None else attempt.meter.started_s
        world.network.look_again(flow, now_s + min(max(TICK_S, (now_s - began_s) / _LOOKS), _LOOK_MOST_S))
        if attempt is None or attempt.meter is None:
            return
        meter = attempt.meter
        moved = world.network.moved_bytes(flow)
        over_s, attempt.looked_s = now_s - attempt.looked_s, now_s
        most = world.scenario.links.containerd_bytes_per_s * over_s
        if moved - meter.moved_bytes < _SOURCE_BOUND * most:
            meter.waited_s += over_s
        meter.moved_bytes = moved
        rate = meter.rate(now_s)
        upload, giver = attempt.request.upload, attempt.request.giver
        if upload is not None and giver is not None:
            giver.admission.sent(upload, moved - upload.sent_bytes)
        self._count()
        if self._gain is not None:
            if attempt is self._delivering:
                self._judge()
            return
        if rate is None or attempt is not self._delivering:
            return
        self._alone_bytes_per_s = rate.bytes_per_s
        rival = self._machine.rival if is_in_flight(attempt.holder) else None
        policy = self._agent.policy
        self._tell(
            policy.progressed(
                (rival or attempt.holder).tier,
                rate,
                left_bytes=self._content.size_bytes - self._position,
                pulls=self._agent.pulls,
                lanes_max=policy.striping.lanes_max(_SEGMENTS, now_s),
                in_chunks=False,
            )
        )

    def _count(self) -> None:
        self._offset = int(self._world.network.have[self._number, self._agent.number]) - self._begins

    def whole(self, _: Flow) -> None:
        """See `Receiver`."""
        attempt = self._delivering
        if self._over or attempt is None:
            return
        self._count()
        policy, now_s = self._agent.policy, self._world.now_s
        if not is_in_flight(attempt.holder) and attempt.meter is not None and attempt.flow is not None:
            attempt.meter.moved_bytes = self._world.network.moved_bytes(attempt.flow)
            took_s = now_s - attempt.meter.started_s
            if not self._lanes:
                policy.measured(attempt.holder.tier, attempt.meter, took_s=took_s)
        for each in dict.fromkeys((*self._lanes.values(), attempt)):
            self._release(each, whole=self._begins == 0)
        self._tell(Completed(given_bytes=self._given))
        self._finish(End.WHOLE)

    def stalled(self, flow: Flow) -> None:
        """See `Receiver`."""
        attempt = self._of(flow)
        if attempt is not None:
            self.lost(attempt, Failure.SILENT)

    def lost(self, attempt: Attempt, failure: Failure) -> None:
        """The source of a body gives no more."""
        self._count()
        if self._lanes:
            self._lane_lost(attempt, failure, 0.0)
        else:
            self._broke(failure)

    def source_gone(self, flow: Flow) -> None:
        """See `Receiver`."""
        attempt = self._of(flow)
        if attempt is not None:
            self.lost(attempt, Failure.BROKEN)

    def _of(self, flow: Flow) -> Attempt | None:
        attempt = self._delivering
        if attempt is not None and attempt.flow is flow:
            return attempt
        return next((lane for lane in self._lanes.values() if lane.flow is flow), None)

    def _broke(self, failure: Failure) -> None:
        attempt = self._delivering
        assert attempt is not None, "a body is delivered"
        self._count()
        self._world.counts.broken += 1
        if is_in_flight(attempt.holder):
            failure = as_follower(failure)
        policy = self._agent.policy
        policy.attempt_failed(attempt.holder.node, failure, failure.value, self._world.now_s)
        self._tell(Broke(failure=failure, offset=self._offset, wait_s=policy.busy_wait_s(failure, None)))

    def _give_up(self, command: GiveUp) -> None:
        self._broke(command.failure)

    # Several holders at once.

    def _stripe(self, command: Stripe) -> None:
        assert self._delivering is not None, "a body is delivered"
        self._count()
        self._lanes = {self._delivering.holder.node: self._delivering}
        for number, holder in enumerate(command.holders, start=1):
            self._agent.regard.fetching(holder.node, +1)
            self._lanes[holder.node] = self._dial(-number, holder, self._offset)
        self._gain = Gain(
            self._world.now_s,
            sent_bytes=self._offset,
            held_s=0.0,
            alone_bytes_per_s=max(1.0, self._alone_bytes_per_s),
        )

    def _judge(self) -> None:
        assert self._gain is not None, "it is striped"
        now_s = self._world.now_s
        if self._gain.is_too_small(now_s, sent_bytes=self._offset, held_s=0.0, lane_failed=False):
            self._agent.policy.striping.was_useless(now_s)
            self._gather(useless=True)

    def _lane_lost(self, attempt: Attempt, failure: Failure, wait_s: float) -> None:
        self._lanes.pop(attempt.holder.node, None)
        given = self._given.get(attempt.holder.node, 0)
        self._release(attempt)
        if attempt is not self._delivering:
            self._agent.regard.fetching(attempt.holder.node, -1)
        self._tell(LaneFailed(holder=attempt.holder, failure=failure, given_bytes=given, wait_s=wait_s))
        if len(self._lanes) < 2:
            self._gather(useless=False)

    def _gather(self, *, useless: bool) -> None:
        self._count()
        for lane in self._lanes.values():
            if lane is not self._delivering:
                self._release(lane)
                self._agent.regard.fetching(lane.holder.node, -1)
        self._lanes, self._gain = {}, None
        self._tell(Gathered(offset=self._offset, useless=useless))

    # Time, turns and the end.

    def _wake_at(self, command: WakeAt) -> None:
        self._wake_s = command.at_s
        if command.at_s < self._alarm_s:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_s = command.at_s
            self._alarm = self._world.loop.alarm(command.at_s, self._woken)

    def _woken(self) -> None:
        self._alarm, self._alarm_s = None, float("inf")
        if not self._machine.state.is_trying:
            return
        if self._agent.frozen:
            self._wake_at(WakeAt(at_s=self._world.now_s + _FROZEN_S))
        elif self._world.now_s >= self._wake_s:
            self._tell(Ticked())
        else:
            self._wake_at(WakeAt(at_s=self._wake_s))

    def _ask_claim(self, command: AskClaim) -> None:
        assert self._turn is not None, "the limits say that nobody is asked"
        self._turn.ask(command, self._position)

    def _to_registry(self, command: NotFound | Cut) -> None:
        self._agent.depths.pop(self._number, None)
        if isinstance(command, NotFound):
            self._say_that_it_arrives()
        if self._turn is not None:
            self._turn.to_the_registry()
        self._finish(End.CUT if isinstance(command, Cut) else End.NOT_FOUND)

    def _say_that_it_arrives(self) -> None:
        """As the product's executor does."""
        if self._content.size_bytes >= LEAST_BYTES and self._world.scenario.index.server:
            self._world.index.telling.fetches(self._agent, self._number)

    def _finish(self, end: End) -> None:
        if not self._over:
            self._close()
            self._ended(end)

    def _close(self) -> None:
        self._execute(self._machine.on(ClientGone(), self._world.now_s))
        self._over = True
        if self._alarm is not None:
            self._alarm.cancel()
        for attempt in dict.fromkeys((*self._attempts.values(), *self._lanes.values())):
            self._release(attempt)
        for lane in self._lanes.values():
            if lane is not self._delivering:
                self._agent.regard.fetching(lane.holder.node, -1)
        if self._delivering is not None:
            self._agent.regard.fetching(self._delivering.holder.node, -1)
        self._attempts.clear()
        self._lanes.clear()
        self._by_request.clear()
        self._delivering = None
        self._agent.pulls -= 1
        if self._turn is not None:
            self._turn.close()
            self._turn = None  # it refers to this pull, and millions of circles would be costly to find

    @property
    def _position(self) -> int:
        return self._begins + self._offset

    def _apply(self, command: Avoid | Commend | Shun | Relieve) -> None:
        self._agent.policy.apply(command, self._content.digest, self._world.now_s)

    def _forget(self, command: Forget) -> None:
        """The server's word is taken anew each time."""


_DO: dict[type[Command], Callable[[RunningPull, Any], None]] = {
    Lookup: RunningPull._look_up,
    Fetch: RunningPull._fetch,
    Abandon: RunningPull._abandon,
    WakeAt: RunningPull._wake_at,
    Avoid: RunningPull._apply,
    Commend: RunningPull._apply,
    Shun: RunningPull._apply,
    Relieve: RunningPull._apply,
    Forget: RunningPull._forget,
    AskClaim: RunningPull._ask_claim,
    Deliver: RunningPull._deliver,
    Stripe: RunningPull._stripe,
    GiveUp: RunningPull._give_up,
    NotFound: RunningPull._to_registry,
    Cut: RunningPull._to_registry,
}

"""The rules that the pull machine keeps under every schedule of events. `Cluster` checks each command."""

import heapq
from dataclasses import dataclass
from itertools import count, cycle

from hypothesis import given
from hypothesis import strategies as st

from agent.pull.events import (
    PROGRESS_BYTES,
    Broke,
    ClaimAnswered,
    ClientGone,
    Command,
    Completed,
    Cut,
    Deliver,
    Event,
    Failed,
    Failure,
    Fetch,
    Found,
    Gathered,
    GiveUp,
    LaneFailed,
    Limits,
    Lookup,
    NotFound,
    Progressed,
    Responded,
    Stripe,
    Ticked,
    Turn,
)
from agent.pull.meter import Rate
from tests.unit.agent.pull.cluster import Cluster
from tests.unit.twins import node
from topology.placement import NodeName, Tier
from topology.ranking import Condition, Ranked

HOLDERS = tuple(
    Ranked(node(name), tier, 1, None, condition)
    for name, tier, condition in (
        ("a", Tier.ZONE, Condition()),
        ("b", Tier.ZONE, Condition()),
        ("c", Tier.ZONE, Condition(saturated=True)),
        ("d", Tier.ZONE, Condition()),
        ("e", Tier.REGION, Condition()),
        ("f", Tier.REGION, Condition(cooling=True)),
        ("g", Tier.ZONE, Condition(in_flight=10)),
        ("h", Tier.ZONE, Condition(in_flight=90)),
    )
)
OTHERS = st.lists(st.sampled_from(HOLDERS[-3:]), unique=True).map(tuple)
BEFORE_BYTES = tuple(failure for failure in Failure if failure not in (Failure.SLOW, Failure.LAGGING))
GO_ON = tuple(each for each in BEFORE_BYTES if each not in (Failure.SHARED, Failure.STARVED))
IN_BODY = (Failure.BROKEN, Failure.SILENT, Failure.INVALID, Failure.STARVED, Failure.SHARED)
SOME_S = st.sampled_from((0.0, 0.01, 0.1, 0.3, 0.7, 2.1))
SOME_BYTES = st.sampled_from((0, 1, 7000, PROGRESS_BYTES, 5 * PROGRESS_BYTES))


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    hedges = st.sampled_from(({}, {Tier.ZONE: 0.1}, {Tier.ZONE: 0.03, Tier.REGION: 0.3}))
    return Limits(
        patience_s=draw(st.sampled_from((0.1, 0.3, 0.7, 3.0))),
        deadline_s=draw(st.sampled_from((0.3, 2.1, 10.0))),
        attempts_max=draw(st.integers(1, 5)),
        stall_s=draw(st.sampled_from((0.2, 1.1, 3.0))),
        floor_bytes_per_s=65536.0,
        floor_ratio=0.1,
        hedge_s=draw(hedges),
        stripe_min_bytes=8 * PROGRESS_BYTES,
        stubborn_s=draw(st.sampled_from((0.0, 0.0, 1.0))),
        stubborn_begun_s=draw(st.sampled_from((0.0, 0.0, 1.0))),
        claim_wait_s=draw(st.sampled_from((0.0, 0.5, 20.0))),
        claim_look_s=draw(st.sampled_from((0.2, 5.0))),
    )


def turns(cluster: Cluster) -> st.SearchStrategy[Event]:
    """Answers to the question for a turn. Peers that no pull may ask are left out of them."""
    holders = [one for one in HOLDERS if one.node not in cluster.passed_over]
    own_or_none = st.builds(ClaimAnswered, turn=st.sampled_from((Turn.OWN, Turn.NOBODYS)))
    some = st.lists(st.sampled_from(holders), max_size=2, unique=True).map(tuple) if holders else st.just(())
    others = st.builds(ClaimAnswered, turn=st.just(Turn.OTHER), holders=some, complete=st.booleans())
    return st.one_of(own_or_none, others, others)


def possible_events(cluster: Cluster) -> list[st.SearchStrategy[Event]]:
    """Events that may happen next, and some that come too late."""
    attempts = [*sorted(set(cluster.open) - {cluster.delivering}), 999]
    attempt = st.sampled_from(attempts)
    events: list[st.SearchStrategy[Event]] = [
        st.just(Ticked()),
        st.builds(Failed, attempt=attempt, failure=st.sampled_from(BEFORE_BYTES), wait_s=SOME_S),
        st.builds(Failed, attempt=attempt, failure=st.just(Failure.SHARED), instead=OTHERS),
        st.builds(Responded, attempt=attempt),
    ]
    if cluster.question is not None:
        events += [turns(cluster)] * 2
    if cluster.lookups:
        # A repeated look-up leaves out the peers that no pull may ask. An earlier one may be out of date.
        limits = cluster.limits
        repeats = limits.stubborn_s or limits.stubborn_begun_s or limits.claim_wait_s
        holders = [one for one in HOLDERS if not (repeats and one.node in cluster.passed_over)]
        some = st.lists(st.sampled_from(holders), unique=True).map(tuple) if holders else st.just(())
        exhaustive = st.just(value=True) if cluster.everyone_asked else st.booleans()
        events += [st.builds(Found, holders=some, exhaustive=exhaustive)] * 2
    if cluster.delivering is None:
        return events
    offset = SOME_BYTES.map(cluster.offset.__add__)
    given_bytes = st.fixed_dictionaries({}, optional={one.node: SOME_BYTES for one in HOLDERS})
    completed = st.builds(Completed, given_bytes=given_bytes)
    if cluster.given_up is not None:
        return [st.builds(Broke, failure=st.just(cluster.given_up), offset=offset)]
    if not cluster.striped:
        rates = st.sampled_from((0.0, 1e5, 1e6, 1e9))
        rate = st.builds(
            Rate, bytes_per_s=rates, over_s=st.sampled_from((0.25, 3.0)), source_bound=st.booleans()
        )
        left, usual = st.sampled_from((1, 1 << 30)), st.sampled_from((0.0, 1e5, 1e8))
        progressed = st.builds(
            Progressed,
            left_bytes=left,
            rate=rate,
            expected_bytes_per_s=usual,
            lanes_max=st.sampled_from((1, 2, 4)),
        )
        broke = st.builds(Broke, failure=st.sampled_from(IN_BODY), offset=offset)
        return [*events, progressed, progressed, broke, completed]
    ended: list[st.SearchStrategy[Event]] = [
        st.just(Completed()),
        st.builds(Gathered, offset=offset, useless=st.booleans()),
    ]
    broke = st.builds(Broke, failure=st.sampled_from(BEFORE_BYTES), offset=offset)
    if not cluster.lanes:
        return [broke]
    lane_failed = st.builds(
        LaneFailed,
        holder=st.sampled_from(list(cluster.lanes.values())),
        failure=st.sampled_from(BEFORE_BYTES),
        given_bytes=SOME_BYTES,
        wait_s=SOME_S,
    )
    # If one failed, others may have been dismissed because they were slower.
    return [*events, lane_failed, lane_failed, *ended, *([broke] if len(cluster.lanes) == 1 else [])]


@given(limits=limits(), data=st.data())
def test_any_schedule_keeps_the_rules_and_time_alone_ends_it(limits: Limits, data: st.DataObject) -> None:
    """For the rules see `Cluster`. At the end nothing answers any more, and only time passes."""
    cluster = Cluster(limits=limits)
    cluster.start(4.3)
    for _ in range(data.draw(st.integers(0, 30), label="events")):
        if data.draw(st.integers(0, 40), label="client") == 40:
            cluster.tell(ClientGone())
            assert cluster.done
        cluster.now_s += data.draw(SOME_S, label="later by")
        cluster.tell(data.draw(st.one_of(possible_events(cluster)), label="event"))
    for _ in range(200):
        if not cluster.pull.state.is_trying:
            break
        cluster.now_s = max(cluster.now_s, cluster.wake_s)
        cluster.tell(Ticked())
    assert not cluster.pull.state.is_trying, "time alone does not end it"
    cluster.tell(ClientGone())
    assert cluster.done
    cluster.tell(Ticked())


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a holder does when it is asked: answers after ``after_s``, gives some bytes, and fails.

    ``gives_bytes`` None: it fails before the first one. ``failure`` None: it hangs, or it is sound and
    gives all of it.
    """

    after_s: float
    failure: Failure | None = None
    gives_bytes: int | None = None
    wait_s: float = 0.0


SOUND = Act(after_s=0.05, gives_bytes=1 << 40)
HANGS = Act(after_s=0.0)
ACTS = st.one_of(
    st.just(HANGS),
    st.builds(
        Act, after_s=SOME_S, failure=st.sampled_from(BEFORE_BYTES), wait_s=st.sampled_from((0.2, 60.0))
    ),
    st.builds(Act, after_s=SOME_S, failure=st.sampled_from((*IN_BODY, Failure.SLOW)), gives_bytes=SOME_BYTES),
)
GIVES_AFTER_S = 0.5
GATHERED_BYTES = 3 * PROGRESS_BYTES


class Run:
    """One pull from start to end, in simulated time. ``acts``: what each holder does, again and again."""

    def __init__(
        self,
        limits: Limits,
        acts: dict[NodeName, list[Act]],
        *,
        size_bytes: int,
        cached: tuple[Ranked, ...],
        gathers: bool,
    ) -> None:
        self.cluster = Cluster(limits=limits)
        self.completed = False
        self._acts = {name: cycle(those) for name, those in acts.items()}
        self._acting: dict[int, Act] = {}
        self._size_bytes = size_bytes
        self._cached = cached
        self._gathers = gathers
        self._agenda: list[tuple[float, int, int | None, Event]] = []
        self._numbers = count()

    def to_its_end(self) -> None:
        cluster = self.cluster
        self._do(cluster.start(0.0))
        for _ in range(3000):
            if cluster.done:
                return
            wake_s = cluster.wake_s if cluster.pull.state.is_trying else float("inf")
            if self._agenda and self._agenda[0][0] <= wake_s:
                at_s, _, delivery, event = heapq.heappop(self._agenda)
                if delivery not in (None, cluster.delivering):
                    continue  # of a delivery that has ended
                cluster.now_s = at_s
                self._tell(event)
            else:
                assert wake_s < float("inf"), "it waits for nothing"
                cluster.now_s = wake_s
                self._tell(Ticked())
        raise AssertionError("it does not end")

    def _tell(self, event: Event) -> None:
        if isinstance(event, Found):  # the look-up leaves out the peers that this pull shunned meanwhile
            well = tuple(one for one in event.holders if one.node not in self.cluster.passed_over)
            event = Found(holders=well, exhaustive=event.exhaustive)
        self.completed = self.completed or isinstance(event, Completed)
        self._do(self.cluster.tell(event))

    def _later(self, after_s: float, event: Event, *, of_delivery: bool = False) -> None:
        at_s, delivery = self.cluster.now_s + after_s, self.cluster.delivering if of_delivery else None
        heapq.heappush(self._agenda, (at_s, next(self._numbers), delivery, event))

    def _do(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            match command:
                case Lookup():
                    known = HOLDERS if command.everyone else self._cached
                    self._later(0.02, Found(holders=known, exhaustive=command.everyone))
                case Fetch():
                    act = self._acting[command.attempt] = next(self._acts[command.holder.node])
                    if act.gives_bytes is not None:
                        self._later(act.after_s, Responded(attempt=command.attempt))
                    elif act.failure is not None:
                        failed = Failed(attempt=command.attempt, failure=act.failure, wait_s=act.wait_s)
                        self._later(act.after_s, failed)
                case Deliver():
                    self._deliver(self._acting[command.attempt])
                case Stripe():
                    self._stripe()
                case GiveUp():
                    act = self._acting[self.cluster.delivering or 0]
                    broke = Broke(failure=command.failure, offset=self._after(act.gives_bytes))
                    self._later(0.0, broke, of_delivery=True)
                case _:
                    pass

    def _after(self, given_bytes: int | None) -> int:
        """The offset in the body after a holder gave this much of it and then failed."""
        return min(self.cluster.offset + (given_bytes or 0), self._size_bytes - 1)

    def _deliver(self, act: Act) -> None:
        offset = self._after(act.gives_bytes)
        left_bytes, slow = self._size_bytes - offset, act.failure is Failure.SLOW
        rate = Rate(bytes_per_s=1.0 if slow else 50e6, over_s=3.0 if slow else 0.25, source_bound=True)
        progressed = Progressed(left_bytes=left_bytes, rate=rate, expected_bytes_per_s=0.0, lanes_max=4)
        self._later(rate.over_s, progressed, of_delivery=True)
        if act is SOUND:
            self._later(GIVES_AFTER_S, Completed(), of_delivery=True)
        elif act.failure is not None and not slow:
            broke = Broke(failure=act.failure, offset=offset, wait_s=act.wait_s)
            self._later(GIVES_AFTER_S, broke, of_delivery=True)

    def _stripe(self) -> None:
        cluster = self.cluster
        self._agenda = [entry for entry in self._agenda if entry[2] is None]
        heapq.heapify(self._agenda)
        any_sound = False
        last, offset = Failure.BROKEN, cluster.offset
        for place, lane in enumerate(cluster.lanes.values()):
            act = next(self._acts[lane.node])
            any_sound = any_sound or act is SOUND
            if act is not SOUND:
                last = act.failure or Failure.SILENT
                given_bytes = act.gives_bytes or 0
                offset = min(offset + given_bytes, self._size_bytes - 1)
                lost = LaneFailed(holder=lane, failure=last, given_bytes=given_bytes, wait_s=act.wait_s)
                self._later(0.1 * place, lost, of_delivery=True)
        if not any_sound:
            self._later(GIVES_AFTER_S, Broke(failure=last, offset=offset), of_delivery=True)
        elif self._gathers and cluster.offset + GATHERED_BYTES < self._size_bytes:
            self._later(
                GIVES_AFTER_S,
                Gathered(offset=cluster.offset + GATHERED_BYTES, useless=True),
                of_delivery=True,
            )
        else:
            self._later(GIVES_AFTER_S, Completed(), of_delivery=True)


RUN_LIMITS = Limits(
    patience_s=0.3,
    deadline_s=10.0,
    attempts_max=8,
    stall_s=3.0,
    floor_bytes_per_s=65536.0,
    floor_ratio=0.1,
    hedge_s={Tier.ZONE: 0.1},
    stripe_min_bytes=8 * PROGRESS_BYTES,
)


@st.composite
def runs(draw: st.DrawFn, *, with_sound_one: bool) -> Run:
    acts = {holder.node: draw(st.lists(ACTS, min_size=1, max_size=4)) for holder in HOLDERS}
    if with_sound_one:
        acts[draw(st.sampled_from(HOLDERS)).node] = [SOUND]
    return Run(
        RUN_LIMITS,
        acts,
        size_bytes=draw(st.sampled_from((1, 20_000, 40 * PROGRESS_BYTES))),
        cached=tuple(draw(st.lists(st.sampled_from(HOLDERS), unique=True))),
        gathers=draw(st.booleans()),
    )


@given(run=runs(with_sound_one=True))
def test_one_sound_holder_is_enough_whatever_the_others_do(run: Run) -> None:
    run.to_its_end()
    assert run.completed, f"{run.cluster.end} at {run.cluster.now_s} s"


@given(run=runs(with_sound_one=False))
def test_pull_ends_soon_and_by_the_rules_where_no_holder_is_sound(run: Run) -> None:
    run.to_its_end()
    assert run.completed or isinstance(run.cluster.end, Cut | NotFound)


@given(failures=st.lists(st.sampled_from(GO_ON), min_size=1, max_size=5), winner=st.integers(0, 5))
def test_every_holder_is_tried_in_order_until_one_responds(failures: list[Failure], winner: int) -> None:
    winner = min(winner, len(failures))
    cluster = Cluster(limits=Limits(patience_s=1.0, deadline_s=10.0, attempts_max=10))
    cluster.start(0.0)
    commands = cluster.tell(Found(holders=HOLDERS, exhaustive=True))
    for place, failure in enumerate(failures[:winner]):
        assert Fetch(attempt=place + 1, holder=HOLDERS[place]) in commands
        commands = cluster.tell(Failed(attempt=place + 1, failure=failure))
    assert Fetch(attempt=winner + 1, holder=HOLDERS[winner]) in commands
    answer = cluster.tell(Responded(attempt=winner + 1))
    assert answer == (Deliver(attempt=winner + 1, holder=HOLDERS[winner]),)

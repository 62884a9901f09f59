"""Asks other nodes for their figures, while somebody looks. Who is asked when: `agent.admin.turns`.

It also notices who is gone: a node that was killed breaks its connections, and is asked at once. What it
learns of that goes to `Regard`, where it has no consequence for pulls. If nobody answers any more, it is
rather this node that has no network; then nobody is called dead.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agent.admin.turns import ASKED_MAX, EVERY_S, TIMEOUT_S, Turns, sample
from agent.documents.cluster import FiguresEntry
from agent.holders.wire import Question, Reply
from agent.members.member import Peer, Peers
from agent.members.roster import Roster
from agent.peering.channels import NoReply
from agent.pull.regard import Regard
from agent.tasks import wait_for_event
from topology.placement import NodeName, ZoneKey

LOOKED_S = 10.0
"""After so long without a look it ends. A page that polls looks every five seconds."""

_CHOOSE_MANY_S = 10.0
_SPELL_S = 15.0  # who asked in vain for longer is told so by what failed since
_SPELL_LEAST, _SPELL_ENOUGH = 2, 3  # see `agent.pull.regard`
_QUIET_S = EVERY_S + 0.5
"""So long nobody answers before it may be this node's fault: one that lives had its turn by then."""

_QUESTION = Question(figures=True)

Query = Callable[[Peer, Question, float], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a node told last, and when. ``figures``: None: it does not know the question.

    ``silent``: it did not answer since.
    """

    at_s: float
    figures: FiguresEntry | None
    silent: bool = False


class Gatherer:
    """Gathers. `run` it; it sleeps until somebody looks. ``query``: asks one peer; raises `NoReply`."""

    def __init__(
        self,
        *,
        roster: Roster,
        regard: Regard,
        query: Query,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster = roster
        self._regard = regard
        self._query = query
        self._clock = clock
        self._turns = Turns()
        self._answers: dict[NodeName, Answer] = {}
        self._asking: set[NodeName] = set()
        self._until_s = float("-inf")
        self._wanted = asyncio.Event()
        self._hurry = asyncio.Event()  # somebody may be gone
        self._changed = asyncio.Event()  # an answer came, or will not come
        self._generation, self._chosen_s = -1, float("-inf")
        self._failed: dict[NodeName, float] = {}  # since anybody answered
        self._failed_words = ""
        self._fell: set[NodeName] = set()  # those of them that were not silent before
        self._answered_s = float("-inf")  # when anybody answered last, or the gathering began
        self._recovered_s = float("-inf")  # when somebody answered again
        self.doubtful: set[NodeName] = set()
        """Who failed while nobody answered, and was not asked again since somebody did."""
        roster.on_change(self._members_changed)

    @property
    def answers(self) -> Mapping[NodeName, Answer]:
        """What the nodes told that are asked."""
        return self._answers

    @property
    def asked(self) -> frozenset[NodeName]:
        """Who is asked in turn."""
        return frozenset(self._turns.names)

    @property
    def round_s(self) -> float:
        """How long it takes to ask all of them once."""
        return self._turns.round_s

    def look(self) -> None:
        """Somebody looks: gather for a while."""
        self._until_s = self._clock() + LOOKED_S
        self._wanted.set()

    async def first_round(self, at_most_s: float) -> None:
        """Look, and wait until each has answered or failed once, or the time is over."""
        self.look()
        until_s = self._clock() + at_most_s
        while (left_s := until_s - self._clock()) > 0 and not self._is_settled():
            self._changed.clear()
            await wait_for_event(self._changed, left_s)

    def _is_settled(self) -> bool:
        return self._generation >= 0 and self._turns.begun and not self._asking

    def lost(self, name: NodeName) -> None:
        """A connection to this node broke, by no wish of this one."""
        if self._is_looked_at():
            self._turns.lost(name)
            self._hurry.set()

    def trouble(self, now_s: float) -> str:
        """Why it is rather this node that has no network, in words. Empty: it has."""
        is_quiet = self._is_suspect(now_s) and now_s - self._answered_s >= _QUIET_S
        if not is_quiet and not self._are_all_silent(now_s):
            return ""
        return (
            f"none of the last {len(self._recent(now_s))} nodes that were asked answered "
            f"({self._failed_words}): perhaps this node's own network is down"
        )

    def _recent(self, now_s: float) -> list[NodeName]:
        return [name for name, at_s in self._failed.items() if now_s - at_s < _SPELL_S]

    def _is_suspect(self, now_s: float) -> bool:
        """Whether many failed in a row. One that was silent while others answered is no sign of that."""
        return len(self._fell.intersection(self._recent(now_s))) >= _SPELL_ENOUGH

    def _are_all_silent(self, now_s: float) -> bool:
        answers = (self._answers.get(name) for name in self._turns.names)
        is_each = all(each is not None and each.silent for each in answers)
        return is_each and len(self._recent(now_s)) >= _SPELL_LEAST

    async def run(self) -> None:
        """Gather whenever somebody looks, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wanted.wait()
                self._choose()
                self._answered_s = self._clock()
                while self._is_looked_at():
                    if self._is_outdated():
                        self._choose()
                    await self._ask_next(tasks)
                self._wanted.clear()
                self._forget()

    async def _ask_next(self, tasks: asyncio.TaskGroup) -> None:
        name = self._turns.next(self._clock())
        peer = None if name is None else self._roster.peer(name)
        if name is not None and peer is not None and name not in self._asking:
            self._asking.add(name)
            tasks.create_task(self._ask(peer), name="gather figures")
        if name is None:
            self._hurry.clear()
            await wait_for_event(self._hurry, self._turns.wait_s(self._clock()))
        else:
            await asyncio.sleep(1 / self._turns.per_s)

    async def _ask(self, peer: Peer) -> None:
        name, began_s = peer.name, self._clock()
        try:
            reply = await self._query(peer, _QUESTION, TIMEOUT_S)
        except NoReply as error:
            self._no_reply(name, error, began_s)
        else:
            self._replied(name, reply)
        finally:
            self._asking.discard(name)
            self._changed.set()

    def _replied(self, name: NodeName, reply: Reply) -> None:
        now_s = self._clock()
        self._regard.heard(name, now_s)
        self._lives(name, reply.figures, now_s)

    def _lives(self, name: NodeName, figures: FiguresEntry | None, now_s: float) -> None:
        self._turns.answered(name)
        self.doubtful.discard(name)
        if self._is_suspect(now_s) or self._are_all_silent(now_s):
            self.doubtful.update(self._failed.keys() - {name})
            self._recovered_s = now_s
        self._failed.clear()
        self._fell.clear()
        self._answered_s = now_s
        self._keep(name, Answer(at_s=now_s, figures=figures))

    def _keep(self, name: NodeName, answer: Answer) -> None:
        """Keep an answer, unless it came when nobody looked any more, or after the node had left."""
        if self._is_kept(name):
            self._answers[name] = answer

    def _is_kept(self, name: NodeName) -> bool:
        return self._generation >= 0 and self._roster.peer(name) is not None

    def _no_reply(self, name: NodeName, error: NoReply, began_s: float) -> None:
        now_s, words = self._clock(), str(error)
        if error.own:
            self._regard.could_not_ask(words, now_s)
            return
        if error.status is not None:  # it refuses the connection, so it is alive
            self._regard.refused(name, words, now_s)
            self._lives(name, None, now_s)
            return
        self._regard.noted(name, words, now_s, silent=True)
        if not self._is_kept(name):
            return
        self._turns.silent(name, now_s)
        if began_s <= self._recovered_s:
            self.doubtful.add(name)
        else:
            self.doubtful.discard(name)
        self._failed[name] = now_s
        self._failed_words = words
        before = self._answers.get(name)
        if before is None or not before.silent:
            self._fell.add(name)
        if self._is_suspect(now_s):  # perhaps; until then nobody is called dead either
            self.doubtful |= self._fell
        self._answers[name] = Answer(
            at_s=now_s if before is None else before.at_s,
            figures=None if before is None else before.figures,
            silent=True,
        )

    def _is_looked_at(self) -> bool:
        return self._clock() < self._until_s

    def _is_outdated(self) -> bool:
        """Of thousands of nodes, one comes or goes every few seconds, and the sample is as good as before."""
        wait_s = _CHOOSE_MANY_S if len(self._roster) > ASKED_MAX else 0.0
        is_due = self._clock() - self._chosen_s >= wait_s
        return is_due and self._generation != self._roster.snapshot.generation

    def _choose(self) -> None:
        snapshot = self._roster.snapshot
        zones: dict[ZoneKey | None, list[NodeName]] = {}
        # Within a ring the order is as good as random, stays as it is, and differs from node to node.
        for peer in itertools.chain.from_iterable(self._roster.rings):
            zones.setdefault(snapshot.zone_of(peer.name), []).append(peer.name)
        self._turns.use(sample(zones), is_sample=len(self._roster) > ASKED_MAX)
        self._generation, self._chosen_s = snapshot.generation, self._clock()
        self._changed.set()

    def _members_changed(self, members: Peers) -> None:
        for known in (self._answers, self._failed):
            for name in known.keys() - members.keys():
                del known[name]
        self._fell &= members.keys()
        self.doubtful &= members.keys()
        self._hurry.set()

    def _forget(self) -> None:
        """Nobody looks. What was told is of no use later."""
        self._turns, self._generation = Turns(), -1
        self._answers.clear()
        self._failed.clear()
        self._fell.clear()
        self.doubtful.clear()

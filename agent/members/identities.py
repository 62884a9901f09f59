"""Holds what other agents say of themselves against the list of members.

An agent tells its name when it is asked (`answered`) and when it reports (`reported`). Listeners that are not
for peers tell which they are. Nothing here proves a name, and anybody may claim one. So what is found is told
and decides nothing, with one exception: an agent that is this very process is no peer, whatever its entry
says. The number of problems is bounded.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.members.checks import listen_peer_hint
from agent.members.introduction import PEER_LISTENER, Answer, Introduction
from agent.members.member import Peer, Peers
from agent.members.problems import Problem, Problems
from agent.members.roster import Roster
from topology.placement import NodeName

_SOURCE = "other agents"
_CLAIMS_MAX, _CLAIMS_OF_ONE_MAX = 64, 4  # of all addresses, and of one
_PRUNE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A problem with what an agent said in a report, and how long it counts without another such report."""

    problem: Problem
    until_s: float


class Identities:
    """Tells which agents are not who the list says. ``instance``: a word that only this process knows.

    ``report_ttl_s``: seconds after which a report that was not repeated counts no more.
    """

    def __init__(
        self,
        *,
        instance: str,
        roster: Roster,
        problems: Problems,
        report_ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance = instance
        self._roster = roster
        self._problems = problems
        self._report_ttl_s = report_ttl_s
        self._clock = clock
        self._answers: dict[tuple[NodeName, str], Problem] = {}
        self._claims: dict[tuple[NodeName, str], _Claim] = {}
        roster.on_change(self._members_changed)

    def answered(self, peer: Peer, answer: Answer | None) -> None:
        """This answered at the peer's address. None: nobody did, or it is not known who."""
        key, problem = (peer.name, peer.authority), None if answer is None else self._about(peer, answer)
        if problem != self._answers.get(key):  # each new connection answers, nearly always the same
            if problem is None:
                del self._answers[key]
            else:
                self._answers[key] = problem
            self._tell()
        if answer is not None and answer.who is not None and answer.who.instance == self._instance:
            self._roster.exclude(peer)

    def _about(self, peer: Peer, answer: Answer) -> Problem | None:
        own, who = self._roster.own, answer.who
        if who is None:
            why = f"what answers there is no shorthaul agent (it answers {answer.how})"
            hint = listen_peer_hint(peer.name)
        elif who.listener != PEER_LISTENER:
            why = f"that is no peer listener: it is {self._whose(who)} listen.{who.listener}"
            hint = listen_peer_hint(peer.name)
        elif who.instance == self._instance:
            why = f"leads to this node ({own}) itself"
            hint = "correct the address of that entry; it is not used as a peer"
        elif who.name == own:
            why = f"its agent has this node's name, {own}"
            hint = "node.name must be unique: change it on one of the two nodes"
        elif who.name != peer.name:
            why, hint = f"its agent calls itself {who.name!r}", "correct the entry, or that node's node.name"
        else:
            return None
        return Problem(
            node=peer.name, problem=f"{peer.authority} is listed as {peer.name}, but {why}", hint=hint
        )

    def _whose(self, who: Introduction) -> str:
        own = who.instance == self._instance
        return f"this node's own ({self._roster.own})" if own else f"{who.name}'s"

    def reported(self, name: NodeName, address: str) -> None:
        """A report in this name came from an address that is not the one of a member with this name."""
        problem, key = self._about_claim(name, address), (name, address)
        if problem is not None and (key in self._claims or self._has_room(address)):
            self._claims[key] = _Claim(problem=problem, until_s=self._clock() + self._report_ttl_s)
            self._tell()

    def _has_room(self, address: str) -> bool:
        """Whether one more claim is kept. A liar with many names must not crowd out what others say."""
        of_this_one = sum(one == address for _, one in self._claims)
        return len(self._claims) < _CLAIMS_MAX and of_this_one < _CLAIMS_OF_ONE_MAX

    def _about_claim(self, name: NodeName, address: str) -> Problem | None:
        listed, at_address = self._roster.listed.get(name), self._roster.peer_at(address)
        if name == self._roster.own:
            why = f"an agent at {address} has this node's name too"
            hint = "node.name must be unique: change it on one of the two nodes"
        elif listed is not None and listed.address != address:
            why = f"an agent at {address} calls itself {name}, which is listed at {listed.authority}"
            hint = "two agents have one node.name; or that node sends from another address than listen.peer"
        elif listed is None and at_address is not None:
            why = f"an agent at {address}, which is listed as {at_address}, calls itself {name!r}"
            hint = "correct the entry, or that node's node.name"
        else:
            return None  # nobody of this list; perhaps it is a new node, which is not listed yet
        return Problem(node=at_address or name, problem=why, hint=hint)

    async def run(self) -> None:
        """Forget what is not reported any more, until cancelled."""
        while True:
            await asyncio.sleep(_PRUNE_S)
            now_s = self._clock()
            over = [key for key, claim in self._claims.items() if claim.until_s <= now_s]
            for key in over:
                del self._claims[key]
            if over:
                self._tell()

    def _members_changed(self, _: Peers) -> None:
        self._answers = {key: problem for key, problem in self._answers.items() if self._is_listed(*key)}
        claims, self._claims = self._claims, {}
        for key, claim in claims.items():
            problem = self._about_claim(*key)
            if problem is not None:
                self._claims[key] = _Claim(problem=problem, until_s=claim.until_s)
        self._tell()

    def _is_listed(self, name: NodeName, authority: str) -> bool:
        peer = self._roster.listed.get(name)
        return peer is not None and peer.authority == authority

    def _tell(self) -> None:
        told = {self._roster.peer_at(address) for _, address in self._claims} & {
            node for node, _ in self._answers
        }
        claims = (
            claim.problem
            for (_, address), claim in self._claims.items()
            if self._roster.peer_at(address) not in told  # its answers say the same already
        )
        self._problems.found(_SOURCE, (*self._answers.values(), *claims))

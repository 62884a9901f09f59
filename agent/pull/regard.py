"""How each peer is doing, as far as this node knows: failed, saturated, loaded, not trusted. Pure.

Holds what all pulls and look-ups learned about peers. It does not know where a peer is
(`agent.members.roster`), nor how it is asked. Times are seconds of one monotonic clock.

What can be said of a peer. A sign of life ends its silence, and perhaps a spell in which nobody answered.

    verb           who says it                                        cools off?    words?    sign of life?
    failed         a pull that avoids it; a question that it refused  yes           if none*  no
    noted          an attempt or a measurement that failed            as before     yes       no
    refused        the same, or a question, if it answered            as before     yes       yes
    unanswered     a question without a reply                         yes           yes       no: a spell
    heard          a reply, a greeting, a measurement                 as before**   no        yes
    served         a pull that got a body whole from it               no more       no        yes
    saturated      a pull that it told to wait                        as before***  no        no: `refused` is
    reported_load  its own report                                     as before     no        no: nobody asked
    could_not_ask  whoever could not send to it                       as before     own       no

    * only if nothing was noted a moment ago   ** except at the end of a spell   *** but others go first
    own: kept as this node's failure, not as the peer's
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from agent.oci.digest import Digest
from agent.pull.cooloff import CoolOff
from agent.pull.trust import Distrust, Trust
from topology.placement import NodeName
from topology.ranking import Condition

_SPELL_LEAST, _SPELL_ENOUGH = 2, 3
"""So many peers that did not answer, one after the other, point at this node's own network: all of them if
there are fewer than the second number, but never fewer than the first.
"""

_WORDS_MOST = 80  # characters of a failure

_SAME_FAILURE_S = 1.0  # what was noted so shortly before is what the peer failed by

_LOAD_REPORTS = 2
"""A reported load counts for this many intervals of reports. One report may be late or lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFailure:
    """A peer's last failure, in words, and when it was. ``silent``: nothing came from it."""

    words: str
    at_s: float
    silent: bool = False


class Regard:
    """What one node knows of its peers.

    It keeps nothing of nodes that `members_changed` does not name. ``trust`` is the exception: a peer that
    leaves may come back with the same content, and the content is judged only after its delivery.

    ``cooloff_s``: how long a peer that failed is left alone. The time doubles with each failure in a row, up
    to ``cooloff_max_s``. ``report_s``: how often peers report their load.
    ``trust``: which peer is not asked for which digest.
    """

    def __init__(
        self,
        *,
        cooloff_s: float,
        cooloff_max_s: float = 80.0,
        report_s: float = 15.0,
        trust: Trust | None = None,
    ) -> None:
        self.trust = trust or Trust()
        self._cooloff = CoolOff(first_s=cooloff_s, most_s=cooloff_max_s)
        self._load_ttl_s = _LOAD_REPORTS * report_s
        self._members: Set[NodeName] = frozenset()
        self._saturated_until_s: dict[NodeName, float] = {}
        self._reported: dict[NodeName, tuple[int, float]] = {}  # the peer's uploads, and when it said so
        self._fetching: dict[NodeName, int] = {}  # how many bodies this node fetches from the peer
        self._failures: dict[NodeName, PeerFailure] = {}  # the last one of each peer
        self._heard_s: dict[NodeName, float] = {}  # when each peer gave a sign of life last
        self.own_failure: PeerFailure | None = None  # when this node itself could not ask last, and why
        self._spell: set[NodeName] = set()  # did not answer since any peer gave a sign of life

    def members_changed(self, members: Iterable[NodeName]) -> None:
        """These are the members now. Forget all other peers. A mapping is kept, and may not change."""
        self._members = members.keys() if isinstance(members, Mapping) else frozenset(members)
        self._cooloff.keep_only(self._members)
        self._spell.intersection_update(self._members)
        kept = (self._saturated_until_s, self._reported, self._fetching, self._failures, self._heard_s)
        for known in kept:
            for node in known.keys() - self._members:
                del known[node]

    def failed(self, node: NodeName, now_s: float) -> None:
        """The peer did not answer, or its body broke off. It cools off: all other holders go before it."""
        if node in self._members:
            self._cooloff.failed(node, now_s)
            known = self._failures.get(node)
            if known is None or now_s - known.at_s > _SAME_FAILURE_S:
                self.noted(node, "it did not answer in time", now_s, silent=True)

    def noted(self, node: NodeName, words: str, now_s: float, *, silent: bool = False) -> None:
        """What went wrong with the peer, in words. It has no consequence by itself.

        ``silent``: nothing came from the peer.
        """
        if node in self._members:
            self._failures[node] = PeerFailure(words=words[:_WORDS_MOST], at_s=now_s, silent=silent)

    def unanswered(self, node: NodeName, words: str, now_s: float) -> None:
        """The peer did not answer a question, or could not be reached. It failed."""
        self.noted(node, words, now_s, silent=True)
        self.failed(node, now_s)
        if node in self._members:
            self._spell.add(node)

    def refused(self, node: NodeName, words: str, now_s: float) -> None:
        """The peer answered, but not with what was asked for. That is all that it means by itself."""
        self.noted(node, words, now_s)
        self.heard(node, now_s)

    def could_not_ask(self, words: str, now_s: float) -> None:
        """This node itself could not reach a peer. That says nothing about the peer."""
        self.own_failure = PeerFailure(words=words[:_WORDS_MOST], at_s=now_s)

    def heard(self, node: NodeName, now_s: float) -> None:
        """The peer answered a question or a request, in whatever way.

        If it and many others had not answered before, and nobody had in between, this node's own network was
        down. Then none of them cools off any longer. An answer alone does not prove that the peer works.
        """
        if node in self._members:
            self._heard_s[node] = now_s
        if not self._spell:
            return
        many = max(_SPELL_LEAST, min(_SPELL_ENOUGH, len(self._members)))
        if node in self._spell and len(self._spell) >= many:
            for each in self._spell:
                self._cooloff.succeeded(each)
        self._spell.clear()

    def failure(self, node: NodeName) -> PeerFailure | None:
        """The peer's last failure. None: it never failed."""
        return self._failures.get(node)

    def silence(self, node: NodeName) -> PeerFailure | None:
        """The peer's last failure, if it was silent, and gave no sign of life since.

        None: it answers, or nobody knows.
        """
        failure = self._failures.get(node)
        return None if failure is None or not failure.silent or self.answered_since(node) else failure

    def answered_since(self, node: NodeName) -> bool:
        """Whether the peer gave a sign of life after its last failure, if it was silent then."""
        failure = self._failures.get(node)
        if failure is None or not failure.silent:
            return False
        return self._heard_s.get(node, -math.inf) >= failure.at_s

    def failures(self) -> Iterator[tuple[NodeName, PeerFailure]]:
        """The last failure of each peer that ever failed."""
        yield from self._failures.items()

    def silent(self) -> tuple[NodeName, ...]:
        """The peers that failed by silence, and gave no sign of life since."""
        return tuple(node for node in self._failures if self.silence(node) is not None)

    def saturated(self, node: NodeName, wait_s: float, now_s: float) -> None:
        """The peer works, but has no capacity for ``wait_s``. For this long other holders go before it."""
        if node in self._members:
            self._saturated_until_s[node] = now_s + wait_s

    def served(self, node: NodeName, now_s: float) -> None:
        """The peer delivered a body whole, so it works. First bytes or replies would not prove that."""
        self.heard(node, now_s)
        self._cooloff.succeeded(node)
        self._saturated_until_s.pop(node, None)

    def reported_load(self, node: NodeName, load: int, now_s: float) -> None:
        """The peer reported how many bodies it sends now."""
        if node in self._members:
            self._reported.pop(node, None)
            self._reported[node] = (load, now_s)

    def fetching(self, node: NodeName, change: int) -> None:
        """This node began (+1) or ended (-1) to fetch a body from the peer."""
        count = self._fetching.get(node, 0) + change
        if count > 0 and node in self._members:
            self._fetching[node] = count
        else:
            self._fetching.pop(node, None)

    def cooling(self, now_s: float) -> Iterator[NodeName]:
        """The peers that cool off now."""
        return self._cooloff.resting(now_s)

    def cooling_s(self, node: NodeName, now_s: float) -> float:
        """For how many more seconds the peer cools off. 0: it does not."""
        return self._cooloff.left_s(node, now_s)

    def cooloff_of_failure_s(self, node: NodeName, now_s: float) -> float:
        """How long a cool-off the peer's failure began, or would begin now. 0: the node is no member."""
        return self._cooloff.of_failure_s(node, now_s) if node in self._members else 0.0

    def is_cooling(self, node: NodeName, now_s: float) -> bool:
        """Whether the peer cools off now."""
        return self.cooling_s(node, now_s) > 0

    def not_trusted(self, now_s: float) -> Iterator[tuple[Digest, NodeName, Distrust, float]]:
        """See `Trust.entries`."""
        return self.trust.entries(now_s)

    def conditions(self, now_s: float, among: Iterable[NodeName] | None = None) -> dict[NodeName, Condition]:
        """The condition of each peer. Peers that are well and idle are left out.

        ``among``: of these only. In a large cluster thousands have one, and a pull tries a few dozen.
        """
        self._expire(now_s)
        cooloff, saturated = self._cooloff, self._saturated_until_s
        reported, fetching = self._reported, self._fetching
        if among is None:
            among = {*cooloff.resting(now_s), *saturated, *reported, *fetching}
        names = [
            node
            for node in among
            if node in reported or node in fetching or node in saturated or cooloff.is_known(node)
        ]
        conditions = {node: self._condition(node, now_s) for node in names}
        return {node: condition for node, condition in conditions.items() if any(condition)}

    def _condition(self, node: NodeName, now_s: float) -> Condition:
        # The bodies that this node fetches are in the peer's next report, so the two must not be added.
        load = max(self._reported.get(node, (0, 0.0))[0], self._fetching.get(node, 0))
        saturated = node in self._saturated_until_s
        return Condition(load=load, saturated=saturated, cooling=self.is_cooling(node, now_s))

    def _expire(self, now_s: float) -> None:
        reported = self._reported  # in the order in which they reported
        while reported and now_s - reported[oldest := next(iter(reported))][1] > self._load_ttl_s:
            del reported[oldest]
        for node, until_s in [*self._saturated_until_s.items()]:
            if now_s >= until_s:
                del self._saturated_until_s[node]

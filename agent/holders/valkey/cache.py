"""What the server said lately of the holders of a digest. Pure, bounded.

An answer is kept as bitmaps, not as names: who is no member any more is masked at once. An answer that the
server watches (CLIENT TRACKING) is kept for longer, and the server says when it changes. Then an answer that
names holders is still used for as long as any other would be: while thousands pull an image its bitmap
changes all the time, and the holders that it names stay right. An answer that names nobody is dropped.
"""

from collections import OrderedDict
from dataclasses import dataclass

from agent.holders.bitmap import Masks
from agent.oci.digest import Digest
from topology.placement import NodeName

_DIGESTS_MAX = 4096
_WATCHED_TTL_S = 300.0
_WATCHED_NEGATIVE_TTL_S = 10.0  # what the server pushes may be lost with a connection
_FORGOTTEN_S = 5.0
_FORGOTTEN_MAX = 1024


@dataclass(slots=True, kw_only=True)
class Answer:
    """``bits``: who has all of it. ``flights``: who is fetching it. ``until_s``: how long this is used.

    ``usual_until_s``: how long it would be used if the server did not watch it. ``named``: nodes that
    announce nothing, or were fetching it, and said themselves that they have it. ``chosen``: the nearest
    holders, as they were chosen with these masks. ``looked_into``: the near nodes were asked as well, if
    there was a reason to; before that it is no proof that nobody has it.
    """

    bits: int
    flights: int
    until_s: float
    usual_until_s: float
    watched: bool
    named: tuple[NodeName, ...] = ()
    looked_into: bool = False
    chosen: tuple[Masks, tuple[NodeName, ...]] | None = None


class Answers:
    """The answers by digest. ``positive_ttl_s``, ``negative_ttl_s``: see `agent.config.LookupSettings`."""

    def __init__(self, *, positive_ttl_s: float, negative_ttl_s: float) -> None:
        self._positive_ttl_s = positive_ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._answers: OrderedDict[Digest, Answer] = OrderedDict()
        self._forgotten: OrderedDict[tuple[Digest, int], float] = OrderedDict()

    def fresh(self, digest: Digest, now_s: float) -> Answer | None:
        """The answer, if it may still be used."""
        answer = self._answers.get(digest)
        return answer if answer is not None and now_s < answer.until_s else None

    def is_hot(self, digest: Digest, now_s: float) -> bool:
        """Whether it was looked up before, not long ago. Then it is worth watching."""
        answer = self._answers.get(digest)
        return answer is not None and now_s < answer.until_s + _WATCHED_TTL_S

    def put(
        self, digest: Digest, *, bits: int, flights: int, known: int, watched: bool, now_s: float
    ) -> Answer:
        """The server said this. ``known``: the bits of all members."""
        named = bool((bits | flights) & known)
        usual_s = self._positive_ttl_s if named else self._negative_ttl_s
        watched_s = _WATCHED_TTL_S if named else _WATCHED_NEGATIVE_TTL_S
        answer = Answer(
            bits=bits & ~self._forgotten_bits(digest, bits, now_s),
            flights=flights & ~bits,
            until_s=now_s + (max(usual_s, watched_s) if watched else usual_s),
            usual_until_s=now_s + usual_s if named else now_s,
            watched=watched,
        )
        self._answers.pop(digest, None)
        self._answers[digest] = answer
        if len(self._answers) > _DIGESTS_MAX:
            self._answers.popitem(last=False)
        return answer

    def changed(self, digest: Digest) -> None:
        """The server says that the answer is no longer true."""
        answer = self._answers.get(digest)
        if answer is not None and answer.watched:
            answer.watched = False
            answer.until_s = min(answer.until_s, answer.usual_until_s)

    def all_changed(self) -> None:
        """No answer is watched any more."""
        for digest in self._answers:
            self.changed(digest)

    def forget(self, digest: Digest, node: NodeName, number: int | None, now_s: float) -> None:
        """This node gave nothing. It is left out now and of the answers of the next seconds.

        ``number``: None: it has none.
        """
        answer = self._answers.get(digest)
        if answer is not None:
            answer.chosen = None
            answer.named = tuple(name for name in answer.named if name != node)
        if number is None:
            return
        self._forgotten.pop((digest, number), None)
        self._forgotten[digest, number] = now_s + _FORGOTTEN_S
        if len(self._forgotten) > _FORGOTTEN_MAX:
            self._forgotten.popitem(last=False)
        if answer is not None:
            answer.bits &= ~(1 << number)
            answer.flights &= ~(1 << number)

    def drop(self, digest: Digest) -> None:
        """Ask anew when it is wanted again."""
        self._answers.pop(digest, None)

    def _forgotten_bits(self, digest: Digest, bits: int, now_s: float) -> int:
        while self._forgotten:
            first = next(iter(self._forgotten))
            if self._forgotten[first] > now_s:
                break
            del self._forgotten[first]
        if not self._forgotten or not bits:
            return 0
        return sum(1 << number for known, number in self._forgotten if known == digest)

"""The reference graph: which content of a store is reached from which names, through indexes and manifests.
Pure.

Content without a name is reached if a manifest lists it that is reached itself. What is kept for each content
is its `Audience`; for each manifest, what it lists. 64-bit hashes stand for digests: Python's are keyed anew
in each process, so nobody can look for two digests with the same one. Nearly all is packed in sorted arrays,
because a dictionary would take more than a hundred bytes for each content. What is new waits in small
dictionaries for `rebuild`, which packs it, and drops what no name reaches any longer. Whoever rebuilds goes
on in steps.
"""

from array import array
from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from itertools import chain

from agent.content.audience import NOBODY, Audience, Link
from agent.oci.digest import Digest

Key = int
"""Stands for a digest. Its two lowest bits are free for a `Link`."""

_LINK_BITS = 3
_KEY_BITS = (1 << 64) - 1 - _LINK_BITS
_SHELVES = 256  # sorting all keys at once would take too long
_STEP = 256  # contents, between two steps: well under a millisecond
_LINKS = tuple(Link)
NOTHING: Set[Key] = frozenset()
"""What a step of a rebuild yields that is not the last one."""


def key_of(digest: Digest) -> Key:
    """The key that stands for a digest in this process."""
    return hash(digest) & _KEY_BITS


class _Audiences:
    """The few different audiences, by number. 0 is `NOBODY`."""

    def __init__(self) -> None:
        self.all = [NOBODY]
        self._numbers = {NOBODY: 0}
        self._unions: dict[tuple[int, int], int] = {}
        self._below: dict[tuple[int, Link], int] = {}

    def number(self, audience: Audience) -> int:
        number = self._numbers.setdefault(audience, len(self.all))
        if number == len(self.all):
            self.all.append(audience)
        return number

    def union(self, one: int, other: int) -> int:
        found = self._unions.get((one, other))
        if found is None:
            found = self._unions[one, other] = self.number(self.all[one] | self.all[other])
        return found

    def below(self, number: int, link: Link) -> int:
        found = self._below.get((number, link))
        if found is None:
            found = self._below[number, link] = self.number(self.all[number].below(link))
        return found


class _Packed:
    """What does not change until the next rebuild. ``keys`` is sorted; ``numbers`` are its audiences.

    ``manifests``: the sorted keys of those that list something: ``listed[starts[i] : starts[i + 1]]``.
    """

    def __init__(self) -> None:
        self.keys, self.numbers = array("Q"), array("I")
        self.manifests, self.starts, self.listed = array("Q"), array("I", [0]), array("Q")

    def number(self, key: Key) -> int:
        index = bisect_left(self.keys, key)
        return self.numbers[index] if index < len(self.keys) and self.keys[index] == key else 0

    def listing(self, key: Key) -> Sequence[int] | None:
        index = bisect_left(self.manifests, key)
        if index == len(self.manifests) or self.manifests[index] != key:
            return None
        return self.listed[self.starts[index] : self.starts[index + 1]]

    def add(self, key: Key, number: int, listing: Sequence[int] | None) -> None:
        """Add a key that is greater than all that are there."""
        self.keys.append(key)
        self.numbers.append(number)
        if listing is not None:
            self.manifests.append(key)
            self.listed.extend(listing)
            self.starts.append(len(self.listed))

    @property
    def size_bytes(self) -> int:
        arrays = (self.keys, self.numbers, self.manifests, self.starts, self.listed)
        return sum(each.buffer_info()[1] * each.itemsize for each in arrays)


class References:
    """The graph of one store. One task writes to it, and anybody may read at any time."""

    def __init__(self) -> None:
        self._audiences = _Audiences()
        self._packed = _Packed()
        self._numbers: dict[Key, int] = {}  # of what was reached since the last rebuild
        self._listings: dict[Key, array[int]] = {}
        self.overtaken = False
        """Whether a private name reached a manifest after an open one had been followed through it."""

    def audience(self, digest: Digest) -> Audience:
        """What the names say of a content. Cost: one look-up, about a microsecond."""
        return self._audiences.all[self._number(key_of(digest))]

    def lists(self, digest: Digest) -> bool:
        """Whether it is known what this manifest lists."""
        return self._listing(key_of(digest)) is not None

    def learn(self, digest: Digest, listed: Iterable[tuple[Digest, Link]]) -> None:
        """Remember what a manifest lists. `spread` follows it."""
        self._listings[key_of(digest)] = array("Q", (key_of(child) | link.value for child, link in listed))

    def spread(self, digest: Digest, said: Audience) -> Iterator[Key]:
        """Follow a name to all that it reaches, as far as it is known. Goes on with each step.

        ``said``: what the name says of its own content. An open name is not followed through what a private
        image has: an index in a repository of his own would open it to everybody. Yields what it reached.
        """
        return self._follow(key_of(digest), said, self._audiences, self._numbers)

    @property
    def waiting(self) -> int:
        """How many contents wait to be packed."""
        return len(self._numbers) + len(self._listings)

    @property
    def outgrown(self) -> bool:
        """Whether so many contents wait that packing them pays at once."""
        return self.waiting > 1000 + len(self._packed.keys) // 4

    @property
    def packed_bytes(self) -> int:
        """The size of what is packed."""
        return self._packed.size_bytes

    def rebuild(self, names: Iterable[tuple[Digest, Audience]]) -> Iterator[Set[Key]]:
        """Follow all these names anew, the private ones first, and pack the result. Goes on with each step.

        The last step makes the result known; the answers are the old ones until then. It yields the contents
        that were lost, that is: they were included, and no such name reaches them any longer.
        """
        audiences, numbers = _Audiences(), dict[Key, int]()
        open_names: list[tuple[Digest, Audience]] = []
        for count, each in enumerate(names):
            if each[1].places:
                yield from self._stepping(self._follow(key_of(each[0]), each[1], audiences, numbers))
            else:
                open_names.append(each)
                if count % _STEP == 0:
                    yield NOTHING
        for digest, said in open_names:
            yield from self._stepping(self._follow(key_of(digest), said, audiences, numbers))
        yield from self._pack(audiences, numbers)

    @staticmethod
    def _stepping(keys: Iterator[Key]) -> Iterator[Set[Key]]:
        for count, _ in enumerate(keys):
            if count % _STEP == _STEP - 1:
                yield NOTHING
        yield NOTHING

    def _follow(
        self, root: Key, said: Audience, audiences: _Audiences, numbers: dict[Key, int]
    ) -> Iterator[Key]:
        """Add what a name says to all that is reached from a key, in these tables."""
        whole = audiences.number(said)
        below = [audiences.below(whole, link) for link in _LINKS]
        ahead, seen = [root], set[Key]()
        while ahead:
            key = ahead.pop()
            if key in seen:
                continue
            seen.add(key)
            before = self._add(key, whole, audiences, numbers)
            yield key
            listing = self._listing(key)
            if listing is None or (not said.places and before.places):
                continue
            if said.places and before.included and not before.places:
                self.overtaken = True
            for child in listing:
                link, child_key = child & _LINK_BITS, child & _KEY_BITS
                if link == Link.WHOLE.value:
                    ahead.append(child_key)
                else:
                    self._add(child_key, below[link], audiences, numbers)
                    yield child_key

    def _add(self, key: Key, number: int, audiences: _Audiences, numbers: dict[Key, int]) -> Audience:
        """Add an audience to a content's in these tables. Returns the one that it had before."""
        before = self._number(key) if numbers is self._numbers else numbers.get(key, 0)
        after = audiences.union(before, number)
        if after != before:
            numbers[key] = after
        return audiences.all[before]

    def _number(self, key: Key) -> int:
        fresh = self._numbers.get(key)
        return self._packed.number(key) if fresh is None else fresh

    def _listing(self, key: Key) -> Sequence[int] | None:
        fresh = self._listings.get(key)
        return self._packed.listing(key) if fresh is None else fresh

    def _pack(self, audiences: _Audiences, numbers: dict[Key, int]) -> Iterator[Set[Key]]:
        shelves: list[list[Key]] = [[] for _ in range(_SHELVES)]
        for count, key in enumerate(numbers):
            shelves[key >> 56].append(key)
            if count % _STEP == 0:
                yield NOTHING
        packed = _Packed()
        for shelf in shelves:
            shelf.sort()
            yield NOTHING
        for count, key in enumerate(chain.from_iterable(shelves)):
            packed.add(key, numbers[key], self._listing(key))
            if count % _STEP == 0:
                yield NOTHING
        lost = yield from self._find_lost(audiences, numbers)
        self._audiences, self._packed = audiences, packed
        self._numbers, self._listings, self.overtaken = {}, {}, False
        yield lost

    def _find_lost(
        self, audiences: _Audiences, numbers: dict[Key, int]
    ) -> Generator[Set[Key], None, Set[Key]]:
        """The contents that were included and are not any longer. Goes on with each step."""
        before = chain(zip(self._packed.keys, self._packed.numbers, strict=True), self._numbers.items())
        lost: set[Key] = set()
        for count, (key, number) in enumerate(before):
            if self._audiences.all[number].included and not audiences.all[numbers.get(key, 0)].included:
                lost.add(key)
            if count % _STEP == 0:
                yield NOTHING
        return lost

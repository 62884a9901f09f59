"""What the server is to be told, when, and in which order, of what this node has. Pure.

Two kinds of things are told. *Changes*, a digest that came or went, within a second. The *inventory*, all
that this node has: after the start, after a reset of the server, and anew in each epoch. The inventory is
what could bring the server down, because thousands of nodes may have to tell theirs at the same moment. So
each node tells `BATCH_MAX` digests at most once in the time in which the whole cluster may tell one batch
each, and begins at a random moment of that time: all together tell `BITS_PER_S` on average, from the first
moment on, however many they are and whatever happened. See docs/decisions/0047.

What was told is what the server is believed to know. Everything else is told until the server has taken it.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from agent.holders.valkey.layout import EPOCH_S
from agent.oci.digest import Digest

BATCH_MAX = 250
"""Digests in one call. It keeps the server from others for less than a millisecond."""

BITS_PER_S = 50_000
"""Digests of inventories that the whole cluster tells in a second: a tenth of what a server takes."""

_AUDIT_S = 10.0
_AUDITS_PER_S = 500.0  # of the whole cluster
_INTERVAL_LEAST_S = 0.2  # between two batches of a node, in a small cluster
_SPREAD = 0.8  # of an epoch: in this part of it the inventory is told anew
_CHANGE_S = (0.1, 0.7)  # a change is told after a time between these
_CHANGES_PER_S = float(BATCH_MAX)
_YOUNG_S = 300.0  # after the start or a reset the changes of all nodes may come at once, too
_YOUNG_BURST = 32.0
_RECENT_MAX = 64
_WANTED_MAX = 1024
_USUAL = 2000  # digests of a node that has run for a while: one that is new here knows no better
_WARM_LEAST_S, _WARM_MOST_S, _WARM_FACTOR = 25.0, 900.0, 1.5

Chance = Callable[[float, float], float]
"""A random number between two."""


def audit_s(members: int) -> float:
    """How often a node looks whether the server still knows what it was told."""
    return max(_AUDIT_S, members / _AUDITS_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the server is told in one call. ``removed``: they are taken out of this epoch and the last.

    ``inventory``: those of ``added`` that are no changes.
    """

    epoch: int
    added: tuple[Digest, ...]
    removed: tuple[Digest, ...]
    inventory: frozenset[Digest] = field(repr=False)
    generation: int = field(repr=False)

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.added or self.removed)


class Announcements:
    """What this node has, and what of it the server was told. Times are seconds of one monotonic clock.

    ``chance``: spreads what thousands of nodes do.
    """

    def __init__(self, *, chance: Chance, now_s: float) -> None:
        self._chance = chance
        self._members = 1
        self._held: dict[Digest, None] = {}  # the newest last
        self._told: dict[Digest, int] = {}  # in which epoch
        self._doubted: set[Digest] = set()  # those that were told, and that the server may have lost
        self._recent: deque[Digest] = deque(maxlen=_RECENT_MAX)  # what was told last
        self._wanted: dict[Digest, None] = {}  # what was asked of this node, the last one last
        self._changes: dict[Digest, None] = {}
        self._inventory: deque[Digest] = deque()
        self._epoch: int | None = None
        self._generation = 0
        self._catching_up = True
        self._within_s = _SPREAD * EPOCH_S  # the inventory is told anew in this time
        self._young_until_s = now_s + _YOUNG_S
        self._inventory_s = math.inf
        self._changes_s = math.inf
        self._tokens, self._tokens_s = _YOUNG_BURST, now_s

    @property
    def announced(self) -> int:
        """How many digests the server was told of."""
        return len(self._told)

    @property
    def pending(self) -> int:
        """How many digests have yet to be told."""
        return len(self._changes) + len(self._inventory)

    @property
    def catching_up(self) -> bool:
        """Whether the server has yet to be told something of the inventory for the first time."""
        return self._catching_up

    @property
    def warm_s(self) -> float:
        """For so long after a reset the server is not believed that nobody has a digest.

        This node takes as long for its inventory, and other nodes have about as much, at least the usual.
        """
        batches = math.ceil(max(len(self._held), _USUAL) / BATCH_MAX) + 1
        noticed_s = max(_WARM_LEAST_S, audit_s(self._members) * 1.5)
        return min(max(_WARM_FACTOR * batches * self._quick_s, noticed_s), _WARM_MOST_S)

    def members(self, count: int) -> None:
        """So many nodes tell the server what they have."""
        self._members = max(1, count)

    def __contains__(self, digest: Digest) -> bool:
        """Whether this node has it."""
        return digest in self._held

    def have(self, digests: Iterable[Digest], now_s: float) -> None:
        """This node has these. Many at once are the inventory, few are changes."""
        new = [digest for digest in digests if digest not in self._held]
        self._held.update(dict.fromkeys(new))
        if len(new) > _YOUNG_BURST:
            self._put(new, now_s)
        else:
            self._change(new, now_s)

    def lack(self, digests: Iterable[Digest], now_s: float) -> None:
        """This node no longer has these, or never had them."""
        gone = [*digests]
        for digest in gone:
            self._held.pop(digest, None)
        self._change(gone, now_s)

    def wanted(self, digest: Digest) -> None:
        """A peer asked this node for it. After a reset it is told first."""
        self._wanted.pop(digest, None)
        self._wanted[digest] = None
        if len(self._wanted) > _WANTED_MAX:
            del self._wanted[next(iter(self._wanted))]

    def enter(self, epoch: int, now_s: float, *, left_s: float = EPOCH_S) -> bool:
        """This is the epoch now, and ``left_s`` are left of it. After that, what was told in the one before
        is read by nobody. Returns whether the server's clock jumped: then everything is told again.
        """
        before, self._epoch = self._epoch, epoch
        if before == epoch:
            return False
        self._within_s = max(0.0, min(_SPREAD * EPOCH_S, left_s - (1.0 - _SPREAD) / 2 * EPOCH_S))
        if before is not None and epoch != before + 1:
            self.reset(now_s)
            return True
        if before is None:
            self._begin(self._by_want(), now_s)
        else:
            shuffled = sorted(self._held, key=lambda _: self._chance(0.0, 1.0))
            self._begin(shuffled, now_s)
        return False

    def reset(self, now_s: float) -> None:
        """The server lost what it was told, or this node has another number: tell everything again."""
        self._generation += 1
        self._told.clear()
        self._doubted.clear()
        self._recent.clear()
        self._catching_up = True
        self._young_until_s = now_s + _YOUNG_S
        self._tokens = min(self._tokens, _YOUNG_BURST)
        self._begin(self._by_want(), now_s)

    def missing(self, digests: Iterable[Digest], now_s: float) -> None:
        """The server no longer knows that this node has these. Then it may have lost more, so the whole
        inventory is told again, these first.
        """
        lost = [digest for digest in digests if digest in self._held]
        for digest in lost:
            self._told.pop(digest, None)
        if lost and not self._catching_up:
            self._doubted = {*self._told}
            lost = [*dict.fromkeys((*lost, *self._by_want()))]
        self._put(lost, now_s)

    def sample(self, count: int) -> tuple[Digest, ...]:
        """Some of what the server was told: half of it lately, half of it at any time."""
        recent = [digest for digest in dict.fromkeys(reversed(self._recent)) if self._is_told(digest)]
        chosen = dict.fromkeys(recent[: count // 2])
        if self._told:
            start = int(self._chance(0.0, float(len(self._told))))
            chosen |= dict.fromkeys(islice(self._told, start, start + count - len(chosen)))
        return tuple(digest for digest in chosen if self._is_told(digest))

    def told_in(self, digest: Digest) -> int | None:
        """The epoch in which the server was told last that this node has it. None: it was not."""
        return self._told.get(digest)

    def due_s(self, now_s: float) -> float | None:
        """When there is a batch to tell. None: nothing has to be told, or it is not known in which epoch."""
        if self._epoch is None:
            return None
        inventory_s = self._inventory_s if self._inventory else math.inf
        changes_s = math.inf
        if self._changes:
            changes_s = max(self._changes_s, now_s + self._short_s(now_s))
        due_s = min(inventory_s, changes_s)
        return None if due_s == math.inf else due_s

    def take(self, now_s: float) -> Batch | None:
        """The next batch, if one is due. Then call `told` or `failed` with it, before the next `take`."""
        due_s = self.due_s(now_s)
        if self._epoch is None or due_s is None or due_s > now_s:
            return None
        chosen, inventory = self._due_changes(now_s), list[Digest]()
        if self._inventory and self._inventory_s <= now_s:
            inventory = self._due_inventory(BATCH_MAX - len(chosen))
            self._inventory_s = now_s + self._interval_s * self._chance(0.9, 1.1)
        chosen += inventory
        return Batch(
            epoch=self._epoch,
            added=tuple(dict.fromkeys(digest for digest in chosen if digest in self._held)),
            removed=tuple(dict.fromkeys(digest for digest in chosen if digest not in self._held)),
            inventory=frozenset(inventory),
            generation=self._generation,
        )

    def told(self, batch: Batch) -> None:
        """The server took the batch."""
        if batch.generation != self._generation:  # it was reset meanwhile, before or after it took this
            return
        self._doubted.difference_update(batch.added)
        for digest in batch.added:
            self._told[digest] = batch.epoch
            self._recent.append(digest)
        for digest in batch.removed:
            self._told.pop(digest, None)
        if not self._inventory:
            self._catching_up = False

    def failed(self, batch: Batch, now_s: float) -> None:
        """The server did not take the batch, or it is not known whether it did."""
        changes = [*batch.removed]
        if batch.generation == self._generation:  # else all that is added is in the inventory again
            changes += [digest for digest in batch.added if digest not in batch.inventory]
            self._inventory.extendleft(
                digest for digest in reversed(batch.added) if digest in batch.inventory
            )
        self._change(changes, now_s)

    @property
    def _interval_s(self) -> float:
        """Between two batches of the inventory."""
        return self._quick_s if self._catching_up else self._anew_s

    @property
    def _anew_s(self) -> float:
        """The same, if the inventory is told anew in each epoch."""
        return max(self._quick_s, self._within_s / self._batches)

    @property
    def _quick_s(self) -> float:
        """The same, if all nodes tell theirs at the same time."""
        usual_s = _SPREAD * EPOCH_S / self._batches
        return max(_INTERVAL_LEAST_S, min(usual_s, self._members * BATCH_MAX / BITS_PER_S))

    @property
    def _batches(self) -> int:
        return max(1, math.ceil(len(self._held) / BATCH_MAX))

    def _begin(self, digests: Sequence[Digest], now_s: float) -> None:
        """Tell the whole inventory, in this order. While that is not urgent, what was never told stays a
        change: it would else be known to nobody for most of an epoch.
        """
        self._inventory = deque(digests)
        for digest in digests:
            if self._catching_up or digest in self._told:
                self._changes.pop(digest, None)
        self._inventory_s = now_s + self._interval_s * self._chance(0.0, 1.0)

    def _put(self, digests: Sequence[Digest], now_s: float) -> None:
        """Tell these next, as what was never told of the inventory."""
        if not digests:
            return
        self._catching_up = True
        soon_s = now_s + self._interval_s * self._chance(0.0, 1.0)
        self._inventory_s = min(self._inventory_s, soon_s) if self._inventory else soon_s
        self._inventory.extendleft(reversed(digests))

    def _change(self, digests: Iterable[Digest], now_s: float) -> None:
        """Tell these within a second."""
        if not self._changes:
            self._changes_s = now_s + self._chance(*_CHANGE_S)
        self._changes.update(dict.fromkeys(digests))

    def _by_want(self) -> list[Digest]:
        wanted = [digest for digest in reversed(self._wanted) if digest in self._held]
        return [*dict.fromkeys((*wanted, *reversed(self._held)))]

    def _due_changes(self, now_s: float) -> list[Digest]:
        """The changes that are due, as many as may be told now."""
        if not self._changes or self._changes_s > now_s:
            return []
        self._refill(now_s)
        chosen = [*islice(self._changes, int(self._tokens))]
        for digest in chosen:
            del self._changes[digest]
        self._tokens -= len(chosen)
        self._changes_s = now_s + _CHANGE_S[1]
        return chosen

    def _due_inventory(self, room: int) -> list[Digest]:
        """The next ones that the server was not told in this epoch, or may have lost."""
        chosen: list[Digest] = []
        while self._inventory and len(chosen) < room:
            digest = self._inventory.popleft()
            known = self._told.get(digest) == self._epoch and digest not in self._doubted
            if digest in self._held and not known:
                chosen.append(digest)
        return chosen

    def _refill(self, now_s: float) -> None:
        rate_per_s, burst = self._change_limits(now_s)
        self._tokens = min(burst, self._tokens + max(0.0, now_s - self._tokens_s) * rate_per_s)
        self._tokens_s = now_s

    def _short_s(self, now_s: float) -> float:
        """How long it takes until a change may be told."""
        rate_per_s, burst = self._change_limits(now_s)
        tokens = min(burst, self._tokens + max(0.0, now_s - self._tokens_s) * rate_per_s)
        wanted = min(float(len(self._changes)), burst)
        return 0.0 if tokens >= 1.0 else max(0.0, (min(wanted, burst / 2) - tokens) / rate_per_s)

    def _change_limits(self, now_s: float) -> tuple[float, float]:
        """Changes in a second, and how many at once."""
        if self._catching_up or now_s < self._young_until_s:
            rate_per_s = min(BITS_PER_S / self._members, _CHANGES_PER_S)
            return max(1.0, rate_per_s), max(_YOUNG_BURST, rate_per_s)
        return _CHANGES_PER_S, float(BATCH_MAX)

    def _is_told(self, digest: Digest) -> bool:
        return digest in self._told and digest in self._held and digest not in self._changes

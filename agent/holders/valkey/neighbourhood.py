"""The members of the cluster with their numbers, by nearness. Made anew when that is worth it. No I/O."""

import math
from collections.abc import Callable

from agent.holders.bitmap import Masks, masks_of
from agent.holders.valkey.numbers import Numbers
from agent.members.member import Peer
from agent.members.roster import Roster
from topology.snapshot import Snapshot

_ALIVE_S = 60.0  # what was heard before says nothing about now
_KEPT_S = 10.0  # what was measured since then moves members between equally near groups, and no farther


class Neighbourhood:
    """What one node knows."""

    def __init__(
        self,
        roster: Roster,
        numbers: Numbers,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._roster = roster
        self._numbers = numbers
        self._clock = clock
        self._masks: Masks | None = None
        self._made_of: Snapshot | None = None
        self._made_with = (-1, -1)
        self._made_s = 0.0
        self._alive, self._alive_s = 0, -math.inf
        self._looked_with: tuple[int, int, int | None] = (-1, -1, None)
        self._silent: tuple[Peer, ...] = ()
        self._zone: tuple[tuple[Peer, int | None], ...] = ()
        self._zone_made_with = (-1, -1)

    @property
    def masks(self) -> Masks:
        """The members by nearness. O(members) if members, placements or numbers changed since."""
        snapshot, made_with = self._roster.snapshot, self._versions
        if self._masks is None or made_with != self._made_with or self._is_old(snapshot):
            self._masks = masks_of(self._numbers.of(self._roster.peers), snapshot)
            self._made_of, self._made_with, self._made_s = snapshot, made_with, self._clock()
        return self._masks

    @property
    def silent(self) -> tuple[Peer, ...]:
        """The members of this zone that announce nothing: they have no number, or are not `alive`.

        One may be about to start, be told to do otherwise, as in the middle of an upgrade, or not reach the
        server. O(members of this zone), if something changed; O(members), if members or numbers did.
        """
        now_s = self._clock()
        looked_with = (*self._versions, self._alive if now_s - self._alive_s < _ALIVE_S else None)
        if looked_with != self._looked_with:
            alive = looked_with[2]
            self._silent = tuple(
                peer
                for peer, number in self._near()
                if number is None or (alive is not None and not alive >> number & 1)
            )
            self._looked_with = looked_with
        return self._silent

    def heard(self, alive: int) -> None:
        """The bits of the nodes that said lately that the server takes their announcements."""
        self._alive, self._alive_s = alive, self._clock()

    def _near(self) -> tuple[tuple[Peer, int | None], ...]:
        """The members of this zone with their numbers: these change less often than signs of life."""
        versions = self._versions
        if versions != self._zone_made_with:
            snapshot = self._roster.snapshot
            zone = snapshot.zone_of(snapshot.own)
            self._zone = tuple(
                (peer, self._numbers.number_of(name))
                for name, peer in self._roster.peers.items()
                if snapshot.zone_of(name) == zone
            )
            self._zone_made_with = versions
        return self._zone

    @property
    def _versions(self) -> tuple[int, int]:
        return self._numbers.generation, self._roster.snapshot.generation

    def _is_old(self, snapshot: Snapshot) -> bool:
        return snapshot is not self._made_of and self._clock() - self._made_s >= _KEPT_S

"""The members of the cluster with their numbers, by nearness. Made anew when that is worth it. No I/O."""

from collections.abc import Callable

from agent.holders.bitmap import Masks, masks_of
from agent.holders.valkey.numbers import Numbers
from agent.members.member import Peer
from agent.members.roster import Roster
from topology.snapshot import Snapshot

_KEPT_S = 10.0  # what was measured since then moves members between equally near groups, and no farther


class Neighbourhood:
    """What one node knows. ``server_s``: the time by the server's clock, given that of ``clock``."""

    def __init__(
        self,
        roster: Roster,
        numbers: Numbers,
        *,
        clock: Callable[[], float],
        server_s: Callable[[float], float],
    ) -> None:
        self._roster = roster
        self._numbers = numbers
        self._clock = clock
        self._server_s = server_s
        self._masks: Masks | None = None
        self._made_of: Snapshot | None = None
        self._made_with = (-1, -1)
        self._looked_with = (-1, -1)
        self._made_s = self._looked_s = 0.0
        self._numberless: tuple[Peer, ...] = ()

    @property
    def masks(self) -> Masks:
        """The members by nearness. O(members) if members, placements or numbers changed since."""
        snapshot, made_with = self._roster.snapshot, self._versions
        if self._masks is None or made_with != self._made_with or self._is_old(snapshot):
            self._masks = masks_of(self._numbers.of(self._roster.peers), snapshot)
            self._made_of, self._made_with, self._made_s = snapshot, made_with, self._clock()
        return self._masks

    @property
    def numberless(self) -> tuple[Peer, ...]:
        """The members of this zone that have no number, or keep it no more: they announce nothing.

        One may be about to start, be told to do otherwise, as in the middle of an upgrade, or not reach the
        server.
        """
        now_s, looked_with = self._clock(), (self._numbers.readings, self._roster.snapshot.generation)
        if looked_with != self._looked_with or now_s - self._looked_s >= _KEPT_S:
            snapshot, server_s = self._roster.snapshot, self._server_s(now_s)
            zone = snapshot.zone_of(snapshot.own)
            self._numberless = tuple(
                peer
                for name, peer in self._roster.peers.items()
                if not self._numbers.is_kept(name, server_s) and snapshot.zone_of(name) == zone
            )
            self._looked_with, self._looked_s = looked_with, now_s
        return self._numberless

    @property
    def _versions(self) -> tuple[int, int]:
        return self._numbers.generation, self._roster.snapshot.generation

    def _is_old(self, snapshot: Snapshot) -> bool:
        return snapshot is not self._made_of and self._clock() - self._made_s >= _KEPT_S

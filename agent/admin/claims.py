"""Who fetches from the registry what nobody has, as this node knows it: ``/api/claims``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from agent.config import ColdStartSettings
from agent.content.store import Growing
from agent.documents.claims import (
    AwaitedClaimEntry,
    ClaimsDocument,
    DecidedClaimEntry,
    HeldClaimEntry,
    ZoneWayEntry,
)
from agent.documents.times import Moment
from agent.holders.claimant import Claimant, OwnClaim
from agent.holders.claims import ClaimKey, Decided
from agent.holders.gateways import Gateways
from agent.listen.traffic import Traffic
from agent.oci.digest import Digest
from topology.placement import NodeName
from topology.spread import AnyZone

_ENTRIES_MAX = 256
_LOOKED_AT = 32  # claims whose growth is looked up: some system calls each; a node has a handful


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsView:
    """Reads the parts that have to do with claims. ``claimant``: None: this node takes none.

    ``growing``: how far containerd is with a content now; see `ContentStore.growing`.
    """

    own: NodeName
    settings: ColdStartSettings
    claimant: Claimant | None
    gateways: Gateways
    traffic: Traffic
    growing: Callable[[Digest], Growing | None]

    def document(self, moment: Moment) -> ClaimsDocument:
        """The claims in which this node has a part now."""
        claimant = self.claimant
        return ClaimsDocument(
            time=moment.text,
            node=self.own,
            mode=self.settings.mode,
            scope=self.settings.scope,
            held=() if claimant is None else tuple(self._held(claimant, moment.now_s)),
            awaited=() if claimant is None else tuple(_awaited(claimant, moment.now_s)),
            decided=() if claimant is None else self._decided(claimant),
            followers=self.traffic.followers,
        )

    def words(self, digest: Digest) -> str | None:
        """Who fetches what nobody has all of, as far as this node knows. None: it takes no part in claims."""
        claimant = self.claimant
        if claimant is None:
            return None
        for claim in claimant.kept():
            if claim.key.digest == digest:
                return f"this node fetches it for its {_scope(claim.key)}"
        for decided in claimant.desk.book.decided():
            if decided.key.digest == digest and not decided.complete:
                waiting = f"{decided.waiting} of this {_scope(decided.key)} wait for it"
                return f"{decided.holder} fetches it; {waiting}, as this node decided"
        for awaited in claimant.awaited():
            if awaited.key.digest == digest:
                return f"this node waits for it; {awaited.arbiter} decided who fetches it"
        arbiter = claimant.arbiter(ClaimKey(digest))
        return None if arbiter is None else f"{arbiter} decides which node of this zone fetches it"

    def numbers(self) -> dict[str, int]:
        """How many claims this node holds, waits for and decides on."""
        claimant = self.claimant
        if claimant is None:
            return {"held": 0, "waiting": 0, "decided": 0}
        return {
            "held": len(claimant.kept()),
            "waiting": claimant.awaits,
            "decided": sum(1 for claim in claimant.desk.book.decided() if not claim.complete),
        }

    def _held(self, claimant: Claimant, now_s: float) -> Iterator[HeldClaimEntry]:
        for number, claim in enumerate(claimant.kept()[:_ENTRIES_MAX]):
            growing = self.growing(claim.key.digest) if number < _LOOKED_AT else None
            yield _held(claim, growing, now_s)

    def _decided(self, claimant: Claimant) -> tuple[DecidedClaimEntry, ...]:
        youngest = islice(claimant.desk.book.decided(), _ENTRIES_MAX)
        return tuple(_decided(claim, self.gateways.ways(claim.key)) for claim in youngest)


def _held(claim: OwnClaim, growing: Growing | None, now_s: float) -> HeldClaimEntry:
    told_bytes = claim.received_bytes
    return HeldClaimEntry(
        digest=claim.key.digest,
        scope=_scope(claim.key),
        received_bytes=told_bytes if growing is None else max(told_bytes, growing.available_bytes),
        size_bytes=None if growing is None else growing.size_bytes,
        age_s=round(now_s - claim.since_s, 3),
    )


def _awaited(claimant: Claimant, now_s: float) -> list[AwaitedClaimEntry]:
    return [
        AwaitedClaimEntry(
            digest=claim.key.digest,
            scope=_scope(claim.key),
            arbiter=claim.arbiter,
            age_s=round(now_s - claim.since_s, 3),
        )
        for claim in islice(claimant.awaited(), _ENTRIES_MAX)
    ]


def _decided(claim: Decided, ways: Mapping[AnyZone, AnyZone]) -> DecidedClaimEntry:
    return DecidedClaimEntry(
        digest=claim.key.digest,
        scope=_scope(claim.key),
        node=claim.holder,
        received_bytes=claim.available_bytes,
        complete=claim.complete,
        waiting=claim.waiting,
        ways=tuple(
            ZoneWayEntry(source_zone=_zone(parent), destination_zone=_zone(zone))
            for zone, parent in ways.items()
        ),
    )


def _scope(key: ClaimKey) -> str:
    return "cluster" if key.cluster else "zone"


def _zone(zone: AnyZone) -> str:
    return "unknown" if zone is None else str(zone)

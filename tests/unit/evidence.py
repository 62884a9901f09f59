"""The parts that judge peers by this node's store, for tests of other parts."""

from collections.abc import AsyncIterator, Callable, Mapping, Set
from dataclasses import dataclass, field

from agent.content.sharing import Sharing
from agent.content.store import (
    Blob,
    Change,
    Changes,
    ContentMissing,
    ContentStore,
    Growing,
    GrowingBlob,
    Identity,
    Names,
    Room,
    TagChange,
    TaggedImage,
)
from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.reference import Repository, Tag
from agent.oci.registry import Registry
from agent.pull.events import Failure
from agent.pull.policy import Policy
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.checks import Checks, FetchFrom
from agent.transfer.commits import Commits
from agent.transfer.peers import PeerBody
from tests.unit.inflight import Flight
from topology.placement import NodeName


@dataclass
class MemoryStore:
    """A content store that has names and digests only. The test changes it."""

    held: set[Digest] = field(default_factory=set)
    names: Names = field(default_factory=Names)
    problem: str | None = None
    detour: str | None = None
    totals: tuple[int, int] = (0, 0)
    outages: int = 0
    unreadable: Mapping[Digest, str] = field(default_factory=dict)
    free: Room | None = None
    writing: dict[Digest, bool] = field(default_factory=dict)
    flights: dict[Digest, Flight] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    exclusive: bool = True

    async def run(self) -> None:
        return

    def holds(self, digest: Digest) -> bool:
        return digest in self.held

    @property
    def digests(self) -> Set[Digest]:
        return self.held

    def flaw(self, digest: Digest) -> str | None:
        return self.unreadable.get(digest)

    def withdraw(self, digest: Digest, identity: Identity | None) -> None:
        self.held.discard(digest)

    def find(self, repository: Repository, tag: Tag, registry: Registry | None) -> tuple[TaggedImage, ...]:
        return self.names.find(repository, tag, registry)

    def images(self, repository: Repository) -> tuple[TaggedImage, ...]:
        return self.names.of(repository)

    @property
    def named(self) -> Mapping[Digest, Set[tuple[Registry, Repository]]]:
        return self.names.named

    def on_names(self, listener: Callable[[], None]) -> None:
        self.names.on_names(listener)

    def was_fetched_for(self, digest: Digest, manifest: Digest) -> bool:
        return True

    def on_tag(self, listener: Callable[[TagChange], None]) -> None:
        self.names.on_tag(listener)

    async def open(self, digest: Digest) -> Blob:
        raise ContentMissing(digest)

    def room(self) -> Room | None:
        return self.free

    def receiving(self, digest: Digest) -> bool | None:
        return True if digest in self.flights else self.writing.get(digest)

    def growing(self, digest: Digest) -> Growing | None:
        flight = self.flights.get(digest)
        return None if flight is None else flight.growing

    async def open_growing(self, digest: Digest) -> GrowingBlob:
        if digest not in self.flights:
            raise ContentMissing(digest)
        return self.flights[digest].open()

    def watch(self) -> AsyncIterator[Change]:
        return self.changes.watch()


def follow_at_once(store: ContentStore, sharing: Sharing) -> None:
    """Follow the names of a store whenever they or the rules change, as a `Tracer` does soon afterwards."""

    def follow() -> None:
        said = [(digest, sharing.says(place)) for digest, places in store.named.items() for place in places]
        for _ in sharing.references.rebuild(said):
            pass
        sharing.changed(None)

    store.on_names(follow)
    sharing.registries.on_change(follow)
    sharing.authorities.on_change(follow)
    follow()


async def give_nothing(_node: NodeName, _wanted: FetchRequest) -> PeerBody:
    """A peer that does not have it."""
    raise AttemptFailed(Failure.MISSING, "404")


def make_checks(
    policy: Policy, metrics: Metrics, clock: Callable[[], float], fetch: FetchFrom = give_nothing
) -> Checks:
    """The checks of one node."""
    return Checks(
        fetch=fetch, policy=policy, metrics=metrics, stall_s=1.0, floor_bytes_per_s=1000, clock=clock
    )


def make_commits(
    policy: Policy,
    metrics: Metrics,
    clock: Callable[[], float],
    *,
    checks: Checks | None = None,
    store: MemoryStore | None = None,
) -> Commits:
    """What follows the commits of one node."""
    return Commits(
        store=store or MemoryStore(),
        policy=policy,
        checks=checks or make_checks(policy, metrics, clock),
        metrics=metrics,
        clock=clock,
    )

"""Builders and in-memory twins that several unit tests share: no sockets, and time that only jumps."""

import asyncio
import hashlib
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.config.settings import PullSettings, TransferSettings
from agent.content.offer import KnownTag
from agent.holders.wire import Flying, Question, Reply
from agent.members.member import Peer, Peers
from agent.oci.digest import Digest
from agent.oci.manifest import OCI_INDEX, Descriptor
from agent.oci.reference import Named, Repository, Tag
from agent.oci.registry import Registry
from agent.peering.channels import NoReply
from agent.peering.credentials import Credentials
from agent.pull.lateness import held_up
from agent.pull.pace import Pace
from agent.pull.policy import Policy
from agent.pull.regard import Regard
from topology.placement import NodeName, Placement, Region, Zone, ZoneKey

_T = TypeVar("_T")

REPOSITORY_ROOT = next(
    directory for directory in Path(__file__).parents if (directory / "pyproject.toml").exists()
)


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: the time for which it was told to wait is over at once."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("the code under test waits for something that never happens")
            self.now_s += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer, so that hours of waiting take no time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def run_in_executor(
        self, executor: object, work: Callable[..., _T], *arguments: object
    ) -> "asyncio.Future[_T]":
        """Done at once, in no time: a thread would run in real time."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - for whoever waits for it
            future.set_exception(error)
        return future

    def time(self) -> float:
        return self._jumping.now_s

    def hold_up(self, seconds: float) -> None:
        """Let time pass in which the loop does nothing, as if the process got no processor."""
        self._jumping.now_s += seconds


def run_in_virtual_time(main: Coroutine[Any, Any, _T]) -> _T:
    """Run ``main`` on a loop with virtual time."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(main)


def loop_clock() -> float:
    """The running loop's time, virtual or not."""
    return asyncio.get_running_loop().time()


def hold_up(seconds: float) -> None:
    """The process stands still for this long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _VirtualLoop)
    loop.hold_up(seconds)


def other_tasks() -> set[asyncio.Task[Any]]:
    """Every task of the loop but the caller's own."""
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current}


def sha256(seed: object) -> Digest:
    """A digest of its own for each seed."""
    return Digest(f"sha256:{hashlib.sha256(str(seed).encode()).hexdigest()}")


def descriptor(seed: object) -> Descriptor:
    """A descriptor of its own for each seed."""
    return Descriptor(digest=sha256(seed), size_bytes=1234, media_type=OCI_INDEX)


def named(repository: str = "library/nginx", tag: str = "1.27", registry: str | None = "docker.io") -> Named:
    """A tag; without arguments docker.io/library/nginx:1.27."""
    return Named(
        registry=None if registry is None else Registry(registry),
        repository=Repository(repository),
        tag=Tag(tag),
    )


def known_tag(
    name: Named | None = None, content: object = "v1", *, age_s: float = 1.0, imported: bool = False
) -> KnownTag:
    """What a node says of a tag that the node ``seer`` saw at the registry."""
    return KnownTag(
        name=name or named(),
        descriptor=descriptor(content),
        age_s=age_s,
        voucher=NodeName("seer"),
        imported=imported,
    )


CREDENTIALS = Credentials(own=NodeName("own"), is_open=True)


def node(name: str) -> NodeName:
    """A node's name."""
    return NodeName(name)


def placed(region: str, zone: str) -> Placement:
    """A placement without a rack."""
    return Placement(region=Region(region), zone=Zone(zone))


def located(region: str | None = None, zone: str | None = None, *finer: tuple[str, str]) -> Placement:
    """A placement of any depth; what is left out is unknown."""
    return Placement(
        region=None if region is None else Region(region),
        zone=None if zone is None else Zone(zone),
        finer=finer,
    )


def zone_key(name: str) -> ZoneKey:
    """``REGION/ZONE``, or ``ZONE`` without a region."""
    region, slash, zone = name.rpartition("/")
    return ZoneKey(region=Region(region) if slash else None, zone=Zone(zone))


def peer(name: str, placement: Placement) -> Peer:
    """A peer at an address that nobody ever connects to."""
    return Peer(name=NodeName(name), address="192.0.2.1", port=30020, placement=placement)


def peers(*members: Peer) -> Peers:
    """The peers by their names."""
    return {member.name: member for member in members}


@dataclass
class FakePeers:
    """The other agents behind `Scatter`'s ``query``: scripted answers, and a record of the questions."""

    held: dict[str, set[Digest]] = field(default_factory=dict)
    tags: dict[str, tuple[KnownTag, ...]] = field(default_factory=dict)
    flying: dict[str, dict[Digest, Flying]] = field(default_factory=dict)
    answer_s: dict[str, float] = field(default_factory=dict)  # how long each takes; 1 ms if not said
    silent: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    cut_off: set[str] = field(default_factory=set)  # this node has no way to these
    busy: set[str] = field(default_factory=set)  # have as many channels as they take
    questions: list[tuple[str, Question]] = field(default_factory=list)

    async def query(self, asked: Peer, question: Question, timeout_s: float) -> Reply:
        """Answer after the peer's own time, or be silent until the deadline."""
        self.questions.append((asked.name, question))
        if asked.name in self.refusing:
            raise NoReply(asked.name)
        if asked.name in self.cut_off:
            raise NoReply("no network", own=True)
        if asked.name in self.busy:
            raise NoReply("status 503", status=503)
        answer_s = self.answer_s.get(asked.name, 0.001)
        if asked.name in self.silent or answer_s > timeout_s:
            due_s = loop_clock() + timeout_s
            await asyncio.sleep(timeout_s)
            raise NoReply(asked.name, own=held_up(loop_clock() - due_s))
        await asyncio.sleep(answer_s)
        held = self.held.get(asked.name, set())
        return Reply(
            held=frozenset(digest for digest in question.digests if digest in held),
            tags=self.tags.get(asked.name, ()) if question.tags else (),
            in_flight={
                digest: flying
                for digest, flying in self.flying.get(asked.name, {}).items()
                if digest in question.digests and digest not in held
            },
        )

    @property
    def asked(self) -> list[str]:
        """Who was asked, in order."""
        return [name for name, _ in self.questions]

    def asked_for(self, digest: Digest) -> Sequence[str]:
        """Who was asked for this digest, in order."""
        return [name for name, question in self.questions if digest in question.digests]


def make_policy(
    *, regard: Regard | None = None, pull: PullSettings | None = None, patience_s: float = 0.5
) -> Policy:
    """The policy of one node, with the default settings. It adds nothing to a wait at random."""
    pull = pull or PullSettings()
    return Policy(
        regard=regard or Regard(cooloff_s=pull.cooloff_s),
        pace=Pace(patience_s=patience_s),
        pull=pull,
        transfer=TransferSettings(),
        chance=lambda least, most: least,
    )

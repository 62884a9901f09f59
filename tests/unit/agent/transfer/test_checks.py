"""A suspect's content is fetched again and hashed: it is cleared, or proved wrong. In virtual time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from agent.observe.metrics import Metrics
from agent.oci.digest import Digest
from agent.oci.reference import Addressed, Kind, Repository
from agent.pull.events import Failure
from agent.pull.trust import Distrust
from agent.transfer.answers import AttemptFailed, FetchRequest
from agent.transfer.checks import Checks
from agent.transfer.peers import PeerBody
from benchmarks.lab.cluster import metric_total
from tests.unit.evidence import make_checks
from tests.unit.twins import loop_clock, make_policy, node, other_tasks, run_in_virtual_time
from topology.placement import NodeName

A, B = node("a"), node("b")
CONTENT = bytes(range(256)) * 40
WRONG = CONTENT[:-1] + b"?"


@dataclass
class Body:
    """A peer's body. It is silent for ``pause_s`` before each ``piece_bytes``."""

    rest: bytes
    pause_s: float = 0.0
    piece_bytes: int = 1 << 30
    first: bytes = b""
    closed: bool = False

    @property
    def left_bytes(self) -> int:
        return len(self.rest)

    async def read(self, _most_bytes: int) -> bytes:
        await asyncio.sleep(self.pause_s)
        if not self.rest:
            raise AttemptFailed(Failure.BROKEN, "closed")
        piece, self.rest = self.rest[: self.piece_bytes], self.rest[self.piece_bytes :]
        return piece

    def close(self) -> None:
        self.closed = True


@dataclass
class Peers:
    """What each peer gives; an error instead of bytes is raised."""

    given: dict[NodeName, bytes | Exception]
    pause_s: float = 0.0
    piece_bytes: dict[NodeName, int] = field(default_factory=dict)
    bodies: list[Body] = field(default_factory=list)
    asked: list[tuple[NodeName, FetchRequest]] = field(default_factory=list)

    async def fetch(self, asked: NodeName, wanted: FetchRequest) -> PeerBody:
        self.asked.append((asked, wanted))
        given = self.given[asked]
        if isinstance(given, Exception):
            raise given
        half = len(given) // 2
        most_bytes = self.piece_bytes.get(asked, len(given))
        body = Body(given[half:], pause_s=self.pause_s, piece_bytes=most_bytes, first=given[:half])
        self.bodies.append(body)
        return cast(PeerBody, body)


@dataclass
class Made:
    """Checks that run."""

    checks: Checks
    peers: Peers
    metrics: Metrics
    digest: Digest
    reasons: dict[NodeName, Distrust] = field(default_factory=dict)

    def counted(self, result: str) -> float:
        exposed = self.metrics.expose()
        return metric_total(exposed, "shorthaul_suspect_checks_total", {"result": result})


def addressed(digest: Digest) -> Addressed:
    return Addressed(registry=None, repository=Repository("a"), kind=Kind.BLOB, digest=digest)


@asynccontextmanager
async def checking(
    given: dict[NodeName, bytes | Exception], *, algorithm: str = "sha256", pause_s: float = 0.0
) -> AsyncIterator[Made]:
    digest = Digest(f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}")
    policy, metrics, peers = make_policy(), Metrics(), Peers(given, pause_s)
    checks = make_checks(policy, metrics, loop_clock, peers.fetch)
    checks.remember(addressed(digest))
    now_s = loop_clock()
    trust = policy.regard.trust
    trust.delivered(
        digest,
        given,
        start=0,
        stop=9,
        size_bytes=9,
        taken=True,
        began_s=now_s,
        now_s=now_s,
        received=True,
    )
    suspects = trust.requested_again(digest, now_s)
    running = asyncio.create_task(checks.run())
    made = Made(checks, peers, metrics, digest)
    checks.begin(digest, suspects)
    try:
        await checks.settled(digest, 100.0)
        made.reasons = trust.reasons(digest, loop_clock())
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not other_tasks()
        assert all(body.closed for body in peers.bodies)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_of_two_suspects_the_one_that_gives_the_right_bytes_is_cleared(algorithm: str) -> None:
    async def main() -> None:
        async with checking({A: CONTENT, B: WRONG}, algorithm=algorithm) as made:
            assert made.reasons == {B: Distrust.WRONG}
            assert [made.counted(result) for result in ("right", "wrong", "failed")] == [1, 1, 0]

    run_in_virtual_time(main())


@pytest.mark.parametrize("given", [AttemptFailed(Failure.BUSY, "429"), CONTENT[:-1]])
def test_suspect_that_does_not_give_the_content_stays_suspect(given: bytes | Exception) -> None:
    async def main() -> None:
        async with checking({A: given}) as made:
            expected = Distrust.WRONG if given == CONTENT[:-1] else Distrust.SUSPECT
            assert made.reasons == {A: expected}

    run_in_virtual_time(main())


def test_silent_suspect_ends_the_check_and_stays_suspect() -> None:
    async def main() -> None:
        async with checking({A: CONTENT}, pause_s=60.0) as made:
            assert made.reasons == {A: Distrust.SUSPECT}
            assert made.counted("failed") == 1

    run_in_virtual_time(main())


def test_dripping_suspect_ends_its_check_and_the_other_checks_of_it_come_after_those_of_others() -> None:
    async def main() -> None:
        async with checking({}) as made:
            made.peers.given, made.peers.pause_s = {A: CONTENT, B: WRONG}, 0.9
            made.peers.piece_bytes = {A: 1}
            others = [Digest("sha256:" + name * 64) for name in "12"]
            for digest in others:
                made.checks.remember(addressed(digest))
            started_s = loop_clock()
            for digest in (*others, made.digest):
                made.checks.begin(digest, {A})
            made.checks.begin(made.digest, {B})
            await made.checks.settled(made.digest, 100.0)
            assert [asked for asked, _ in made.peers.asked] == [A, B, A, A]
            assert loop_clock() - started_s < 5.0
            assert (made.counted("failed"), made.counted("wrong")) == (3, 1)

    run_in_virtual_time(main())


def test_suspect_that_is_just_fast_enough_keeps_the_others_waiting_for_a_bounded_time() -> None:
    async def main() -> None:
        async with checking({}) as made:
            made.peers.given, made.peers.pause_s = {A: CONTENT * 200}, 0.9
            made.peers.piece_bytes = {A: 1000}
            made.checks.begin(made.digest, {A})
            started_s = loop_clock()
            await made.checks.settled(made.digest, 10_000.0)
            assert loop_clock() - started_s == pytest.approx(300.0)
            assert made.counted("failed") == 1

    run_in_virtual_time(main())


def test_check_asks_for_the_whole_content_as_a_pull_does() -> None:
    async def main() -> None:
        async with checking({A: CONTENT}) as made:
            ((asked, wanted),) = made.peers.asked
            assert (asked, wanted.range_spec, wanted.head) == (A, None, False)
            assert made.digest in wanted.url_path

    run_in_virtual_time(main())


def test_each_suspect_is_checked_once_however_often_it_is_named() -> None:
    async def main() -> None:
        async with checking({A: CONTENT}) as made:
            for _ in range(3):
                made.checks.begin(made.digest, {A})
            await made.checks.settled(made.digest, 100.0)
            assert len(made.peers.asked) == 2, "once at first, and once for the three"

    run_in_virtual_time(main())


def test_who_waits_for_a_check_waits_so_long_at_most() -> None:
    async def main() -> None:
        async with checking({A: CONTENT}, pause_s=0.9) as made:
            made.checks.begin(made.digest, {A})
            started_s = loop_clock()
            await made.checks.settled(made.digest, 0.25)
            assert loop_clock() - started_s == pytest.approx(0.25)
            await made.checks.settled(made.digest, -1.0)
            assert loop_clock() - started_s == pytest.approx(0.25)

    run_in_virtual_time(main())


def test_number_of_waiting_checks_is_bounded_and_unknown_content_is_not_checked() -> None:
    async def main() -> None:
        async with checking({A: CONTENT}) as made:
            made.checks.begin(Digest("sha256:" + "0" * 64), {A})
            many: Sequence[NodeName] = [node(f"n{number}") for number in range(1000)]
            made.peers.given = dict.fromkeys(many, CONTENT)
            made.checks.begin(made.digest, set(many))
            await made.checks.settled(made.digest, 100.0)
            assert len(made.peers.asked) == 1 + 256

    run_in_virtual_time(main())


def test_peer_that_fills_all_places_does_not_keep_another_from_being_checked() -> None:
    async def main() -> None:
        async with checking({B: WRONG}) as made:
            made.peers.given = {A: AttemptFailed(Failure.BUSY, "429"), B: WRONG}
            for number in range(300):
                digest = Digest(f"sha256:{number:064x}")
                made.checks.remember(addressed(digest))
                made.checks.begin(digest, {A})
            made.checks.remember(addressed(made.digest))
            made.checks.begin(made.digest, {B})
            await made.checks.settled(Digest(f"sha256:{255:064x}"), 0.0)  # it made room: nobody waits for it
            await made.checks.settled(made.digest, 100.0)
            assert [asked for asked, _ in made.peers.asked][1:3] == [A, B]
            assert made.counted("wrong") == 2

    run_in_virtual_time(main())

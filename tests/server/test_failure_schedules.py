"""Whatever holders do to a body, in any order: what was delivered is a prefix of the content, and a
response that ends with its full length hashes right.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from .agents import LOCAL, SLOWNESS, Node, Site, digest_of, fresh_address, make_image, wait_for
from .faults import Fault, Holder, Kind
from .impostor import Impostor
from .tracing import steps_of
from .wire import Ending, RawReply, raw_get

_BOUND_S = 25.0  # three times the deadline and a stall of each of six attempts
_WAITS_MOST = 6
_ASKED_MAX = 12  # by the client, for one content
_LEAST_BYTES, _MOST_BYTES = 1, 2_500_000

# All of these serve true bytes, or contradict themselves or the manifest in a way that shows. Those that
# break off in the body come more often: only behind them there is something to go on with.
_BREAKS = [Kind.CLOSES, Kind.RESETS, Kind.STALLS, Kind.TRICKLES, Kind.VANISHES]
_LEFT_OUT = (Kind.DRIPS, Kind.SHORTER, Kind.LONGER, Kind.GARBLES)
_KINDS = [*(kind for kind in Kind if kind not in _LEFT_OUT), *4 * _BREAKS]
_SIZED_KINDS = [*_KINDS, Kind.SHORTER, Kind.LONGER]  # a lie about the length shows by the manifest
_SEEDS = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What each holder does to its connections in order, and a 404 to every one behind those."""

    size_bytes: int
    named: bool  # whether the asking node knows the size from a manifest
    honest: bool  # whether another node has the content and gives it
    holders: tuple[tuple[Fault, ...], ...]


@st.composite
def _schedules(draw: st.DrawFn) -> Schedule:
    large = st.integers(262_145, _MOST_BYTES)  # not verified before a byte is sent, so resumed
    small = st.integers(_LEAST_BYTES, 262_144)
    size_bytes = draw(st.one_of(large, large, large, small))
    named = draw(st.booleans())
    offsets = st.one_of(
        st.integers(1, size_bytes),
        st.sampled_from([0, 1, -1, size_bytes // 2, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1]),
    )
    fault = st.builds(Fault, kind=st.sampled_from(_SIZED_KINDS if named else _KINDS), at=offsets)
    holder = st.lists(fault, min_size=1, max_size=3).map(tuple)
    holders = tuple(draw(st.lists(holder, min_size=1, max_size=3)))
    return Schedule(size_bytes=size_bytes, named=named, honest=draw(st.booleans()), holders=holders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The asking node, an honest one, and where the others stand. Nobody is avoided after a failure."""

    asking: Node
    honest: Node
    addresses: tuple[str, ...]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The agents that all examples share."""
    with Site() as site:
        pull = {"deadline_s": 3.0, "stall_s": 0.8, "connect_s": 2.0, "patience_s": 0.2, "cooloff_s": 0}
        settings: dict[str, Any] = {"pull": pull, "latency": {"measure": False}}
        asking = site.add("asking", **settings)
        honest = site.add("honest", zone="b")
        addresses = tuple(fresh_address() for _ in range(3))
        for name, address, zone in zip(("one", "two", "three"), addresses, "aab", strict=True):
            site.add_member(name, address, zone=zone)
        site.start()
        yield Stage(asking=asking, honest=honest, addresses=addresses)


def _descriptors(node: Node) -> int:
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))  # noqa: PTH208 - names only, as a count


def _everywhere(kind: Kind, size_bytes: int = 1_500_000) -> Schedule:
    """Two holders that fail in the same way, each further on than the one before, and an honest one."""
    holders = tuple((Fault(kind=kind, at=at),) for at in (65_536, 1 << 20))
    return Schedule(size_bytes=size_bytes, named=True, honest=True, holders=holders)


@pytest.mark.timeout(400)
@given(schedule=_schedules())
@example(schedule=_everywhere(Kind.CLOSES))
@example(schedule=_everywhere(Kind.RESETS))
@example(schedule=_everywhere(Kind.STALLS))
@example(schedule=_everywhere(Kind.TRICKLES))
@example(schedule=_everywhere(Kind.VANISHES))
@examples(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # each example takes a second: no shrinking
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_delivered_bytes_are_a_true_prefix_and_a_whole_response_hashes_right(
    stage: Stage, schedule: Schedule
) -> None:
    content = Random(next(_SEEDS)).randbytes(schedule.size_bytes)
    if schedule.honest:
        stage.honest.put(content)
    with ExitStack() as stack:
        for address, faults in zip(stage.addresses, schedule.holders, strict=False):
            holder = Holder()
            holder.put(content, faults=faults, afterwards=Fault(kind=Kind.MISSING))
            stack.enter_context(Impostor(address, holder.serve, questioned=holder.claim))
        if schedule.named:
            image = make_image(content)
            stage.honest.put(image.manifest)
            assert stage.asking.ask(f"/v2/library/app/manifests/{image.digest}").body == image.manifest
        replies = list(_pull_as_containerd_does(stage.asking, content))
    if schedule.honest:
        assert [reply.ending for reply in replies] == [Ending.WHOLE], "one response"
        assert replies[0].status == 200
    record = stage.asking.newest(content)
    steps_of(record)
    resumes = record["resumes"]
    event(f"{len(replies)} responses, the last one {replies[-1].status} and resumed {resumes} times")


def _pull_as_containerd_does(node: Node, content: bytes) -> Iterator[RawReply]:
    """Ask, and resume after each cut, until it is whole or a 404 says to go elsewhere."""
    path, place = f"/v2/library/app/blobs/{digest_of(content)}", 0
    for _ in range(_ASKED_MAX):
        started_s, waits = time.monotonic(), node.waits()
        reply = (
            raw_get(node.address, LOCAL, path, Range=f"bytes={place}-")
            if place
            else raw_get(node.address, LOCAL, path)
        )
        assert time.monotonic() - started_s < _BOUND_S * SLOWNESS.factor
        assert node.waits() - waits <= _WAITS_MOST
        yield reply
        if reply.status in (404, 416):  # 416: of a size that no manifest told, the holders have the word
            assert reply.ending is Ending.WHOLE
            return
        assert reply.status == (206 if place else 200)
        assert reply.promised_bytes == len(content) - place
        assert reply.body, "a head without a byte behind it"
        assert content.startswith(reply.body, place)
        place += len(reply.body)
        if reply.ending is Ending.WHOLE:
            assert place == len(content)
            return
        assert reply.ending is Ending.FIN
        assert place < len(content)
    raise AssertionError("cut again and again, although every holder says 404 after a while")


def test_no_failure_leaks_a_descriptor(stage: Stage) -> None:
    def fail(kind: Kind, turn: int) -> None:
        content = Random(f"{kind} {turn}").randbytes(1_200_000)
        holder = Holder()
        faults = tuple(Fault(kind=kind, at=at) for at in (1 << 20, 65_536, 0))
        holder.put(content, faults=faults, afterwards=Fault(kind=Kind.MISSING))
        with Impostor(stage.addresses[0], holder.serve, questioned=holder.claim):
            list(_pull_as_containerd_does(stage.asking, content))

    kinds = (Kind.CLOSES, Kind.RESETS, Kind.VANISHES, Kind.SHIFTED, Kind.HANGS_UP, Kind.STALLS)
    for kind in kinds:
        fail(kind, 0)  # what is opened once and kept
    before = _descriptors(stage.asking)
    for turn in range(1, 4):
        for kind in kinds[:-1]:
            fail(kind, turn)
    fail(Kind.STALLS, 1)
    wait_for(
        lambda: _descriptors(stage.asking) <= before + 4, f"descriptors back at {before}", at_most_s=12.0
    )


def test_after_all_of_it_nothing_was_an_error_of_the_agents_own(stage: Stage) -> None:
    assert stage.asking.metric("shorthaul_requests_total", result="error") == 0
    assert stage.asking.logged_errors() == []

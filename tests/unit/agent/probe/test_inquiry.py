"""Asking the probe that runs here. That verify is a probe itself where none runs is in tests/probe."""

import asyncio
import socket
import time
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest

from agent.config import Settings
from agent.config.load import make_settings
from agent.flows.messages import Canary, Health, Hello, Message, Request, SendCanaries
from agent.flows.verdicts import EndpointName, Verdict
from agent.probe.inquiry import ProbeSilent, ask_probe
from agent.probe.publisher import Publisher
from agent.probe.sockets import netns_cookie


def canary(at_s: float) -> Canary:
    return Canary(
        endpoint=EndpointName.HOSTPORT, address="127.0.0.1:30020", verdict=Verdict.DIRECT, reason="",
        went="127.0.0.1:30020", answered_by="node-1", rtt_us=1, at_s=at_s,
    )  # fmt: skip


class Desk:
    """Answers the wish for canaries. ``ends``: it cuts whoever asks off instead. ``empty``: no endpoint is
    this node's.
    """

    def __init__(self, *, ends: bool = False, empty: bool = False) -> None:
        self.asked: list[Request] = []
        self._ends = ends
        self._empty = empty

    def came(self, reader: Hashable) -> None:
        pass

    def requested(
        self, reader: Hashable, request: Request, sockets: Sequence[socket.socket]
    ) -> Message | None:
        self.asked.append(request)
        if self._ends:
            reader.transport.abort()  # type: ignore[attr-defined]
            return None
        now_s = time.monotonic()
        return Health(canaries=() if self._empty else (canary(now_s),), round_s=now_s, agents=1)

    def left(self, reader: Hashable) -> None:
        pass


def settings_of(path: Path) -> Settings:
    return make_settings(
        {"node": {"name": "node-1", "address": "192.0.2.7"}, "probe": {"socket": str(path)}},
        [],
        base=path.parent,
    )


@pytest.mark.parametrize("here", [True, False])
async def test_running_probe_is_asked_for_new_canaries_and_old_ones_do_not_count(
    tmp_path: Path, here: bool
) -> None:
    path, desk = tmp_path / "probe.sock", Desk()
    netns = netns_cookie() if here else netns_cookie() + 1

    def first() -> list[Message]:
        return [Hello(node="node-1", netns=netns), Health(canaries=(canary(1.0),), round_s=1.0)]

    async with Publisher(path, initial_messages=first, uids=(), desk=desk):
        word = await ask_probe(settings_of(path), lambda: "besides")
    assert desk.asked == [SendCanaries()]
    assert (word.was_running, word.is_here, word.agents, word.meanwhile) == (True, here, 1, "besides")
    assert [one.at_s > 1.0 for one in word.canaries] == [True]


async def test_round_without_canaries_is_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "probe.sock"
    first: list[Message] = [Hello(node="node-1"), Health(round_s=1.0)]
    async with Publisher(path, initial_messages=lambda: first, uids=(), desk=Desk(empty=True)):
        word = await ask_probe(settings_of(path), lambda: None)
    assert (word.was_running, word.canaries) == (True, ())


async def test_probe_that_ends_meanwhile_is_an_error_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "probe.sock"
    async with Publisher(
        path, initial_messages=lambda: [Hello(node="node-1")], uids=(), desk=Desk(ends=True)
    ):
        with pytest.raises(ProbeSilent) as raised:
            await asyncio.wait_for(ask_probe(settings_of(path), lambda: None), 60)
    assert raised.value.hint

"""Asks this node's probe what it knows, once. If none runs, this process is one for a moment.

One probe's word is enough, and a second one would know less: the agent tells its sockets to the probe at
`probe.socket`, and only the agent knows what containerd's own connections met.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.config import Settings
from agent.flows.messages import Canary, Health, Hello, Message, SendCanaries
from agent.probe.reader import ProbeReader
from agent.probe.run import attached, make_probe, make_publisher
from agent.probe.sockets import netns_cookie

_AGENT_S = 2.5  # an agent looks for a probe once a second
_ANSWER_S = 30.0  # a canary to a server that hangs takes 2 s, and hosts.toml may name several

_T = TypeVar("_T")


class ProbeSilent(Exception):
    """The probe that runs here does not answer. ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeWord(Generic[_T]):
    """What the probe said. ``was_running``: it was there before. ``is_here``: it watches the network
    namespace of this process. ``agents``: how many agents told it their sockets. ``meanwhile``: the answer to
    what was asked besides.
    """

    was_running: bool
    is_here: bool
    canaries: tuple[Canary, ...]
    alike: bool
    agents: int
    meanwhile: _T


async def ask_probe(settings: Settings, meanwhile: Callable[[], _T]) -> ProbeWord[_T]:
    """A new round of canaries of this node's probe. Raises `BpfError`, `SocketTaken`, `ProbeSilent`.

    ``meanwhile`` is called in a thread after the canaries, while the probe is still there.
    """
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        return await _ask_running(settings, meanwhile)
    return await _be_one(settings, meanwhile)


async def _ask_running(settings: Settings, meanwhile: Callable[[], _T]) -> ProbeWord[_T]:
    path, hello, health = settings.probe.socket, Hello(node=""), Health()
    asked_s, done = time.monotonic(), asyncio.Event()

    def on_message(message: Message) -> None:
        nonlocal hello, health
        if isinstance(message, Hello):
            hello = message
            reader.request(SendCanaries())
        elif isinstance(message, Health):
            health = message
            if answered():
                done.set()

    def answered() -> bool:
        return health.round_s > asked_s  # a round may be empty

    reader = ProbeReader(path, node=None, on_message=on_message, on_gone=lambda: None)
    following = asyncio.create_task(reader.follow(), name="probe")
    waiting = asyncio.create_task(done.wait(), name="canaries")
    try:
        await asyncio.wait([following, waiting], timeout=_ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        if following.done() and not answered():
            _raise_why(following, str(path))
    finally:
        following.cancel()
        waiting.cancel()
        await asyncio.wait([following, waiting])
    if not answered():
        raise ProbeSilent(
            f"the probe at {path} sent no canaries within {_ANSWER_S:.0f} s",
            "its log says why; `shorthaul probe --watch` shows whether it works",
        )
    return ProbeWord(
        was_running=True,
        is_here=hello.netns == netns_cookie(),
        canaries=health.canaries,
        alike=health.alike,
        agents=health.agents,
        meanwhile=await asyncio.to_thread(meanwhile),
    )


def _raise_why(following: "asyncio.Task[None]", path: str) -> None:
    """Why the connection to a probe ended."""
    error = following.exception()
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        raise error
    raise ProbeSilent(
        f"the probe at {path} can't be asked: {error or 'it ended'}",
        "run this as root or as the probe's own user, with the probe of the same release",
    ) from error


async def _be_one(settings: Settings, meanwhile: Callable[[], _T]) -> ProbeWord[_T]:
    with attached(settings) as source:
        probe = make_probe(settings, source)
        async with make_publisher(settings, probe):
            running = asyncio.create_task(probe.run(), name="probe")
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_AGENT_S):
                        await probe.introduced.wait()
                canaries = await probe.send_canaries()
                health = probe.health()
                said = await asyncio.to_thread(meanwhile)
            finally:
                running.cancel()
                await asyncio.wait([running])
    return ProbeWord(
        was_running=False,
        is_here=True,
        canaries=canaries,
        alike=health.alike,
        agents=health.agents,
        meanwhile=said,
    )

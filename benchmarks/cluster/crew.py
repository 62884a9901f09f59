"""The pods of a run: each is a Job that is made, followed by its log, and deleted again.

Nothing is left to chance at the end: whatever was asked to be made is asked to be deleted, also what nobody
is sure of having been made.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from agent.members.kubernetes.client import Expired, Failed
from benchmarks.cluster import wire
from benchmarks.cluster.jobs import GRACE_S, RUN_LABEL, START_S, TTL_S, Task, manifest
from benchmarks.cluster.kube import Kube
from benchmarks.cluster.pods import Phase, PodState, by_job, hint_for, refusals

_TAIL = 5
_D = TypeVar("_D", bound=wire.Document)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a run waits for what is not its own.

    ``start_s``: until a pod runs. ``pod_s``: without any pod, until the events are asked why. ``grace_s``:
    until a pod that is ended has removed what it pulled. ``look_s``: between two looks at all pods.
    ``over_s``: longer than a pod's own bounds. ``least_s``: with less time than this no stage is begun.
    """

    start_s: float = START_S
    pod_s: float = 5.0
    grace_s: float = GRACE_S
    look_s: float = 1.0
    over_s: float = 10.0
    least_s: float = 5.0


@dataclass(slots=True)
class Member:
    """One Job and what its pod said. ``problem``: why it says no more; empty: it ended well, or goes on.

    ``asked_for``: the API server was asked to make it, with whatever answer. ``dismissed``: it was asked to
    delete it; ``deleted``: it did. ``never_ran``: for certain, no container of it was started.
    """

    task: Task
    said: list[wire.Document] = field(default_factory=list)
    ended: bool = False
    dismissed: bool = False
    deleted: bool = False
    never_ran: bool = False
    asked_for: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str = ""
    hint: str = ""
    _last: int = 0
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def node(self) -> str:
        """The node that it is on."""
        return self.task.order.node

    def hear(self, text: bytes) -> None:
        """A line of its log. Lines may come again."""
        plain = text.decode(errors="replace")
        line = wire.read(plain)
        if line is None:
            if plain.strip():
                self._tail.append(wire.printable(plain)[:300])
        elif line.number > self._last:
            self._last = line.number
            if line.document is not None:
                self.said.append(line.document)
            self._heard.set()

    def end(self, problem: str = "", hint: str = "") -> None:
        """It will say no more."""
        self.ended, self.problem, self.hint = True, problem, hint
        self._heard.set()

    def all(self, kind: type[_D]) -> list[_D]:
        """What it said of this kind."""
        return [each for each in self.said if isinstance(each, kind)]

    @property
    def share(self) -> float:
        """How much of its stage it has done, by its own word."""
        steps = self.all(wire.Step)
        return 1.0 if self.ended else min(1.0, max(0.0, steps[-1].share)) if steps else 0.0

    @property
    def tail(self) -> str:
        """The last words that were none of ours: a traceback ends with what is wrong."""
        return self._tail[-1] if self._tail else ""

    async def until(self, done: Callable[["Member"], bool]) -> None:
        """Wait until this holds, or it says no more."""
        while not (self.ended or done(self)):
            self._heard.clear()
            await self._heard.wait()


class Crew:
    """All pods of one run. `close` it in any case."""

    def __init__(self, kube: Kube, run: str, patience: Patience) -> None:
        self._kube = kube
        self._patience = patience
        self._run = run
        self._states: dict[str, PodState] = {}
        self._looked = asyncio.Event()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self.members: list[Member] = []
        self.trouble = ""

    def start(self, task: Task) -> Member:
        """Make a Job, and follow it."""
        member = Member(task=task)
        self.members.append(member)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="the pods of the run")
        self._following[task.name] = asyncio.create_task(self._follow(member), name=task.name)
        return member

    async def dismiss(self, members: Iterable[Member]) -> list[str]:
        """Delete their Jobs, and hear what the pods say to the end. Returns what could not be deleted.

        If it is cancelled, `close` begins where it stopped.
        """
        going = [member for member in members if not (member.deleted and member.ended)]
        for member in going:
            member.dismissed = True
        left = [problem for problem in await asyncio.gather(*map(self._delete, going)) if problem]
        tasks = [self._following[member.task.name] for member in going]
        if tasks:
            await asyncio.wait(tasks, timeout=self._patience.grace_s)
        for member, task in zip(going, tasks, strict=True):
            if not task.done():
                task.cancel()
                member.end(
                    f"its pod did not end within {self._patience.grace_s:.0f} s", "is the node still there?"
                )
        await asyncio.gather(*tasks, return_exceptions=True)
        return left

    async def close(self) -> list[str]:
        """Dismiss everybody who is left. Returns what could not be deleted."""
        try:
            return await self.dismiss(self.members)
        finally:
            if self._looking is not None:
                self._looking.cancel()
                await asyncio.gather(self._looking, return_exceptions=True)

    async def _delete(self, member: Member) -> str:
        await member.asked_for.wait()  # what is asked for later than this would stay
        try:
            if not member.deleted:
                await self._kube.delete(member.task.name)
            member.deleted = True
        except Failed as error:
            deadline_s = member.task.deadline_s
            return (
                f"Job {member.task.name} could not be deleted ({error}): it ends by itself within "
                f"{deadline_s} s of its start, and is deleted {TTL_S} s after that"
            )
        return ""

    async def _look(self) -> None:
        """Keep the states of the pods up to date."""
        while True:
            try:
                self._states = by_job(await self._kube.pods_of(self._run))
                self.trouble = ""
            except (Failed, Expired) as error:
                self.trouble = str(error)
            self._looked.set()
            await asyncio.sleep(self._patience.look_s)

    async def _state(self, member: Member) -> PodState | None:
        """The pod as it is now, or in a second. None: there is none."""
        self._looked.clear()
        await self._looked.wait()
        return self._states.get(member.task.name)

    async def _follow(self, member: Member) -> None:
        try:
            await self._kube.create(manifest(member.task))
        except Failed as error:
            member.end(f"its Job could not be made: {error}", error.hint)
            return
        finally:
            member.asked_for.set()
        pod = await self._running(member)
        if pod is None:
            return
        while True:
            await self._read(member, pod.name, follow=True)
            state = await self._state(member)
            if self.trouble:
                continue
            if state is None or state.phase is Phase.ENDED:
                if state is not None:
                    await self._read(member, pod.name, follow=False)
                why = state.why if state is not None else "" if member.dismissed else "its pod was deleted"
                why = ": ".join(part for part in (why, member.tail) if part) if why else ""
                member.end(why, hint_for(why) if why else "")
                return

    async def _read(self, member: Member, pod: str, *, follow: bool) -> None:
        with contextlib.suppress(Failed, Expired):
            async with self._kube.log(pod, follow=follow) as lines:
                async for line in lines:
                    member.hear(line)

    async def _running(self, member: Member) -> PodState | None:
        """Wait until the pod runs, or has run. None: it will not."""
        began_s = time.monotonic()
        while True:
            state = await self._state(member)
            waited_s = time.monotonic() - began_s
            if state is not None and state.phase is not Phase.WAITING:
                return state
            if member.dismissed and state is None:
                member.end("it was ended before it ran")
                return None
            why = state.why if state is not None else ""
            if state is None and waited_s > self._patience.pod_s and await self._no_pod(member):
                return None
            if (state is not None and state.hopeless) or waited_s > self._patience.start_s:
                why = why or self.trouble or "nothing says why"
                member.never_ran = state is not None and state.hopeless
                member.end(f"its pod did not run after {waited_s:.0f} s: {why}", hint_for(why))
                return None

    async def _no_pod(self, member: Member) -> bool:
        """Whether there will be no pod: Kubernetes refuses it, or the Job is gone. Then the member ends."""
        name = member.task.name
        with contextlib.suppress(Failed):
            why = refusals(await self._kube.events()).get(name, "")
            if why:
                member.never_ran = True
                member.end(f"Kubernetes makes no pod: {why}", hint_for(why))
                return True
            jobs = await self._kube.jobs(f"{RUN_LABEL}={self._run}")
            if all(job["metadata"]["name"] != name for job in jobs["items"]):
                member.end("somebody deleted its Job")
                return True
        return False

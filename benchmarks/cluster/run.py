"""One run on a cluster: look, measure latencies, pull, clean up. It decides nothing that `plan` can decide.

What fails on one node is said, and the others go on. Whatever happens, the Jobs are deleted at the end.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from benchmarks.cluster import wire
from benchmarks.cluster.crew import Crew, Member, Patience
from benchmarks.cluster.jobs import COMPONENT, Earlier, Task, earlier
from benchmarks.cluster.kube import Kube
from benchmarks.cluster.plan import (
    Bounds,
    Candidate,
    Choice,
    Chosen,
    choose,
    choose_image,
    known_blobs,
    latency_budget,
    rest_of_pulls,
)
from benchmarks.cluster.release import Release, candidates, release
from benchmarks.cluster.rights import HINT, missing_words

_LOOKING_S = 30.0
_PATIENCE = Patience()
_NAME = "bcdfghjklmnpqrstvwxz2456789"  # no words, and nothing that looks like something else
_D = TypeVar("_D", bound=wire.Document)

Progress = Callable[[float, str], None]
"""Told how much of a run is done, 0 to 1, and what it does."""


class RunFailed(Exception):
    """The run can't begin. ``hint``: what to do. ``status``: the exit status."""

    def __init__(self, message: str, hint: str = "", *, status: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a person asks for. ``daemonset``, ``image``: empty if it is left to us.

    ``only``: ``latency`` or ``pull``; empty: both.
    """

    bounds: Bounds
    daemonset: str = ""
    image: str = ""
    only: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is known before anything is made. ``run``: the name of the run, in all that it makes."""

    run: str
    wishes: Wishes
    release: Release
    choice: Choice
    finished: tuple[Earlier, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePull:
    """A pull on a node. ``wave``: first, at once or rolling."""

    wave: str
    node: Candidate
    pulled: wire.Pulled


@dataclass(slots=True)
class Outcome:
    """What a run found. ``problems``: what went wrong, in words. ``notes``: what a person should know."""

    looks: dict[str, wire.Look] = field(default_factory=dict)
    latencies: dict[str, wire.Latencies] = field(default_factory=dict)
    pulls: list[NodePull] = field(default_factory=list)
    chosen: Chosen = field(default_factory=Chosen)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    removed: int = 0
    moved_bytes: int = 0


async def prepare(kube: Kube, wishes: Wishes) -> Prepared:
    """Look at the cluster, and change nothing. Raises `RunFailed`, `ReleaseInvalid` and `Failed`."""
    missing = await kube.missing_rights()
    if missing:
        raise RunFailed(missing_words(missing, kube.namespace), HINT)
    run = "".join(secrets.choice(_NAME) for _ in range(6))
    found = release(await kube.daemonsets(), wishes.daemonset, kube.namespace)
    others = earlier(await kube.jobs(COMPONENT), run)
    active = [job for job in others if job.active]
    if active:
        raise RunFailed(
            f"another benchmark is under way: Job {active[0].name}, since {active[0].began}",
            "wait until it is over, or end it and what is left of it: shorthaul bench --cluster --clean",
        )
    pods = (await kube.pods(found.selector))["items"]
    choice = choose(candidates(pods, await kube.nodes()), wishes.bounds.nodes, run)
    if not choice.nodes:
        why = "; ".join(choice.notes) or "no node has a pod of an agent"
        raise RunFailed(f"no node can take part: {why}", "`shorthaul everywhere doctor` says what is wrong")
    return Prepared(run=run, wishes=wishes, release=found, choice=choice, finished=tuple(others))


async def clean(kube: Kube, progress: Progress, *, patience: Patience = _PATIENCE) -> int:
    """End and delete the Jobs of all runs, and wait until their pods are gone. Returns how many there were.

    A pod that is ended removes what it pulled. What a pod that was killed has left, the next run's pods find.
    Raises `RunFailed` if a pod does not go.
    """
    found = earlier(await kube.jobs(COMPONENT), "")
    for at, job in enumerate(found):
        progress(at / len(found) / 2, f"deleting {job.name}")
        await kube.delete(job.name)
    end_s = time.monotonic() + patience.grace_s + patience.over_s
    while left := [pod["metadata"]["name"] for pod in (await kube.pods(COMPONENT))["items"]]:
        progress(0.5, f"waiting for {len(left)} pods to remove what they pulled")
        if time.monotonic() > end_s:
            raise RunFailed(
                f"still there after {patience.grace_s:.0f} s: {', '.join(left[:5])}", "are their nodes ready?"
            )
        await asyncio.sleep(patience.look_s)
    return len(found)


async def measure(
    kube: Kube,
    prepared: Prepared,
    progress: Progress = lambda _share, _what: None,
    *,
    outcome: Outcome | None = None,
    patience: Patience = _PATIENCE,
) -> Outcome:
    """Measure, and clean up in any case, also when it is cancelled.

    ``outcome``: where what was found is put as it is found, for who wants it even then.
    """
    crew = Crew(kube, prepared.run, patience)
    run = _Run(
        prepared=prepared, crew=crew, progress=progress, outcome=outcome or Outcome(), patience=patience
    )
    try:
        for job in prepared.finished:
            await kube.delete(job.name)
        await run.all_stages()
    finally:
        progress(0.9, "cleaning up")
        # A second Ctrl-C ends the waiting; what is asked of the cluster stays asked.
        left = await asyncio.shield(asyncio.ensure_future(crew.close()))
        run.outcome.problems += left
        run.settle()
    progress(1.0, "done")
    return run.outcome


@dataclass(slots=True)
class _Run:
    prepared: Prepared
    crew: Crew
    progress: Progress
    outcome: Outcome
    patience: Patience
    _began_s: float = field(default_factory=time.monotonic)
    _pulling: list[tuple[str, Member]] = field(default_factory=list)
    _numbers: int = 0

    @property
    def _left_s(self) -> float:
        return self.prepared.wishes.bounds.seconds - (time.monotonic() - self._began_s)

    @property
    def _nodes(self) -> tuple[Candidate, ...]:
        return self.prepared.choice.nodes

    async def all_stages(self) -> None:
        """Look, measure latencies, pull; each as far as the bounds allow."""
        self.outcome.notes += self.prepared.choice.notes
        await self._look()
        if not self.outcome.looks:
            return
        if len(self._nodes) < 2:
            self.outcome.problems.append(
                "only one node takes part, so there are no peers: what comes from other nodes is not measured"
            )
        if self.prepared.wishes.only != "pull":
            await self._latencies()
        if self.prepared.wishes.only != "latency":
            await self._pulls()

    async def _look(self) -> None:
        members = [self._start(self._order(node, "look", seconds=_LOOKING_S)) for node in self._nodes]
        await self._wait(members, wire.Look, _LOOKING_S, 0.0, 0.1, "looking at {} nodes")
        for member in members:
            for look in self._only(member, wire.Look):
                self.outcome.looks[member.node] = look
                self.outcome.notes += [
                    f"node {member.node}: removed {image}, which a run that was killed had left"
                    for image in look.left
                ]
        await self._dismiss(members)

    async def _latencies(self) -> None:
        budget = latency_budget(self.prepared.wishes.bounds, len(self.outcome.looks))
        seconds = min(budget.seconds, self._left_s)
        if seconds < self.patience.least_s:
            self.outcome.problems.append("no time was left for latencies: allow more --seconds")
            return
        blobs = known_blobs(self.outcome.looks)
        members = [
            self._start(
                replace(
                    self._order(node, "latency", seconds=seconds),
                    bytes_max=budget.bytes_max,
                    rate_per_s=budget.rate_per_s,
                    blobs=blobs,
                )
            )
            for node in self._nodes
            if node.name in self.outcome.looks
        ]
        await self._wait(members, wire.Latencies, seconds, 0.1, 0.5, "measuring latencies on {} nodes")
        for member in members:
            for found in self._only(member, wire.Latencies):
                self.outcome.latencies[member.node] = found
                self.outcome.moved_bytes += found.bytes
        await self._dismiss(members)

    async def _pulls(self) -> None:
        left_bytes = self.prepared.wishes.bounds.bytes - self.outcome.moved_bytes
        chosen = choose_image(
            self.outcome.looks,
            self.prepared.wishes.image,
            left_bytes,
            but=(self.prepared.release.image,),
        )
        self.outcome.chosen = chosen
        if not chosen.image:
            self.outcome.problems.append(f"no pulls were measured: {chosen.why_not}")
            return
        first, others = chosen.nodes[:1], chosen.nodes[1:]
        size_bytes = await self._wave("first", first, chosen.image, left_bytes)
        if not size_bytes:
            return
        waves = rest_of_pulls(others, size_bytes, left_bytes - size_bytes)
        if waves.nodes < len(others):
            self.outcome.notes.append(
                f"{len(others) - waves.nodes} nodes did not pull: the image has {size_bytes} bytes, and more "
                "would have been too many --bytes"
            )
        for name, nodes in waves.waves:
            await self._wave(name, nodes, chosen.image, size_bytes)

    async def _wave(self, name: str, nodes: Sequence[str], image: str, bytes_max: int) -> int:
        """Pull on these nodes at once. Returns the image's size; 0 if no pull succeeded."""
        seconds = self._left_s
        if seconds < self.patience.least_s:
            self.outcome.problems.append(
                f"no time was left for {len(nodes)} pulls ({name}): allow more --seconds, or name a smaller "
                "--image"
            )
            return 0
        by_name = {each.name: each for each in self._nodes}
        members = [
            self._start(
                replace(
                    self._order(by_name[node], "pull", seconds=seconds),
                    # The size of what others pulled is known; containerd may count it a little differently.
                    bytes_max=bytes_max if name == "first" else bytes_max + (bytes_max >> 4),
                    hold_s=seconds,
                    image=image,
                )
            )
            for node in nodes
        ]
        self._pulling += [(name, member) for member in members]
        done = len(self._pulling) / max(1, len(self.outcome.chosen.nodes))
        await self._wait(
            members,
            wire.Pulled,
            seconds,
            0.5 + 0.3 * done,
            0.5 + 0.4 * done,
            f"pulling on {{}} nodes ({name})",
        )
        found = [(member, each) for member in members for each in self._only(member, wire.Pulled)]
        for member, pulled in found:
            node = by_name[member.node]
            self.outcome.pulls.append(NodePull(wave=name, node=node, pulled=pulled))
            if not pulled.there_before:
                self.outcome.moved_bytes += pulled.size_bytes
        return max((pulled.size_bytes for _, pulled in found), default=0)

    def settle(self) -> None:
        """What the pods that pulled said at the very end: whether it is away again."""
        for _, member in self._pulling:
            removed = member.all(wire.Removed)
            kept = [each.kept for each in removed if each.kept]
            nothing = member.never_ran or any(each.there_before for each in member.all(wire.Pulled))
            if kept:
                self.outcome.problems.append(
                    f"node {member.node}: {removed[0].image} is still there: {kept[0]}"
                )
            elif removed:
                self.outcome.removed += 1
            elif not nothing:
                self.outcome.problems.append(
                    f"node {member.node}: nobody said that {member.task.order.image} is away again; if it is "
                    "not, the next run on that node removes it"
                )

    def _order(self, node: Candidate, stage: str, *, seconds: float) -> wire.Order:
        return wire.Order(
            run=self.prepared.run,
            stage=stage,
            node=node.name,
            hostport=self.prepared.release.hostport,
            seconds=seconds,
            bytes_max=0,
        )

    def _start(self, order: wire.Order) -> Member:
        self._numbers += 1
        return self.crew.start(Task(release=self.prepared.release, order=order, number=self._numbers))

    async def _dismiss(self, members: Sequence[Member]) -> None:
        self.outcome.problems += await self.crew.dismiss(members)

    async def _wait(
        self, members: Sequence[Member], kind: type[_D], seconds: float, start: float, end: float, what: str
    ) -> None:
        """Wait until each has said this, or that it will not; not longer than the pods may take."""

        def done(member: Member) -> bool:
            return bool(member.all(kind)) or bool(member.all(wire.Trouble))

        waits = [asyncio.create_task(member.until(done)) for member in members]
        began_s = time.monotonic()
        end_s = began_s + seconds + self.patience.start_s + self.patience.over_s
        pending = set(waits)
        while pending and time.monotonic() < end_s:
            share = sum(1.0 if done(member) else member.share for member in members) / len(members)
            of_time = min(0.95, (time.monotonic() - began_s) / seconds)
            self.progress(start + (end - start) * max(share, of_time), what.format(len(members)))
            _, pending = await asyncio.wait(pending, timeout=0.5)
        for wait in pending:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def _only(self, member: Member, kind: type[_D]) -> list[_D]:
        """What a member said of this kind. What went wrong is added to the problems, with the node's name."""
        found = member.all(kind)
        for trouble in member.all(wire.Trouble):
            self._problem(member, trouble.problem, trouble.hint)
        if not found and not member.all(wire.Trouble):
            why = member.problem or "its pod said nothing in time"
            if self.crew.trouble and not member.problem:
                why = f"the API server: {self.crew.trouble}"
            self._problem(member, why, member.hint)
        return found

    def _problem(self, member: Member, problem: str, hint: str) -> None:
        text = f"node {member.node}, {member.task.order.stage}: {problem}"
        self.outcome.problems.append(f"{text} ({hint})" if hint else text)

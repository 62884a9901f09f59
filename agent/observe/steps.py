"""The steps of one request: what it waited for, from when to when, and what came of it.

The rooms that wait begin and end the steps. Nothing is recorded for each part of a body: a handful of steps
tell where the time of a request went.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from agent.documents.requests import StepEntry
from topology.placement import NodeName, Tier

STEPS_MAX = 32
"""A request of more steps, such as one for a chunked layer that many peers began, keeps the first ones."""


_HELD_S = 0.1  # a client that takes its bytes as they come is not told of


def held_words(held_s: float) -> str | None:
    """Why a body took long, if it was for the client, or for a limit on its rate. None: it was not."""
    if held_s < _HELD_S:
        return None
    return f"for {held_s:.3g} s the client took no more, or its rate was limited"


class StepKind(Enum):
    """What is waited for."""

    RESOLVE = "resolve"  # somebody who vouches for a tag
    LOOKUP = "lookup"  # who has the content
    CLAIM = "claim"  # whose turn it is to fetch from the registry, and the first bytes there
    HEADERS = "headers"  # a peer's head with the first bytes
    BYTES = "bytes"  # a peer's bytes, and the client that takes them
    LOCAL = "local"  # this node's store, and the client that takes the bytes
    WAIT = "wait"  # until a busy peer may be asked again, until somebody has it, or until bytes arrive here


class Outcome(Enum):
    """What came of a step."""

    OK = "ok"
    NONE = "none"  # the answer is that nobody has it, or that nobody was to be waited for
    GRANTED = "granted"  # it is this node's turn to fetch it from the registry
    LOST = "lost"  # another peer was faster
    FAILED = "failed"
    TIMEOUT = "timeout"
    LEFT = "left"  # the client left, or the request ended without it
    UNDER_WAY = "under_way"


@dataclass(eq=False, slots=True)
class Step:
    """One step. Seconds of the request's clock. ``end_s``: None while it is under way. See `StepEntry`.

    ``told``: how many body bytes it brought so far. None: it brings none, or its end says how many.
    """

    kind: StepKind
    start_s: float
    node: NodeName | None = None
    tier: Tier | None = None
    why: str = ""
    hedge: bool = False
    resume: bool = False
    size_bytes: int | None = None
    end_s: float | None = None
    outcome: Outcome = Outcome.UNDER_WAY
    request: str | None = None
    told: Callable[[], int] | None = None

    @property
    def seconds(self) -> float:
        """How long it took. 0 while it is under way."""
        return 0.0 if self.end_s is None else self.end_s - self.start_s

    def entry(self, began_s: float, now_s: float = 0.0) -> StepEntry:
        """The step for the API. ``began_s``: when its request arrived. ``now_s``: for one under way."""
        end_s = now_s if self.end_s is None else self.end_s
        size_bytes = self.size_bytes if self.told is None else self.told()
        return StepEntry(
            kind=self.kind.value,
            start_s=round(self.start_s - began_s, 6),
            seconds=round(max(0.0, end_s - self.start_s), 6),
            node=self.node,
            tier=None if self.tier is None else self.tier.label,
            size_bytes=size_bytes,
            outcome=self.outcome.value,
            why=self.why,
            hedge=self.hedge,
            resume=self.resume,
            request=self.request,
        )


_WHOLE = (StepKind.LOCAL, StepKind.HEADERS)


class Steps:
    """The steps of one request that arrived at ``began_s`` of ``clock``."""

    __slots__ = ("_clock", "_steps", "began_s", "left_out", "open")

    def __init__(self, clock: Callable[[], float], began_s: float | None = None) -> None:
        self._clock = clock
        self._steps: list[Step] = []
        self.began_s = clock() if began_s is None else began_s
        self.left_out = 0
        self.open = 0

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    def begin(
        self,
        kind: StepKind,
        node: NodeName | None = None,
        tier: Tier | None = None,
        *,
        why: str = "",
        hedge: bool = False,
        resume: bool = False,
        told: Callable[[], int] | None = None,
    ) -> Step:
        """A step begins. End it with `end`."""
        step = Step(kind, self._clock(), node, tier, why, hedge, resume, told=told)
        self.open += 1
        if len(self._steps) < STEPS_MAX:
            self._steps.append(step)
        else:
            self.left_out += 1
        return step

    def end(
        self,
        step: Step,
        outcome: Outcome = Outcome.OK,
        *,
        why: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        """A step ended. A second end changes nothing. ``why``: None leaves what was said at its beginning."""
        if step.end_s is not None:
            return
        step.end_s, step.outcome = self._clock(), outcome
        self.open -= 1
        if step.told is not None:
            step.size_bytes, step.told = step.told(), None
        if why is not None:
            step.why = why
        if size_bytes is not None:
            step.size_bytes = size_bytes

    def drop(self, step: Step) -> None:
        """The step that began last is not worth telling."""
        self.open -= 1
        if self._steps and self._steps[-1] is step:
            self._steps.pop()
        else:
            self.left_out -= 1

    def gave(self, size_bytes: int) -> None:
        """A body that had come whole with the last step was sent."""
        for step in reversed(self._steps):
            if step.outcome is Outcome.OK and step.kind in _WHOLE:
                step.size_bytes = size_bytes
                return

    def close(self, outcome: Outcome = Outcome.LEFT, why: str | None = None) -> None:
        """The request ended, and with it every step that is open."""
        if self.open:
            for step in self._steps:
                self.end(step, outcome, why=why)

    @property
    def begun(self) -> bool:
        """Whether a part of the body was sent, so that what follows goes on with it."""
        return any(step.kind is StepKind.BYTES and step.end_s is not None for step in self._steps)

    def entries(self) -> tuple[StepEntry, ...]:
        """The steps for the API."""
        now_s = self._clock() if self.open else 0.0
        return tuple(step.entry(self.began_s, now_s) for step in self._steps)

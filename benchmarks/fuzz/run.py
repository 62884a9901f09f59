"""One listener under attack: many cases at once, judged one by one, and the process watched meanwhile."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from benchmarks.fuzz.client import Connect, Outcome, play
from benchmarks.fuzz.grammar import Case, Ending
from benchmarks.fuzz.health import Honest, LogReader, Size, size_of

_AT_ONCE = 64
_SETTLE_S = 30.0
_SHOWN_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """A listener. ``make``: the case of a number. ``judge``: what is wrong with its outcome.

    ``ends_s``: within this time every connection must end. ``honest``: what a well-behaved client does.
    ``pid``, ``log``: of the process that has the listener. ``at_once``: how many cases are played at a time.
    """

    name: str
    connect: Connect
    make: Callable[[int], Case]
    judge: Callable[[Case, Outcome], list[str]]
    honest: Callable[[], None]
    ends_s: float
    pid: int
    log: LogReader
    at_once: int = _AT_ONCE


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What the run found. ``wrong``: every violation, with the number of its case."""

    name: str
    cases: int = 0
    seconds: float = 0.0
    responses: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    honest: int = 0
    honest_slowest_s: float = 0.0
    before: Size | None = None
    after: Size | None = None


def attack(attacked: Attacked, numbers: Iterable[int], *, warm: int = 0, waiting: bool = True) -> Verdict:
    """Play the cases of these numbers. After the first ``warm`` ones, the process's size is noted.

    ``waiting``: whether some clients wait until they are closed, which takes as long as it takes.
    """
    verdict = Verdict(name=attacked.name)
    numbers = list(numbers)
    began_s = time.monotonic()
    attacked.log.errors()
    if not waiting:
        attacked = replace(attacked, make=_hurried(attacked.make))
    with Honest(ask=attacked.honest) as honest:
        if warm:
            asyncio.run(_play_all(attacked, numbers[:warm], verdict))
            verdict.before = _settled(attacked.pid, None)
        asyncio.run(_play_all(attacked, numbers[warm:], verdict))
    if warm:
        verdict.after = _settled(attacked.pid, verdict.before)
    verdict.wrong += [f"an honest client: {failure}" for failure in honest.failures[:_SHOWN_MAX]]
    verdict.wrong += [f"in the log: {line[:1500]}" for line in attacked.log.errors()[:_SHOWN_MAX]]
    verdict.honest, verdict.honest_slowest_s = honest.asked, honest.slowest_s
    verdict.seconds = time.monotonic() - began_s
    return verdict


def _hurried(make: Callable[[int], Case]) -> Callable[[int], Case]:
    def made(number: int) -> Case:
        case = make(number)
        return replace(case, ending=Ending.HALF_CLOSE) if case.ending is Ending.WAIT else case

    return made


def _settled(pid: int, before: Size | None) -> Size:
    """The process's size, once it has no more descriptors and threads than before, or never will."""
    until_s = time.monotonic() + _SETTLE_S
    size = size_of(pid)
    if before is None:
        time.sleep(0.5)
        return size_of(pid)
    while time.monotonic() < until_s:
        if size.descriptors <= before.descriptors and size.threads <= before.threads:
            break
        time.sleep(0.2)
        size = size_of(pid)
    return size


async def _play_all(attacked: Attacked, numbers: list[int], verdict: Verdict) -> None:
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            await _play_one(attacked, number, verdict)

    await asyncio.gather(*(work() for _ in range(attacked.at_once)))


async def _play_one(attacked: Attacked, number: int, verdict: Verdict) -> None:
    case = attacked.make(number)
    verdict.cases += 1
    try:
        outcome = await play(case, attacked.connect, at_most_s=attacked.ends_s)
    except OSError as error:
        verdict.wrong.append(f"case {number}: can't connect: {error}")
        return
    for line in attacked.judge(case, outcome):
        verdict.wrong.append(f"case {number} ({case.ending.value}): {line}; sent {case.stream[:300]!r}")
    status = int(outcome.received[9:12]) if outcome.received[9:12].isdigit() else 0
    verdict.responses[status] = verdict.responses.get(status, 0) + 1

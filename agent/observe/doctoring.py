"""Has ``shorthaul doctor`` look at this node now and then, so that an alarm can say what a person would find.

It is the very command, in a process of its own: the same eyes and the same answer, half a second of processor
time each time, and no memory in between. It runs at the lowest priority.
"""

import asyncio
import json
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from agent.documents.codec import DocumentInvalid, decode
from agent.documents.doctor import DoctorDocument, DoctorReport
from agent.documents.times import Moment, utc
from agent.observe.health_metrics import STATUSES, HealthMetrics

_log = logging.getLogger("shorthaul")

_FIRST_S = 60.0  # by then the agent serves, or something is wrong
_AT_MOST_S = 60.0  # the doctor takes ten seconds at most, and a busy node has others to serve first
_SPREAD = 0.2  # nodes that start together should not look together
_NICEST = 19
_HINT = "run `shorthaul doctor` on this node: it says more"


class Doctoring:
    """Runs the doctor. ``command``: what to run; empty, or ``interval_s`` 0: nothing is run.

    ``serves``: whether this agent serves its node now. One that starts, stands by or stops is not looked at.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        node: str,
        interval_s: float,
        metrics: HealthMetrics,
        serves: Callable[[], bool],
        first_s: float = _FIRST_S,
        at_most_s: float = _AT_MOST_S,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        self._command = tuple(command)
        self._node = node
        self._interval_s = interval_s if command else 0.0
        self._metrics = metrics
        self._serves = serves
        self._first_s = min(first_s, interval_s)
        self._at_most_s = at_most_s
        self._calendar = calendar
        self._last: DoctorDocument | None = None
        self._ended_s: float | None = None
        self._known: frozenset[str] = frozenset()  # what was bad when it was last looked at
        self._problem: str | None = None

    @property
    def last(self) -> DoctorDocument | None:
        """What was found last. None: nobody looked yet."""
        return self._last

    async def run(self) -> None:
        """Look, again and again, until cancelled. Returns at once if the doctor is off."""
        if not self._interval_s:
            return
        await asyncio.sleep(self._first_s * (1 + random.random()))
        while True:
            if self._serves():
                await self.look()
            await asyncio.sleep(self._interval_s * (1 + _SPREAD * (random.random() - 0.5)))

    async def look(self) -> None:
        """Look once. Cancelling it ends the process."""
        try:
            self._found(decode(DoctorDocument, json.loads(await self._run())))
        except (OSError, TimeoutError, ValueError, DocumentInvalid) as error:
            problem = str(error) or f"it did not end within {self._at_most_s:.0f} s"
            if self._problem is None:
                _log.warning("the doctor can't look: %s", problem, extra={"fields": {"hint": _HINT}})
            self._problem = problem

    def report(self, moment: Moment) -> DoctorReport:
        """What was found last."""
        return DoctorReport(
            time=moment.text,
            node=self._node,
            interval_s=self._interval_s,
            ended_at=None if self._ended_s is None else utc(self._ended_s),
            problem=self._problem,
            last=self._last,
        )

    async def _run(self) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICEST)
            async with asyncio.timeout(self._at_most_s):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return said

    def _found(self, document: DoctorDocument) -> None:
        self._problem, self._last, self._ended_s = None, document, self._calendar()
        counted = Counter(STATUSES.get(each.status, "unknown") for each in document.findings)
        self._metrics.doctor(counted, self._ended_s)
        bad = {each.subject: each for each in document.findings if each.status == "bad"}
        for subject in bad.keys() - self._known:
            finding = bad[subject]
            _log.warning(
                "the doctor found: %s: %s", subject, finding.found, extra={"fields": {"hint": finding.hint}}
            )
        for subject in sorted(self._known - bad.keys()):
            _log.info("the doctor finds nothing wrong any more with: %s", subject)
        self._known = frozenset(bad)

"""The agent has the doctor look, and says what it found once."""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from agent.documents.times import Moment
from agent.observe.doctoring import Doctoring
from agent.observe.metrics import Metrics
from tests.unit.exposition import total

_MOMENT = Moment(now_s=0.0, unix_s=0.0)


def finding(subject: str, status: str) -> dict[str, str]:
    return {"subject": subject, "status": status, "found": f"{subject} is {status}", "advice": "mend it"}


class _Twin:
    """A doctor that prints what a file says."""

    def __init__(self, folder: Path) -> None:
        self.metrics = Metrics()
        self._says = folder / "says"
        self.serves = True

    def says(self, *findings: dict[str, str]) -> None:
        document = {"node": "n1", "serves": True, "seconds": 0.1, "findings": findings}
        self._says.write_text(json.dumps(document))

    def doctoring(
        self,
        *command: str,
        interval_s: float = 900.0,
        at_most_s: float = 20.0,
        looked: asyncio.Event | None = None,
    ) -> Doctoring:
        def calendar() -> float:
            if looked is not None:
                looked.set()
            return 1e9

        return Doctoring(
            command or ("cat", str(self._says)),
            node="n1",
            interval_s=interval_s,
            metrics=self.metrics.health,
            serves=lambda: self.serves,
            at_most_s=at_most_s,
            calendar=calendar,
        )


@pytest.fixture
def twin(tmp_path: Path) -> _Twin:
    return _Twin(tmp_path)


async def test_what_it_found_is_counted_and_kept_in_words(twin: _Twin) -> None:
    twin.says(finding("ports", "bad"), finding("clock", "ok"), finding("names", "?"))
    doctoring = twin.doctoring()
    await doctoring.look()
    for status in ("bad", "ok", "unknown"):
        assert total(twin.metrics.expose(), "doctor_findings", status=status) == 1
    report = doctoring.report(_MOMENT)
    assert report.ended_at == "2001-09-09T01:46:40.000Z"
    assert report.last is not None
    assert report.last.findings[0].found == "ports is bad"


async def test_bad_finding_is_logged_when_it_comes_and_when_it_goes_and_not_in_between(
    twin: _Twin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "shorthaul")
    doctoring = twin.doctoring()
    twin.says(finding("ports", "bad"), finding("clock", "warn"))
    await doctoring.look()
    await doctoring.look()
    assert [record.message for record in caplog.records] == ["the doctor found: ports: ports is bad"]
    twin.says(finding("ports", "ok"))
    await doctoring.look()
    assert caplog.records[-1].message == "the doctor finds nothing wrong any more with: ports"


@pytest.mark.parametrize("command", [("/no/such/doctor",), ("echo", "no JSON"), ("echo", "{}")])
async def test_doctor_that_does_not_work_is_no_finding_and_is_said_once(
    twin: _Twin, command: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    doctoring = twin.doctoring(*command)
    await doctoring.look()
    await doctoring.look()
    (record,) = caplog.records
    assert record.message.startswith("the doctor can't look: ")
    assert b"doctor_findings" not in twin.metrics.expose()
    assert doctoring.report(_MOMENT).problem


async def test_doctor_that_hangs_is_ended(twin: _Twin, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    for at_most_s in (0.25, 1.0, 5.0, 25.0):  # a machine may be too busy to begin it so soon
        doctoring = twin.doctoring("sh", "-c", f"echo $$ > {pid}; exec sleep 600", at_most_s=at_most_s)
        await doctoring.look()
        assert doctoring.report(_MOMENT).problem == f"it did not end within {at_most_s:.0f} s"
        if pid.exists() and pid.read_text():
            break
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_doctor_runs_at_the_lowest_priority(twin: _Twin) -> None:
    says = (
        "import json, os, time\n"
        "while os.nice(0) != 19: time.sleep(0.01)\n"
        "print(json.dumps({'node': 'n1', 'serves': True, 'seconds': 0.1, 'findings': []}))"
    )
    doctoring = twin.doctoring(sys.executable, "-c", says)
    await doctoring.look()
    assert doctoring.report(_MOMENT).last is not None


async def test_doctor_that_is_off_ends_at_once(twin: _Twin) -> None:
    await twin.doctoring(interval_s=0.0).run()


async def test_it_looks_again_and_again_but_not_while_the_agent_does_not_serve(twin: _Twin) -> None:
    looked = asyncio.Event()
    doctoring = twin.doctoring(interval_s=0.01, looked=looked)
    twin.says(finding("ports", "ok"))
    twin.serves = False
    running = asyncio.create_task(doctoring.run())
    try:
        await asyncio.sleep(0.1)
        assert not looked.is_set()
        twin.serves = True
        async with asyncio.timeout(20):
            await looked.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

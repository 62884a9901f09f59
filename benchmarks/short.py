"""The short run behind README.md's figures: latency, pull, path and node, each quick, in one report.

    python -m benchmarks short [--parts latency,pull,path,node] [--json FILE] [--html FILE]

It needs root. Each part is a process of its own, so that one that dies, or takes far too long, costs its own
figures and no others; what it had measured until then is kept.
"""

import argparse
import collections
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmarks.arguments import listed, make_parser
from benchmarks.catalogue import CATALOGUE
from benchmarks.reporting.compare import YARDSTICK
from benchmarks.reporting.format import Report, ReportInvalid, from_json
from benchmarks.reporting.machine import MachineWatch
from benchmarks.reporting.markdown import busy_words
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

PARTS = ("latency", "pull", "path", "node")
_PATIENCE = 3.0
"""A part that takes so many times as long as usual is ended."""

_CLEAN_UP_S = 90.0
_USUAL_S = 120.0
_TAIL_LINES = 5
_SHARE = re.compile(r"(, \d+ %)?, \d+ (s|min)$")


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.short", __doc__)
    parser.add_argument("--parts", type=listed(_part), default=",".join(PARTS), help="which (%(default)s)")
    return run(parser, _measure, root_for="network namespaces and containerds")


def _part(name: str) -> str:
    if name not in PARTS:
        raise ValueError(name)
    return name


def _measure(recorder: Recorder, arguments: argparse.Namespace) -> None:
    if busy := busy_words(MachineWatch().facts()):
        print(f"{busy}: `python -m benchmarks publish` will refuse this report", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="shbench-") as folder:
        for name in arguments.parts:
            recorder.step(name)
            path = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", "benchmarks", name, "--quick", "--json", str(path)]
            take(recorder, name, command, path, limit_s=limit_s(name))


def limit_s(part: str) -> float:
    """When a part is ended: it hangs, or the machine is so busy that its figures are worth nothing."""
    return _PATIENCE * (CATALOGUE[part].quick_s or _USUAL_S)


def take(recorder: Recorder, name: str, command: Sequence[str], path: Path, *, limit_s: float) -> None:
    """Run one part, and take its sections over. ``path``: where it writes its report."""
    with _running(command) as child:
        heard = _Heard(recorder, name, child)
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            recorder.problem(f"{name}: it was ended, because it took longer than {limit_s:.0f} s")
    heard.end()
    report = _read(path)
    if report is None:
        tail = "; ".join(heard.tail) or "it said nothing"
        recorder.problem(f"{name}: it ended with {child.returncode} and left no report: {tail}")
        return
    recorder.add(section for section in report.sections if section.name != YARDSTICK)
    recorder.problems += [f"{name}: {problem}" for problem in report.problems]


def _read(path: Path) -> Report | None:
    try:
        return from_json(path.read_bytes(), str(path))
    except (OSError, ReportInvalid):
        return None


@contextmanager
def _running(command: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """The part's process. It is told to end when the context ends, and has the time to clean up.

    It has a session of its own: Ctrl-C comes here, and is passed on once.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(_CLEAN_UP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


class _Heard:
    """What a part says on standard error: its progress becomes this run's, the rest is passed on."""

    def __init__(self, recorder: Recorder, name: str, child: "subprocess.Popen[str]") -> None:
        self.tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        assert child.stderr is not None
        self._recorder, self._name, self._stream = recorder, name, child.stderr
        self._thread = threading.Thread(target=self._listen, args=(child.stderr,), daemon=True)
        self._thread.start()

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            told = line.rstrip()
            if told.startswith(f"{self._name}: "):
                self._recorder.step(_SHARE.sub("", told.partition(" so far")[0]))
            elif told:
                self.tail.append(told)
                print(told, file=sys.stderr)

    def end(self) -> None:
        """Wait for the last line. Whoever inherited the stream and still has it open is not waited for."""
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self._stream.close()


if __name__ == "__main__":
    sys.exit(main())

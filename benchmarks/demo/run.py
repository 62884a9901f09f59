"""The demo's process: its arguments, its signals, its exit status, and the picture for the README.

Whatever ends it, everything that it made is removed: at once, or by the next run if SIGKILL ended it.
"""

import argparse
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

import benchmarks.demo
from agent.cli.output import OutputFailed, run_command
from benchmarks.demo.rush import Rush
from benchmarks.demo.scenario import ROUND_TRIPS, ZONES, Demo
from benchmarks.demo.view import WIDE
from benchmarks.lab.cluster import Cluster, places
from benchmarks.lab.process import LabError


@dataclass(slots=True)
class Signals:
    """``stopped_by``: the signal that asks the demo to end, once there was one."""

    stopped_by: int | None = None

    def stop(self, number: int, _: FrameType | None) -> None:
        """Interrupt the main thread."""
        self.stopped_by = number
        raise KeyboardInterrupt


def main() -> int:
    """Run the demo. Returns 0 if every node pulled, and no byte travelled further than necessary.

    128 + N: signal N ended it. 141: the reader of its output closed it.
    """
    signals = Signals()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and the background jobs of a script
            signal.signal(number, signals.stop)
    return run_command(lambda: _run(signals))


def _run(signals: Signals) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=benchmarks.demo.__doc__)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw what was shown, for the README")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    real = os.geteuid() == 0
    if real:
        console.print("A cluster of 6 nodes in network namespaces, a real containerd on each.")
    else:
        console.print(
            "Not root: the same on loopback addresses, with skopeo and OCI layouts in place of containerds."
        )
    try:
        good = _demonstrate(console, real=real, svg=arguments.svg)
    except (KeyboardInterrupt, OutputFailed, LabError, subprocess.SubprocessError) as error:
        if signals.stopped_by is not None:  # Ctrl-C also reaches the commands that set up the network
            with contextlib.suppress(OutputFailed):  # with SIGHUP the terminal is gone as well
                console.print("Stopped; everything is cleaned up.")
            return 128 + signals.stopped_by
        if not isinstance(error, LabError):
            raise
        console.print(f"[red]The demo failed:[/red] {error}", highlight=False)
        return 1
    console.print("Everything is cleaned up.")
    return 0 if good else 1


def _demonstrate(console: Console, *, real: bool, svg: Path | None) -> bool:
    with Cluster(places(ZONES, 2), real=real, versions=("1.6",), delays=real) as cluster:
        if real:
            cluster.spread_zones(**ROUND_TRIPS)
        demo = Demo(cluster, console)
        good = demo.run()
        if svg:
            _draw(demo, svg)
        if real:
            good = Rush(cluster, console).run() and good
        return good


def _draw(demo: Demo, path: Path) -> None:
    console = Console(width=WIDE, record=True, file=io.StringIO(), force_terminal=True)
    demo.summarise(console)
    picture = console.export_svg(title="make demo", theme=DIMMED_MONOKAI)
    # Use the reader's own monospace font, because a picture must not load anything from elsewhere.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    path.write_text(picture.replace("<svg ", '<svg xml:space="preserve" ', 1))  # some viewers trim each text

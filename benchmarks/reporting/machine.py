"""On which machine, and of which product, something is measured."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agent import __version__
from benchmarks.reporting.format import Fact, Machine, Product

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("aiohttp", "uvloop", "hdrhistogram")
_PROGRAMS = ("containerd", "nginx", "docker-registry", "iptables", "nft")
_GIT_S = 5.0


_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class _Ticks:
    """The processors' time since the machine started. ``idle``: also what waited for a disk."""

    stolen: int
    idle: int
    all: int


class MachineWatch:
    """The machine from the start of a measurement to its end. What cannot be read is left empty."""

    def __init__(self) -> None:
        self._busy = [_busy()]
        self._before = Machine(
            processor=_processor(),
            processors=os.cpu_count() or 0,
            memory_mib=_memory_mib(),
            kernel=platform.release(),
            virtual=_virtual(),
            governor=_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_before=_load(),
        )
        self._ticks = _ticks()

    def facts(self) -> Machine:
        """The machine, with what was measured of it until now."""
        stolen, found = self._stolen(), [*self._busy, _busy()]
        known = [each for each in found if each is not None]
        return replace(
            self._before,
            load_after=_load(),
            steal_percent=stolen,
            busy_percent=max(known, default=None),
        )

    def _stolen(self) -> float | None:
        now = _ticks()
        if self._ticks is None or now is None or now.all <= self._ticks.all:
            return None
        return round(100 * (now.stolen - self._ticks.stolen) / (now.all - self._ticks.all), 1)


def product_facts() -> Product:
    """This project's version, and the versions of what it runs on."""
    commit = _git("rev-parse", "HEAD") if (_ROOT / ".git").exists() else ""
    return Product(
        version=__version__,
        commit=commit,
        dirty=bool(commit and _git("status", "--porcelain", "--untracked-files=no")),
        versions=(Fact(name="python", value=platform.python_version()), *_versions()),
    )


def _versions() -> Iterator[Fact]:
    for name in _PACKAGES:
        try:
            yield Fact(name=name, value=version(name))
        except PackageNotFoundError:
            continue
    for name in _PROGRAMS:
        said = _said(name)
        if said:
            yield Fact(name=name, value=said)


def _said(program: str) -> str:
    """What a program says of its version, in one line."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        return ""
    argument = "-v" if program == "nginx" else "--version"
    try:
        found = subprocess.run([path, argument], capture_output=True, text=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (found.stdout + found.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True, text=True, timeout=_GIT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def _processor() -> str:
    for line in _text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _virtual() -> str:
    """``virtual machine``, or empty: the processor says so, and not who runs it."""
    flags = next((line for line in _text("/proc/cpuinfo").splitlines() if line.startswith("flags")), "")
    return "virtual machine" if " hypervisor" in flags else ""


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _ticks() -> _Ticks | None:
    words = _text("/proc/stat").partition("\n")[0].split()
    if len(words) < 9 or words[0] != "cpu":
        return None
    numbers = [int(each) for each in words[1:9]]
    return _Ticks(stolen=numbers[7], idle=numbers[3] + numbers[4], all=sum(numbers))


def _busy() -> float | None:
    """Which share of the processors' time, in per cent, others take while this process sleeps."""
    before = _ticks()
    time.sleep(_LOOK_S)
    after = _ticks()
    if before is None or after is None or after.all <= before.all:
        return None
    return round(100 - 100 * (after.idle - before.idle) / (after.all - before.all), 1)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

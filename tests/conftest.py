"""How a run of the tests begins, and how they are shared out among the workers of pytest-xdist.

The tests of a module run in one worker, one after the other, so that its fixtures are made once. Where every
test makes all it needs itself, any worker may take any of them.
"""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from benchmarks.lab.certificates import Authority
from benchmarks.lab.cgroups import sweep_cgroups
from benchmarks.lab.folders import sweep_folders
from benchmarks.lab.network import sweep
from bpf.errors import BpfError

_HERE = Path(__file__).parent
# The longest modules come first: what starts last should be short.
_FOLDERS = ("image", "e2e", "browser", "prometheus", "probe", "server", "lab", "conformance", "chart", "unit")
_SPREAD = ("tests/probe/",)
_TOGETHER = ("tests/image/",)  # one worker builds the images, for all modules


class _Modules(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Modules as units of work. (xdist's own marks for groups have no effect since pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_TOGETHER):
            return nodeid.rpartition("/")[0]
        return nodeid if nodeid.startswith(_SPREAD) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """The scheduler in place of xdist's own."""
    return _Modules(config, log)


def pytest_configure() -> None:
    """Let signals end what the tests start.

    A background job of a script ignores Ctrl-C, and its children inherit that. Commands do not say that they
    are still at work: on a busy machine any of them may be, and tests read every word.
    """
    os.environ.setdefault("SHORTHAUL_PROGRESS", "off")
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remove what a run that was killed left behind. Once, before there are workers."""
    if os.geteuid() == 0 and not hasattr(session.config, "workerinput"):
        for prefix in ("shlab", "shprobe"):
            sweep(prefix)
            with contextlib.suppress(BpfError):  # no cgroup v2 on this machine
                sweep_cgroups(prefix)
            sweep_folders(prefix)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that signs the certificates of agents."""
    return Authority(tmp_path_factory.mktemp("authority"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders in their order."""
    items.sort(key=lambda item: _FOLDERS.index(item.path.relative_to(_HERE).parts[0]))

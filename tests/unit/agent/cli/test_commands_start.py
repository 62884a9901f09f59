"""The first moments of a command's process: Ctrl-C ends it without a word, SIGHUP waits for its meaning."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.agent.cli.terminal import SHORTHAUL

_IMPORTED = (
    "import sys; before = set(sys.modules); import agent.cli; print(*sorted(set(sys.modules) - before))"
)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command whose first line ran: it has SIGINT blocked, or is further already."""
    process = subprocess.Popen([SHORTHAUL, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not _blocks_ctrl_c(process.pid) and not _is_past(process.pid):
            time.sleep(0.001)
        yield process
    finally:
        process.kill()
        process.communicate()


def _blocks_ctrl_c(pid: int) -> bool:
    return bool(_mask(pid, "SigBlk") & 1 << (signal.SIGINT - 1))


def _is_past(pid: int) -> bool:
    """Whether the first imports are done: this one comes with asyncio, or when `topology` is about to ask."""
    return "/_ssl." in Path(f"/proc/{pid}/maps").read_text()


def _mask(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")), 16)


def test_nothing_is_imported_before_the_first_line() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["agent", "agent.cli"]


_AGENT_ALONE = """
import sys
from agent.cli.commands import make_parser
make_parser(["agent", "--config", "agent.yaml"])
import agent.app, agent.lifecycle
commands = ("agent.cli.configure", "agent.cli.topology", "agent.cli.verify", "agent.hosts", "agent.preflight")
unused = ("agent.handover.", "agent.members.kubernetes", "agent.listen.owners", "agent.probe.unseen")
unused += ("difflib", "valkey", "agent.holders.valkey.server", "agent.holders.valkey.index")
print(*sorted(name for name in sys.modules if name.startswith(commands + unused)))
"""


def test_an_agent_has_no_other_command_and_nothing_that_is_not_configured_in_its_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _AGENT_ALONE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_ctrl_c_during_the_imports_ends_the_command_with_130_and_without_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for _ in range(5):
            with started("topology", "--url", url) as process:
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=60)
                assert (process.returncode, told) == (130, "")


@pytest.mark.parametrize("command", ["agent", "probe"])
def test_sighup_during_the_imports_changes_nothing_not_even_the_status_of_a_failed_start(
    command: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("nonsense: 1")
    with started(command, "--config", str(config)) as process:
        while process.poll() is None:
            process.send_signal(signal.SIGHUP)
        assert process.returncode == 2
        assert process.stderr is not None
        assert "nonsense" in process.stderr.read()


def test_sighup_ends_a_command_that_a_person_watches() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with started("topology", "--url", url) as process:
            process.send_signal(signal.SIGHUP)
            assert process.wait(60) == -signal.SIGHUP

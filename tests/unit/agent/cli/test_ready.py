"""``shorthaul ready`` asks this pod's own agent."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.cli import main
from agent.cli.ready import only_asks
from agent.unixsocket import UnixListener


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """An agent that answers one question. Yields what it was asked."""
    listener = UnixListener(path)
    listener.socket.setblocking(True)
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.socket.accept()
        with connection:
            asked.append(connection.recv(4096))
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield asked
    thread.join(30)
    listener.close()


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n[+] phase: serving\nready\n", 0, "[+] phase: serving\nready\n"),
        (b"HTTP/1.0 503 No\r\n\r\nnot ready: starting\n", 1, "not ready: starting\n"),
        (b"220 smtp\r\n\r\n", 1, "not ready: no agent answers at "),
        (b"", 1, "not ready: no agent answers at "),
    ],
)
def test_the_status_is_0_only_if_this_agent_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes, status: int, said: str
) -> None:
    path = tmp_path / "health.sock"
    with answering(path, answer) as asked:
        assert main(["ready", "--socket", str(path)]) == status
    assert capsys.readouterr().out.startswith(said)
    assert asked[0].startswith(b"GET /readyz?verbose HTTP/1.0\r\nHost: localhost\r\n")


def test_an_agent_that_has_not_started_is_not_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ready", "--socket", str(tmp_path / "none.sock")]) == 1
    assert capsys.readouterr().out.startswith("not ready: no agent answers at ")


def test_the_socket_may_come_from_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "health.sock"
    with answering(path, b"HTTP/1.0 200 OK\r\n\r\nready\n"):
        assert main(["ready", "--set", f"health.socket={path}"]) == 0
    assert capsys.readouterr().out == "ready\n"


def test_no_socket_is_wrong_usage_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ready"]) == 2
    assert "--socket PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ready", "--socket", "/x"], Path("/x")),
        (["ready", "--socket", "--help"], None),
        (["ready", "--socket"], None),
        (["ready", "--socket", "/x", "--set", "a=b"], None),
        (["agent", "--socket", "/x"], None),
        ([], None),
    ],
)
def test_only_the_plain_question_goes_past_the_parser(words: list[str], found: Path | None) -> None:
    assert only_asks(words) == found


def test_the_plain_question_imports_nothing_heavy(tmp_path: Path) -> None:
    script = f"""
import sys
before = set(sys.modules)
from agent.cli import main
main(["ready", "--socket", "{tmp_path}/none"])
print(*sorted({{name.partition(".")[0] for name in sys.modules.keys() - before}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported.isdisjoint({"aiohttp", "argparse", "asyncio", "json", "rich", "yaml"})

"""A Unix socket at a path."""

import os
import socket
import stat
from pathlib import Path

import pytest

from agent.unixsocket import UnixListener


def reached(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_only_this_user_can_connect(tmp_path: Path) -> None:
    listener = UnixListener(tmp_path / "new" / "one.sock")
    assert stat.S_IMODE((tmp_path / "new" / "one.sock").stat().st_mode) == 0o600
    assert reached(tmp_path / "new" / "one.sock")
    listener.close()
    assert os.listdir(tmp_path / "new") == []  # noqa: PTH208


def test_the_socket_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert not reached(path)
    listener = UnixListener(path)
    assert reached(path)
    listener.close()


def test_the_socket_of_another_process_stays_when_this_one_closes(tmp_path: Path) -> None:
    path = tmp_path / "one.sock"
    older, newer = UnixListener(path), UnixListener(path)
    older.close()
    assert reached(path)
    newer.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("content")
    with pytest.raises(FileExistsError):
        UnixListener(path)
    assert path.read_text() == "content"


def test_a_path_that_is_too_long_is_an_error_that_says_so(tmp_path: Path) -> None:
    longest = 98 - len(f"{tmp_path}/")
    UnixListener(tmp_path / ("x" * longest)).close()
    with pytest.raises(OSError, match="too long for a Unix socket: 98 bytes at most"):
        UnixListener(tmp_path / ("x" * (longest + 1)))

"""Files that somebody else writes."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.files import read_beginning, read_regular


def test_content_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, most_bytes=5) == b"12345"
    (tmp_path / "link").symlink_to(path)  # Kubernetes' volumes consist of links
    assert read_regular(tmp_path / "link", most_bytes=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, most_bytes=4)


def test_a_huge_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="more than 1000 bytes"):
        read_regular(path, most_bytes=1000)


def _listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "not a regular file, but a FIFO"),
        (os.mkdir, "a directory, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file, but a device"),
        (lambda path: path.symlink_to("."), "a directory, not a file"),
        (_listen, "No such device or address"),
    ],
    ids=["fifo", "directory", "device", "link", "socket"],
)
def test_what_is_no_regular_file_is_refused_at_once_with_what_it_is(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "odd")
    for read in (read_regular, read_beginning):
        with pytest.raises(OSError, match=said):
            read(tmp_path / "odd", most_bytes=10)


def test_beginning_of_a_file_is_read_and_not_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_beginning(path, most_bytes=4) == b"1234"
    assert read_beginning(path, most_bytes=6) == b"12345"
    assert read_beginning(Path("/proc/self/status"), most_bytes=4) == b"Name"


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", most_bytes=10)

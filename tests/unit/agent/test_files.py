"""Files that somebody else writes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.files import read_regular


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


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "odd")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(tmp_path / "odd", most_bytes=10)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", most_bytes=10)

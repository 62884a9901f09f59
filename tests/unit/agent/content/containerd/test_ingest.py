"""What containerd is writing now, by the directories of its ingests."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from agent.content.containerd.ingest import Ingests
from agent.content.store import ContentMissing, Growing
from tests.unit.twins import sha256

BLOB = sha256("blob")


def begin(root: Path, key: str) -> Path:
    ingest = root / hashlib.sha256(key.encode()).hexdigest()
    ingest.mkdir(parents=True)
    return ingest


@pytest.mark.parametrize("kind", ["layer", "config", "manifest", "index", "unknown"])
def test_every_kind_of_content_is_found_by_its_digest(tmp_path: Path, kind: str) -> None:
    ingest = begin(tmp_path, f"k8s.io/1/{kind}-{BLOB}")
    ingests = Ingests(tmp_path, "k8s.io")
    assert ingests.has(BLOB) is True
    assert ingests.has(sha256("other")) is False
    ingest.rmdir()
    assert ingests.has(BLOB) is False


def test_other_namespaces_are_other_clients(tmp_path: Path) -> None:
    begin(tmp_path, f"default/1/layer-{BLOB}")
    assert Ingests(tmp_path, "k8s.io").has(BLOB) is False


def test_directory_that_is_not_there_or_is_none_tells_nothing(tmp_path: Path) -> None:
    assert Ingests(tmp_path / "nowhere", "k8s.io").has(BLOB) is None
    (tmp_path / "file").write_text("")
    assert Ingests(tmp_path / "file", "k8s.io").has(BLOB) is None


def write(ingest: Path, *, total: str | None = "10", data: bytes | None = b"") -> None:
    if total is not None:
        (ingest / "total").write_text(total)
    if data is not None:
        (ingest / "data").write_bytes(data)


@pytest.mark.parametrize("kind", ["layer", "config", "manifest", "index", "unknown"])
async def test_how_far_an_ingest_is_can_be_told_and_read(tmp_path: Path, kind: str) -> None:
    ingest, ingests = begin(tmp_path, f"k8s.io/1/{kind}-{BLOB}"), Ingests(tmp_path, "k8s.io")
    write(ingest)
    assert ingests.growing(BLOB) == Growing(size_bytes=10, available_bytes=0)
    write(ingest, data=b"abcd")
    assert ingests.growing(BLOB) == Growing(size_bytes=10, available_bytes=4)
    blob = ingests.open(BLOB)
    assert (blob.size_bytes, blob.available_bytes, await blob.read(1, 9)) == (10, 4, b"bcd")
    write(ingest, data=b"abcdefghij")
    assert await blob.wait_beyond(9) == 10
    blob.close()


@pytest.mark.parametrize(
    ("total", "data"),
    [(None, b"abcd"), ("", b"abcd"), ("0", b""), ("-3", b"abcd"), ("ten", b"abcd"), ("10", None)],
)
def test_ingest_that_is_being_set_up_is_received_and_not_in_flight_yet(
    tmp_path: Path, total: str | None, data: bytes | None
) -> None:
    write(begin(tmp_path, f"k8s.io/1/layer-{BLOB}"), total=total, data=data)
    ingests = Ingests(tmp_path, "k8s.io")
    assert (ingests.has(BLOB), ingests.growing(BLOB)) == (True, None)
    with pytest.raises(ContentMissing):
        ingests.open(BLOB)


def test_ingest_that_nobody_writes_any_more_is_quiet(tmp_path: Path) -> None:
    ingest, ingests = begin(tmp_path, f"k8s.io/1/layer-{BLOB}"), Ingests(tmp_path, "k8s.io")
    write(ingest, data=b"abcd")
    for ago_s in (60.0, -60.0):  # a clock that was set back makes nothing quiet
        at_s = time.time() - ago_s
        os.utime(ingest / "data", (at_s, at_s))
        growing = ingests.growing(BLOB)
        assert growing is not None
        assert growing.quiet_s == pytest.approx(max(0.0, ago_s), abs=30.0)


def test_ingest_that_outgrew_its_size_is_not_in_flight(tmp_path: Path) -> None:
    write(begin(tmp_path, f"k8s.io/1/layer-{BLOB}"), total="3", data=b"abcd")
    ingests = Ingests(tmp_path, "k8s.io")
    assert ingests.growing(BLOB) is None
    with pytest.raises(ContentMissing, match="larger than 3 bytes"):
        ingests.open(BLOB)


def test_what_is_not_being_written_is_not_in_flight(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        ingests = Ingests(root, "k8s.io")
        assert ingests.growing(BLOB) is None
        with pytest.raises(ContentMissing):
            ingests.open(BLOB)


def test_folder_of_ingests_that_is_a_file_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "ingest").write_text("")
    ingests = Ingests(tmp_path / "ingest", "k8s.io")
    assert (ingests.has(BLOB), ingests.growing(BLOB)) == (None, None)
    with pytest.raises(ContentMissing):
        ingests.open(BLOB)

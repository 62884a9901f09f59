"""Whole contents are verified before anybody relies on them; manifests of any store are read in one way."""

import json
from pathlib import Path

import pytest

from agent.content.fileblob import FileBlob
from agent.content.verified import ContentSpoiled, read_manifest, read_verified
from agent.oci.digest import Digest, digest_of
from agent.oci.manifest import OCI_INDEX, SIZE_MAX_BYTES

INDEX = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()


def blob(tmp_path: Path, content: bytes) -> FileBlob:
    path = tmp_path / "blob"
    path.write_bytes(content)
    return FileBlob(path)


@pytest.mark.parametrize("content", [b"", b"x", b"y" * 300_000])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_whole_content_that_matches_its_digest_is_read(
    tmp_path: Path, content: bytes, algorithm: str
) -> None:
    digest = digest_of(content, like=Digest(f"{algorithm}:"))
    assert await read_verified(blob(tmp_path, content), digest) == content


async def test_content_that_does_not_match_its_digest_is_spoiled(tmp_path: Path) -> None:
    with pytest.raises(ContentSpoiled):
        await read_verified(blob(tmp_path, b"good!"), digest_of(b"good?"))


async def test_manifest_is_read_and_its_blob_closed(tmp_path: Path) -> None:
    opened = blob(tmp_path, INDEX)
    manifest = await read_manifest(opened, digest_of(INDEX))
    assert manifest is not None
    assert (manifest.content, manifest.media_type, opened.fd) == (INDEX, OCI_INDEX, None)


async def test_manifest_that_does_not_match_its_digest_is_spoiled_and_its_blob_closed(tmp_path: Path) -> None:
    opened = blob(tmp_path, INDEX)
    with pytest.raises(ContentSpoiled):
        await read_manifest(opened, digest_of(b"another"))
    assert opened.fd is None


async def test_other_content_is_no_manifest(tmp_path: Path) -> None:
    assert await read_manifest(blob(tmp_path, b"\x1f\x8b"), digest_of(b"\x1f\x8b")) is None


async def test_too_large_content_is_no_manifest_and_is_not_read(tmp_path: Path) -> None:
    large = INDEX.ljust(SIZE_MAX_BYTES + 1)
    assert await read_manifest(blob(tmp_path, large), digest_of(b"not looked at")) is None

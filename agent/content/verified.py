"""Reads small content whole and verifies it, so that nothing relies on content that the disk corrupted."""

from agent.content.store import Blob, ContentMissing
from agent.oci.digest import Digest, digest_of
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest, parse_manifest


class ContentSpoiled(ContentMissing):
    """The file that was read does not match its digest."""


async def read_verified(blob: Blob, digest: Digest) -> bytes:
    """The whole content. Raises `ContentSpoiled` if it does not match the digest, or `ContentError`.

    Reads and hashes in place, so it is for content of a few MiB at most.
    """
    content = await blob.read(0, blob.size_bytes)
    if digest_of(content, like=digest) != digest:
        raise ContentSpoiled(f"{digest} is spoiled")
    return content


async def read_manifest(blob: Blob, digest: Digest) -> Manifest | None:
    """The verified manifest. None if the content is not a manifest, or too large for one. Closes the blob.

    Raises `ContentSpoiled` if it does not match the digest, or `ContentError`.
    """
    try:
        if blob.size_bytes > SIZE_MAX_BYTES:
            return None
        return parse_manifest(await read_verified(blob, digest))
    finally:
        blob.close()

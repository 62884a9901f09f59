"""Reading a manifest out of a content store."""

from agent.content.store import Blob
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest, parse_manifest


async def read_manifest(blob: Blob) -> Manifest | None:
    """The manifest that ``blob`` is, or None when it is none or too large for one. Closes the blob.

    Raises `ContentError` when it can't be read.
    """
    try:
        if blob.size_bytes > SIZE_MAX_BYTES:
            return None
        return parse_manifest(await blob.read(0, blob.size_bytes))
    finally:
        blob.close()

"""Encodes documents for the admin port. While a large one is encoded, other tasks can run in between."""

import asyncio

from agent.documents.codec import encode_parts

_AT_ONCE_BYTES = 64 * 1024  # this much JSON takes a few milliseconds


async def encoded(document: object) -> bytes:
    """The document, or the tuple of documents, as JSON in UTF-8. It has no line breaks."""
    body = bytearray()
    pause_at_bytes = _AT_ONCE_BYTES
    for part in encode_parts(document):
        body += part.encode()
        if len(body) >= pause_at_bytes:
            pause_at_bytes = len(body) + _AT_ONCE_BYTES
            await asyncio.sleep(0)
    return bytes(body)

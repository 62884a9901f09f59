"""Digests: parsing and verifying.

Source: OCI image spec 1.1, "Digests". Only the registered algorithms are accepted. A digest becomes a path in
the content store, and one with an unregistered algorithm can't be verified.
"""

import hashlib
import re
from typing import NewType

from agent.oci.errors import DigestInvalid

Digest = NewType("Digest", str)

HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = re.compile(r"[a-f0-9]+")


def parse_digest(text: str) -> Digest:
    """A `Digest` from ``sha256:<64 hex>`` or ``sha512:<128 hex>`` in lower case. Raises `DigestInvalid`."""
    algorithm, colon, encoded = text.partition(":")
    length = HEX_LENGTH.get(algorithm)
    if not colon or length is None:
        raise DigestInvalid(
            f"{text[:80]!r} is not a digest", hint="use sha256:<64 hex digits> or sha512:<128 hex digits>"
        )
    if len(encoded) != length or not _HEX.fullmatch(encoded):
        raise DigestInvalid(
            f"{text[:150]!r} is not a {algorithm} digest",
            hint=f"{algorithm} takes {length} lower-case hexadecimal digits",
        )
    return Digest(text)


def digest_of(content: bytes, *, like: Digest | None = None) -> Digest:
    """The digest of ``content``, with the algorithm of ``like``. Without ``like``: sha256."""
    algorithm = like.partition(":")[0] if like else "sha256"
    return Digest(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

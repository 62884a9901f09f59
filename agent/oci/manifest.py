"""Manifests: recognising one among other JSON, and reading which blobs it names.

Source: OCI image spec 1.1 (manifest.md, image-index.md), Docker image manifest v2 schema 2.
A content store keeps bytes only, so the media type is read from the document itself. What containerd can pull
from a registry is recognised here, even where the specifications say otherwise: what one node could pull,
its peers can serve.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.oci.digest import Digest, parse_digest
from agent.oci.errors import DigestInvalid

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPES = frozenset((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))

_MANIFEST_TYPE = re.compile(r"application/[a-z0-9.+-]*(?:manifest|index)[a-z0-9.+-]*", re.ASCII)

SIZE_MAX_BYTES = 4 * 1024 * 1024  # the distribution spec asks registries to accept at least this much


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What is known about a content before it is read (OCI image spec, descriptor.md)."""

    digest: Digest
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or index: its exact bytes, its media type, and the content it names."""

    content: bytes
    media_type: str
    children: tuple[Descriptor, ...]
    config: Descriptor | None = None  # one of the children
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def parse_manifest(content: bytes) -> Manifest | None:
    """The manifest or index in ``content``. None if it is neither.

    A child with a malformed descriptor is left out. A client that asks for it gets an error then.
    """
    if len(content) > SIZE_MAX_BYTES or content[:1] not in (b"{", b" ", b"\n", b"\t", b"\r"):
        return None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    media_type = _media_type(document)
    if media_type is None:
        return None
    return Manifest(
        content=content,
        media_type=media_type,
        children=tuple(_children([document.get("config"), *_lists(document)])),
        config=next(_children([document.get("config")]), None),
        subject=_subject(document),
        artifact_type=_artifact_type(document),
        annotations=_annotations(document),
    )


def _media_type(document: dict[str, Any]) -> str | None:
    declared = base_type(document.get("mediaType"))
    if is_manifest_type(declared):
        return declared
    # mediaType is optional in OCI, and registries go by the Content-Type of the push. The other fields tell
    # an index from an image. Writers in Go put null in place of an empty list. An image's config has a
    # ``config`` too, but that is no descriptor.
    if isinstance(document.get("manifests"), list):
        return OCI_INDEX
    config = document.get("config")
    if isinstance(config, dict) and isinstance(config.get("digest"), str):
        return OCI_MANIFEST
    if "manifests" in document and document["manifests"] is None and document.get("schemaVersion") == 2:
        return OCI_INDEX
    return None


def base_type(media_type: Any) -> str:
    """A media type without its parameters, in lower case. Empty if it is no text.

    containerd cuts parameters off the Content-Type too.
    """
    return media_type.partition(";")[0].strip().lower() if isinstance(media_type, str) else ""


def _subject(document: dict[str, Any]) -> Digest | None:
    subject = document.get("subject")
    digest = subject.get("digest") if isinstance(subject, dict) else None
    try:
        return parse_digest(digest) if isinstance(digest, str) else None
    except DigestInvalid:
        return None


def _artifact_type(document: dict[str, Any]) -> str | None:
    # The distribution spec: without artifactType, the media type of the config counts.
    config = document.get("config")
    fallback = config.get("mediaType") if isinstance(config, dict) else None
    found = document.get("artifactType") or fallback
    return found if isinstance(found, str) else None


def _annotations(document: dict[str, Any]) -> dict[str, str]:
    annotations = document.get("annotations")
    if not isinstance(annotations, dict):
        return {}
    return {key: value for key, value in annotations.items() if isinstance(value, str)}


def is_manifest_type(media_type: str) -> bool:
    """Whether content of this media type is a manifest or an index, of whatever kind (artifacts, too)."""
    return media_type in MEDIA_TYPES or _MANIFEST_TYPE.fullmatch(media_type) is not None


def _lists(document: dict[str, Any]) -> Iterator[Any]:
    for key in ("layers", "manifests", "blobs"):  # blobs: of the OCI artifact manifest, 1.1.0-rc
        value = document.get(key)
        yield from value if isinstance(value, list) else ()


def _children(listed: list[Any]) -> Iterator[Descriptor]:
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        digest, size = entry.get("digest"), entry.get("size")
        if not isinstance(digest, str) or not isinstance(size, int) or size < 0:
            continue
        try:
            parsed = parse_digest(digest)
        except DigestInvalid:
            continue
        yield Descriptor(digest=parsed, size_bytes=size, media_type=str(entry.get("mediaType", "")))

"""What a request asks for, parsed once from its path and query into typed values.

The ``ns=`` query of containerd names the registry that the mirror stands in for. Text that does not match
these grammars never becomes part of a file name, and never reaches another host. Source: OCI distribution
spec 1.1 ("Pulling manifests", "Pulling blobs": grammar of names and tags).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import NewType
from urllib.parse import parse_qsl, unquote

from agent.oci.digest import Digest, parse_digest
from agent.oci.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    OciError,
)
from agent.oci.registry import DOCKER_HUB, OFFICIAL, Registry, looks_like_registry, parse_registry

Repository = NewType("Repository", str)
Tag = NewType("Tag", str)

_REPOSITORY = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII
)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_ENCODED_SEPARATOR = re.compile(r"%(?:2f|5c|00)", re.IGNORECASE)
_ABSOLUTE = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_NAME_MAX = 255  # the spec allows implementations to limit a name, and known registries use 255


class Kind(Enum):
    """Which of the two things that a registry stores."""

    MANIFEST = "manifest"
    BLOB = "blob"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """``/v2/``: asks whether this host speaks the distribution API."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A tag in a repository. ``registry`` is None if the client named none."""

    registry: Registry | None
    repository: Repository
    tag: Tag

    def __str__(self) -> str:
        return f"{self.registry or '*'}/{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """A digest in a repository: a blob, or a manifest by its digest."""

    registry: Registry | None
    repository: Repository
    kind: Kind
    digest: Digest

    def __str__(self) -> str:
        return f"{self.registry or '*'}/{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TagList:
    """``tags/list`` of a repository: at most ``limit`` tags, starting after ``last``."""

    registry: Registry | None
    repository: Repository
    limit: int | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferrerList:
    """``referrers/DIGEST``: asks which manifests have this digest as their subject."""

    registry: Registry | None
    repository: Repository
    digest: Digest
    artifact_type: str | None = None


Target = Ping | Named | Addressed | TagList | ReferrerList


def parse_target(raw_path: str) -> Target:
    """The target of a request line's path and query, which are still percent-encoded.

    Raises `NameInvalid` or `DigestInvalid` (400). Raises `NameUnknown` (404) for a path that is not an
    endpoint, and `ManifestUnknown` (404) for a tag outside the grammar, as the OCI conformance suite expects.
    """
    if not raw_path.startswith("/"):  # absolute-form, which every server must accept (RFC 9112, 3.2.2)
        raw_path = _ABSOLUTE.sub("", raw_path, count=1)
    encoded_path, _, query = raw_path.partition("?")
    if "%" in encoded_path and _ENCODED_SEPARATOR.search(encoded_path):
        raise NameInvalid(
            "the path has an encoded slash, backslash or NUL",
            hint="write the slashes of a repository name as they are",
        )
    path = unquote(encoded_path, errors="replace")
    if path in ("/v2/", "/v2"):
        return Ping()
    if not path.startswith("/v2/"):
        raise NameUnknown(f"no such endpoint: {path[:120]!r}", hint="the distribution API is under /v2/")
    parts = path.removeprefix("/v2/").rsplit("/", 2)
    if len(parts) != 3 or parts[1] not in ("manifests", "blobs", "referrers", "tags"):
        raise _no_endpoint(path)
    parameters = parse_qsl(query, keep_blank_values=True)
    registry = _registry_of(parameters)
    repository = parse_repository(parts[0])
    if parts[1] == "tags":
        if parts[2] != "list":
            raise _no_endpoint(path)
        named = dict(parameters)
        limit = named.get("n", "")
        return TagList(
            registry=registry,
            repository=repository,
            limit=int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 10 else None,
            last=named.get("last"),
        )
    if parts[1] == "referrers":
        return ReferrerList(
            registry=registry,
            repository=repository,
            digest=parse_digest(parts[2]),
            artifact_type=dict(parameters).get("artifactType"),
        )
    kind = Kind.BLOB if parts[1] == "blobs" else Kind.MANIFEST
    reference = parts[2]
    if kind is Kind.BLOB or ":" in reference:
        return Addressed(registry=registry, repository=repository, kind=kind, digest=parse_digest(reference))
    return Named(registry=registry, repository=repository, tag=parse_tag(reference))


def parse_repository(text: str) -> Repository:
    """A `Repository` such as ``library/nginx``. Raises `NameInvalid` if the spec's grammar forbids it."""
    if len(text) > _NAME_MAX or not _REPOSITORY.fullmatch(text):
        raise NameInvalid(
            f"{text[:120]!r} is not a repository name",
            hint="lower-case path components of letters, digits, '.', '_', '-', at most 255 characters",
        )
    return Repository(text)


def parse_tag(text: str) -> Tag:
    """A `Tag`. Raises `ManifestUnknown` if the grammar forbids it, because no such tag can exist."""
    if not _TAG.fullmatch(text):
        raise ManifestUnknown(
            f"{text[:140]!r} is not a tag", hint="a tag has at most 128 letters, digits, '.', '_' and '-'"
        )
    return Tag(text)


def parse_image(name: str) -> Named | None:
    """A name such as containerd's image names, ``REGISTRY/REPOSITORY:TAG``. None for anything else.

    containerd also keeps records by digest (``name@sha256:…``) and by config id (``sha256:…``), which are
    not tags. The first component is a registry only if it has a dot or a colon, or is ``localhost``.
    """
    if "@" in name or "/" not in name:
        return None
    host, _, rest = name.partition("/")
    repository, colon, tag = rest.rpartition(":")
    if not colon or not looks_like_registry(host):
        return None
    try:
        return Named(
            registry=parse_registry(host), repository=parse_repository(repository), tag=parse_tag(tag)
        )
    except (NameInvalid, ManifestUnknown):
        return None


def parse_named_digest(name: str) -> Addressed | None:
    """containerd's other kind of image name, ``REGISTRY/REPOSITORY@DIGEST``. None for anything else."""
    repository, at, digest = name.partition("@")
    tagged = parse_image(f"{repository}:_") if at else None
    if tagged is None:
        return None
    try:
        return Addressed(
            registry=tagged.registry,
            repository=tagged.repository,
            kind=Kind.MANIFEST,
            digest=parse_digest(digest),
        )
    except DigestInvalid:
        return None


def parse_reference(text: str) -> Named | Addressed:
    """An image as people write it: ``nginx``, ``nginx:1.27``, ``ghcr.io/acme/app@sha256:…``.

    Docker's defaults fill in what is missing: the registry docker.io, ``library/`` before a bare name, the
    tag latest. With a digest, the tag does not count. Raises `NameInvalid`, `ManifestUnknown`,
    `DigestInvalid`. Source: distribution/reference, normalize.go.
    """
    name, at, digest = text.partition("@")
    host, slash, rest = name.partition("/")
    if not slash or not looks_like_registry(host):
        host, rest = DOCKER_HUB, name
    repository, colon, tag = rest.rpartition(":")
    if not colon:
        repository, tag = rest, "latest"
    try:
        registry = parse_registry(host)
        if registry == DOCKER_HUB and repository and "/" not in repository:
            repository = f"{OFFICIAL}{repository}"
        path = parse_repository(repository)
    except NameInvalid as error:
        raise NameInvalid(
            f"{text[:120]!r} is not an image: {error}", hint="write [REGISTRY/]REPOSITORY[:TAG] or …@DIGEST"
        ) from error
    if at:
        return Addressed(registry=registry, repository=path, kind=Kind.MANIFEST, digest=parse_digest(digest))
    return Named(registry=registry, repository=path, tag=parse_tag(tag))


def unknown(target: Named | Addressed, why: str, *, hint: str = "") -> OciError:
    """The 404 that fits ``target``. It makes containerd go to its next host."""
    is_blob = isinstance(target, Addressed) and target.kind is Kind.BLOB
    return (BlobUnknown if is_blob else ManifestUnknown)(f"{target}: {why}", hint=hint)


def _no_endpoint(path: str) -> NameUnknown:
    return NameUnknown(
        f"no such endpoint: {path[:120]!r}",
        hint="this mirror has /v2/, /v2/NAME/manifests/REFERENCE and /v2/NAME/blobs/DIGEST",
    )


def _registry_of(parameters: list[tuple[str, str]]) -> Registry | None:
    named = {parse_registry(value) for key, value in parameters if key == "ns"}
    if len(named) > 1:
        raise NameInvalid("ns= is given more than once", hint="name one registry")
    return named.pop() if named else None

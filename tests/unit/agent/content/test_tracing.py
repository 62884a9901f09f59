"""Following the names of a store: what is read, when, and what is known while something can't be read."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.content.fileblob import FileBlob
from agent.content.sharing import Sharing
from agent.content.store import Blob, Change, ChangeKind, TaggedImage
from agent.content.tracing import Tracer
from agent.oci.authority import Authority, AuthorityRule
from agent.oci.digest import Digest, digest_of
from agent.oci.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor
from agent.oci.patterntext import parse_pattern
from agent.oci.reference import Named
from tests.unit.agent.content.test_sharing import make_sharing
from tests.unit.agent.holders.test_tags import image
from tests.unit.agent.oci.test_patterns import by_digest
from tests.unit.agent.transfer.scripted import until
from tests.unit.evidence import MemoryStore
from tests.unit.twins import named

APP, OTHER = named("acme/app", "v1", "ghcr.io"), named("library/a", "v1")
CONFIG, BASE, LAYER = b'{"os": "linux"}', b"a base", b"a layer"


@dataclass
class FileStore(MemoryStore):
    """A store with files, which others use too."""

    folder: Path = field(default_factory=Path)
    exclusive: bool = False
    reads: int = 0
    fetched: set[Digest] = field(default_factory=set)

    def path(self, digest: Digest) -> Path:
        return self.folder / digest.partition(":")[2]

    def put(self, content: bytes) -> Digest:
        """Add a blob. It is fetched for whichever manifest lists it."""
        digest = digest_of(content)
        self.path(digest).write_bytes(content)
        self.held.add(digest)
        self.fetched.add(digest)
        self.changes.publish(Change(ChangeKind.ADDED, digest))
        return digest

    async def open(self, digest: Digest) -> Blob:
        self.reads += 1
        return FileBlob(self.path(digest))

    def was_fetched_for(self, digest: Digest, manifest: Digest) -> bool:
        return digest in self.fetched

    def name(self, **digests: Digest) -> None:
        """These are all names: ``app`` and ``other``."""
        names: dict[str, Named] = {"app": APP, "other": OTHER}
        self.names.replace([_image(names[name], digest) for name, digest in digests.items()])


def _image(name: Named, digest: Digest) -> TaggedImage:
    descriptor = Descriptor(digest=digest, size_bytes=1, media_type=OCI_MANIFEST)
    return replace(image(name), descriptor=descriptor)


def manifest(*layers: bytes, config: bytes = CONFIG) -> bytes:
    def descriptor(content: bytes, media_type: str) -> dict[str, object]:
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
    }
    return json.dumps(document).encode()


def index(*manifests: bytes) -> bytes:
    listed = [{"mediaType": OCI_MANIFEST, "digest": digest_of(each), "size": len(each)} for each in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()


@asynccontextmanager
async def tracing(
    folder: Path, prepare: Callable[[FileStore], None] = lambda _: None, **rules: tuple[str, ...]
) -> AsyncIterator[tuple[FileStore, Sharing, Tracer]]:
    """A store whose names are followed. ``rules``: see `make_sharing`."""
    store, sharing = FileStore(folder=folder), make_sharing(**rules)  # type: ignore[arg-type]
    tracer = Tracer(store, sharing)
    running = asyncio.create_task(tracer.run())
    await asyncio.sleep(0)
    prepare(store)
    yield store, sharing, tracer
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


def shares(sharing: Sharing, *contents: bytes) -> list[bool]:
    return [sharing.shares(digest_of(content)) for content in contents]


async def test_name_is_followed_to_its_layers(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (store, sharing, tracer):
        assert tracer.problem == "no names were read"
        whole = [index(manifest(BASE, LAYER)), manifest(BASE, LAYER), CONFIG, BASE, LAYER]
        for content in (*whole, b"a stranger's"):
            store.put(content)
        assert shares(sharing, *whole) == [False] * 5
        store.name(app=digest_of(whole[0]))
        await until(lambda: tracer.problem is None, "it was followed")
        assert shares(sharing, *whole) == [True] * 5
        assert shares(sharing, b"a stranger's") == [False]


async def test_store_without_names_is_followed_too(tmp_path: Path) -> None:
    async with tracing(tmp_path, FileStore.name) as (_, __, tracer):
        await until(lambda: tracer.problem is None, "there is nothing to follow")


async def test_second_name_of_the_same_image_costs_no_read(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (store, sharing, _):
        store.put(manifest(BASE))
        store.name(app=digest_of(manifest(BASE)))
        await until(lambda: all(shares(sharing, BASE)), "it is followed")
        before = store.reads
        store.name(app=digest_of(manifest(BASE)), other=digest_of(manifest(BASE)))
        await until(lambda: len(sharing.references.audience(digest_of(BASE)).registries) == 0, "it is open")
        assert store.reads == before


async def test_platform_that_is_pulled_later_is_followed_when_it_comes(tmp_path: Path) -> None:
    first, second = manifest(BASE), manifest(LAYER)
    async with tracing(tmp_path) as (store, sharing, _):
        store.put(index(first, second))
        store.put(first)
        store.name(app=digest_of(index(first, second)))
        await until(lambda: all(shares(sharing, first, BASE)), "the first platform is followed")
        assert shares(sharing, second, LAYER) == [False, False]
        store.put(second)
        await until(lambda: all(shares(sharing, first, second, LAYER)), "the second platform is followed")


async def test_manifest_that_is_corrupt_is_followed_when_it_is_written_again(tmp_path: Path) -> None:
    good = manifest(BASE)
    async with tracing(tmp_path) as (store, sharing, tracer):
        store.put(good)
        store.path(digest_of(good)).write_bytes(b"rotten")
        store.name(app=digest_of(good))
        await until(lambda: tracer.problem is None, "it was tried")
        assert shares(sharing, good, BASE) == [True, False]
        store.put(good)
        await until(lambda: all(shares(sharing, BASE)), "it is followed")


async def test_name_of_what_is_no_manifest_shares_that_alone(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (store, sharing, _):
        store.put(b"no manifest")
        store.name(app=digest_of(b"no manifest"))
        await until(lambda: all(shares(sharing, b"no manifest")), "it has a name")


async def test_what_was_known_stays_while_names_can_not_be_read(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (store, sharing, _):
        store.put(manifest(BASE))
        store.name(app=digest_of(manifest(BASE)))
        await until(lambda: all(shares(sharing, BASE)), "it is followed")
        store.names.forget()
        store.put(manifest(LAYER))
        store.name(app=digest_of(manifest(BASE)), other=digest_of(manifest(LAYER)))
        assert shares(sharing, BASE) == [True]
        await until(lambda: all(shares(sharing, BASE, LAYER)), "the new name is followed")


async def test_rules_that_change_are_followed_at_once(tmp_path: Path) -> None:
    private = [AuthorityRule(match=parse_pattern("ghcr.io"), by=Authority.REGISTRY)]
    under_open = by_digest("library/a", "docker.io", digest_of(BASE))
    async with tracing(tmp_path) as (store, sharing, _):
        store.put(manifest(BASE))
        store.name(app=digest_of(manifest(BASE)))
        await until(lambda: sharing.gives(under_open), "it is open")
        sharing.authorities.replace(private)
        await until(lambda: not sharing.gives(under_open), "it is private")
        sharing.authorities.replace([])
        await until(lambda: sharing.gives(under_open), "it is open again")


async def test_image_that_is_pulled_after_an_open_index_listed_it_is_private(tmp_path: Path) -> None:
    secret = manifest(LAYER)
    under_open = [by_digest("library/a", "docker.io", digest_of(each)) for each in (secret, CONFIG, LAYER)]
    async with tracing(tmp_path, private=("ghcr.io",)) as (store, sharing, _):
        evil = index(manifest(BASE), secret)
        for content in (evil, manifest(BASE), CONFIG, secret, LAYER):
            store.put(content)
        store.name(other=digest_of(evil))
        await until(lambda: all(sharing.gives(each) for each in under_open), "nothing is known of the image")
        store.name(other=digest_of(evil), app=digest_of(secret))
        await until(lambda: not any(sharing.gives(each) for each in under_open), "it is private")


async def test_fetch_needs_no_assumption_once_its_name_is_followed(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (store, sharing, _):
        sharing.fetching(by_digest("acme/app", "ghcr.io", digest_of(BASE)))
        assert shares(sharing, BASE) == [True]
        store.put(manifest(BASE))
        store.name(app=digest_of(manifest(BASE)))
        await until(lambda: len(sharing.fetches) == 0, "the name says it")
        assert shares(sharing, BASE) == [True]


async def test_a_thousand_names_at_once_are_all_followed(tmp_path: Path) -> None:
    async with tracing(tmp_path) as (store, sharing, tracer):
        layers = [f"layer {number}".encode() for number in range(1000)]
        images = [
            _image(named("acme/app", f"v{n}", "ghcr.io"), store.put(manifest(each)))
            for n, each in enumerate(layers)
        ]
        store.names.replace(images)
        await until(lambda: tracer.problem is None, "all are followed")
        assert all(shares(sharing, *layers))

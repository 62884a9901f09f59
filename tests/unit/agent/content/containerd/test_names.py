"""containerd's records as names: where their content came from, and what asking for that costs."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from agent.content.containerd.api_pb2 import Descriptor, Image, Info
from agent.content.containerd.names import RecordReader
from agent.content.store import ContentMissing, TaggedImage
from agent.oci.origin import MARK, Origin
from tests.unit.twins import sha256

APP, TOOL = "registry.test/lab/app:v1", "registry.test/lab/tool:v1"
PULLED_S, LATER_S = 100, 500


@dataclass
class Contents:
    """The labels of contents, and what was asked."""

    labels: dict[str, Mapping[str, str]] = field(default_factory=dict)
    updated_s: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    listed: int = 0

    def put(self, digest: str, repositories: str | None, *, updated_s: int = PULLED_S) -> None:
        self.labels[digest] = {} if repositories is None else {f"{MARK}registry.test": repositories}
        self.updated_s[digest] = updated_s

    async def info(self, digest: str) -> Info:
        self.asked.append(digest)
        if digest not in self.labels:
            raise ContentMissing(digest)
        return self._info(digest)

    async def infos(self, digests: Collection[str]) -> dict[str, Info]:
        self.listed += 1
        return {digest: self._info(digest) for digest in digests if digest in self.labels}

    def _info(self, digest: str) -> Info:
        return Info(
            digest=digest,
            labels=dict(self.labels[digest]),
            updated_at=Timestamp(seconds=self.updated_s[digest]),
        )


def record(name: str, digest: str, written_s: int = PULLED_S) -> Image:
    return Image(
        name=name,
        target=Descriptor(media_type="application/x", digest=digest, size=7),
        updated_at=Timestamp(seconds=written_s),
    )


async def tags_of(contents: Contents, records: list[Image]) -> tuple[TaggedImage, ...]:
    return (await RecordReader(contents).read(records)).tags


def by_name(images: Iterable[TaggedImage]) -> dict[str, tuple[Origin, float]]:
    return {str(image.name): (image.origin, image.seen_s) for image in images}


async def test_pulled_tag_is_the_registrys_and_a_new_name_for_it_is_not() -> None:
    contents, digest = Contents(), sha256("tool")
    contents.put(digest, "lab/tool")
    images = await tags_of(contents, [record(TOOL, digest), record(APP, digest, LATER_S)])
    assert by_name(images) == {TOOL: (Origin.REGISTRY, 100.0), APP: (Origin.ELSEWHERE, 100.0)}


async def test_import_is_one_and_content_that_is_gone_came_from_nowhere() -> None:
    contents = Contents()
    contents.put(sha256("imported"), None)
    images = await tags_of(contents, [record(APP, sha256("imported")), record(TOOL, sha256("gone"))])
    assert [image.origin for image in images] == [Origin.IMPORTED, Origin.IMPORTED]


async def test_new_name_in_the_same_repository_is_as_old_as_the_pull_of_its_content() -> None:
    contents, digest = Contents(), sha256("app")
    contents.put(digest, "lab/app", updated_s=PULLED_S)
    (image,) = await tags_of(contents, [record("registry.test/lab/app:v2", digest, LATER_S)])
    assert (image.origin, image.seen_s) == (Origin.REGISTRY, PULLED_S)


async def test_tag_is_as_old_as_its_own_pull_if_another_tag_of_its_content_was_pulled_later() -> None:
    contents, digest = Contents(), sha256("app")
    contents.put(digest, "lab/app", updated_s=LATER_S)
    (image,) = await tags_of(contents, [record(APP, digest, PULLED_S)])
    assert image.seen_s == PULLED_S


async def test_records_that_did_not_change_cost_no_call() -> None:
    contents = Contents()
    for number in range(20):
        contents.put(sha256(number), "lab/app")
    reader = RecordReader(contents)
    records = [record(f"registry.test/lab/app:{number}", sha256(number)) for number in range(20)]
    before = await reader.read(records)
    assert sorted(contents.asked) == sorted(sha256(number) for number in range(20))
    assert await reader.read(records) == before
    assert len(contents.asked) == 20
    contents.put(sha256(0), "lab/app,lab/tool", updated_s=LATER_S)
    records[0] = record("registry.test/lab/app:0", sha256(0), LATER_S)
    names = await reader.read([*records, record(TOOL, sha256(0), LATER_S)])
    assert contents.asked[20:] == [sha256(0)], "one for all records of that content"
    assert by_name(names.tags)[TOOL] == (Origin.REGISTRY, LATER_S)


async def test_many_new_records_cost_one_call_for_all() -> None:
    contents = Contents()
    for number in range(500):
        contents.put(sha256(number), "lab/app")
    records = [record(f"registry.test/lab/app:{number}", sha256(number)) for number in range(500)]
    names = await RecordReader(contents).read([*records, record(TOOL, sha256("gone"))])
    assert (contents.listed, contents.asked) == (1, [])
    origins = [image.origin for image in names.tags]
    assert origins == [Origin.REGISTRY] * 500 + [Origin.IMPORTED]


async def test_records_by_digest_and_by_config_are_no_tags() -> None:
    contents, digest = Contents(), sha256("app")
    contents.put(digest, "lab/app")
    records = [record(f"registry.test/lab/app@{digest}", digest), record(sha256("config"), digest)]
    records.append(record("registry.test/lab/app@sha256:short", digest))
    names = await RecordReader(contents).read(records)
    assert names.tags == ()
    assert contents.asked == []
    (addressed,) = names.digests
    assert (addressed.registry, addressed.repository, addressed.digest) == (
        "registry.test",
        "lab/app",
        digest,
    )


async def test_record_with_a_digest_that_is_none_is_left_out() -> None:
    assert await tags_of(Contents(), [record(APP, "sha256:short")]) == ()

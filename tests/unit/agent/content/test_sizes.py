"""What manifests say about blobs: their sizes, and which of them are configs."""

from agent.content.sizes import ContentSizes
from agent.oci.digest import Digest
from agent.oci.manifest import OCI_MANIFEST, Descriptor, Manifest, parse_manifest
from tests.server.agents import make_image
from tests.unit.twins import sha256


def manifest(*layers: bytes, note: str = "") -> Manifest:
    parsed = parse_manifest(make_image(*layers, note=note).manifest)
    assert parsed is not None
    return parsed


def naming(digest: Digest, size_bytes: int) -> Manifest:
    """An index of one manifest of this size."""
    child = Descriptor(digest=digest, size_bytes=size_bytes, media_type=OCI_MANIFEST)
    parsed = parse_manifest(
        f'{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": '
        f'[{{"mediaType": "{child.media_type}", "digest": "{digest}", "size": {size_bytes}}}]}}'.encode()
    )
    assert parsed is not None
    return parsed


def test_sizes_and_configs_are_those_of_the_manifests() -> None:
    sizes, learned = ContentSizes(), manifest(b"a layer", b"another one")
    sizes.learn(learned)
    assert learned.config is not None
    assert sizes.is_config(learned.config.digest)
    for child in learned.children:
        assert sizes.get(child.digest) == child.size_bytes
        assert sizes.is_config(child.digest) is (child.digest == learned.config.digest)


def test_nothing_is_known_of_other_blobs() -> None:
    sizes = ContentSizes()
    assert sizes.get(sha256("x")) is None
    assert not sizes.is_config(sha256("x"))


def test_size_on_which_manifests_disagree_is_unknown_for_good() -> None:
    sizes, digest = ContentSizes(), sha256("x")
    for size_bytes in (10, 11, 10):
        sizes.learn(naming(digest, size_bytes))
    assert sizes.get(digest) is None


def test_oldest_are_dropped_when_there_are_too_many() -> None:
    sizes = ContentSizes()
    for number in range(20_100):
        sizes.learn(naming(sha256(number), 5))
    assert sizes.get(sha256(0)) is None
    assert sizes.get(sha256(20_099)) == 5

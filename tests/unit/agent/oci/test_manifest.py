"""Manifests: told from other content by their own bytes, and the content they name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    SIZE_MAX_BYTES,
    Descriptor,
    Manifest,
    parse_manifest,
)
from tests.unit.twins import sha256

CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256("config"), "size": 7}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha256("layer"), "size": 9}
IMAGE = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}
ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
DOCKER_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
INDEX = {"schemaVersion": 2, "manifests": [{**LAYER, "mediaType": OCI_MANIFEST}]}


def media_type(document: object) -> str | None:
    manifest = parse_manifest(json.dumps(document).encode())
    return None if manifest is None else manifest.media_type


def children(document: object) -> list[str]:
    manifest = parse_manifest(json.dumps(document).encode())
    assert manifest is not None
    return [child.digest for child in manifest.children]


@pytest.mark.parametrize("declared", [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX])
def test_declared_media_type_is_taken(declared: str) -> None:
    document = INDEX if declared in (OCI_INDEX, DOCKER_INDEX) else IMAGE
    assert media_type({**document, "mediaType": declared}) == declared


def test_fields_tell_an_image_from_an_index_when_the_media_type_is_left_out() -> None:
    assert media_type(IMAGE) == OCI_MANIFEST
    assert media_type(INDEX) == OCI_INDEX


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({**IMAGE, "mediaType": ""}, OCI_MANIFEST),
        ({**IMAGE, "mediaType": None}, OCI_MANIFEST),
        ({**INDEX, "mediaType": ""}, OCI_INDEX),
        ({**IMAGE, "layers": None}, OCI_MANIFEST),
        ({"config": IMAGE["config"]}, OCI_MANIFEST),
        ({"schemaVersion": 2, "manifests": None}, OCI_INDEX),
        ({"manifests": []}, OCI_INDEX),
        ({**IMAGE, "mediaType": f"{OCI_MANIFEST}; charset=utf-8"}, OCI_MANIFEST),
        ({**IMAGE, "mediaType": f" {OCI_MANIFEST.upper()} "}, OCI_MANIFEST),
        # Registries go by the Content-Type of the push. containerd goes by the registry's.
        ({**IMAGE, "mediaType": "application/json"}, OCI_MANIFEST),
        ({**IMAGE, "mediaType": ["a"]}, OCI_MANIFEST),
        ({"mediaType": ARTIFACT, "artifactType": "a/b", "blobs": None}, ARTIFACT),
        (
            {"mediaType": "application/vnd.x.manifest.v3+json"},
            "application/vnd.x.manifest.v3+json",
        ),
        ({"schemaVersion": 1, "mediaType": DOCKER_SIGNED, "fsLayers": []}, DOCKER_SIGNED),
    ],
)
def test_what_containerd_can_pull_from_a_registry_is_a_manifest(document: object, expected: str) -> None:
    assert media_type(document) == expected


def test_the_blobs_of_an_artifact_are_its_children() -> None:
    layer = {"mediaType": "a/b", "digest": "sha256:" + "a" * 64, "size": 3}
    manifest = parse_manifest(json.dumps({"mediaType": ARTIFACT, "blobs": [layer]}).encode())
    assert manifest is not None
    assert [child.digest for child in manifest.children] == [layer["digest"]]


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        7,
        "text",
        None,
        {"schemaVersion": 2},
        {"schemaVersion": 1, "layers": [], "config": {}},
        {"layers": [], "config": {}},
        {"schemaVersion": 2, "layers": []},
        {"schemaVersion": 2, "config": {}, "layers": {}},
        {"schemaVersion": 2, "mediaType": "application/json"},
        {"mediaType": "application/vnd.oci.image.config.v1+json", "config": {}},
        {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["manifest"]}, "rootfs": {}},
        {"manifests": None},
        {"mediaType": "image/manifest+json"},
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}},
    ],
)
def test_other_json_is_no_manifest(document: object) -> None:
    assert media_type(document) is None


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"{", b'{"a": \xff}', b'{"a":' * 100_000])
def test_content_that_is_no_json_is_no_manifest(content: bytes) -> None:
    assert parse_manifest(content) is None


def test_content_keeps_its_exact_bytes() -> None:
    content = b"\n  " + json.dumps(IMAGE, indent=3).encode() + b"\n"
    manifest = parse_manifest(content)
    assert manifest is not None
    assert manifest.content == content


def test_manifest_up_to_the_limit_is_read_and_a_longer_one_is_not() -> None:
    content = json.dumps(IMAGE).encode()
    assert parse_manifest(content.ljust(SIZE_MAX_BYTES)) is not None
    assert parse_manifest(content.ljust(SIZE_MAX_BYTES + 1)) is None


def test_children_are_the_config_and_the_layers_with_size_and_type() -> None:
    manifest = parse_manifest(json.dumps(IMAGE).encode())
    assert manifest is not None
    assert manifest.children == (
        Descriptor(digest=sha256("config"), size_bytes=7, media_type=str(CONFIG["mediaType"])),
        Descriptor(digest=sha256("layer"), size_bytes=9, media_type=str(LAYER["mediaType"])),
    )


def test_children_of_an_index_are_its_manifests() -> None:
    assert children(INDEX) == [sha256("layer")]


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "text",
        [],
        {},
        {"digest": sha256("x")},
        {"digest": sha256("x"), "size": -1},
        {"digest": sha256("x"), "size": "1"},
        {"digest": 7, "size": 1},
        {"digest": "sha256:../../etc/passwd", "size": 1},
    ],
)
def test_child_with_a_malformed_descriptor_is_left_out_and_the_others_kept(broken: object) -> None:
    assert children({**IMAGE, "layers": [broken, LAYER]}) == [sha256("config"), sha256("layer")]


def read(document: object) -> Manifest:
    manifest = parse_manifest(json.dumps(document).encode())
    assert manifest is not None
    return manifest


def test_subject_is_the_digest_that_the_manifest_refers_to() -> None:
    assert read({**IMAGE, "subject": {"digest": sha256("signed")}}).subject == sha256("signed")


@pytest.mark.parametrize("subject", [None, 7, [], {}, {"digest": 7}, {"digest": "sha256:short"}])
def test_malformed_subject_is_none(subject: object) -> None:
    assert read({**IMAGE, "subject": subject}).subject is None


def test_artifact_type_is_the_declared_one_or_else_the_configs_media_type() -> None:
    assert read({**IMAGE, "artifactType": "application/spdx+json"}).artifact_type == "application/spdx+json"
    assert read(IMAGE).artifact_type == CONFIG["mediaType"]
    assert read(INDEX).artifact_type is None


def test_annotations_are_text_by_text() -> None:
    assert read({**IMAGE, "annotations": {"a": "b"}}).annotations == {"a": "b"}
    assert read(IMAGE).annotations == {}
    assert read({**IMAGE, "annotations": ["a"]}).annotations == {}


def test_annotation_that_is_no_text_is_left_out() -> None:
    assert read({**IMAGE, "annotations": {"a": "b", "c": 7, "d": {"e": []}}}).annotations == {"a": "b"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(content=st.binary() | st.binary().map(lambda rest: b"{" + rest))
def test_no_bytes_make_parsing_fail(content: bytes) -> None:
    manifest = parse_manifest(content)
    assert manifest is None or manifest.content == content


@given(config=JSON, layers=JSON, manifests=JSON)
def test_no_fields_make_parsing_fail(config: object, layers: object, manifests: object) -> None:
    document = {"mediaType": OCI_MANIFEST, "config": config, "layers": layers, "manifests": manifests}
    assert media_type(document) == OCI_MANIFEST
    assert all(digest.startswith("sha") for digest in children(document))

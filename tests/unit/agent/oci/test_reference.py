"""Targets of requests and image names: what is accepted, as what, and how the rest is refused."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    OciError,
)
from agent.oci.reference import (
    Addressed,
    Kind,
    Named,
    Ping,
    ReferrerList,
    Repository,
    TagList,
    Target,
    parse_image,
    parse_reference,
    parse_repository,
    parse_tag,
    parse_target,
    unknown,
)
from agent.oci.registry import Registry
from tests.unit.twins import named, sha256

DIGEST = sha256("content")
WORD = st.text("abcxyz019", min_size=1, max_size=6)
COMPONENT = st.builds(
    lambda first, rest: first + "".join(separator + word for separator, word in rest),
    WORD,
    st.lists(st.tuples(st.sampled_from((".", "_", "__", "-", "--")), WORD), max_size=2),
)
REPOSITORIES = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join)
TAGS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True).filter(str.isascii)
REGISTRIES = st.sampled_from(("docker.io", "ghcr.io", "localhost:5000", "10.0.0.1:8443", "[fd00::1]:5000"))


@pytest.mark.parametrize("path", ["/v2/", "/v2", "/v2/?ns=docker.io"])
def test_base_path_is_a_ping(path: str) -> None:
    assert parse_target(path) == Ping()


@given(repository=REPOSITORIES, tag=TAGS, registry=st.none() | REGISTRIES)
def test_every_valid_tag_path_is_read_as_written(repository: str, tag: str, registry: str | None) -> None:
    query = "" if registry is None else f"?ns={quote(registry)}"
    target = parse_target(f"/v2/{repository}/manifests/{tag}{query}")
    assert target == named(repository=repository, tag=tag, registry=registry)


@given(repository=REPOSITORIES, kind=st.sampled_from(Kind), registry=st.none() | REGISTRIES)
def test_every_valid_digest_path_is_read_as_written(
    repository: str, kind: Kind, registry: str | None
) -> None:
    room = {Kind.BLOB: "blobs", Kind.MANIFEST: "manifests"}[kind]
    query = "" if registry is None else f"?ns={registry}"
    target = parse_target(f"/v2/{repository}/{room}/{DIGEST}{query}")
    assert target == Addressed(
        registry=None if registry is None else Registry(registry),
        repository=Repository(repository),
        kind=kind,
        digest=DIGEST,
    )


def test_colon_of_a_digest_may_be_percent_encoded() -> None:
    target = parse_target(f"/v2/library/nginx/blobs/{DIGEST.replace(':', '%3A')}")
    assert isinstance(target, Addressed)
    assert target.digest == DIGEST


@pytest.mark.parametrize("repository", ["manifests", "blobs", "a/manifests/b", "a/blobs/b", "v2/v2"])
def test_repository_may_be_named_like_an_endpoint(repository: str) -> None:
    assert parse_target(f"/v2/{repository}/manifests/1") == named(repository, "1", None)


def test_registry_is_compared_without_case() -> None:
    assert parse_target("/v2/a/manifests/1?ns=GHCR.io") == named("a", "1", "ghcr.io")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/", NameUnknown),
        ("/v1/", NameUnknown),
        ("/v2x", NameUnknown),
        ("/v2/_catalog", NameUnknown),
        ("/v2/a/tags/other", NameUnknown),
        ("/v2/tags/list", NameUnknown),
        ("/v2/A/tags/list", NameInvalid),
        ("/v2/a/tags/list?ns=a/b", NameInvalid),
        ("/v2/a/referrers/latest", DigestInvalid),
        ("/v2/a/referrers/", DigestInvalid),
        ("/v2/a/manifests", NameUnknown),
        ("/v2/manifests/1", NameUnknown),
        ("/v2//manifests/1", NameInvalid),
        ("/v2/A/manifests/1", NameInvalid),
        ("/v2/a//b/manifests/1", NameInvalid),
        ("/v2/../manifests/1", NameInvalid),
        ("/v2/a/../../etc/manifests/1", NameInvalid),
        ("/v2/a%2fb/manifests/1", NameInvalid),
        ("/v2/a%5Cb/manifests/1", NameInvalid),
        ("/v2/a%00/manifests/1", NameInvalid),
        ("/v2/a%252fb/manifests/1", NameInvalid),
        ("/v2/a\n/manifests/1", NameInvalid),
        ("/v2/" + "a" * 256 + "/manifests/1", NameInvalid),
        ("/v2/a/manifests/", ManifestUnknown),
        ("/v2/a/manifests/-1", ManifestUnknown),
        ("/v2/a/manifests/.", ManifestUnknown),
        ("/v2/a/manifests/" + "t" * 129, ManifestUnknown),
        ("/v2/a/manifests/1%0a", ManifestUnknown),
        ("/v2/a/manifests/sha256:abc", DigestInvalid),
        ("/v2/a/blobs/latest", DigestInvalid),
        ("/v2/a/blobs/", DigestInvalid),
        ("/v2/a/manifests/1?ns=", NameInvalid),
        ("/v2/a/manifests/1?ns=a/b", NameInvalid),
        ("/v2/a/manifests/1?ns=a..b", NameInvalid),
        ("/v2/a/manifests/1?ns=user@host", NameInvalid),
        ("/v2/a/manifests/1?ns=-a", NameInvalid),
        ("/v2/a/manifests/1?ns=a%0d%0ab", NameInvalid),
        ("/v2/a/manifests/1?ns=docker.io&ns=ghcr.io", NameInvalid),
    ],
)
def test_path_outside_of_the_grammar_is_refused(path: str, error: type[OciError]) -> None:
    with pytest.raises(error) as caught:
        parse_target(path)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("query", "limit", "last"),
    [
        ("", None, None),
        ("?n=5", 5, None),
        ("?n=0", 0, None),
        ("?n=5&last=v1.2", 5, "v1.2"),
        ("?n=many&last=", None, ""),
        ("?n=-1", None, None),
        ("?n=" + "9" * 5000, None, None),
    ],
)
def test_list_of_tags_has_its_limit_when_it_is_a_number(
    query: str, limit: int | None, last: str | None
) -> None:
    assert parse_target(f"/v2/acme/app/tags/list{query}") == TagList(
        registry=None, repository=Repository("acme/app"), limit=limit, last=last
    )


@pytest.mark.parametrize("artifact_type", [None, "application/spdx+json"])
def test_list_of_referrers_has_its_digest_and_filter(artifact_type: str | None) -> None:
    query = "" if artifact_type is None else f"&artifactType={quote(artifact_type)}"
    assert parse_target(f"/v2/acme/app/referrers/{DIGEST}?ns=ghcr.io{query}") == ReferrerList(
        registry=Registry("ghcr.io"),
        repository=Repository("acme/app"),
        digest=DIGEST,
        artifact_type=artifact_type,
    )


@pytest.mark.parametrize("query", ["ns=ghcr.io&ns=ghcr.io", "ns=ghcr.io&ns=GHCR.io:443"])
def test_same_registry_twice_is_one_registry(query: str) -> None:
    assert parse_target(f"/v2/a/manifests/1?{query}") == named("a", "1", "ghcr.io")


def test_other_query_parameters_are_ignored() -> None:
    assert parse_target("/v2/a/manifests/1?x=1&ns=ghcr.io&y") == named("a", "1", "ghcr.io")


URL_PARTS = st.sampled_from(
    (
        "/v2",
        "/",
        "manifests",
        "blobs",
        "tags/list",
        "referrers",
        "a",
        "..",
        "%2e",
        "%2f",
        "%ff",
        "%",
        "?ns=",
        "&",
        ":",
        DIGEST,
        "[::1]",
    )
)


@given(path=st.text() | st.lists(URL_PARTS, max_size=10).map("".join))
def test_no_path_makes_parsing_fail_with_anything_but_a_client_error(path: str) -> None:
    target: Target | OciError
    try:
        target = parse_target(path)
    except OciError as error:
        target = error
    if isinstance(target, OciError):
        assert target.status in (400, 404)
        assert target.body()
    elif not isinstance(target, Ping):
        assert ".." not in target.repository.split("/")
        assert parse_repository(target.repository) == target.repository


@given(repository=REPOSITORIES)
def test_repository_of_the_spec_is_accepted(repository: str) -> None:
    assert parse_repository(repository) == repository


@pytest.mark.parametrize(
    "text", ["", "/", "a/", "/a", "a..b", "a._b", "a___b", "-a", "a-", "a.", "_a", "a b", "ä", "a\n"]
)
def test_repository_outside_of_the_spec_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        parse_repository(text)
    assert caught.value.hint


def test_longest_names_are_accepted() -> None:
    assert parse_repository("a" * 255)
    assert parse_tag("t" * 128)


@given(registry=REGISTRIES, repository=REPOSITORIES, tag=TAGS)
def test_image_name_of_containerd_is_read_as_written(registry: str, repository: str, tag: str) -> None:
    name = parse_image(f"{registry}/{repository}:{tag}")
    assert name == named(repository, tag, registry)
    assert str(name) == f"{registry}/{repository}:{tag}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nginx",
        "nginx:1",
        "library/nginx:1",
        "docker.io/library/nginx",
        f"docker.io/library/nginx@{DIGEST}",
        f"docker.io/library/nginx:1@{DIGEST}",
        DIGEST,
        "docker.io/Library/nginx:1",
        "docker.io/library/nginx:",
        "docker.io/:1",
        "do_cker.io/a:1",
    ],
)
def test_record_that_is_no_tag_of_a_registry_is_no_image_name(name: str) -> None:
    assert parse_image(name) is None


@given(name=st.text(st.sampled_from("a./:@[]-\n"), max_size=20) | st.text())
def test_no_image_name_makes_parsing_fail(name: str) -> None:
    image = parse_image(name)
    assert image is None or (image.registry is not None and isinstance(image, Named))


@pytest.mark.parametrize(
    ("kind", "error"), [(Kind.BLOB, BlobUnknown), (Kind.MANIFEST, ManifestUnknown), (None, ManifestUnknown)]
)
def test_unknown_target_is_the_404_of_its_kind(kind: Kind | None, error: type[OciError]) -> None:
    target = (
        named()
        if kind is None
        else Addressed(registry=None, repository=Repository("a"), kind=kind, digest=DIGEST)
    )
    raised = unknown(target, "nobody has it", hint="wait")
    assert type(raised) is error
    assert raised.status == 404
    assert str(target) in raised.message
    assert "nobody has it" in raised.message
    assert raised.hint == "wait"


def test_an_absolute_form_request_target_means_the_same() -> None:
    path = "/v2/library/nginx/manifests/1.27?ns=docker.io"
    assert parse_target(f"http://127.0.0.1:30020{path}") == parse_target(path)


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag"),
    [
        ("nginx", "docker.io", "library/nginx", "latest"),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27"),
        ("acme/app", "docker.io", "acme/app", "latest"),
        ("docker.io/nginx:1", "docker.io", "library/nginx", "1"),
        ("docker.io/library/nginx", "docker.io", "library/nginx", "latest"),
        ("ghcr.io/acme/app:v1", "ghcr.io", "acme/app", "v1"),
        ("ghcr.io/app", "ghcr.io", "app", "latest"),
        ("localhost/app:1", "localhost", "app", "1"),
        ("localhost:5000/app", "localhost:5000", "app", "latest"),
        ("10.0.0.1:5000/a/b/c:1", "10.0.0.1:5000", "a/b/c", "1"),
        ("[fd00::1]:5000/app:1", "[fd00::1]:5000", "app", "1"),
        ("GHCR.io/acme/app", "ghcr.io", "acme/app", "latest"),
    ],
)
def test_image_as_people_write_it_gets_what_docker_would_add(
    text: str, registry: str, repository: str, tag: str
) -> None:
    assert parse_reference(text) == named(repository=repository, tag=tag, registry=registry)


@pytest.mark.parametrize("text", ["index.docker.io/nginx:1", "index.docker.io/library/nginx:1"])
def test_the_old_name_of_docker_hub_is_docker_hub(text: str) -> None:
    assert parse_reference(text) == named(repository="library/nginx", tag="1", registry="docker.io")


@pytest.mark.parametrize("name", ["nginx", "nginx:1.27", "docker.io/library/nginx:not the grammar"])
def test_digest_of_an_image_counts_and_its_tag_does_not(name: str) -> None:
    assert parse_reference(f"{name}@{DIGEST}") == Addressed(
        registry=Registry("docker.io"),
        repository=Repository("library/nginx"),
        kind=Kind.MANIFEST,
        digest=DIGEST,
    )


@pytest.mark.parametrize(
    "text", ["", " ", ":1", "/", "a//b", "UPPER/case", "a:b:c", "ghcr.io/", "http://ghcr.io/a", "é", "a/../b"]
)
def test_what_is_no_image_is_refused_as_a_name(text: str) -> None:
    with pytest.raises(NameInvalid):
        parse_reference(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nginx:", ManifestUnknown),
        ("nginx:a b", ManifestUnknown),
        ("nginx@", DigestInvalid),
        ("nginx@x", DigestInvalid),
    ],
)
def test_tag_or_digest_that_is_none_is_refused_as_such(text: str, error: type[OciError]) -> None:
    with pytest.raises(error):
        parse_reference(text)


@given(text=st.text(max_size=60) | st.text("a.:/@-_[]", max_size=20))
def test_any_other_text_is_an_image_or_an_error_of_the_spec(text: str) -> None:
    try:
        target = parse_reference(text)
    except OciError:
        return
    assert target.registry is not None
    assert parse_repository(target.repository) == target.repository


@given(repository=REPOSITORIES.filter(lambda name: len(name) < 200), tag=TAGS, registry=REGISTRIES)
def test_image_as_containerd_writes_it_is_read_by_both(repository: str, tag: str, registry: str) -> None:
    name = f"{registry}/{repository}:{tag}"
    if registry != "docker.io" or "/" in repository:
        assert parse_reference(name) == parse_image(name)

"""Names of registries: one registry has one name, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.errors import NameInvalid
from agent.oci.reference import Named, parse_image, parse_reference, parse_target
from agent.oci.registry import DOCKER_HUB, DOCKER_HUB_NAMES, looks_like_registry, parse_registry


@pytest.mark.parametrize(
    "text", ["docker.io", "localhost", "a.b:5000", "10.0.0.1", "[::1]:5000", "[fd00::1]", "a.b:80"]
)
def test_host_with_or_without_port_is_a_registry(text: str) -> None:
    assert parse_registry(text) == text


@pytest.mark.parametrize("name", [*DOCKER_HUB_NAMES, "Registry-1.Docker.IO", "index.docker.io.:443"])
def test_every_name_of_docker_hub_is_one_registry(name: str) -> None:
    assert parse_registry(name) == DOCKER_HUB


@pytest.mark.parametrize("name", ["docker.io:5000", "my.docker.io", "docker.io.example", "xdocker.io"])
def test_another_host_or_port_is_not_docker_hub(name: str) -> None:
    assert parse_registry(name) == name


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("GHCR.io", "ghcr.io"),
        ("ghcr.io.", "ghcr.io"),
        ("ghcr.io:443", "ghcr.io"),
        ("ghcr.io.:0443", "ghcr.io"),
        ("reg.test.:05000", "reg.test:5000"),
        ("[FD00:0::1]:5000", "[fd00::1]:5000"),
    ],
)
def test_case_final_dot_default_port_and_long_address_make_no_other_registry(
    text: str, registry: str
) -> None:
    assert parse_registry(text) == registry


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a/b",
        "a.b:",
        "a.b:x",
        "a..b",
        "a:123456",
        "-a",
        ".a",
        "a.:",
        "a..",
        "[::1",
        "::1",
        "a.b:0",
        "a.b:65536",
        "[::::]",
        "[1:2]",
        "[10.0.0.1]",
        "a@b",
        "a\n",
        "[]",
        ":5000",
        "https://a",
        "ü.de",
    ],
)
def test_anything_but_a_host_is_no_registry(text: str) -> None:
    with pytest.raises(NameInvalid) as caught:
        parse_registry(text)
    assert caught.value.hint


@given(
    host=st.sampled_from((*DOCKER_HUB_NAMES, "ghcr.io", "Localhost", "10.0.0.1", "[FD00::0001]", "a-b.C")),
    dot=st.sampled_from(("", ".")),
    port=st.sampled_from(("", ":443", ":5000", ":80")),
)
def test_the_name_of_a_registry_is_its_own_name(host: str, dot: str, port: str) -> None:
    registry = parse_registry(f"{host}{'' if '[' in host else dot}{port}")
    assert parse_registry(registry) == registry


@pytest.mark.parametrize("name", DOCKER_HUB_NAMES)
def test_requests_stores_and_people_mean_the_same_registry(name: str) -> None:
    asked = parse_target(f"/v2/library/nginx/manifests/1?ns={name}")
    assert isinstance(asked, Named)
    assert asked.registry == DOCKER_HUB
    assert asked == parse_image(f"{name}/library/nginx:1") == parse_reference(f"{name}/nginx:1")


@pytest.mark.parametrize("component", ["docker.io", "a:5000", "localhost", "LOCALHOST", "[::1]"])
def test_component_with_dot_or_colon_or_localhost_is_a_registry(component: str) -> None:
    assert looks_like_registry(component)


@pytest.mark.parametrize("component", ["library", "acme", "localhosts", ""])
def test_plain_component_is_a_part_of_the_repository(component: str) -> None:
    assert not looks_like_registry(component)

"""Where content came from, by the labels that containerd puts on what it pulled."""

import pytest

from agent.oci.origin import MARK, Origin, origin_of
from tests.unit.twins import named

APP = named("lab/app", "v1", "registry.test")


@pytest.mark.parametrize(
    ("marks", "origin"),
    [
        ({}, Origin.IMPORTED),
        ({"containerd.io/gc.ref.content.0": "sha256:00"}, Origin.IMPORTED),
        ({f"{MARK}registry.test": "lab/app"}, Origin.REGISTRY),
        ({f"{MARK}registry.test": "lab/tool,lab/app"}, Origin.REGISTRY),
        ({f"{MARK}registry.test": "lab/tool", f"{MARK}other.test": "lab/app"}, Origin.ELSEWHERE),
        ({f"{MARK}registry.test": "lab/application"}, Origin.ELSEWHERE),
        ({f"{MARK}registry.test": "lab/app/more"}, Origin.ELSEWHERE),
        ({f"{MARK}registry.test": ""}, Origin.ELSEWHERE),
        ({f"{MARK}other.test": "lab/app"}, Origin.ELSEWHERE),
        ({f"{MARK}Registry.Test": "lab/app"}, Origin.REGISTRY),
        ({f"{MARK}registry.test": 7}, Origin.ELSEWHERE),
        ({f"{MARK}no host": "lab/app"}, Origin.ELSEWHERE),
    ],
)
def test_only_the_registry_and_repository_of_the_name_make_it_the_registrys(
    marks: dict[str, object], origin: Origin
) -> None:
    assert origin_of(APP, marks) is origin


@pytest.mark.parametrize(
    ("registry", "host"),
    [
        ("registry.test:5000", "registry.test"),
        ("10.0.0.1:5000", "10.0.0.1"),
        ("[fd00::1]:5000", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("localhost", "localhost"),
        ("docker.io", "docker.io"),
        ("docker.io", "index.docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("[fd00::1]:5000", "fd00:0:0::1"),
    ],
)
def test_mark_has_the_host_of_the_name_without_its_port(registry: str, host: str) -> None:
    assert origin_of(named("lab/app", "v1", registry), {f"{MARK}{host}": "lab/app"}) is Origin.REGISTRY

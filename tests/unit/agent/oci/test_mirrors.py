"""An agent's own addresses are no registry."""

import pytest

from agent.oci.mirrors import MirrorNames
from agent.oci.registry import Registry

MIRRORS = MirrorNames(
    ports={30020, 30021, 30022},
    hosts={"a1", "10.0.0.1", "fd00::1"},
    services={("10.96.0.7", 5000)},
    is_member=lambda host: host in ("10.0.0.2", "b1"),
)


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1:30020",
        "127.0.0.1:30021",
        "127.8.9.10:30020",
        "localhost:30020",
        "[::1]:30020",
        "[0:0:0:0:0:0:0:1]:30020",
        "[::ffff:127.0.0.1]:30020",
        "10.0.0.1:30021",
        "10.0.0.1:30022",
        "[::ffff:10.0.0.1]:30022",
        "[fd00:0::1]:30020",
        "a1:30020",
        "10.0.0.2:30021",
        "b1:30020",
        "10.96.0.7:5000",
    ],
)
def test_listener_of_an_agent_is_no_registry(name: str) -> None:
    assert MIRRORS.has(Registry(name))


@pytest.mark.parametrize(
    "name",
    [
        "docker.io",
        "registry.test:5000",
        "localhost:5000",
        "127.0.0.1:5000",
        "127.0.0.1",
        "10.0.0.1",
        "10.0.0.1:443",
        "10.0.0.3:30020",
        "registry.test:30020",
        "10.96.0.7:30020",
        "[fd00::2]:30020",
        "[fd00::1]",
    ],
)
def test_every_other_name_is_a_registry(name: str) -> None:
    assert not MIRRORS.has(Registry(name))

"""Which endpoints of this node hosts.toml files name, as containerd reads them."""

from pathlib import Path

import pytest

from agent.config import Endpoint
from agent.hosts.named import NamedMirrors, named_endpoints, named_mirrors

PORTS = (30020, 30021)
LOOPBACK = Endpoint(host="127.0.0.1", port=30020)
NODE_PORT = Endpoint(host="192.168.60.1", port=30021)


def write(folder: Path, registry: str, text: str | bytes) -> None:
    (folder / registry).mkdir()
    (folder / registry / "hosts.toml").write_bytes(text if isinstance(text, bytes) else text.encode())


def host(url: str, more: str = "") -> str:
    return f'[host."{url}"]\n{more}\n'


def named(folder: Path) -> tuple[Endpoint, ...]:
    return named_endpoints(folder, PORTS)


def test_mirrors_are_found_in_the_order_of_the_file(tmp_path: Path) -> None:
    server = 'server = "https://registry-1.docker.io"\n'
    hosts = host("http://127.0.0.1:30020", 'capabilities = ["pull", "resolve"]') + host(
        "http://192.168.60.1:30021"
    )
    write(tmp_path, "docker.io", server + hosts)
    assert named(tmp_path) == (LOOPBACK, NODE_PORT)


def test_what_many_registries_name_is_one_endpoint(tmp_path: Path) -> None:
    for registry in ("docker.io", "quay.io", "_default", "registry.test:5000"):
        write(tmp_path, registry, host("http://127.0.0.1:30020"))
    assert named(tmp_path) == (LOOPBACK,)


def test_endpoints_of_all_registries_count(tmp_path: Path) -> None:
    write(tmp_path, "docker.io", host("http://127.0.0.1:30020"))
    write(tmp_path, "quay.io", host("http://192.168.60.1:30021"))
    assert named(tmp_path) == (LOOPBACK, NODE_PORT)


@pytest.mark.parametrize(
    "url",
    [
        "https://registry-1.docker.io",
        "https://registry.test:5000",
        "http://127.0.0.1:5000",
        "http://127.0.0.1",
        "http://mirror.test:30020",  # a name: no address of this node
        "http://:30020",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://[::1:30020",
        "http://300.0.0.1:30020",
        "",
        "/",
    ],
)
def test_other_hosts_are_none_of_this_node(tmp_path: Path, url: str) -> None:
    write(tmp_path, "docker.io", host(url) + host("http://127.0.0.1:30020"))
    assert named(tmp_path) == (LOOPBACK,)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:30020", LOOPBACK),
        ("http://127.0.0.1:30020/v2", LOOPBACK),
        ("127.0.0.1:30020", LOOPBACK),
        ("http://localhost:30020", LOOPBACK),
        ("https://127.0.0.1:30020", LOOPBACK),
        ("http://[::1]:30020", Endpoint(host="::1", port=30020)),
        ("http://[0:0:0:0:0:0:0:1]:30020", Endpoint(host="::1", port=30020)),
        ("http://[fd00::1]:30021", Endpoint(host="fd00::1", port=30021)),
    ],
)
def test_url_may_be_written_in_several_ways(tmp_path: Path, url: str, endpoint: Endpoint) -> None:
    write(tmp_path, "docker.io", host(url))
    assert named(tmp_path) == (endpoint,)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\x00\xff\xfe",
        b"[host",
        b"host = 3\n",
        b"host = []\n",
        b'host = "http://127.0.0.1:30020"\n',
        b'server = "http://127.0.0.1:30020"\n',
        b"[host]\n",
        pytest.param(b"x = " + b"[" * 5000, id="nested"),
    ],
)
def test_file_that_is_no_hosts_toml_is_passed_over(tmp_path: Path, junk: bytes) -> None:
    write(tmp_path, "a.io", junk)
    write(tmp_path, "b.io", host("http://127.0.0.1:30020"))
    assert named(tmp_path) == (LOOPBACK,)


def test_a_directory_that_is_just_being_made_is_no_registry(tmp_path: Path) -> None:
    write(tmp_path, ".docker.io.shorthaul-new", host("http://127.0.0.1:30020"))
    assert named(tmp_path) == ()


def test_there_may_be_none(tmp_path: Path) -> None:
    assert named(tmp_path) == ()
    assert named(tmp_path / "not there") == ()
    (tmp_path / "hosts.toml").write_text(host("http://127.0.0.1:30020"))  # of no registry
    (tmp_path / "docker.io").mkdir()
    (tmp_path / "quay.io").mkdir()
    (tmp_path / "quay.io" / "hosts.toml").mkdir()
    assert named(tmp_path) == ()


def test_all_else_that_the_files_name_is_said_too(tmp_path: Path) -> None:
    write(tmp_path, "docker.io", host("http://127.0.0.1:8000") + host("http://127.0.0.1:30020"))
    write(tmp_path, "quay.io", "not TOML")
    assert named_mirrors(tmp_path, PORTS) == NamedMirrors(
        endpoints=(LOOPBACK,), others=("http://127.0.0.1:8000",), files=1
    )


def test_what_containerd_sends_to_an_endpoint_is_found_and_not_shown(tmp_path: Path) -> None:
    table = '[host."http://192.168.60.1:30021".header]\nAuthorization = ["Bearer t0k3n"]\n'
    write(tmp_path, "docker.io", host("http://127.0.0.1:30020") + host("http://192.168.60.1:30021", table))
    found = named_mirrors(tmp_path, PORTS)
    assert found.authorizations == {Endpoint(host="192.168.60.1", port=30021): "Bearer t0k3n"}
    assert "t0k3n" not in repr(found)

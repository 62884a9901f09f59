"""Real containerds use what ``shorthaul configure`` writes: HostPort, then NodePort, then the registry."""

import contextlib
import http.server
import os
import shutil
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from agent.hosts.part import owners_text
from agent.keyring import new_key, parse_keys
from benchmarks.lab import kubeproxy
from benchmarks.lab.cluster import REGISTRY, SERVICE_PORT, Cluster, Node, Place
from benchmarks.lab.containerd import VERSIONS, Containerd, PullFailed
from benchmarks.lab.kubeproxy import Endpoint, Mode, NodeAddresses, Service
from benchmarks.lab.network import inside
from benchmarks.lab.process import LabError, run
from tests.e2e.conftest import Push
from tests.e2e.test_pulls import asked_of_registry, names_known, until
from tests.server.agents import PATIENT
from tests.unit.agent.hosts.configs import CASES, Case
from tests.unit.agent.members.kubernetes.authority import Authority

pytestmark = pytest.mark.e2e

SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")
NODE_PORT = 30021
CLIENTS = {"1.6": "a1", "1.7": "a2", "2.1": "a3"}
HOLDER = "b1"
LAYERS_BYTES = 3 * 300_000
OWNERS = '# the registry in the cellar\nserver = "http://{0}"  # no TLS there\r\n'


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A client with each containerd, and a node that has the images."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    places = [Place(name=name, region="r1", zone=name[0]) for name in (*CLIENTS.values(), HOLDER)]
    with Cluster(places, versions=tuple(CLIENTS), settings=PATIENT) as made:
        made.start_agents()
        yield made


def containerd_of(node: Node) -> Containerd:
    assert node.containerd is not None
    return node.containerd


def hosts_file(node: Node, registry: str = REGISTRY) -> Path:
    return containerd_of(node).certs / registry / "hosts.toml"


def shorthaul(node: Node, command: str, *options: str) -> str:
    """Run a command on the node's own files. Returns what it said."""
    folder = containerd_of(node).folder
    place = ["--certs-d", str(folder / "certs.d"), "--containerd-config", str(folder / "config.toml")]
    return run([SHORTHAUL, command, *place, *options], netns=node.netns)


def send_node_port(cluster: Cluster, node: Node, *to: str) -> None:
    """Have kube-proxy's rules send the node's NodePort to these nodes' agents. None: to nobody."""
    assert node.netns is not None
    endpoints = tuple(Endpoint(ip=cluster.node(name).address, port=SERVICE_PORT, local=False) for name in to)
    service = Service(
        namespace="shorthaul",
        name="shorthaul",
        port_name="http",
        cluster_ip="10.96.0.50",
        port=NODE_PORT,
        node_port=NODE_PORT,
        endpoints=endpoints,
    )
    addresses = NodeAddresses(addresses=(node.address,), pod_cidrs=("10.244.0.0/16",))
    kubeproxy.install(node.netns, kubeproxy.rules(Mode.IPTABLES, [service], addresses))


@contextlib.contextmanager
def configured(cluster: Cluster, node: Node) -> Iterator[str]:
    """The node's containerd, told by ``shorthaul configure``. The owner's file is as it was at the end."""
    text = OWNERS.format(cluster.registry.endpoint)
    hosts_file(node).write_bytes(text.encode())
    node_port = ("--nodeport", f"{node.address}:{NODE_PORT}", "--key-file", str(cluster.key))
    said = shorthaul(node, "configure", "--registry", REGISTRY, *node_port)
    try:
        yield said
    finally:
        shorthaul(node, "unconfigure")
    assert hosts_file(node).read_bytes() == text.encode()
    assert sorted(os.listdir(hosts_file(node).parent)) == ["hosts.toml"]  # noqa: PTH208


def counted(cluster: Cluster) -> dict[str, float]:
    """Requests and bytes of all agents by path."""
    found: dict[str, float] = {}
    for node in (node for node in cluster.nodes.values() if node.is_ready()):
        for path in ("hostport", "nodeport"):
            for what in ("requests", "bytes"):
                value = node.metric(f"shorthaul_{what}_total", path=path)
                found[f"{path} {what}"] = found.get(f"{path} {what}", 0) + value
    return found


def gained(cluster: Cluster, before: dict[str, float], path: str) -> float:
    """How many bytes went this way since. 0 if there was not even a request."""
    now = counted(cluster)
    if now[f"{path} requests"] == before[f"{path} requests"]:
        assert now[f"{path} bytes"] == before[f"{path} bytes"]
        return 0
    return max(now[f"{path} bytes"] - before[f"{path} bytes"], 1)


@pytest.mark.parametrize("version", CLIENTS)
def test_each_path_is_used_when_the_one_before_is_down_and_counted_apart(
    cluster: Cluster, push: Push, version: str
) -> None:
    node, holder = cluster.node(CLIENTS[version]), cluster.node(HOLDER)
    references = [push() for _ in range(3)]
    for reference in references[:2]:
        holder.pull(reference)
        until(lambda reference=reference: names_known(holder, reference), "the holder has it")  # type: ignore[misc]
    with configured(cluster, node) as said:
        assert "from the next pull on, without a restart" in said
        send_node_port(cluster, node, HOLDER)

        before = counted(cluster)
        node.pull(references[0])
        until(lambda: gained(cluster, before, "hostport") > LAYERS_BYTES, "all of the pull on the record")
        assert gained(cluster, before, "nodeport") == 0
        assert not clients_of_registry(cluster, references[0]) - {holder.address}

        node.agent.stop()
        try:
            before = counted(cluster)
            node.pull(references[1])
            until(lambda: gained(cluster, before, "nodeport") > LAYERS_BYTES, "all of the pull on the record")
            assert gained(cluster, before, "hostport") == 0
            assert not clients_of_registry(cluster, references[1]) - {holder.address}

            send_node_port(cluster, node)
            before = counted(cluster)
            node.pull(references[2])
            assert clients_of_registry(cluster, references[2]) == {node.address}
            assert counted(cluster) == before
        finally:
            node.start_agent()


def clients_of_registry(cluster: Cluster, reference: str) -> set[str]:
    """Who fetched something of this image from the registry."""
    return {client for client, *_ in asked_of_registry(cluster, reference)}


@pytest.mark.parametrize("version", CLIENTS)
def test_a_registry_without_a_file_of_its_own_is_mirrored_by_the_default_one(
    cluster: Cluster, version: str
) -> None:
    node = cluster.node(CLIENTS[version])
    hosts_file(node).unlink()
    hosts_file(node).parent.rmdir()
    shorthaul(node, "configure")
    since = len(list(node.requests()))
    with pytest.raises(PullFailed):
        node.pull("none.invalid/a:v1", at_most_s=60)  # the mirror is asked; there is no such registry
    until(
        lambda: any("none.invalid" in each["target"] for each in list(node.requests())[since:]),
        "the mirror was asked",
    )
    shorthaul(node, "unconfigure")
    assert list(containerd_of(node).certs.iterdir()) == []
    hosts_file(node).parent.mkdir()


class TlsRegistry:
    """A registry with a certificate that only its own issuer vouches for. It has nothing."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.asked: list[str] = []
        authority = Authority(folder, node.address)
        self.certificate = authority.certificate
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            def do_GET(self) -> None:
                self.do_HEAD()

            def log_message(self, *_: object) -> None:
                pass

        self._server = inside(node.netns, lambda: http.server.ThreadingHTTPServer((node.address, 0), Handler))
        self._server.socket = authority.server_context().wrap_socket(self._server.socket, server_side=True)
        self.name = f"{node.address}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize("version", CLIENTS)
def test_certificates_of_the_owner_still_count_in_files_that_are_new(
    cluster: Cluster, version: str, tmp_path: Path
) -> None:
    node = cluster.node(CLIENTS[version])
    certs = containerd_of(node).certs
    with TlsRegistry(node, tmp_path / "authority") as registry:
        assert not reached(node, registry, f"{registry.name}/a:v1"), "nobody vouches for it yet"

        # Certificates beside no hosts.toml, which containerd finds by itself.
        (certs / registry.name).mkdir()
        (certs / registry.name / "ca.crt").write_bytes(registry.certificate)
        assert reached(node, registry, f"{registry.name}/a:v1")
        shorthaul(node, "configure", "--registry", registry.name, "--hostport", "127.0.0.1:1")
        assert reached(node, registry, f"{registry.name}/a:v1")

        # A default of the owner's, which a file for one registry would hide.
        (certs / "_default").mkdir()
        (certs / "_default/own.crt").write_bytes(registry.certificate)
        (certs / "_default/hosts.toml").write_text(f'[host."https://{registry.name}"]\n  ca = "own.crt"\n')
        assert reached(node, registry, "none.invalid/a:v1")
        shorthaul(node, "configure", "--registry", "none.invalid", "--hostport", "127.0.0.1:1")
        assert hosts_file(node, "none.invalid").is_file()
        assert reached(node, registry, "none.invalid/a:v1")

        shorthaul(node, "unconfigure")
        assert not hosts_file(node, "none.invalid").parent.exists()
        for name in ("_default", registry.name):
            shutil.rmtree(certs / name)


class Listener:
    """Something plain on the node that writes down who shows what. ``to``: where it sends who asks."""

    def __init__(self, node: Node, to: str = "", *, host: str = "") -> None:
        self.shown: list[str | None] = []
        shown = self.shown

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                shown.append(self.headers.get("Authorization"))
                self.send_response(307 if to else 404)
                self.send_header("Location", f"{to}{self.path}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()

            def log_message(self, *_: object) -> None:
                pass

        self._server = inside(
            node.netns, lambda: http.server.ThreadingHTTPServer((host or node.address, 0), Handler)
        )
        self.address = f"{host or node.address}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.mark.parametrize("version", CLIENTS)
def test_containerd_shows_the_token_to_the_nodeport_and_to_nobody_else(
    cluster: Cluster, version: str, tmp_path: Path
) -> None:
    """Not to the HostPort, not to the host that the NodePort sends it to, and not in a debug log."""
    node = cluster.node(CLIENTS[version])
    containerd = containerd_of(node)
    (tmp_path / "keys").write_text(key := new_key())
    token = parse_keys(key).service_tokens[0]
    with (
        Listener(node) as host_port,
        Listener(node, host="127.0.0.1") as other,
        Listener(node, f"http://{other.address}") as node_port,
    ):
        addresses = ["--hostport", host_port.address, "--nodeport", node_port.address]
        said = shorthaul(node, "configure", *addresses, "--key-file", str(tmp_path / "keys"))
        file = hosts_file(node, "_default")
        try:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            with pytest.raises(PullFailed):
                containerd.pull("none.invalid/a:v1", at_most_s=60)
            log = debug_log(node, "none.invalid/a:v1")
        finally:
            shorthaul(node, "unconfigure")
    assert {*node_port.shown} == {f"Bearer {token}"}
    assert {*host_port.shown} == {None}
    assert {*other.shown} == {None}
    assert token not in said
    assert f'url="http://{node_port.address}' in log
    assert token not in log


def debug_log(node: Node, reference: str) -> str:
    """All that containerd's client says about a pull that fails."""
    containerd = containerd_of(node)
    ctr = [str(containerd.binary.parent / "ctr"), "--debug", "--address", str(containerd.socket)]
    pull = ["images", "pull", "--hosts-dir", str(containerd.certs)]
    pull += ["--local"] if containerd.version == "2.1" else []
    with pytest.raises(LabError) as failed:
        run([*ctr, *pull, reference], netns=node.netns, at_most_s=60)
    return str(failed.value)


def reached(node: Node, registry: TlsRegistry, reference: str) -> bool:
    """Whether a pull of something that is nowhere asks this registry."""
    registry.asked.clear()
    with pytest.raises(PullFailed):
        containerd_of(node).pull(reference, at_most_s=60)
    return bool(registry.asked)


@pytest.mark.parametrize(
    ("case", "version"),
    [
        pytest.param(case, version, id=f"{name}, {version}")
        for name, case in CASES.items()
        for version in VERSIONS
        if not case.only or version == "2.1"
    ],
)
def test_our_reading_of_config_toml_is_containerds(case: Case, version: str, tmp_path: Path) -> None:
    """`agent.hosts.registry` is held against the same cases."""
    for name, text in {"config.toml": case.text, **case.imported}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("DIR", str(tmp_path)))
    dump = subprocess.run(
        [str(VERSIONS[version]), "--config", str(tmp_path / "config.toml"), "config", "dump"],
        capture_output=True,
        text=True,
        check=False,
    )
    new = version == "2.1"
    plugins = tomllib.loads(dump.stdout)["plugins"]
    plugin = plugins["io.containerd.cri.v1.images" if new else "io.containerd.grpc.v1.cri"]
    assert (plugin["registry"]["config_path"] or None) == (case.new if new else case.old)
    owner = plugin if new else plugin["containerd"]
    assert owner["discard_unpacked_layers"] is case.discards[new]


@pytest.mark.parametrize(("version", "says"), [("1.6", 2), ("1.7", 2), ("2.1", 2), ("2.1", 3)])
def test_a_drop_in_sets_the_directory_and_nothing_else(version: str, says: int, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'version = {says}\nimports = ["{tmp_path}/conf.d/*.toml"]\noom_score = -999\n')
    (tmp_path / "conf.d").mkdir()
    dump = [str(VERSIONS[version]), "--config", str(config), "config", "dump"]
    before = subprocess.run(dump, capture_output=True, text=True, check=True).stdout.splitlines()
    place = ["--certs-d", str(tmp_path / "certs.d"), "--containerd-config", str(config)]
    run([SHORTHAUL, "configure", *place, "--drop-in"])
    after = subprocess.run(dump, capture_output=True, text=True, check=True).stdout.splitlines()
    different = [new.strip() for old, new in zip(before, after, strict=True) if old != new]
    path = f"{tmp_path}/certs.d"
    expected = [f"config_path = '{path}'"] if version == "2.1" else [f'config_path = "{path}"']
    assert [line for line in different if not line.startswith("imports")] == expected
    run([SHORTHAUL, "unconfigure", *place])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["conf.d", "config.toml"]


def test_root_without_capabilities_does_what_it_may_and_says_the_rest(tmp_path: Path) -> None:
    """As in a pod that drops all of them: files of other owners are out of reach."""
    for name in ("mine.io", "others.io", "closed.io"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "hosts.toml").write_text('server = "https://registry"\n')
    os.chown(tmp_path / "others.io/hosts.toml", 65534, 65534)
    os.chown(tmp_path / "closed.io", 65534, 65534)
    (tmp_path / "closed.io").chmod(0o700)
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", SHORTHAUL]
    ended = subprocess.run(
        [*bare, "configure", "--certs-d", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "others.io/hosts.toml: Operation not permitted; the old file stays" in ended.stderr
    assert "closed.io/hosts.toml is left as it is: it can't be read" in ended.stderr
    assert "127.0.0.1:30020" in (tmp_path / "mine.io/hosts.toml").read_text()
    assert "127.0.0.1:30020" in (tmp_path / "_default/hosts.toml").read_text()
    run([*bare, "unconfigure", "--certs-d", str(tmp_path)])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["closed.io", "mine.io", "others.io"]


def test_a_full_disk_leaves_the_old_file(cluster: Cluster, tmp_path: Path) -> None:
    """On a file system of its own, because a full disk is hard to imitate."""
    run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)])
    try:
        file = tmp_path / "docker.io/hosts.toml"
        file.parent.mkdir()
        file.write_text('server = "https://registry-1.docker.io"\n')
        before = file.read_bytes()
        with contextlib.suppress(OSError), (tmp_path / "fill").open("wb", buffering=0) as fill:
            while True:
                fill.write(b"x" * 4096)
        command = [SHORTHAUL, "configure", "--certs-d", str(tmp_path), "--hostport", "127.0.0.1:30020"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert "No space left on device" in ended.stderr
        assert "make room on the disk" in ended.stderr
        assert file.read_bytes() == before
        assert sorted(each.name for each in tmp_path.iterdir()) == ["docker.io", "fill"]
        assert sorted(each.name for each in file.parent.iterdir()) == ["hosts.toml"]
        (tmp_path / "fill").unlink()
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        assert owners_text(file.read_text()).encode() == before
        run(["mount", "-o", "remount,ro", str(tmp_path)])
        changed = subprocess.run([*command[:-1], "127.0.0.1:1"], capture_output=True, text=True, check=False)
        assert changed.returncode == 1
        assert "Read-only file system" in changed.stderr
    finally:
        run(["umount", str(tmp_path)])

"""The rendered pod, run from the image by a real containerd and runc, with just the rights that it names."""

import json
import os
import ssl
import stat
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.keyring import new_key, parse_keys, read_keys
from benchmarks.cluster import wire
from benchmarks.cluster.jobs import Task, manifest
from benchmarks.cluster.release import release
from benchmarks.lab import kubeproxy
from benchmarks.lab.apiserver import NODES, SLICES, ThreadedApiServer, node_object, slice_object
from benchmarks.lab.apiserver import Pod as Endpoint
from benchmarks.lab.cluster import ADMIN_PORT, REGISTRY, SERVICE_PORT, Cluster, Node, Place
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.image import build_image
from benchmarks.lab.kubeproxy import Mode, NodeAddresses, Service
from benchmarks.lab.network import inside
from benchmarks.lab.process import LabError
from tests.chart.rendering import containers, one
from tests.chart.rendering import pod as rendered_pod
from tests.image.pod import Pod, sweep_pods
from tools import image
from tools.image import Built

pytestmark = pytest.mark.timeout(3000)  # the first test waits until the images are built

_TOKEN = b"a.token.of-the-pod"
_NODE_PORT = 30021
_READY = ["shorthaul", "ready", "--socket", "/run/shorthaul-pod/health.sock"]
_LAYERS_BYTES = (300_000, 2_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A node with the pod, and a node with an agent that has an image."""

    cluster: Cluster
    node: Node
    holder: Node
    pod: Pod
    owners: bytes  # the hosts.toml of before
    hosts_file: Path

    @property
    def containerd(self) -> Containerd:
        """The one of the pod's node."""
        assert self.node.containerd is not None
        return self.node.containerd


def until(condition: Callable[[], Any], what: str, at_most_s: float = 120.0) -> Any:
    """Wait for a condition; what it gave."""
    end_s = time.monotonic() + at_most_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"not within {at_most_s} s: {what}"
        time.sleep(0.2)
    return found


def values(node: Node) -> dict[str, Any]:
    """The chart's values for a node whose containerd is the lab's."""
    assert node.containerd is not None
    folder = node.containerd.folder
    return {
        "containerd": {
            "socket": str(node.containerd.socket),
            "root": str(node.containerd.root),
            "configDirectory": str(folder),
            "certsDirectory": str(node.containerd.certs),
        },
        "configure": {"registries": [REGISTRY], "endpoints": ["hostport", "nodeport"]},
        # Without a cgroup of its own this probe would watch the connections of all other tests, too.
        "config": {
            "probe": {"canary_interval_s": 2.0, "cgroup": str(node.cgroup)},
            "registries": {"authorize": [{"match": "*", "by": "mirror"}]},  # all of them are public
        },
    }


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the API server's key and certificate, which is its own authority."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=kubernetes", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.crt")]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for containerd and runc: run `make test` as root")
    places = [Place(name=name, region="r1", zone="a") for name in ("n1", "n2")]
    with Cluster(places, versions=("1.7", "1.6")) as made:  # 1.6's ctr can not set a user
        made.node("n2").start_agent()
        yield made


@pytest.fixture(scope="module")
def api(cluster: Cluster, certificate: Path) -> Iterator[ThreadedApiServer]:
    """The API server's double, on the loopback of the pod's node."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "ca.crt", certificate / "key.pem")
    server = ThreadedApiServer(tls=tls, token=_TOKEN.decode())
    inside(cluster.node("n1").netns, server.__enter__)
    try:
        agents = [Endpoint(node=node.name, address=node.address) for node in cluster.nodes.values()]
        zone = {"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r1"}
        server.do(lambda double: double.put(SLICES, slice_object("peers-1", agents, namespace="images")))
        server.do(lambda double: double.put(NODES, node_object("n1", zone)))
        yield server
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def stage(
    cluster: Cluster, api: ThreadedApiServer, certificate: Path, built: dict[str, Built]
) -> Iterator[Stage]:
    """The pod, started as a kubelet starts it: init containers, side cars, then the others."""
    node = cluster.node("n1")
    containerd = node.containerd
    assert containerd is not None
    assert node.cgroup is not None
    containerd.use_mirrors(REGISTRY, cluster.registry.endpoint, [])
    hosts_file = containerd.certs / REGISTRY / "hosts.toml"
    owners = hosts_file.read_bytes()
    containerd.ctr("images", "import", "--base-name", "localhost/shorthaul", str(built["shorthaul"].archive))
    chosen = values(node)
    config = one("ConfigMap", chosen)["data"]["agent.yaml"].encode()
    folder = cluster.folder / "pod"
    folder.mkdir()
    sweep_pods()
    send_node_port(node)
    pod = Pod(
        f"shlab-{os.getpid()}-pod",
        rendered_pod(chosen),
        containerd=containerd,
        netns=node.netns,
        image=containers(chosen)["agent"]["image"],
        folder=folder,
        fields={
            "spec.nodeName": node.name,
            "status.hostIP": node.address,
            "status.podIP": node.address,
        },
        files={
            "config": {"agent.yaml": config},
            "key": {"keys": cluster.key.read_bytes()},
            "token": {
                "token": _TOKEN,
                "ca.crt": (certificate / "ca.crt").read_bytes(),
                "namespace": b"images",
            },
        },
        host={"/run/shorthaul": cluster.folder / "run"},
        cgroup=node.cgroup,
        more_environment={
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": api.url.rpartition(":")[2],
            "PATH": "/opt/shorthaul/bin:/usr/bin:/bin",
        },
    )
    try:
        pod.run("configure")
        for name in ("probe", "hosts", "agent"):
            pod.start(name)
        for name in ("hosts", "agent"):
            command = pod.container(name)["startupProbe"]["exec"]["command"]
            until(lambda name=name, command=command: passes(pod, name, command), f"{name}: {command}")  # type: ignore[misc]
        yield Stage(
            cluster=cluster,
            node=node,
            holder=cluster.node("n2"),
            pod=pod,
            owners=owners,
            hosts_file=hosts_file,
        )
    finally:
        for name in ("probe", "hosts", "agent"):
            print(f"--- {name}\n{pod.log(name)[-3000:] if (folder / f'{name}.log').exists() else '(none)'}")
        pod.close()


def send_node_port(node: Node) -> None:
    """Have kube-proxy's rules send the node's NodePort to its own agent."""
    assert node.netns is not None
    service = Service(
        namespace="images",
        name="shorthaul",
        port_name="mirror",
        cluster_ip="10.96.0.50",
        port=_NODE_PORT,
        node_port=_NODE_PORT,
        endpoints=(kubeproxy.Endpoint(ip=node.address, port=SERVICE_PORT, local=True),),
    )
    addresses = NodeAddresses(addresses=(node.address,), pod_cidrs=("10.244.0.0/16",))
    kubeproxy.install(node.netns, kubeproxy.rules(Mode.IPTABLES, [service], addresses))


def token_in(hosts_file: Path) -> str:
    """What containerd shows to the NodePort."""
    told = tomllib.loads(hosts_file.read_text())["host"]
    (table,) = (table for url, table in told.items() if url.endswith(f":{_NODE_PORT}"))
    (shown,) = table["header"]["Authorization"]
    return str(shown)


def until_all_use(stage: Stage, names: str, token: str) -> None:
    """Wait until both agents have the keys of these names, and hosts.toml has the token."""
    told = f"the cluster's key: {names}"
    until(lambda: told in stage.pod.execute("agent", _READY), f"the pod's agent: {told}")
    holder = stage.holder
    until(lambda: told in holder.get("/readyz?verbose", port=ADMIN_PORT).body.decode(), f"the other: {told}")
    until(lambda: token_in(stage.hosts_file) == token, "the token of the first key")


def passes(pod: Pod, name: str, command: list[str]) -> bool:
    """Whether an exec probe passes now."""
    try:
        pod.execute(name, command)
    except LabError:
        return False
    return True


def test_image_of_the_chart_is_the_one_that_is_built(stage: Stage) -> None:
    assert stage.pod.container("agent")["image"] == f"localhost/shorthaul:{image.version()}"


def test_configure_writes_hosts_toml_and_keeps_what_was_there(stage: Stage) -> None:
    text = stage.hosts_file.read_text()
    assert "http://127.0.0.1:30020" in text
    assert stage.owners.decode().splitlines()[0] in text
    assert token_in(stage.hosts_file) == f"Bearer {read_keys(stage.cluster.key).service_tokens[0]}"
    assert stat.S_IMODE(stage.hosts_file.stat().st_mode) == 0o600


def test_agent_finds_its_peer_through_the_api_server(stage: Stage) -> None:
    until(lambda: stage.node.metric("shorthaul_peers") == 1, "one peer")
    assert stage.node.is_ready()


def test_pull_by_the_nodes_containerd_comes_from_the_peer(stage: Stage, tmp_path: Path) -> None:
    built = build_image(tmp_path / "image", layer_bytes=_LAYERS_BYTES, seed=7)
    reference = stage.cluster.registry.push(built, "lab/app", "v1")
    stage.holder.pull(reference)
    before = len(stage.cluster.registry.served())
    stage.containerd.pull(reference)
    asked = [path for _, method, path, _ in stage.cluster.registry.served()[before:] if method == "GET"]
    assert [path for path in asked if "/lab/app/blobs/" in path] == []
    assert stage.node.metric("shorthaul_bytes_total", tier="zone") >= sum(_LAYERS_BYTES)


def test_probe_proves_the_path_direct(stage: Stage) -> None:
    until(lambda: stage.node.metric("shorthaul_local_path_proved") == 1, "the path is proved")
    said = stage.pod.execute("agent", ["shorthaul", "verify"])
    assert "Proved" in said


def test_doctor_in_the_pod_finds_nothing_wrong(stage: Stage) -> None:
    until(lambda: stage.node.metric("shorthaul_local_path_proved") == 1, "the path is proved")
    said = json.loads(stage.pod.execute("agent", ["shorthaul", "doctor", "--json"]))
    wrong = [each for each in said["findings"] if each["status"] != "ok"]
    assert wrong == []


def test_key_is_there_for_who_needs_it_and_for_root_alone(stage: Stage) -> None:
    for name in ("agent", "hosts"):
        said = stage.pod.execute(name, ["stat", "--format", "%a %u", "/etc/shorthaul-key/keys"])
        assert said.split() == ["400", "0"], name
    with pytest.raises(LabError, match="No such file"):
        stage.pod.execute("probe", ["ls", "/etc/shorthaul-key"])


def test_key_changes_step_by_step_while_the_pods_run(stage: Stage, tmp_path: Path) -> None:
    """Each step reaches the agents at another time; every pull comes from the peer all the same."""
    refused = stage.node.metric("shorthaul_refused_total")
    old = stage.cluster.key.read_text().strip()
    new = new_key()
    names = {key: parse_keys(key).signs.id for key in (old, new)}
    for step, keys in enumerate(([old, new], [new, old], [new])):
        text = "".join(f"{key}\n" for key in keys)
        stage.cluster.key.write_text(text)
        stage.pod.replace("key", "keys", text.encode())
        names_now = ", ".join(names[key] for key in keys)
        until_all_use(stage, names_now, f"Bearer {parse_keys(keys[0]).service_tokens[0]}")
        built = build_image(tmp_path / str(step), layer_bytes=(50_000,), seed=20 + step)
        reference = stage.cluster.registry.push(built, f"lab/step{step}", "v1")
        stage.holder.pull(reference)
        before = len(stage.cluster.registry.served())
        stage.containerd.pull(reference)
        asked = [path for _, method, path, _ in stage.cluster.registry.served()[before:] if method == "GET"]
        assert [path for path in asked if "/blobs/" in path] == []
    assert stage.node.metric("shorthaul_refused_total") == refused


def bench_pod(stage: Stage, order: wire.Order) -> Pod:
    """The pod of a Job of the cluster's benchmark, made from the release's own DaemonSet."""
    chosen = values(stage.node)
    found = release({"items": [one("DaemonSet", chosen)]}, "", "images")
    assert stage.node.cgroup is not None
    config = one("ConfigMap", chosen)["data"]["agent.yaml"].encode()
    folder = stage.cluster.folder / f"bench-{order.stage}"
    folder.mkdir()
    return Pod(
        f"shlab-{os.getpid()}-{order.stage}",
        manifest(Task(release=found, order=order, number=1))["spec"]["template"]["spec"],
        containerd=stage.containerd,
        netns=stage.node.netns,
        image=containers(chosen)["agent"]["image"],
        folder=folder,
        fields={"spec.nodeName": stage.node.name, "status.podIP": stage.node.address},
        files={"config": {"agent.yaml": config}},
        host={"/run/shorthaul": stage.cluster.folder / "run"},
        cgroup=stage.node.cgroup,
        more_environment={"PATH": "/opt/shorthaul/bin:/usr/bin:/bin"},
    )


def said(text: str) -> list[wire.Document]:
    """What a pod said, but for its signs of life."""
    lines = [wire.read(line) for line in text.splitlines()]
    return [line.document for line in lines if line is not None and not isinstance(line.document, wire.Step)]  # type: ignore[misc]


def test_pods_of_the_clusters_benchmark_do_all_of_it_with_no_right_but_theirs(
    stage: Stage, tmp_path: Path
) -> None:
    built = build_image(tmp_path / "image", layer_bytes=_LAYERS_BYTES, seed=70)
    reference = stage.cluster.registry.push(built, "lab/bench", "v1")
    stage.holder.pull(reference)
    before = set(stage.containerd.ctr("images", "list", "--quiet").split())
    blobs = tuple(
        wire.Blob(registry=REGISTRY, repository="lab/bench", digest=digest, size_bytes=size)
        for digest, size in built.blobs.items()
    )
    base: dict[str, Any] = {"run": "abc", "node": stage.node.name, "hostport": "", "bytes_max": 50_000_000}
    (look,) = said(bench_pod(stage, wire.Order(**base, stage="look", seconds=30.0)).run("bench"))
    assert isinstance(look, wire.Look), look
    order = wire.Order(**base, stage="latency", seconds=4.0, rate_per_s=10.0, blobs=blobs)
    (latencies,) = said(bench_pod(stage, order).run("bench"))
    assert isinstance(latencies, wire.Latencies), latencies
    assert {"zone", "none"} <= {each.tier for each in latencies.measured if not each.failed}
    pod = bench_pod(stage, wire.Order(**base, stage="pull", seconds=60.0, hold_s=60.0, image=reference))
    pod.start("bench")
    try:
        until(lambda: said(pod.log("bench")), "the pull")
        assert set(stage.containerd.ctr("images", "list", "--quiet").split()) > before
        pod.stop("bench")
    finally:
        pod.close()
    pulled, removed = said(pod.log("bench"))
    assert isinstance(pulled, wire.Pulled), pulled
    assert sum(each.bytes for each in pulled.tiers or ()) >= sum(_LAYERS_BYTES)
    assert removed == wire.Removed(image=reference)
    assert set(stage.containerd.ctr("images", "list", "--quiet").split()) == before


def test_containers_have_no_right_that_the_chart_does_not_name(stage: Stage) -> None:
    wanted = {"agent": {"DAC_READ_SEARCH": 2}, "probe": {"BPF": 39, "NET_ADMIN": 12}, "hosts": {}}
    for name, capabilities in wanted.items():
        status = stage.pod.execute(name, ["cat", "/proc/1/status"])
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        mask = sum(1 << number for number in capabilities.values())
        assert {int(fields[each], 16) for each in ("CapPrm", "CapEff", "CapBnd")} == {mask}, name
        assert fields["NoNewPrivs"] == "1", name
        assert fields["Seccomp"] == "2", name
        assert _refusal_to_write(stage, name, "/opt/shorthaul/x").endswith("Read-only file system"), name


def _refusal_to_write(stage: Stage, name: str, path: str) -> str:
    """What a container is told that tries to write a file. `ctr` may lose the last words of a command."""
    for _ in range(5):
        with pytest.raises(LabError) as refused:
            stage.pod.execute(name, ["touch", path])
        said = str(refused.value).strip()
        if not said.endswith(":"):
            break
    return said


def test_hosts_toml_is_as_before_after_the_pod_is_gone(stage: Stage) -> None:
    stage.pod.stop("hosts")
    assert stage.hosts_file.read_bytes() == stage.owners
    stage.pod.stop("agent")
    assert "Traceback" not in "".join(stage.pod.log(name) for name in ("agent", "probe", "hosts"))


def test_nothing_is_logged_as_an_error(stage: Stage) -> None:
    lines = [line for line in stage.pod.log("agent").splitlines() if line.startswith("{")]
    assert [line for line in lines if json.loads(line)["level"] == "error"] == []

"""``shorthaul doctor`` names eighteen faults, each made for real on real nodes, and nothing on a well one.

What it says of each is the table in docs/doctor.md.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab.cluster import REGISTRY, Cluster, Node, Place
from benchmarks.lab.containerd import Containerd
from benchmarks.lab.process import Process, enter, run
from tests.server.agents import PATIENT
from tests.unit.twins import REPOSITORY_ROOT

pytestmark = pytest.mark.e2e

SHORTHAUL = str(Path(sys.executable).parent / "shorthaul")
PAGE = REPOSITORY_ROOT / "docs" / "doctor.md"
PLACES = [
    Place(name="a1", region="r1", zone="a"),
    Place(name="a2", region="r1", zone="a"),
    Place(name="b1", region="r1", zone="b"),
]
NODE_PORT = 30021
AGAIN_S = 20.0
# As an ordinary user, who may not read what belongs to others.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
SERVER = """
import http.server, sys
address = sys.argv[1], int(sys.argv[2])
http.server.HTTPServer(address, http.server.BaseHTTPRequestHandler).serve_forever()
"""
TEN_MINUTES = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += 600;
    return failed;
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the doctor of one node said."""

    status: int
    findings: tuple[Mapping[str, Any], ...]
    seconds: float

    def with_status(self, *statuses: str) -> tuple[Mapping[str, Any], ...]:
        """The findings of these kinds."""
        return tuple(each for each in self.findings if each["status"] in statuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How the doctor is asked while a fault is there: more options, and words before the command."""

    options: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


Made = AbstractContextManager[Asked | None]


# Otherwise the doctor says that any pod gets the images of the lab's registry.
CHOSEN: dict[str, Any] = {"registries": {"authorize": [{"match": "*", "by": "mirror"}]}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(PLACES, versions=("2.1", "1.7", "1.6"), settings={**PATIENT, **CHOSEN}) as made:
        for node in made.nodes.values():
            hosts_file(node).write_text(f'server = "http://{made.registry.endpoint}"\n')
            configure(node)
        made.start_agents()
        made.node("a1").start_probe()
        yield made


def containerd_of(node: Node) -> Containerd:
    assert node.containerd is not None
    return node.containerd


def hosts_file(node: Node) -> Path:
    return containerd_of(node).certs / REGISTRY / "hosts.toml"


def config_file(node: Node) -> Path:
    return containerd_of(node).folder / "config.toml"


def configure(node: Node, *options: str, with_key: bool = True) -> None:
    place = ["--certs-d", str(containerd_of(node).certs), "--containerd-config", str(config_file(node))]
    place += ["--key-file", str(key_file(node))] if with_key else []
    run([SHORTHAUL, "configure", *place, "--registry", REGISTRY, *options], netns=node.netns)


def key_file(node: Node) -> Path:
    return Path(node.settings["peering"]["key"])


def doctor(node: Node, *options: str, before: tuple[str, ...] = ()) -> Seen:
    command = [*enter(node.netns), *before, SHORTHAUL, "doctor", "--config", str(node.folder / "agent.yaml")]
    command += ["--containerd-config", str(config_file(node)), *options]
    started_s = time.monotonic()
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started_s
    document = json.loads(as_json.stdout)
    assert as_json.returncode == (0 if document["serves"] else 1), as_json.stderr
    return Seen(status=as_json.returncode, findings=tuple(document["findings"]), seconds=seconds)


@contextlib.contextmanager
def rewritten(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    before, times = path.read_text(), path.stat()
    after = change(before)
    assert after != before
    path.write_text(after)
    try:
        yield
    finally:
        path.write_text(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def config_path(node: Node, line: str) -> Made:
    return rewritten(
        config_file(node), lambda text: re.sub(r'^ *config_path = "[^"]*"$', line, text, flags=re.MULTILINE)
    )


@contextlib.contextmanager
def discarding(node: Node) -> Iterator[None]:
    table = '[plugins."io.containerd.grpc.v1.cri".containerd]\n  discard_unpacked_layers = true\n'
    with rewritten(config_file(node), lambda text: text + table):
        yield


@contextlib.contextmanager
def restarted(node: Node, /, *, before: tuple[str, ...] = (), **overrides: Any) -> Iterator[Asked]:
    """The agent with other settings, and then again with its own."""
    node.agent.stop()
    try:
        node.start_agent(before=before, **overrides)
        yield Asked(before=before)
    finally:
        node.agent.stop()
        node.start_agent()


@contextlib.contextmanager
def foreign_process(node: Node, host: str, port: int) -> Iterator[None]:
    server = Process(
        [sys.executable, "-c", SERVER, host, str(port)], log=node.folder / "foreign.log", netns=node.netns
    )
    try:
        server.wait_until(lambda: f":{port} " in run(["ss", "-ltn"], netns=node.netns), "a foreign process")
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def taken_host_port(node: Node) -> Iterator[None]:
    node.agent.stop()
    try:
        with foreign_process(node, "127.0.0.1", 30020):
            yield
    finally:
        node.start_agent()


@contextlib.contextmanager
def taken_node_port(node: Node) -> Iterator[None]:
    configure(node, "--nodeport", f"{node.address}:{NODE_PORT}")
    try:
        with foreign_process(node, node.address, NODE_PORT):
            yield
    finally:
        configure(node)


@contextlib.contextmanager
def unreadable_root(node: Node) -> Iterator[Asked]:
    root = containerd_of(node).root / "io.containerd.content.v1.content"
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    os.chown(root, 65534, 65534)
    root.chmod(0o700)
    try:
        with restarted(node, before=ORDINARY) as asked:  # the doctor has the agent's rights, as in its pod
            yield asked
    finally:
        os.chown(root, 0, 0)
        root.chmod(0o755)


@contextlib.contextmanager
def dead_socket(node: Node) -> Iterator[None]:
    containerd_of(node).kill()
    try:
        yield
    finally:
        containerd_of(node).start()


@contextlib.contextmanager
def stale_mount(node: Node) -> Iterator[Asked]:
    """The socket file, mounted as into a pod, of a containerd that was restarted since."""
    place = node.folder / "mounted.sock"
    place.touch()
    run(["mount", "--bind", str(containerd_of(node).socket), str(place)])
    try:
        containerd_of(node).stop()
        containerd_of(node).start()
        store = node.settings["store"].replace(str(containerd_of(node).socket), str(place))
        yield Asked(options=("--set", f"store={store}"))
    finally:
        run(["umount", str(place)])
        place.unlink()


@contextlib.contextmanager
def overwritten(node: Node) -> Iterator[None]:
    other = '[host."http://127.0.0.1:5555"]\n  capabilities = ["pull", "resolve"]\n'
    with rewritten(hosts_file(node), lambda _: other):
        yield


@contextlib.contextmanager
def filtered(node: Node) -> Iterator[None]:
    rule = ["INPUT", "!", "-i", "lo", "-p", "tcp", "--dport", "30020", "--syn", "-j", "DROP"]
    run(["iptables", "-A", *rule], netns=node.netns)
    try:
        yield
    finally:
        run(["iptables", "-D", *rule], netns=node.netns)


@contextlib.contextmanager
def node_port_first(node: Node) -> Iterator[None]:
    configure(node, "--endpoints", "nodeport,hostport", "--nodeport", f"{node.address}:{NODE_PORT}")
    try:
        yield
    finally:
        configure(node)


@contextlib.contextmanager
def no_token(node: Node) -> Iterator[None]:
    configure(node, "--nodeport", f"{node.address}:{NODE_PORT}", with_key=False)
    try:
        yield
    finally:
        configure(node)


@contextlib.contextmanager
def open_key(node: Node) -> Iterator[None]:
    key_file(node).chmod(0o644)
    try:
        yield
    finally:
        key_file(node).chmod(0o600)


def wrong_clock(folder: Path) -> tuple[str, ...]:
    """Words before a command that make its clock ten minutes fast."""
    library = folder / "ten-minutes.so"
    if not library.exists():
        run(["gcc", "-shared", "-fPIC", "-xc", "-o", str(library), "-"], text=TEN_MINUTES)
    return ("env", f"LD_PRELOAD={library}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, on which node it is made, and how the doctor's finding is found.

    ``seen_from``: the node whose doctor is asked. ``serves``: pulls are served all the same.
    """

    name: str
    make: Callable[[Cluster], Made]
    subject: str
    words: str
    seen_from: str = "a1"
    serves: bool = False


def _a1(make: Callable[[Node], Made]) -> Callable[[Cluster], Made]:
    return lambda cluster: make(cluster.node("a1"))


def _a2(make: Callable[[Node], Made]) -> Callable[[Cluster], Made]:
    return lambda cluster: make(cluster.node("a2"))


FAULTS = (
    Fault(
        name="no config_path",
        make=_a1(lambda node: config_path(node, "")),
        subject="config_path",
        words="has no config_path",
    ),
    Fault(
        name="a list with a colon in config_path",
        make=_a1(
            lambda node: config_path(node, f'config_path = "{containerd_of(node).certs}:/etc/docker/certs.d"')
        ),
        subject="config_path",
        words="which containerd 2.x takes for one path",
    ),
    Fault(
        name="config_path is another directory",
        make=_a1(lambda node: config_path(node, 'config_path = "/etc/containerd/others.d"')),
        subject="config_path",
        words="containerd reads the files there",
    ),
    Fault(
        name="discard_unpacked_layers is on",
        make=_a2(discarding),
        subject="unpacked layers",
        words="discard_unpacked_layers is on",
        seen_from="a2",
        serves=True,
    ),
    Fault(
        name="a foreign process on the HostPort",
        make=_a1(taken_host_port),
        subject="the HostPort",
        words="is taken by python",
    ),
    Fault(
        name="a foreign process on the NodePort",
        make=_a1(taken_node_port),
        subject="the NodePort",
        words="is taken by python",
    ),
    Fault(
        name="containerd's root can't be read",
        make=_a2(unreadable_root),
        subject="content files",
        words="permission denied",
        seen_from="a2",
        serves=True,
    ),
    Fault(
        name="containerd's socket is dead",
        make=_a2(dead_socket),
        subject="containerd's socket",
        words="is dead",
        seen_from="a2",
    ),
    Fault(
        name="containerd's socket is mounted as a file, and stale",
        make=_a2(stale_mount),
        subject="containerd's socket",
        words="is a stale mount",
        seen_from="a2",
    ),
    Fault(
        name="hosts.toml is malformed",
        make=_a1(lambda node: rewritten(hosts_file(node), lambda text: text + '[host."http://')),
        subject="hosts.toml",
        words="containerd drops this file",
    ),
    Fault(
        name="hosts.toml was overwritten by another tool",
        make=_a1(overwritten),
        subject="hosts.toml",
        words="was overwritten by another tool",
    ),
    Fault(
        name="the peers' port is filtered one way",
        make=_a1(filtered),
        subject="from the peers",
        words="2 of 2 do not reach this node",
    ),
    Fault(
        name="a zone label is missing",
        make=_a2(lambda node: restarted(node, placement={"region": "r1"})),
        subject="the zone label",
        words="this node has none",
        seen_from="a2",
        serves=True,
    ),
    Fault(
        name="the clock is 10 minutes off",
        make=_a2(lambda node: restarted(node, before=wrong_clock(node.folder))),
        subject="the clock",
        words="this node's clock is 10 min ahead",
        seen_from="a2",
        serves=True,
    ),
    Fault(
        name="two agents have one name",
        make=_a2(lambda node: restarted(node, node={"name": "a1", "address": node.address})),
        subject="names of agents",
        words="two agents have one name: a1",
    ),
    Fault(
        name="the NodePort comes first",
        make=_a1(node_port_first),
        subject="order of hosts",
        words="has the NodePort before the HostPort",
        serves=True,
    ),
    Fault(
        name="hosts.toml has no token",
        make=_a1(no_token),
        subject="the token",
        words="none for the NodePort, which refuses containerd",
        serves=True,
    ),
    Fault(
        name="the key's file is open to every user",
        make=_a1(open_key),
        subject="the key's file",
        words="is open to every user of this node",
        serves=True,
    ),
)


def test_a_well_node_has_no_finding_and_looking_is_quick(cluster: Cluster) -> None:
    until(lambda: doctor(cluster.node("a1")).with_status("bad", "warn", "?") == (), "nothing is found")
    seen = doctor(cluster.node("a1"))
    assert seen.status == 0
    assert len(seen.findings) >= 12
    assert seen.seconds < 60  # half a second on a well machine; its own deadline is nine
    # Without a probe nothing is proved, which is no success and no fault.
    others = doctor(cluster.node("b1"))
    assert [each["subject"] for each in others.with_status("bad", "warn", "?")] == ["the proof"]
    assert others.status == 0


@pytest.mark.timeout(900)  # eight restarts of agents and daemons, on a loaded machine
def test_eighteen_of_eighteen_seeded_faults_are_named(cluster: Cluster) -> None:
    assert len(FAULTS) == 18
    rows, missed = [], []
    for number, fault in enumerate(FAULTS, start=1):
        node = cluster.node(fault.seen_from)
        with fault.make(cluster) as made:
            finding, seen = _finding(node, fault, made or Asked())
        if finding is None:
            missed.append((fault.name, [dict(each) for each in seen.with_status("bad", "warn", "?")]))
            continue
        assert finding["advice"], f"{fault.name}: it says nothing to do"
        assert (seen.status == 0) is fault.serves, (fault.name, seen.with_status("bad"))
        rows.append(_row(number, fault.name, finding, node))
    assert not missed, f"{len(FAULTS) - len(missed)} of {len(FAULTS)}: {missed}"
    table = "\n".join(rows)
    print(table)
    assert table in PAGE.read_text(encoding="utf-8"), f"docs/doctor.md needs these rows:\n{table}"
    until(lambda: doctor(cluster.node("b1")).status == 0, "all is well again")


def test_a_configuration_that_containerd_has_not_read_yet_is_told(cluster: Cluster) -> None:
    node = cluster.node("b1")
    file, now_s = config_file(node), time.time()
    times = file.stat()
    os.utime(file, (now_s + 60, now_s + 60))
    try:
        found = {each["subject"]: each for each in doctor(node).findings}
    finally:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert found["a restart"]["status"] == "warn"
    assert "systemctl restart containerd" in found["a restart"]["advice"]
    assert "a restart" not in {each["subject"] for each in doctor(node).findings}


def test_a_filtered_port_is_seen_from_both_sides(cluster: Cluster) -> None:
    with filtered(cluster.node("a1")):
        seen: list[Mapping[str, Any]] = []

        def found() -> bool:
            seen[:] = [
                each for each in doctor(cluster.node("b1")).findings if each["subject"] == "to the peers"
            ]
            return bool(seen[0]["status"] == "warn")

        until(found, "b1 says that a1 does not answer")
        assert "a1 at 10.9.1.1:30020 (no answer within 2 s)" in seen[0]["found"]
        assert "a NetworkPolicy, a firewall or a security group" in seen[0]["advice"]


def test_from_a_pod_a_foreign_process_is_named_by_its_unit(cluster: Cluster) -> None:
    """Without the host's PIDs, and with no more rights than the agent's container has."""
    node = cluster.node("b1")
    in_pod = ("unshare", "--pid", "--fork", "--mount-proc", "setpriv", "--bounding-set=-all,+dac_read_search")
    with taken_host_port(node):
        seen = doctor(node, before=(*in_pod, "--inh-caps=-all"))
    (found,) = [each for each in seen.findings if each["subject"] == "the HostPort"]
    assert found["status"] == "bad"
    assert "is taken by a process of user 0 that can't be seen from here, in " in found["found"]
    assert seen.with_status("bad") != ()


def test_the_table_fits_into_eighty_columns(cluster: Cluster) -> None:
    node = cluster.node("a1")
    command = [
        *enter(node.netns),
        "script",
        "-qec",
        f"stty cols 80; {SHORTHAUL} doctor --config {node.folder}/agent.yaml",
        "/dev/null",
    ]
    with config_path(node, ""):
        said = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.stdout).replace("\r", "").splitlines()
    assert len(lines) > 12
    assert max(len(line) for line in lines) <= 80


def until(condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + 3 * AGAIN_S
    while not condition():
        assert time.monotonic() < until_s, what
        time.sleep(0.2)


def _finding(node: Node, fault: Fault, asked: Asked) -> tuple[Mapping[str, Any] | None, Seen]:
    """The finding that names the fault: agents take a moment to notice some of them."""
    until_s = time.monotonic() + AGAIN_S
    while True:
        seen = doctor(node, *asked.options, before=asked.before)
        for each in seen.with_status("bad", "warn"):
            if each["subject"] == fault.subject and fault.words in each["found"]:
                return each, seen
        if time.monotonic() > until_s:
            return None, seen
        time.sleep(0.2)


def _row(number: int, fault: str, finding: Mapping[str, Any], node: Node) -> str:
    """A row of the table in docs/doctor.md, without what differs from run to run."""
    folder = str(containerd_of(node).folder)

    def plain(text: str) -> str:
        text = text.replace(f"{folder}/containerd.sock", "/run/containerd/containerd.sock")
        text = text.replace(f"{node.folder}/mounted.sock", "/run/containerd/containerd.sock")
        text = text.replace(f"{folder}/root", "/var/lib/containerd").replace(folder, "/etc/containerd")
        text = text.replace(str(node.folder), "/run/containerd")
        text = text.replace(str(key_file(node)), "/etc/shorthaul-key/keys")
        text = re.sub(r"python[0-9.]* \(pid \d+\)", "python (pid 4711)", text)
        return text.replace("|", "\\|")

    advice = " ".join([finding["advice"], *(f"`{line.strip()}`" for line in finding["lines"] if line)])
    cells = (
        str(number),
        fault,
        finding["status"],
        finding["subject"],
        plain(finding["found"]),
        plain(advice),
    )
    return f"| {' | '.join(cells)} |"

"""All looks together, on a node where nothing runs. Whole nodes: tests/e2e/test_doctor.py."""

from pathlib import Path
from typing import Any

import pytest

from agent.config.load import make_settings
from agent.hosts.hostsfile import Host
from agent.preflight.check import Status
from agent.preflight.containerdfiles import find_containerd
from agent.preflight.doctor import DoctorTarget, examine, judge, name_of
from agent.preflight.gather import Unknown
from agent.preflight.openings import CALLERS

LISTEN = {
    "hostport": "127.0.0.1:1", "admin": "127.0.0.1:2", "peer": "10.0.0.1:30020", "nodeport": "10.0.0.1:30022",
}  # fmt: skip
SETTINGS: dict[str, Any] = {"node": {"name": "a1", "address": "10.0.0.1"}, "listen": LISTEN}


def target(tmp_path: Path, **more: Any) -> DoctorTarget:
    settings = make_settings(SETTINGS | more, [], base=tmp_path)
    return DoctorTarget(
        settings=settings, name="a1", node=find_containerd(tmp_path), listeners=lambda _port: ()
    )


def test_a_node_where_nothing_runs_has_faults_and_every_look_says_something(tmp_path: Path) -> None:
    store = f"containerd://{tmp_path}/c.sock?namespace=k8s.io&root={tmp_path}/root"
    checks = {check.name: check for check in examine(target(tmp_path, store=store))}
    faults = {name for name, check in checks.items() if check.status is Status.BAD}
    assert faults == {"the agent", "containerd's socket", "hosts.toml", "the HostPort"}
    unseen = {name for name, check in checks.items() if check.status is Status.UNKNOWN}
    assert unseen == {"config_path", "the proof", "to the peers", "from the peers", "the clock"}
    assert all(check.hint for check in checks.values() if check.status in (Status.BAD, Status.WARN))


def test_when_no_look_comes_back_nothing_is_a_success(tmp_path: Path) -> None:
    nothing = Unknown(why="no answer within 9 s")
    looks = (
        "ready",
        "topology",
        "flows",
        "registries",
        "reach",
        "content",
        "host port",
        "at host port",
        "at node port",
    )
    found = dict.fromkeys((*looks, "fallbacks", "names", "socket", "api server", "key"), nothing)
    by_the_settings = (CALLERS, "hosts.toml")
    checks = [each for each in judge(target(tmp_path), found) if each.name not in by_the_settings]
    assert {check.status for check in checks} == {Status.BAD, Status.UNKNOWN}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://127.0.0.1:1", "hostport"),
        ("http://[::1]:1", "hostport"),
        ("http://10.0.0.1:30021", "nodeport"),
        ("http://10.96.0.9:30021", "nodeport"),
        ("http://10.96.0.5:80", "clusterip"),
        ("http://10.96.0.5:81", ""),
        ("https://127.0.0.1:1", ""),
        ("http://registry.example", ""),
    ],
)
def test_the_agents_addresses_are_known(tmp_path: Path, url: str, name: str) -> None:
    settings = target(tmp_path, probe={"services": ["10.96.0.5:80"]}).settings
    assert name_of(Host(url=url), settings) == name


def test_what_configure_wrote_is_known_without_the_settings_saying_it(tmp_path: Path) -> None:
    on_host, in_pod = (
        target(tmp_path).settings,
        target(tmp_path, node=SETTINGS["node"] | {"pod_network": True}),
    )
    cluster_ip = Host(url="http://10.96.0.7:80", ours=True)
    assert name_of(cluster_ip, on_host) == "clusterip"
    assert name_of(Host(url="http://127.0.0.1:30020", ours=True), on_host) == ""  # nobody listens there
    assert name_of(Host(url="http://127.0.0.1:30020", ours=True), in_pod.settings) == "hostport"
    looks = (
        "ready",
        "topology",
        "flows",
        "registries",
        "reach",
        "content",
        "host port",
        "at host port",
        "fallbacks",
        "names",
    )
    found = {**dict.fromkeys(looks, Unknown(why="x")), "at node port": ()}
    (check,) = [each for each in judge(in_pod, found) if each.name == "the NodePort"]
    assert check.status is Status.UNKNOWN  # the node's sockets are in another namespace

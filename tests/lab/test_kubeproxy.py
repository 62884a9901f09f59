"""The lab's kube-proxy against what a real one wrote (tests/lab/kubeproxy), as text and in a real namespace.

Compared are lines and their order. Not compared: iptables-save's comments and packet counters, which tell
when and how much, not what; the order in which nft lists chains and a set's elements, which is the order in
which one kube-proxy happened to make them; and nft chains without a rule, to which nothing points: kube-proxy
empties a chain that it needs no more and deletes it a sync later.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lab.kubeproxy import (
    Endpoint,
    Family,
    Mode,
    NodeAddresses,
    Service,
    install,
    iptables_rules,
    nftables_rules,
    remove,
    rules,
)
from benchmarks.lab.network import inside, sweep
from benchmarks.lab.process import run

DUMPS = Path(__file__).parent / "kubeproxy"
NODE = NodeAddresses(addresses=("192.168.60.1",), pod_cidrs=("10.244.0.0/16",))
DUAL = NodeAddresses(
    addresses=("192.168.60.1", "fd00:60::1"), pod_cidrs=("10.244.0.0/16", "fd00:10:244::/48")
)
LOCAL = ("10.244.1.2", True)
REMOTE = (("10.244.2.2", False), ("10.244.3.2", False))
LOCAL6, REMOTE6 = ("fd00:10:244::2", True), ("fd00:10:244:1::2", False)
ROUTE_LOCALNET = Path("/proc/sys/net/ipv4/conf/all/route_localnet")


def service(*endpoints: tuple[str, bool], **other: Any) -> Service:
    """The Service of the dumps, with these endpoints."""
    basics: dict[str, Any] = {
        "namespace": "shorthaul",
        "name": "shorthaul",
        "port_name": "http",
        "cluster_ip": "10.96.0.50",
        "port": 30020,
        "node_port": 30021,
    }
    ready = tuple(Endpoint(ip=ip, port=30022, local=local) for ip, local in endpoints)
    return Service(**{**basics, **other}, endpoints=ready)


def service6(*endpoints: tuple[str, bool], **other: Any) -> Service:
    """Its other half in a dual-stack cluster."""
    return service(*endpoints, cluster_ip="fd00:10:96::50", **other)


STATES = {
    "cluster": service(LOCAL, *REMOTE),
    "etp-local": service(LOCAL, *REMOTE, external_policy="Local"),
    "itp-local": service(LOCAL, *REMOTE, internal_policy="Local"),
    "hostnet": service(*REMOTE, ("192.168.60.1", True)),
    "only-local": service(LOCAL),
    # The hints of topology-aware routing are acted on before rules are written: the same as one endpoint.
    "prefer-close": service(LOCAL),
    "none": service(),
}
NO_LOCAL = {
    "none here": [service(*REMOTE, external_policy="Local", internal_policy="Local")],
    "none here, IPv6": [service6(REMOTE6, external_policy="Local", internal_policy="Local")],
}
BEYOND_THE_DUMPS = {
    **NO_LOCAL,
    "dual-stack": [service(LOCAL, *REMOTE), service6(LOCAL6, REMOTE6)],
    "IPv6, externalTrafficPolicy Local": [service6(LOCAL6, REMOTE6, external_policy="Local")],
    "IPv6, nothing": [service6()],
    "no node port": [service(LOCAL, node_port=None), service6(LOCAL6, node_port=None)],
    "several": [
        service(LOCAL, *REMOTE),
        service(LOCAL, name="other", port_name="", cluster_ip="10.96.0.51", node_port=30031),
        service(namespace="a", cluster_ip="10.96.0.52", node_port=30032),
        service(namespace="b", cluster_ip="10.96.0.53", node_port=30033),
    ],
}


def dump(kind: str, state: str) -> str:
    """What the real one wrote."""
    return next(DUMPS.glob(f"{kind}-{state}.*")).read_text()


def states(kind: str) -> list[str]:
    """The states that there are dumps of."""
    return sorted(path.stem.removeprefix(f"{kind}-") for path in DUMPS.glob(f"{kind}-*"))


def saved(text: str) -> list[str]:
    """The lines of iptables-save without comments, with counters of 0."""
    return [re.sub(r"\[\d+:\d+\]", "[0:0]", line) for line in text.splitlines() if not line.startswith("#")]


def listed(text: str) -> dict[str, list[str]]:
    """What an nft table has: the lines of each set, map and chain that is not empty."""
    text = re.sub(
        r"elements = \{(.*?)\}",
        lambda found: f"elements = {sorted(' '.join(one.split()) for one in found[1].split(','))}",
        text,
        flags=re.DOTALL,
    )
    blocks = re.findall(r"^\t(\w+ \S+) \{\n(.*?)^\t\}", text, re.MULTILINE | re.DOTALL)
    return {head: body.splitlines() for head, body in blocks if body.strip()}


def read_iptables(netns: str, family: Family) -> list[str]:
    return saved(run(["iptables-save" if family == 4 else "ip6tables-save"], netns=netns))


def read_nft(netns: str, family: Family) -> dict[str, list[str]]:
    return listed(run(["nft", "list", "table", "ip" if family == 4 else "ip6", "kube-proxy"], netns=netns))


@pytest.fixture
def netns() -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces: run `make test` as root")
    sweep("shlab")
    name = f"shlab-{os.getpid()}-kubeproxy"
    run(["ip", "netns", "add", name])
    try:
        yield name
    finally:
        run(["ip", "netns", "del", name])


def test_there_is_a_state_for_every_dump() -> None:
    assert set(states("iptables")) == set(STATES)
    assert set(states("nftables")) == {"cluster", "hostnet", "itp-local", "none"}


@pytest.mark.parametrize("state", states("iptables"))
def test_iptables_rules_are_those_of_a_real_kube_proxy(state: str) -> None:
    assert saved(iptables_rules([STATES[state]], NODE, 4)) == saved(dump("iptables", state))


@pytest.mark.parametrize("state", states("nftables"))
def test_nftables_rules_are_those_of_a_real_kube_proxy(state: str) -> None:
    assert listed(nftables_rules([STATES[state]], NODE, 4)) == listed(dump("nftables", state))


@pytest.mark.parametrize("state", NO_LOCAL)
def test_policy_local_without_a_local_endpoint_drops(state: str) -> None:
    family: Family = 6 if "IPv6" in state else 4
    text = iptables_rules(NO_LOCAL[state], DUAL, family)
    drops = [line.split()[1] for line in text.splitlines() if "has no local endpoints" in line]
    assert drops == ["KUBE-EXTERNAL-SERVICES", "KUBE-SERVICES"]
    assert "KUBE-SVL" not in text
    assert "KUBE-EXT-" in text  # from the node itself the NodePort goes to the others' endpoints
    assert nftables_rules(NO_LOCAL[state], DUAL, family).count(": drop }") == 2


def test_ipv6_node_ports_never_include_localhost() -> None:
    text = iptables_rules([service6(LOCAL6)], DUAL, 6)
    assert "-A KUBE-SERVICES ! -d ::1/128" in text
    assert "localnet" not in text


def test_localhost_node_ports_can_be_left_out() -> None:
    node = NodeAddresses(addresses=NODE.addresses, pod_cidrs=NODE.pod_cidrs, localhost_node_ports=False)
    found = rules(Mode.IPTABLES, [STATES["cluster"]], node)
    assert not found.route_localnet
    assert "-A KUBE-SERVICES ! -d 127.0.0.0/8" in found.text[4]
    assert "localnet" not in found.text[4]


@pytest.mark.e2e
def test_iptables_reads_back_what_was_installed_state_after_state(netns: str) -> None:
    for state in states("iptables"):
        install(netns, rules(Mode.IPTABLES, [STATES[state]], NODE))
        assert read_iptables(netns, 4) == saved(dump("iptables", state))


@pytest.mark.e2e
def test_nftables_reads_back_what_was_installed_state_after_state(netns: str) -> None:
    for state in states("nftables"):
        install(netns, rules(Mode.NFTABLES, [STATES[state]], NODE))
        assert read_nft(netns, 4) == listed(dump("nftables", state))


@pytest.mark.e2e
@pytest.mark.parametrize("state", BEYOND_THE_DUMPS)
def test_what_no_dump_shows_reads_back_as_written_too(netns: str, state: str) -> None:
    families: tuple[Family, ...] = (4, 6)
    services = BEYOND_THE_DUMPS[state]
    for mode in Mode:
        install(netns, rules(mode, services, DUAL))
    for family in families:
        assert read_iptables(netns, family) == saved(iptables_rules(services, DUAL, family))
        assert read_nft(netns, family) == listed(nftables_rules(services, DUAL, family))


@pytest.mark.e2e
def test_only_iptables_mode_routes_localnet_and_it_stays_when_rules_go(netns: str) -> None:
    def read() -> str:
        return inside(netns, ROUTE_LOCALNET.read_text).strip()

    inside(netns, lambda: ROUTE_LOCALNET.write_text("0"))
    install(netns, rules(Mode.NFTABLES, [STATES["cluster"]], NODE))
    assert read() == "0"
    remove(netns)
    install(netns, rules(Mode.IPTABLES, [STATES["cluster"]], NODE))
    assert read() == "1"
    remove(netns)
    assert read() == "1"


@pytest.mark.e2e
def test_other_peoples_rules_stay_behind_ours_and_nothing_of_ours_stays(netns: str) -> None:
    run(["iptables", "-t", "nat", "-N", "OTHER"], netns=netns)
    run(["iptables", "-t", "nat", "-A", "OUTPUT", "-j", "OTHER"], netns=netns)
    before = read_iptables(netns, 4)
    for _ in range(2):
        install(netns, rules(Mode.IPTABLES, [STATES["cluster"]], DUAL))
    found = [
        line for line in read_iptables(netns, 4) if line.startswith("-A OUTPUT") and "KUBE-F" not in line
    ]
    assert [line.rpartition(" ")[2] for line in found[-2:]] == ["KUBE-SERVICES", "OTHER"]
    install(netns, rules(Mode.NFTABLES, [STATES["cluster"]], DUAL))
    for _ in range(2):
        remove(netns)
    assert set(before) <= set(read_iptables(netns, 4))
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        assert not [line for line in read_iptables(netns, family) if "KUBE" in line]
    assert "kube-proxy" not in run(["nft", "list", "tables"], netns=netns)

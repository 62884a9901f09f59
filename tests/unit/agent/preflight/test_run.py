"""All findings together, of made-up nodes and of real rules in a network namespace."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.preflight import PreflightTarget, Status, run_checks
from benchmarks.lab.process import Process, run
from tests.unit.agent.preflight.samples import (
    DUMPS,
    JUNK,
    PORT_MAP,
    PORT_MAP_NFT,
    THREE,
    place,
)


def test_a_node_of_junk_has_seventeen_findings(tmp_path: Path) -> None:
    for path in ("mounts", "net/tcp", "net/ip_vs", "self/status", "self/uid_map", "7/comm", "7/stat"):
        place(tmp_path, f"proc/{path}", JUNK)
    place(tmp_path, "sys/kernel/security/lockdown", JUNK)
    checks = run_checks(PreflightTarget(proc=tmp_path / "proc", sys=tmp_path / "sys", kube_proxy_url="\x00"))
    assert len(checks) == 17
    assert len({one.name for one in checks}) == 17
    for one in checks:
        assert (one.detail + one.hint).isprintable()
        assert one.detail
        assert bool(one.hint) == (one.status is not Status.GOOD)


def test_a_node_of_nothing_has_them_too(tmp_path: Path) -> None:
    assert (
        len(run_checks(PreflightTarget(proc=tmp_path, sys=tmp_path, kube_proxy_url="http://127.0.0.1:1")))
        == 17
    )


# Real rules, in a network namespace


@pytest.fixture
def netns() -> Iterator[str]:
    """A network namespace that has a loopback only. Needs root."""
    name = f"shlab-{os.getpid()}-preflight"
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "-n", name, "link", "set", "lo", "up"])
        yield name
    finally:
        run(["ip", "netns", "del", name])


def checks_in(netns: str, *before: str) -> dict[str, tuple[str, str]]:
    """What the preflight says inside: status and detail by name. ``before``: the words in front of it."""
    code = (
        "import json\nfrom agent.preflight import PreflightTarget, run_checks\n"
        "checks = run_checks(PreflightTarget())\n"
        "print(json.dumps({one.name: (one.status.value, one.detail) for one in checks}))"
    )
    found: dict[str, list[str]] = json.loads(run([*before, sys.executable, "-c", code], netns=netns))
    return {name: (status, detail) for name, (status, detail) in found.items()}


def test_looking_changes_nothing(netns: str) -> None:
    found = checks_in(netns)
    assert found["kube-proxy's mode"] == ("ok", "no kube-proxy rules on this node")
    assert found["NodePort's rule"] == ("ok", "nothing here translates 30021")
    assert found["HostPort"][0] == "bad"
    assert run(["nft", "list", "ruleset"], netns=netns) == ""


def test_real_iptables_rules_are_found_stale_then_unhooked_then_gone(netns: str) -> None:
    run(["iptables-restore", str(DUMPS / "iptables-cluster.iptables-save")], netns=netns)
    run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"], netns=netns)
    found = checks_in(netns)
    assert found["kube-proxy's mode"][1].startswith("iptables, by the rules")
    assert found["stale rules"][0] == "warn"
    assert found["NodePort's rule"] == ("ok", f"30021 leads to 3 endpoints ({', '.join(THREE)})")
    assert found["route_localnet"][0] == "warn"
    run(["iptables", "-t", "nat", "-F", "OUTPUT"], netns=netns)
    assert "OUTPUT does not lead" in checks_in(netns)["missing rules"][1]
    run(["iptables", "-t", "nat", "-F"], netns=netns)
    run(["iptables", "-t", "nat", "-X"], netns=netns)
    assert checks_in(netns)["kube-proxy's mode"][1] == "no kube-proxy rules on this node"


@pytest.mark.parametrize("here", [True, False], ids=["here", "in another network namespace"])
def test_only_a_kube_proxy_of_this_network_namespace_keeps_its_rules(
    netns: str, tmp_path: Path, here: bool
) -> None:
    proxy = tmp_path / "kube-proxy"
    shutil.copy("/bin/sleep", proxy)
    run(["iptables-restore", str(DUMPS / "iptables-cluster.iptables-save")], netns=netns)
    process = Process([str(proxy), "600"], log=tmp_path / "log", netns=netns if here else None)
    try:
        comm = Path(f"/proc/{process.pid}/comm")
        process.wait_until(lambda: comm.read_text() == "kube-proxy\n", "a process of that name")
        assert checks_in(netns)["stale rules"][0] == ("ok" if here else "warn")
    finally:
        process.kill()


def test_real_nftables_rules_beside_iptables_ones_are_two_sets(netns: str) -> None:
    run(["nft", "-f", str(DUMPS / "nftables-cluster.nft")], netns=netns)
    found = checks_in(netns)
    assert found["kube-proxy's mode"][1].startswith("nftables, by the rules")
    assert found["NodePort's rule"][1].endswith(
        "on 192.168.60.1; not on 127.0.0.1, where only a process that listens on it answers"
    )
    run(["iptables-restore", str(DUMPS / "iptables-none.iptables-save")], netns=netns)
    found = checks_in(netns)
    assert found["kube-proxy's mode"][1].startswith("iptables, nftables")
    assert "iptables (iptables-save), nftables (nft table ip kube-proxy)" in found["stale rules"][1]


def test_a_real_port_map_is_found(netns: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text(PORT_MAP.replace("-j CNI-HOSTPORT-SETMARK", "-j MARK --set-xmark 0x2000/0x2000"))
    run(["iptables-restore", str(rules)], netns=netns)
    assert "sends 30020 to 10.244.1.2:30022" in checks_in(netns)["HostPort"][1]
    run(["iptables", "-t", "nat", "-F"], netns=netns)
    rules.write_text(PORT_MAP_NFT)
    run(["nft", "-f", str(rules)], netns=netns)
    assert "sends 30020 to 10.244.1.2:30022" in checks_in(netns)["HostPort"][1]


def test_rules_of_the_old_iptables_are_read_or_missed_aloud(netns: str) -> None:
    run(["iptables-legacy-restore", str(DUMPS / "iptables-cluster.iptables-save")], netns=netns)
    found = checks_in(netns)
    assert found["NodePort's rule"] == ("ok", f"30021 leads to 3 endpoints ({', '.join(THREE)})")
    assert "iptables (iptables-legacy-save)" in found["stale rules"][1]
    probe = ["setpriv", "--bounding-set=-all,+net_admin,+bpf", "--inh-caps=-all"]
    found = checks_in(netns, *probe)
    assert found["capabilities"] == ("ok", "BPF, NET_ADMIN")
    assert found["NodePort's rule"][0] == "warn"
    assert "iptables-legacy-save" in found["NodePort's rule"][1]


def test_what_a_user_without_rights_can_not_see_is_said(netns: str) -> None:
    found = checks_in(netns, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert found["capabilities"][0] == "bad"
    assert found["stale rules"][0] == "warn"
    assert "Permission denied" in found["stale rules"][1]

"""What the preflight says of a node: of real rules, of made-up /proc and /sys, and of hostile ones."""

import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.preflight import Check, PreflightTarget, Status, run_checks
from agent.preflight.check import listed, shown
from agent.preflight.compiler import compiler, judge_compiler
from agent.preflight.kubeproxy import (
    Proxy,
    Rules,
    find_proxy,
    missing_rules,
    mode,
    node_port_rule,
    proxy_mode,
    stale_rules,
)
from agent.preflight.node import (
    btf,
    capabilities,
    cgroup2,
    containerd_cgroup,
    kernel,
    kernel_version,
    lockdown,
    tracefs,
)
from agent.preflight.ports import (
    Listener,
    find_listeners,
    host_port,
    is_agent_command,
    node_port_squatter,
    route_localnet,
)
from agent.preflight.reading import Reading, http_get, read_file, run_command
from agent.preflight.rules import (
    Fate,
    NodePortRule,
    ProxyMode,
    RuleSet,
    iptables_port_maps,
    iptables_rules,
    ipvs_rules,
    nft_port_maps,
    nft_rules,
    nft_tables,
)
from benchmarks.lab.process import run

# What a real kube-proxy 1.30 wrote.
_DUMPS = Path(__file__).parents[3] / "lab/kubeproxy"
_THREE = ("10.244.1.2:30022", "10.244.2.2:30022", "10.244.3.2:30022")
_PORT_MAP = """\
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:CNI-DN-0123456789abcdef01234 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-DN-0123456789abcdef01234 -s 10.244.1.0/24 -p tcp -m tcp --dport 30020 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef01234 -s 127.0.0.1/32 -p tcp -m tcp --dport 30020 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef01234 -p tcp -m tcp --dport 30020 -j DNAT --to-destination 10.244.1.2:30022
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"net\\" id: \\"x\\"" -m multiport --dports 30020 -j CNI-DN-0123456789abcdef01234
COMMIT
"""  # noqa: E501
_PORT_MAP_NFT = """\
table ip cni_hostport {
	comment "CNI portmap plugin"
	chain hostports {
		tcp dport 30020 dnat to 10.244.1.2:30022 comment "net-x"
		udp dport 30020 dnat to 10.244.1.3:53 comment "net-y"
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump hostports
	}
}
"""
_IPVS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A83C01:7545 rr
  -> 0AF40102:7546      Masq    1      0          0
  -> 0AF40202:7546      Masq    1      0          0
TCP  0A600032:7544 rr
  -> 0AF40302:7546      Masq    1      0          0
UDP  0A60000A:7545 rr
  -> 0AF40909:0035      Masq    1      0          0
TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:7545 rr
"""
_IPVS_NAT = """\
*nat
:OUTPUT ACCEPT [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-SERVICES - [0:0]
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
"""
_JUNK = bytes(range(256)) * 64


def dump(name: str) -> str:
    return (_DUMPS / name).read_text()


def sample(port: int = 30021, name: str = "iptables-cluster.iptables-save") -> RuleSet:
    text = dump(name)
    found = iptables_rules(text, port, "iptables-save") or nft_rules(text, port, "nft")
    assert found is not None
    return found


IPTABLES, NFTABLES = sample(), sample(name="nftables-cluster.nft")


# Rules


@pytest.mark.parametrize("name", ["cluster", "etp-local", "itp-local"])
def test_iptables_rules_name_every_endpoint_of_a_node_port_under_each_policy(name: str) -> None:
    found = sample(name=f"iptables-{name}.iptables-save")
    assert (found.mode, found.hooked) == (ProxyMode.IPTABLES, True)
    assert found.node_port is not None
    assert found.node_port.fate is Fate.SERVED
    assert set(found.node_port.endpoints) == set(_THREE)


@pytest.mark.parametrize("name", ["iptables-none.iptables-save", "nftables-none.nft"])
def test_a_node_port_without_endpoints_is_refused(name: str) -> None:
    assert sample(name=name).node_port == NodePortRule(fate=Fate.REFUSED)


def test_nft_rules_name_every_endpoint_and_the_address_that_is_answered() -> None:
    assert NFTABLES.hooked
    assert NFTABLES.node_port == NodePortRule(fate=Fate.SERVED, endpoints=_THREE, addresses=("192.168.60.1",))


@pytest.mark.parametrize("name", ["iptables-cluster.iptables-save", "nftables-cluster.nft"])
def test_another_node_port_has_no_rule(name: str) -> None:
    assert sample(3002, name).node_port is None
    assert sample(30022, name).node_port is None


def test_flushed_output_is_not_hooked() -> None:
    text = dump("iptables-cluster.iptables-save")
    flushed = iptables_rules(text.replace("-A OUTPUT", "-A ELSEWHERE"), 30021, "x")
    assert flushed is not None
    assert not flushed.hooked
    jump = "\t\tjump services\n"
    cut = nft_rules(dump("nftables-cluster.nft").replace(jump, ""), 30021, "x")
    assert cut is not None
    assert not cut.hooked


def test_flushed_nat_is_no_rule_set() -> None:
    assert iptables_rules("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n", 30021, "x") is None


def test_drops_are_told_from_refusals() -> None:
    text = dump("iptables-none.iptables-save").replace(
        "-j REJECT --reject-with icmp-port-unreachable", "-j DROP"
    )
    found = iptables_rules(text, 30021, "x")
    assert found is not None
    assert found.node_port == NodePortRule(fate=Fate.DROPPED)
    nft = nft_rules(dump("nftables-none.nft").replace("goto reject-chain", "drop"), 30021, "x")
    assert nft is not None
    assert nft.node_port == NodePortRule(fate=Fate.DROPPED)


def test_comments_are_no_rules() -> None:
    text = dump("iptables-cluster.iptables-save").replace(
        "masquerade traffic for", "--dport 30099 -j KUBE-MARK-MASQ --to-destination 6.6.6.6:6"
    )
    found = iptables_rules(text, 30021, "x")
    assert found is not None
    assert found.node_port is not None
    assert "6.6.6.6:6" not in found.node_port.endpoints
    nft = dump("nftables-cluster.nft").replace(
        "rules for kube-proxy", "tcp . 30021 : goto nowhere dnat to 6.6.6.6"
    )
    found = nft_rules(nft, 30021, "x")
    assert found is not None
    assert found.node_port == NFTABLES.node_port


def test_loops_of_chains_end() -> None:
    text = "*nat\n-A OUTPUT -j KUBE-SERVICES\n-A KUBE-SERVICES -j A\n-A A -j B\n-A B -j A\n"
    text += "-A KUBE-NODEPORTS -p tcp -m tcp --dport 30021 -j A\n-A B -j DNAT --to-destination 10.0.0.1:1\n"
    found = iptables_rules(text, 30021, "x")
    assert found is not None
    assert found.node_port == NodePortRule(fate=Fate.SERVED, endpoints=("10.0.0.1:1",))


def test_ipvs_is_read_from_its_virtual_servers_and_not_taken_for_iptables_mode() -> None:
    assert iptables_rules(_IPVS_NAT, 30021, "x") is None
    found = ipvs_rules(_IPVS, 30021)
    assert found is not None
    assert found.mode is ProxyMode.IPVS
    assert found.node_port == NodePortRule(
        fate=Fate.SERVED,
        endpoints=("10.244.1.2:30022", "10.244.2.2:30022"),
        addresses=("192.168.60.1", "fd00::1"),
    )
    assert ipvs_rules("\n".join(_IPVS.splitlines()[:3]), 30021) is None


def test_port_maps_are_found_in_both_kinds_of_rules() -> None:
    assert iptables_port_maps(_PORT_MAP, 30020) == ("10.244.1.2:30022",)
    assert nft_port_maps(_PORT_MAP_NFT, 30020) == ("10.244.1.2:30022",)
    assert iptables_port_maps(_PORT_MAP, 30021) == nft_port_maps(_PORT_MAP_NFT, 30021) == ()
    assert iptables_port_maps(_PORT_MAP.replace("-j CNI-HOSTPORT-DNAT", "-j ACCEPT"), 30020) == ()


def test_tables_are_listed() -> None:
    assert nft_tables("table ip nat\ntable ip6 kube-proxy\nnonsense\n") == ("ip nat", "ip6 kube-proxy")


@given(st.text(max_size=400))
def test_any_text_is_an_answer(text: str) -> None:
    for hostile in (text, f"*nat\n:KUBE-SERVICES - [0:0]\n{text}", f"table ip kube-proxy {{\n{text}"):
        iptables_rules(hostile, 30021, "x")
        iptables_port_maps(hostile, 30020)
        nft_rules(hostile, 30021, "x")
        nft_port_maps(hostile, 30020)
        nft_tables(hostile)
        ipvs_rules(hostile, 30021)
    kernel_version(text)
    proxy_mode(text)
    judge_compiler(Reading(text=text))
    assert shown(text).isprintable()


def test_cut_and_shuffled_rules_are_an_answer() -> None:
    numbers = random.Random(1)
    for name in ("iptables-etp-local.iptables-save", "nftables-cluster.nft"):
        text = dump(name)
        for _ in range(200):
            lines = text[: numbers.randrange(len(text))].splitlines()
            numbers.shuffle(lines)
            iptables_rules("\n".join(lines), 30021, "x")
            nft_rules("\n".join(lines), 30021, "x")


# kube-proxy


def proxy(*sets: RuleSet, said: str = "", unseen: tuple[str, ...] = (), **facts: bool) -> Proxy:
    return Proxy(
        said=ProxyMode(said) if said else None,
        silence="" if said else "connection refused",
        rules=Rules(sets=sets, unseen=unseen),
        **facts,
    )


def unhooked(rules: RuleSet) -> RuleSet:
    return RuleSet(mode=rules.mode, source=rules.source, hooked=False, node_port=rules.node_port)


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (proxy(NFTABLES, said="nftables"), Status.GOOD, "nftables, as kube-proxy says"),
        (proxy(IPTABLES), Status.GOOD, "iptables, by the rules"),
        (proxy(), Status.GOOD, "no kube-proxy rules on this node"),
        (proxy(unseen=("nft is not installed",)), Status.WARN, "nft is not installed"),
    ],
)
def test_the_mode_is_what_kube_proxy_says_or_what_its_rules_show(
    found: Proxy, status: Status, words: str
) -> None:
    check = mode(found)
    assert check.status is status
    assert words in check.detail


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (proxy(IPTABLES, said="iptables"), Status.GOOD, "none"),
        (proxy(IPTABLES, process=True), Status.GOOD, "none"),
        (proxy(), Status.GOOD, "none"),
        (proxy(IPTABLES), Status.WARN, "does not run"),
        (proxy(IPTABLES, sees_all=False), Status.WARN, "may be stale"),
        (proxy(IPTABLES, NFTABLES, said="nftables"), Status.WARN, "also rules of iptables"),
        (proxy(IPTABLES, IPTABLES, said="iptables"), Status.WARN, "several sets"),
        (proxy(IPTABLES, NFTABLES, process=True), Status.WARN, "several sets"),
        (proxy(IPTABLES, said="iptables", unseen=("nft is not installed",)), Status.WARN, "nft is not"),
    ],
)
def test_rules_that_nobody_keeps_are_stale(found: Proxy, status: Status, words: str) -> None:
    check = stale_rules(found)
    assert check.status is status
    assert words in check.detail
    if words in ("does not run", "also rules of iptables", "several sets"):
        assert "--cleanup" in check.hint
        assert "route_localnet stays" in check.hint


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (proxy(IPTABLES, said="iptables"), Status.GOOD, "none"),
        (proxy(), Status.GOOD, "not known to run"),
        (proxy(said="iptables"), Status.WARN, "chains are gone"),
        (proxy(process=True), Status.WARN, "chains are gone"),
        (proxy(IPTABLES, said="nftables"), Status.WARN, "chains are gone"),
        (proxy(unhooked(IPTABLES), said="iptables"), Status.WARN, "OUTPUT does not lead"),
        (proxy(unhooked(IPTABLES)), Status.WARN, "OUTPUT does not lead"),
        (proxy(said="iptables", unseen=("iptables-save is not installed",)), Status.WARN, "is not installed"),
    ],
)
def test_flushed_rules_are_missed(found: Proxy, status: Status, words: str) -> None:
    check = missing_rules(found)
    assert check.status is status
    assert words in check.detail


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (proxy(IPTABLES), Status.GOOD, "30021 leads to 3 endpoints (10.244.1.2:30022"),
        (proxy(NFTABLES, said="nftables"), Status.GOOD, "on 192.168.60.1; refused on 127.0.0.1"),
        (proxy(), Status.GOOD, "nothing here translates"),
        (proxy(sample(name="nftables-none.nft")), Status.WARN, "no endpoints: refused"),
        (proxy(sample(30099)), Status.WARN, "no rule for 30021"),
        (proxy(said="iptables"), Status.WARN, "no rule for 30021"),
        (proxy(unhooked(IPTABLES)), Status.WARN, "OUTPUT does not lead"),
        (proxy(unseen=("nft: no",)), Status.WARN, "nft: no"),
    ],
)
def test_the_node_ports_rule_says_where_it_leads(found: Proxy, status: Status, words: str) -> None:
    check = node_port_rule(PreflightTarget(), found)
    assert check.status is status
    assert words in check.detail


def test_only_kube_proxys_own_words_are_a_mode() -> None:
    assert proxy_mode("iptables\n") is ProxyMode.IPTABLES
    assert proxy_mode("<html>iptables</html>") is None
    assert proxy_mode("") is None


# The node, made up


def place(root: Path, path: str, text: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("6.18.44-fc", Status.GOOD),
        ("6.15.0", Status.GOOD),
        ("10.0-rc1", Status.GOOD),
        ("6.12.0-amd64", Status.WARN),
        ("5.15.0-105-generic", Status.WARN),
        ("5.14.0-427.el9.x86_64", Status.BAD),
        ("4.18.0", Status.BAD),
        ("", Status.WARN),
        ("6", Status.WARN),
        (_JUNK, Status.WARN),
        (b"9" * 3_000_000, Status.WARN),
    ],
)
def test_old_kernels_are_named(tmp_path: Path, release: str | bytes, status: Status) -> None:
    place(tmp_path, "sys/kernel/osrelease", release)
    check = kernel(PreflightTarget(proc=tmp_path))
    assert check.status is status
    assert (status is Status.GOOD) == (not check.hint)
    assert check.detail.isprintable()
    assert len(check.detail) < 300


def test_btf_may_be_absent(tmp_path: Path) -> None:
    assert btf(PreflightTarget(sys=tmp_path)).status is Status.WARN
    place(tmp_path, "kernel/btf/vmlinux", b"\x9f\xeb")
    assert btf(PreflightTarget(sys=tmp_path)).status is Status.GOOD


def test_cgroup_v2_is_found_in_hybrid_mode_and_missed_with_a_remedy(tmp_path: Path) -> None:
    root = tmp_path / "unified"
    place(root, "cgroup.procs", "")
    place(tmp_path, "mounts", f"cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 {root} cgroup2 rw 0 0\n")
    check, found = cgroup2(PreflightTarget(proc=tmp_path))
    assert (check.status, found) == (Status.GOOD, root)
    place(root, "cgroup.events", "populated 1")
    check, found = cgroup2(PreflightTarget(proc=tmp_path))
    assert (check.status, found) == (Status.WARN, root)
    assert "not the root" in check.detail
    for mounts in (
        "",
        "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n",
        _JUNK,
        f"a {tmp_path}/none cgroup2 rw 0 0",
    ):
        place(tmp_path, "mounts", mounts)
        check, found = cgroup2(PreflightTarget(proc=tmp_path))
        assert (check.status, found) == (Status.BAD, None)
        assert "mount -t cgroup2" in check.hint
    assert cgroup2(PreflightTarget(proc=tmp_path / "none"))[0].status is Status.BAD
    assert cgroup2(PreflightTarget(proc=tmp_path, cgroup=tmp_path))[0].status is Status.BAD


def test_containerds_cgroup_is_found_or_its_want_explained(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    root.mkdir()
    target = PreflightTarget(proc=tmp_path / "proc")
    for where in (None, root):
        check = containerd_cgroup(target, where)
        assert check.status is Status.WARN
        assert "after other programs" in check.detail
    place(root, "system.slice/containerd.service/cgroup.procs", "")
    own = root / "system.slice/containerd.service"
    place(target.proc, "7/comm", "containerd\n")
    place(target.proc, "7/cgroup", "0::/system.slice/containerd.service\n")
    assert containerd_cgroup(target, root) == Check(
        name="containerd's cgroup", status=Status.GOOD, detail=shown(str(own))
    )
    place(target.proc, "7/comm", _JUNK)
    containerd_cgroup(target, root)
    assert containerd_cgroup(PreflightTarget(containerd_cgroup=own), root).status is Status.GOOD
    assert containerd_cgroup(PreflightTarget(containerd_cgroup=tmp_path), root).status is Status.WARN


def test_tracefs_is_not_needed(tmp_path: Path) -> None:
    assert "not mounted; shorthaul does not need it" in tracefs(PreflightTarget(proc=tmp_path)).detail
    place(tmp_path, "mounts", "tracefs /sys/kernel/tracing tracefs rw 0 0\n")
    check = tracefs(PreflightTarget(proc=tmp_path))
    assert (check.status, check.detail) == (Status.GOOD, "at /sys/kernel/tracing; shorthaul does not need it")


@pytest.mark.parametrize(
    ("effective", "uid", "status", "words"),
    [
        ("000001ffffffffff", 0, Status.GOOD, "SYS_ADMIN"),
        ("0000000000200000", 0, Status.GOOD, "SYS_ADMIN"),
        ("0000008000001000", 0, Status.GOOD, "BPF, NET_ADMIN"),
        ("0000008000000000", 0, Status.BAD, "lacks NET_ADMIN"),
        ("0000000000001000", 0, Status.BAD, "lacks BPF"),
        ("0000000000000000", 1000, Status.BAD, "lacks BPF and NET_ADMIN"),
        ("nonsense", 0, Status.WARN, "can't be read"),
    ],
)
def test_capabilities(tmp_path: Path, effective: str, uid: int, status: Status, words: str) -> None:
    place(tmp_path, "self/status", f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{effective}\n")
    place(tmp_path, "self/uid_map", "         0          0 4294967295\n")
    check = capabilities(PreflightTarget(proc=tmp_path))
    assert check.status is status
    assert words in check.detail
    if status is Status.BAD:
        assert "securityContext.capabilities.add: [BPF, NET_ADMIN]" in check.hint
        assert ("runAsUser: 0" in check.hint) == (uid != 0)


def test_capabilities_of_a_user_namespace_do_not_count(tmp_path: Path) -> None:
    place(tmp_path, "self/status", "CapEff:\t000001ffffffffff\n")
    place(tmp_path, "self/uid_map", "0 100000 65536\n")
    check = capabilities(PreflightTarget(proc=tmp_path))
    assert check.status is Status.BAD
    assert "user namespace" in check.detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "the programs read none"),
        (_JUNK, "not shown"),
        (None, "not shown"),
    ],
)
def test_no_lockdown_stands_in_the_way(tmp_path: Path, text: str | bytes | None, words: str) -> None:
    if text is not None:
        place(tmp_path, "kernel/security/lockdown", text)
    check = lockdown(PreflightTarget(sys=tmp_path))
    assert check.status is Status.GOOD
    assert words in check.detail


# BCC


def answer(**said: object) -> Reading:
    return Reading(text="noise\n" + json.dumps(said) + "\n")


@pytest.mark.parametrize(
    ("said", "bcc", "libbpf"),
    [
        (answer(version="0.26.0", file="/x", bpf=True, libbpf=""), Status.GOOD, Status.GOOD),
        (answer(version="0.31.0+ds", file="/x", bpf=True, libbpf="no"), Status.GOOD, Status.BAD),
        (answer(version="0.18.0", file="/x", bpf=True, libbpf=""), Status.WARN, Status.GOOD),
        (answer(version="EVER", file="/x", bpf=True, libbpf=""), Status.WARN, Status.GOOD),
        (answer(error="ModuleNotFoundError: bcc", libbpf=""), Status.BAD, Status.GOOD),
        (answer(version="1.0", file="/site-packages/bcc", bpf=False, libbpf=""), Status.BAD, Status.GOOD),
        (Reading(problem="python3 did not end within 2 s"), Status.WARN, Status.WARN),
        (Reading(text="[1]"), Status.WARN, Status.WARN),
        (Reading(text="{}"), Status.BAD, Status.BAD),
    ],
)
def test_bcc_and_libbpf_are_judged_each_by_itself(said: Reading, bcc: Status, libbpf: Status) -> None:
    checks = judge_compiler(said)
    assert [one.status for one in checks] == [bcc, libbpf]
    assert [bool(one.hint) for one in checks] == [one.status is not Status.GOOD for one in checks]


def test_pypis_bcc_is_told_from_debians() -> None:
    check, _ = judge_compiler(answer(version="1.0", file="/site-packages/bcc/__init__.py", bpf=False))
    assert "another package of that name" in check.detail
    assert "pip uninstall bcc" in check.hint
    assert "python3-bpfcc" in check.hint


def test_the_real_bcc_is_asked_in_a_child() -> None:
    assert [one.status for one in compiler()] == [Status.GOOD, Status.GOOD]
    assert "bcc" not in sys.modules


# Ports


def at(address: str, name: str = "agent", pid: int | None = 7) -> Listener:
    return Listener(address=address, pid=pid, name=name, is_agent=name == "agent" and pid is not None)


@pytest.mark.parametrize(
    ("listeners", "status", "words"),
    [
        ([at("127.0.0.1")], Status.GOOD, "the agent, agent (pid 7) at 127.0.0.1"),
        ([at("127.0.0.1"), at("10.0.0.1")], Status.GOOD, "also agent (pid 7) at 10.0.0.1"),
        ([at("0.0.0.0")], Status.GOOD, "at 0.0.0.0"),
        ([at("::")], Status.GOOD, "at ::"),
        ([], Status.BAD, "no agent listens on 127.0.0.1:30020"),
        ([at("10.0.0.1")], Status.BAD, "also agent (pid 7) at 10.0.0.1"),
        ([at("127.0.0.1", "nginx")], Status.BAD, "taken by nginx (pid 7)"),
        ([at("127.0.0.1"), at("127.0.0.1", "nginx", 9)], Status.BAD, "taken by nginx (pid 9)"),
        ([at("127.0.0.1"), at("0.0.0.0", "nginx", 9)], Status.WARN, "the agent"),
        ([at("0.0.0.0", "nginx")], Status.BAD, "nginx"),
        ([at("127.0.0.1", pid=None)], Status.WARN, "can't be seen"),
        (None, Status.WARN, "can't be read"),
    ],
)
def test_the_host_port_belongs_to_the_agent(
    listeners: list[Listener] | None, status: Status, words: str
) -> None:
    check = host_port(PreflightTarget(), None if listeners is None else tuple(listeners))
    assert check.status is status
    assert words in check.detail
    assert bool(check.hint) == (status is not Status.GOOD)


def test_a_port_map_is_told_from_a_missing_agent() -> None:
    check = host_port(PreflightTarget(), (), ("10.244.1.2:30022",))
    assert check.status is Status.WARN
    assert "HOSTPORT_NAT" in check.detail


@pytest.mark.parametrize(
    ("listeners", "status"),
    [
        ([], Status.GOOD),
        ([at("0.0.0.0", "kube-proxy")], Status.GOOD),
        ([at("10.0.0.1")], Status.WARN),
        ([at("127.0.0.1", pid=None)], Status.WARN),
        ([at("127.0.0.1", "nginx")], Status.BAD),
        ([at("127.0.0.1"), at("10.0.0.1", "nginx")], Status.BAD),
        (None, Status.WARN),
    ],
)
def test_nobody_sits_on_the_node_port(listeners: list[Listener] | None, status: Status) -> None:
    check = node_port_squatter(PreflightTarget(), None if listeners is None else tuple(listeners))
    assert check.status is status
    assert bool(check.hint) == (status is not Status.GOOD)


@pytest.mark.parametrize(
    ("command", "is_agent"),
    [
        (["/venv/bin/python", "/venv/bin/shorthaul", "agent", "--config", "x"], True),
        (["/usr/bin/python3", "-I", "/venv/bin/shorthaul", "agent"], True),
        (["shorthaul", "agent"], True),
        (["shorthaul", "probe"], False),
        (["nginx", "-c", "shorthaul", "x", "shorthaul", "agent"], False),
        (["python3", "-m", "http.server"], False),
        ([], False),
    ],
)
def test_the_agent_is_known_by_its_command_line(command: list[str], is_agent: bool) -> None:
    assert is_agent_command(command) is is_agent


def test_a_real_squatter_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        found = find_listeners(Path("/proc"), port)
        assert found is not None
        assert [(one.address, one.pid, one.is_agent) for one in found] == [("127.0.0.1", os.getpid(), False)]
        target = PreflightTarget(host_port=port, node_port=port)
        assert host_port(target, found).status is node_port_squatter(target, found).status is Status.BAD
    assert find_listeners(Path("/proc"), port) == ()


@pytest.mark.parametrize("table", [None, _JUNK, "  sl  local_address\n   0: 0100007F\n"])
def test_a_proc_without_sense_is_no_answer_and_no_crash(tmp_path: Path, table: str | bytes | None) -> None:
    if table is not None:
        place(tmp_path, "net/tcp", table)
    assert find_listeners(tmp_path, 30020) is None


@pytest.mark.parametrize(
    ("on", "iptables", "mapped", "status", "words"),
    [
        ([], True, True, Status.GOOD, "0 everywhere"),
        (["all"], True, False, Status.GOOD, "kube-proxy's iptables mode sets it"),
        (["all"], False, False, Status.WARN, "left behind"),
        (["cni0"], False, True, Status.GOOD, "port map sets it"),
        (["cni0"], False, False, Status.WARN, "left behind"),
        (["all", "cni0"], False, True, Status.WARN, "all, cni0"),
    ],
)
def test_route_localnet_is_explained(
    tmp_path: Path, on: list[str], iptables: bool, mapped: bool, status: Status, words: str
) -> None:
    for name in ("all", "default", "lo", "cni0", "eth0.5"):
        place(tmp_path, f"sys/net/ipv4/conf/{name}/route_localnet", "1\n" if name in on else "0\n")
    check = route_localnet(PreflightTarget(proc=tmp_path), iptables_proxy=iptables, port_mapped=mapped)
    assert check.status is status
    assert words in check.detail


def test_route_localnet_of_many_and_of_none(tmp_path: Path) -> None:
    check = route_localnet(PreflightTarget(proc=tmp_path), iptables_proxy=False, port_mapped=False)
    assert check.status is Status.WARN
    for number in range(300):
        place(tmp_path, f"sys/net/ipv4/conf/veth{number}/route_localnet", "1\n")
    place(tmp_path, "sys/net/ipv4/conf/all/route_localnet", "0\n")
    check = route_localnet(PreflightTarget(proc=tmp_path), iptables_proxy=False, port_mapped=False)
    assert "and 295 more" in check.detail
    assert len(check.hint) < 300


# Reading


def test_foreign_text_is_shown_on_one_printable_line() -> None:
    assert shown("a\x1b[31m\nb\x00c") == "a?[31m b?c"
    assert len(shown("x" * 1000)) == 120
    assert listed(["1", "2", "3"], 2) == "1, 2 and 1 more"


def test_files_are_read_without_blocking_and_not_for_ever(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert read_file(fifo) == Reading()
    assert len(read_file(Path("/dev/zero")).text) == 1 << 20
    for path in (tmp_path, tmp_path / "none", Path("/proc/self/mem"), Path("x\0y")):
        found = read_file(path)
        assert found.problem
        assert not found.text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-command-here"], "is not installed"),
        (["sh", "-c", "echo denied >&2; exit 4"], "denied"),
        (["sh", "-c", "exit 4"], "exit status 4"),
        (["sh", "-c", "sleep 60 & sleep 60"], "did not end within"),
        (["sh", "-c", "sleep 60 >&2 2>&1 &"], "did not end within"),
        (["sh", "-c", "trap '' TERM; cat /dev/zero"], "printed more than"),
        (["cat", "/dev/zero"], "printed more than"),
    ],
)
def test_commands_fail_with_a_reason_and_in_time(command: list[str], words: str) -> None:
    began_s = time.monotonic()
    found = run_command(command, at_most_s=0.5, most_bytes=1 << 20)
    assert words in found.problem
    assert not found.text
    assert time.monotonic() - began_s < 30  # not the minute that they would sleep


def test_commands_in_directories_for_root_are_found() -> None:
    code = "from agent.preflight.reading import run_command\nprint(run_command(['iptables-save']).problem)"
    assert "is not installed" not in run([sys.executable, "-c", code], env={"PATH": "/usr/bin:/bin"})


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server for one connection; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def work() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    serve(connection)
            except OSError:
                pass

        thread = threading.Thread(target=work)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join()


def _hang(connection: socket.socket) -> None:
    connection.settimeout(30)
    connection.recv(1)


def _drip(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"H")
        time.sleep(0.02)


def _flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"iptables" * 1_000_000)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (_hang, "does not answer within"),
        (_drip, "does not answer within"),
        (_flood, "answers more than 64 KiB"),
        (lambda one: one.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n"), "answers 404"),
        (lambda one: one.sendall(_JUNK), "does not speak HTTP"),
        (lambda one: None, "does not speak HTTP"),
    ],
)
def test_http_servers_of_any_kind_are_survived(serve: Callable[[socket.socket], None], words: str) -> None:
    with server(serve) as url:
        found = http_get(url, at_most_s=0.3)
    assert words in found.problem
    assert not found.text


def test_http_bodies_are_read() -> None:
    with server(lambda one: one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\niptables")) as url:
        assert http_get(f"{url}/proxyMode") == Reading(text="iptables")
    assert "refused" in http_get(url).problem


@pytest.mark.parametrize(
    "url", ["", "x", "https://127.0.0.1:1", "http://kube.example:1", "http://[::1", "http://1:x"]
)
def test_addresses_that_would_need_more_than_a_socket_are_refused(url: str) -> None:
    assert "is no http://IP:PORT" in http_get(url).problem


# All of it


def test_a_node_of_junk_has_seventeen_findings(tmp_path: Path) -> None:
    for path in ("mounts", "net/tcp", "net/ip_vs", "self/status", "self/uid_map", "7/comm", "7/stat"):
        place(tmp_path, f"proc/{path}", _JUNK)
    place(tmp_path, "sys/kernel/security/lockdown", _JUNK)
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
    name = f"shpf-{os.getpid()}"
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
    run(["iptables-restore", str(_DUMPS / "iptables-cluster.iptables-save")], netns=netns)
    run(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"], netns=netns)
    found = checks_in(netns)
    assert found["kube-proxy's mode"][1].startswith("iptables, by the rules")
    assert found["stale rules"][0] == "warn"
    assert found["NodePort's rule"] == ("ok", f"30021 leads to 3 endpoints ({', '.join(_THREE)})")
    assert found["route_localnet"][0] == "warn"
    run(["iptables", "-t", "nat", "-F", "OUTPUT"], netns=netns)
    assert "OUTPUT does not lead" in checks_in(netns)["missing rules"][1]
    run(["iptables", "-t", "nat", "-F"], netns=netns)
    run(["iptables", "-t", "nat", "-X"], netns=netns)
    assert checks_in(netns)["kube-proxy's mode"][1] == "no kube-proxy rules on this node"


def test_real_nftables_rules_beside_iptables_ones_are_two_sets(netns: str) -> None:
    run(["nft", "-f", str(_DUMPS / "nftables-cluster.nft")], netns=netns)
    found = checks_in(netns)
    assert found["kube-proxy's mode"][1].startswith("nftables, by the rules")
    assert found["NodePort's rule"][1].endswith("on 192.168.60.1; refused on 127.0.0.1")
    run(["iptables-restore", str(_DUMPS / "iptables-none.iptables-save")], netns=netns)
    found = checks_in(netns)
    assert found["kube-proxy's mode"][1].startswith("iptables, nftables")
    assert "iptables (iptables-save), nftables (nft table ip kube-proxy)" in found["stale rules"][1]


def test_a_real_port_map_is_found(netns: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text(_PORT_MAP.replace("-j CNI-HOSTPORT-SETMARK", "-j MARK --set-xmark 0x2000/0x2000"))
    run(["iptables-restore", str(rules)], netns=netns)
    assert "sends 30020 to 10.244.1.2:30022" in checks_in(netns)["HostPort"][1]
    run(["iptables", "-t", "nat", "-F"], netns=netns)
    rules.write_text(_PORT_MAP_NFT)
    run(["nft", "-f", str(rules)], netns=netns)
    assert "sends 30020 to 10.244.1.2:30022" in checks_in(netns)["HostPort"][1]


def test_rules_of_the_old_iptables_are_read_or_missed_aloud(netns: str) -> None:
    run(["iptables-legacy-restore", str(_DUMPS / "iptables-cluster.iptables-save")], netns=netns)
    found = checks_in(netns)
    assert found["NodePort's rule"] == ("ok", f"30021 leads to 3 endpoints ({', '.join(_THREE)})")
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


def test_kube_proxys_own_answer_is_believed() -> None:
    with server(lambda one: one.sendall(b"HTTP/1.0 200 OK\r\n\r\nnftables")) as url:
        found = find_proxy(PreflightTarget(kube_proxy_url=url))
    assert (found.said, found.runs) == (ProxyMode.NFTABLES, True)
    with server(lambda one: one.sendall(b"HTTP/1.0 200 OK\r\n\r\n\x1b[2Jhello")) as url:
        found = find_proxy(PreflightTarget(kube_proxy_url=url))
    assert found.said is None
    assert found.silence == "answers '?[2Jhello'"

"""Rules as the preflight reads them: real ones, made-up ones, hostile ones."""

import random
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.preflight.check import shown
from agent.preflight.compiler import judge_compiler
from agent.preflight.kubeproxy import (
    proxy_mode,
)
from agent.preflight.node import (
    kernel_version,
)
from agent.preflight.reading import Reading
from agent.preflight.rules import (
    Fate,
    NodePortRule,
    ProxyMode,
    iptables_port_maps,
    iptables_rules,
    ipvs_rules,
    nft_port_maps,
    nft_rules,
    nft_tables,
)
from tests.unit.agent.preflight.samples import (
    IPVS,
    IPVS_NAT,
    NFTABLES,
    PORT_MAP,
    PORT_MAP_NFT,
    THREE,
    dump,
    nft_one_rule,
    sample,
)


@pytest.mark.parametrize("name", ["cluster", "etp-local", "itp-local"])
def test_iptables_rules_name_every_endpoint_of_a_node_port_under_each_policy(name: str) -> None:
    found = sample(name=f"iptables-{name}.iptables-save")
    assert (found.mode, found.hooked) == (ProxyMode.IPTABLES, True)
    assert found.node_port is not None
    assert found.node_port.fate is Fate.SERVED
    assert set(found.node_port.endpoints) == set(THREE)


@pytest.mark.parametrize("name", ["iptables-none.iptables-save", "nftables-none.nft"])
def test_a_node_port_without_endpoints_is_refused(name: str) -> None:
    assert sample(name=name).node_port == NodePortRule(fate=Fate.REFUSED)


def test_nft_rules_name_every_endpoint_and_the_address_that_is_answered() -> None:
    assert NFTABLES.hooked
    assert NFTABLES.node_port == NodePortRule(fate=Fate.SERVED, endpoints=THREE, addresses=("192.168.60.1",))


@pytest.mark.parametrize(
    ("destinations", "endpoints"),
    [
        (
            "numgen random mod 3 map "
            "{ 0 : 10.244.1.2 . 30022, 1 : 10.244.2.2 . 30022, 2 : 10.244.3.2 . 30022 }",
            THREE,
        ),
        ("numgen random mod 1 map { 0 : 10.244.1.2 . 30022 }", THREE[:1]),
        ("numgen random mod 2 map @two", THREE[:2]),
        ("10.244.1.2:30022", THREE[:1]),
        ("jhash ip saddr mod 2 map { 0 : 10.244.1.2 . 30022, 1 : 10.244.2.2 . 30022 }", THREE[:2]),
    ],
)
def test_nft_rules_of_newer_kube_proxies_name_every_endpoint(
    destinations: str, endpoints: tuple[str, ...]
) -> None:
    two = "\tmap two {\n\t\telements = { 0 : 10.244.1.2 . 30022,\n\t\t\t     1 : 10.244.2.2 . 30022 }\n\t}\n"
    found = nft_rules(nft_one_rule(destinations, more=two), 30021, "nft")
    assert found is not None
    assert found.hooked
    assert found.node_port == NodePortRule(fate=Fate.SERVED, endpoints=endpoints, addresses=("192.168.60.1",))


def test_nft_rules_name_ipv6_endpoints_in_brackets() -> None:
    destinations = "numgen random mod 2 map { 0 : fd00::1 . 30022, 1 : fd00:0:0:1::2 . 30022 }"
    found = nft_rules(nft_one_rule(destinations, family="ip6"), 30021, "nft")
    assert found is not None
    assert found.node_port is not None
    assert found.node_port.endpoints == ("[fd00::1]:30022", "[fd00:0:0:1::2]:30022")


@pytest.mark.parametrize(
    "destinations",
    [
        "numgen random mod 3 map @of-another-table",
        "ct mark map { 0x1 : 10.244.1.2 }",
        "numgen random mod 2 offset 1",
        "10.244.1.2-10.244.1.9:30022",
        "th dport",
    ],
)
def test_a_rule_of_an_unknown_form_is_not_taken_for_endpoints(destinations: str) -> None:
    found = nft_rules(nft_one_rule(destinations), 30021, "nft")
    assert found is not None
    assert found.node_port is not None
    assert (found.node_port.fate, found.node_port.endpoints) == (Fate.UNREAD, ())


def test_a_real_nft_prints_the_rule_in_the_form_that_is_read() -> None:
    # With many endpoints: it must not matter whether nft breaks the line.
    places = [f"10.244.{number}.2 . 30022" for number in range(200)]
    numbered = ", ".join(f"{number} : {place}" for number, place in enumerate(places))
    written = nft_one_rule(f"numgen random mod 200 map {{ {numbered} }}")
    # nft wants a chain before the map that names it.
    heads = re.findall(r"^\tchain (\S+) \{$", written, re.MULTILINE)
    declared = "".join(f"add chain ip kube-proxy {name}\n" for name in heads if name != "nat-output")
    script = "unshare --net sh -c 'nft -f - && nft list table ip kube-proxy'"
    done = subprocess.run(
        ["sh", "-c", script],
        input=f"add table ip kube-proxy\n{declared}{written}",
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = nft_rules(done.stdout, 30021, "nft")
    assert found is not None
    assert found.node_port is not None
    assert found.node_port.endpoints == tuple(place.replace(" . ", ":") for place in places)


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
    assert iptables_rules(IPVS_NAT, 30021, "x") is None
    found = ipvs_rules(IPVS, 30021)
    assert found is not None
    assert found.mode is ProxyMode.IPVS
    assert found.node_port == NodePortRule(
        fate=Fate.SERVED,
        endpoints=("10.244.1.2:30022", "10.244.2.2:30022"),
        addresses=("192.168.60.1", "fd00::1"),
    )
    assert ipvs_rules("\n".join(IPVS.splitlines()[:3]), 30021) is None


def test_port_maps_are_found_in_both_kinds_of_rules() -> None:
    assert iptables_port_maps(PORT_MAP, 30020) == ("10.244.1.2:30022",)
    assert nft_port_maps(PORT_MAP_NFT, 30020) == ("10.244.1.2:30022",)
    assert iptables_port_maps(PORT_MAP, 30021) == nft_port_maps(PORT_MAP_NFT, 30021) == ()
    assert iptables_port_maps(PORT_MAP.replace("-j CNI-HOSTPORT-DNAT", "-j ACCEPT"), 30020) == ()


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

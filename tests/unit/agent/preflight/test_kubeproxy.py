"""What is said of kube-proxy: its mode, and whether its rules are stale, missing or lead anywhere."""

from dataclasses import replace

import pytest

from agent.preflight import PreflightTarget, Status
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
from agent.preflight.rules import (
    Fate,
    NodePortRule,
    ProxyMode,
    RuleSet,
)
from tests.unit.agent.preflight.samples import IPTABLES, NFTABLES, sample, server


def proxy(
    *sets: RuleSet,
    said: str = "",
    unseen: tuple[str, ...] = (),
    process: bool | None = False,
    sees_all: bool = True,
) -> Proxy:
    return Proxy(
        said=ProxyMode(said) if said else None,
        silence="" if said else "connection refused",
        rules=Rules(sets=sets, unseen=unseen),
        process=process,
        sees_all=sees_all,
    )


def unread(rules: RuleSet) -> RuleSet:
    return replace(rules, node_port=NodePortRule(fate=Fate.UNREAD))


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
        (proxy(IPTABLES, process=None), Status.WARN, "may be stale"),
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
        (proxy(NFTABLES, said="nftables"), Status.GOOD, "on 192.168.60.1; not on 127.0.0.1"),
        # Rules that another mode left behind answer where the present ones do not.
        (
            proxy(NFTABLES, IPTABLES, said="nftables"),
            Status.GOOD,
            "on 192.168.60.1; on 127.0.0.1 the rules of iptables",
        ),
        (proxy(NFTABLES, unhooked(IPTABLES), said="nftables"), Status.GOOD, "; not on 127.0.0.1"),
        (proxy(unread(NFTABLES), said="nftables"), Status.WARN, "where it leads is not known"),
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


def test_kube_proxys_own_answer_is_believed() -> None:
    with server(lambda one: one.sendall(b"HTTP/1.0 200 OK\r\n\r\nnftables")) as url:
        found = find_proxy(PreflightTarget(kube_proxy_url=url))
    assert (found.said, found.runs) == (ProxyMode.NFTABLES, True)
    with server(lambda one: one.sendall(b"HTTP/1.0 200 OK\r\n\r\n\x1b[2Jhello")) as url:
        found = find_proxy(PreflightTarget(kube_proxy_url=url))
    assert found.said is None
    assert found.silence == "answers '?[2Jhello'"

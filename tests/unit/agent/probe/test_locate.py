"""Where an address is, by what ``ip -json`` tells of the routes that real networks write."""

from typing import Any

import pytest

from agent.flows.verdicts import Location
from agent.probe.locate import Locator, place
from bpf.events import pack_ip

NODE = "192.168.60.1"

Json = dict[str, Any]


def link(name: str, *addresses: str, kind: str | None = None) -> Json:
    """As ``ip -json -d address show`` tells of one."""
    entries = [{"family": "inet", "local": each, "prefixlen": 24, "scope": "global"} for each in addresses]
    made: Json = {"ifindex": 2, "ifname": name, "flags": ["UP"], "mtu": 1500, "addr_info": entries}
    return made if kind is None else {**made, "linkinfo": {"info_kind": kind}}


def route(to: str, dev: str, prefsrc: str = NODE, **more: Any) -> Json:
    """As ``ip -json route get`` tells of one."""
    return {"dst": to, **more, "dev": dev, "prefsrc": prefsrc, "flags": [], "uid": 0, "cache": []}


LINKS = [
    link("lo", "127.0.0.1", "::1"),
    link("eth0", NODE, "fe80::447a:32ff:fed8:2447"),
    link("cni0", "10.244.1.254", kind="bridge"),
    link("cali12", kind="veth"),
    link("eni1", kind="veth"),
    link("flannel.1", "10.244.1.0", kind="vxlan"),
    link("cilium_host", "10.0.1.5", kind="veth"),
    link("wireguard.cali", "10.65.0.1", kind="wireguard"),
    link("tun-1921686002", kind="ipip"),
]

CASES = {
    "the node's own address": (
        {**route(NODE, "lo"), "type": "local", "cache": ["local"]},
        Location.HOST,
    ),
    "loopback": ({**route("127.0.0.1", "lo", "127.0.0.1"), "type": "local"}, Location.HOST),
    "a pod on the CNI bridge": (route("10.244.1.1", "cni0", "10.244.1.254"), Location.POD),
    "a Calico pod, a /32 of its own": (route("10.244.9.7", "cali12"), Location.POD),
    "a pod of the AWS VPC CNI, in the node's own subnet": (route("192.168.60.77", "eni1"), Location.POD),
    "another node on the same network": (route("192.168.60.2", "eth0"), Location.REMOTE),
    "another node's pod by host-gw": (route("10.244.2.5", "eth0", gateway="192.168.60.2"), Location.REMOTE),
    "another node's pod by flannel's VXLAN": (
        route("10.244.2.5", "flannel.1", "10.244.1.0", gateway="10.244.2.0"),
        Location.REMOTE,
    ),
    "beyond the router": (route("203.0.113.8", "eth0", gateway="192.168.60.254"), Location.REMOTE),
    "by a router of the other family": (
        route("10.88.0.1", "eth0", via={"family": "inet6", "host": "fe80::1"}),
        Location.REMOTE,
    ),
    "Cilium, where this node itself is the gateway of all pods": (
        route("10.0.1.33", "cilium_host", "10.0.1.5", gateway="10.0.1.5"),
        Location.UNSURE,
    ),
    "an interface that is gone by now": (route("10.244.1.1", "veth9"), Location.UNSURE),
    "nothing that is a route": ({}, Location.UNSURE),
}


@pytest.mark.parametrize("case", CASES)
def test_address_is_located_by_its_route(case: str) -> None:
    found, expected = CASES[case]
    assert place(found, LINKS, node_address=NODE) is expected


def test_bridge_that_is_the_node_s_own_network_does_not_tell() -> None:
    """Pods may be bridged right into it, beside the other nodes."""
    links = [link("br0", NODE, kind="bridge")]
    assert place(route("192.168.60.2", "br0"), links, node_address=NODE) is Location.UNSURE


@pytest.mark.parametrize("device", ["wireguard.cali", "tun-1921686002"])
def test_tunnel_to_other_nodes_is_no_pod_of_this_one(device: str) -> None:
    """Calico's WireGuard and kube-router's tunnels have routes without a gateway."""
    assert place(route("10.65.1.7", device), LINKS, node_address=NODE) in (Location.REMOTE, Location.UNSURE)


def test_node_whose_address_is_on_no_interface_knows_no_pods() -> None:
    """Which interface leads to the other nodes is not known then."""
    assert place(route("192.168.60.2", "eth0"), LINKS, node_address="203.0.113.1") is Location.UNSURE


def test_without_links_only_routers_and_own_addresses_tell() -> None:
    assert place(route("10.244.1.1", "cni0"), [], node_address=NODE) is Location.UNSURE
    assert (
        place(route("203.0.113.8", "eth0", gateway="192.168.60.254"), [], node_address=NODE)
        is Location.REMOTE
    )


async def test_locator_asks_the_real_routing_table() -> None:
    locator = Locator(NODE)
    assert await locator.locate(pack_ip("127.0.0.1")) is Location.HOST
    assert await locator.locate(pack_ip("::1")) is Location.HOST


async def test_locator_is_unsure_where_there_is_no_route() -> None:
    assert await Locator(NODE).locate(pack_ip("::")) is not Location.POD

"""Which connections are the local leg, and where addresses are."""

import pytest

from agent.flows.verdicts import EndpointName, Location
from bpf.events import pack_ip
from tests.unit.agent.flows.scenes import BRIDGE_IP, NODE_IP, POD_IP, REMOTE_IP, VIP, address, node


@pytest.mark.parametrize(
    ("asked", "endpoint"),
    [
        ("127.0.0.1:30020", EndpointName.HOSTPORT),
        ("127.9.9.9:30020", EndpointName.HOSTPORT),
        ("[::1]:30020", EndpointName.HOSTPORT),
        ("[::ffff:127.0.0.1]:30020", EndpointName.HOSTPORT),
        ("0.0.0.0:30020", EndpointName.HOSTPORT),
        ("[::]:30020", EndpointName.HOSTPORT),
        (f"{NODE_IP}:30020", EndpointName.HOSTPORT),
        (f"{NODE_IP}:30021", EndpointName.NODEPORT),
        ("[fd00::1]:30021", EndpointName.NODEPORT),
        (VIP, EndpointName.CLUSTERIP),
        ("10.96.0.30:81", None),
        ("192.168.60.2:30020", None),  # another node's agent
        ("192.168.60.2:30021", None),
        (f"{POD_IP}:5000", None),
        ("127.0.0.1:80", None),
    ],
)
def test_local_leg_is_what_asks_for_this_nodes_ports_or_a_service(
    asked: str, endpoint: EndpointName | None
) -> None:
    assert node().endpoint(address(asked)) is endpoint


def test_service_of_the_nodes_own_port_is_still_a_service() -> None:
    asked = address(f"{NODE_IP}:30020")
    assert node(services=frozenset({asked})).endpoint(asked) is EndpointName.CLUSTERIP


def test_own_addresses_are_known_and_all_others_must_be_found_out() -> None:
    view = node()
    assert view.location(pack_ip(BRIDGE_IP)) is Location.HOST
    assert view.location(pack_ip("127.0.0.1")) is Location.HOST
    assert view.location(pack_ip(REMOTE_IP)) is Location.REMOTE
    assert view.location(pack_ip("10.9.9.9")) is None


def test_own_address_stays_the_nodes_whatever_was_found_out_before() -> None:
    view = node()
    view.set_location(pack_ip(NODE_IP), Location.REMOTE)
    assert view.location(pack_ip(NODE_IP)) is Location.HOST


def test_places_are_forgotten_when_routes_change() -> None:
    view = node()
    view.forget_locations()
    assert view.location(pack_ip(POD_IP)) is None


def test_number_of_known_places_is_bounded() -> None:
    view = node()
    known = [number.to_bytes(16, "big") for number in range(1 << 64, (1 << 64) + 10_000)]
    for ip in known:
        view.set_location(ip, Location.REMOTE)
    assert view.location(known[-1]) is Location.REMOTE
    assert sum(view.location(ip) is not None for ip in known) <= 4096

"""How a peer is addressed."""

import pytest

from agent.members.member import Peer
from tests.unit.twins import located, node


@pytest.mark.parametrize(
    ("address", "authority"), [("10.0.0.7", "10.0.0.7:30020"), ("fd00::7", "[fd00::7]:30020")]
)
def test_address_with_its_port_is_written_as_in_a_url(address: str, authority: str) -> None:
    peer = Peer(name=node("p"), address=address, port=30020, placement=located())
    assert peer.authority == authority
    assert peer.base_url == f"http://{authority}"

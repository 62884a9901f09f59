"""The node's addresses in a table of the kernel that may be too small, or fail."""

import pytest

from bpf.addresses import AddressTable
from bpf.errors import BpfError


class Kernel:
    """A table that holds ``room`` addresses."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.ips: set[bytes] = set()

    def add(self, ip: bytes) -> None:
        if len(self.ips) >= self.room:
            raise BpfError("no room", hint="make it larger")
        self.ips.add(ip)


def addresses(*numbers: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in numbers]


def table(kernel: Kernel, at_most: int = 3) -> AddressTable:
    return AddressTable(kernel.add, kernel.ips.remove, at_most=at_most)


def test_table_has_the_addresses_of_now() -> None:
    kernel = Kernel(3)
    made = table(kernel)
    for now in (addresses(1, 2), addresses(2, 3, 4), addresses(), addresses(5)):
        made.use(now)
        assert kernel.ips == set(now)


def test_first_addresses_are_there_even_if_they_come_when_the_table_is_full() -> None:
    kernel = Kernel(3)
    made = table(kernel)
    made.use(addresses(5, 6, 7, 8))
    assert kernel.ips == set(addresses(5, 6, 7))
    made.use(addresses(1, 2, 5, 6, 7, 8))
    assert kernel.ips == set(addresses(1, 2, 5))


def test_address_that_had_no_room_is_added_when_there_is_some() -> None:
    kernel = Kernel(1)
    made = table(kernel)
    made.use(addresses(1, 2, 3))
    assert kernel.ips == set(addresses(1))
    kernel.room = 3
    made.use(addresses(1, 2, 3))
    assert kernel.ips == set(addresses(1, 2, 3))


def test_missing_addresses_are_told_when_their_number_changes(caplog: pytest.LogCaptureFixture) -> None:
    made = table(Kernel(3))
    for now in (addresses(1, 2, 3, 4), addresses(1, 2, 3, 4), addresses(1, 2, 3, 4, 5), addresses(1)):
        made.use(now)
    assert [record.message for record in caplog.records] == [
        "connections to 1 of this node's addresses are not judged: the table holds 3",
        "connections to 2 of this node's addresses are not judged: the table holds 3",
    ]

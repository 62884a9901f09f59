"""Records of the ring buffer, whole and broken, and the addresses in them."""

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf.events import (
    LAYOUT,
    VERSION,
    Address,
    Event,
    EventInvalid,
    Flag,
    Kind,
    Tuple,
    decode,
    format_ip,
    is_loopback,
    pack_ip,
)
from bpf.source import ReplaySource

LOOPBACK = pack_ip("127.0.0.1")


def record(
    *, version: int = VERSION, size: int = LAYOUT.size, kind: int = 1, comm: bytes = b"containerd"
) -> bytes:
    nothing = (b"\0" * 16, 0, 0)
    head = (version, size, kind, 0, 0, 0, *(0,) * 7, *(0,) * 3, comm)
    return LAYOUT.pack(*head, LOOPBACK, 30020, 0, *nothing * 4)


# Whole ones


def test_record_is_decoded() -> None:
    event = decode(record())
    assert (event.kind, event.comm, event.intent) == (Kind.FLOW, "containerd", Address(LOOPBACK, 30020))


def test_kind_is_one_of_the_enum() -> None:
    assert [decode(record(kind=int(kind))).kind for kind in Kind] == list(Kind)


@pytest.mark.parametrize(
    ("comm", "text"),
    [
        (b"containerd", "containerd"),
        (b"", ""),
        (b"exactly-16-bytes", "exactly-16-bytes"),
        (b"ctr\0left over", "ctr"),
        (b"\0hidden", ""),
        ("dæmon".encode(), "dæmon"),
        (b"\xff\xfebad", "��bad"),
        ("fünfzehn-lang-ü".encode()[:16], "fünfzehn-lang-\ufffd"),
    ],
)
def test_name_of_a_process_may_be_any_bytes(comm: bytes, text: str) -> None:
    assert decode(record(comm=comm)).comm == text


def test_equal_addresses_of_one_event_are_one_object() -> None:
    """Thousands are kept."""
    own = pack_ip("192.0.2.77")
    here, there = (own, 40000, 0), (own, 30020, 0)
    head = (VERSION, LAYOUT.size, 1, 0, 0, 0, *(0,) * 10, b"containerd")
    raw = LAYOUT.pack(*head, *there, *here, *there, *here, *there)
    event = decode(raw)
    assert event.wire is event.socket
    assert event.intent is event.socket.destination
    assert event.socket.source.ip is event.socket.destination.ip
    found = (event.intent, *event.socket, *event.wire)
    for place, number in (
        (92, 0),
        (108, 0),
        (112, 1),
        (128, 1),
        (132, 2),
        (148, 2),
        (152, 3),
        (172, 4),
        (188, 4),
    ):
        other = bytearray(raw)
        other[place] ^= 1  # a byte of an address or a port
        changed = decode(bytes(other))
        ends = (changed.intent, *changed.socket, *changed.wire)
        assert [one != two for one, two in zip(ends, found, strict=True)].index(True) == number
        assert sum(one != two for one, two in zip(ends, found, strict=True)) == 1


@pytest.mark.parametrize("by_client", [True, False], ids=["client's", "server's"])
def test_what_events_of_many_connections_have_in_common_is_one_object(by_client: bool) -> None:
    flags, netns, cgroup = Flag.CLIENT if by_client else 0, 1 << 40, 1 << 41
    there = (LOOPBACK, 30020, 0)

    def event(port: int) -> Event:
        here = (LOOPBACK, port, 0)
        head = (VERSION, LAYOUT.size, 1, flags, 0, 0, 5, 6, 7, netns, cgroup, *(0,) * 5, b"containerd")
        ends = (here, there) if by_client else (there, here)
        return decode(LAYOUT.pack(*head, *there, *ends[0], *ends[1], *ends[0], *ends[1]))

    one, other = event(40000), event(50000)
    assert one.netns is other.netns
    assert one.cgroup is other.cgroup
    server = 1 if by_client else 0
    assert one.socket[server] is other.socket[server]
    assert (one.socket[server], one.socket[1 - server].port) == (Address(LOOPBACK, 30020), 40000)
    assert (other.socket[server], other.socket[1 - server].port) == (Address(LOOPBACK, 30020), 50000)


def test_ring_buffer_may_hand_out_more_than_the_record() -> None:
    assert decode(record() + b"\0" * 8) == decode(record())


# Broken ones


@given(st.integers(0, LAYOUT.size - 1))
def test_truncated_record_is_refused(length: int) -> None:
    with pytest.raises(EventInvalid, match=f"{length} bytes"):
        decode(record()[:length])


@given(st.integers(0, 65535).filter(lambda version: version != VERSION))
def test_other_version_is_refused_by_its_number(version: int) -> None:
    with pytest.raises(EventInvalid, match=f"version {version}, "):
        decode(record(version=version))


@given(st.integers(0, 65535).filter(lambda size: size != LAYOUT.size))
def test_record_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(EventInvalid, match=f" {size} bytes"):
        decode(record(size=size))


@given(st.integers(0, 255).filter(lambda kind: kind not in list(Kind)))
def test_kind_nobody_knows_is_refused(kind: int) -> None:
    with pytest.raises(EventInvalid, match=f"kind {kind}"):
        decode(record(kind=kind))


@given(st.binary(max_size=2 * LAYOUT.size))
def test_random_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(EventInvalid):
        decode(raw)


@given(st.binary(min_size=LAYOUT.size - 5, max_size=LAYOUT.size), st.sampled_from(Kind))
def test_any_bytes_with_a_right_head_are_an_event_that_can_be_shown(rest: bytes, kind: Kind) -> None:
    raw = record(kind=int(kind))[:5] + rest
    event = decode(raw)
    for address in (event.intent, *event.socket, *event.wire):
        host, _, port = str(address).rpartition(":")
        assert Address(pack_ip(host.strip("[]")), int(port)) == address
    assert event.comm.isprintable() or event.comm


@given(st.data())
def test_corrupted_record_is_another_event_or_refused(data: st.DataObject) -> None:
    raw = bytearray(record())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(EventInvalid):
        assert isinstance(decode(bytes(raw)), Event)


# Addresses


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:192.168.60.1", "192.168.60.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("::1", "::1"),
        ("fd00:0:0:0::1", "fd00::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::127.0.0.1", "::7f00:1"),  # IPv4-compatible is not v4-mapped
    ],
)
def test_address_is_sixteen_bytes_and_shown_in_its_short_form(written: str, shown: str) -> None:
    packed = pack_ip(written)
    assert len(packed) == 16
    assert format_ip(packed) == shown


def test_v4_mapped_and_ipv4_are_the_same_address() -> None:
    assert pack_ip("::ffff:127.0.0.1") == pack_ip("127.0.0.1")


@given(st.ip_addresses())
def test_addresses_come_back_as_they_were(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    assert format_ip(pack_ip(str(ip))) == str(mapped or ip)


@given(st.binary(min_size=16, max_size=16))
def test_any_sixteen_bytes_are_an_address(ip: bytes) -> None:
    assert pack_ip(format_ip(ip)) == ip


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "1.2.3.4:5", "[::1]", "::g"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        pack_ip(text)


def test_ipv6_address_is_shown_in_brackets_with_its_port() -> None:
    assert str(Address(pack_ip("::1"), 30020)) == "[::1]:30020"
    assert str(Address(pack_ip("::ffff:10.0.0.1"), 30020)) == "10.0.0.1:30020"


@pytest.mark.parametrize(
    ("ip", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::ffff:127.9.9.9", True),
        ("::1", True),
        ("128.0.0.1", False),
        ("126.255.255.255", False),
        ("::", False),
        ("0.0.0.0", False),
        ("::2", False),
        ("::7f00:1", False),
        ("7f00::1", False),
    ],
)
def test_loopback_is_the_net_127_and_one_ipv6_address(ip: str, loopback: bool) -> None:
    assert is_loopback(pack_ip(ip)) is loopback


@given(st.ip_addresses())
def test_loopback_agrees_with_the_standard_library(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    assert is_loopback(pack_ip(str(ip))) is (mapped or ip).is_loopback


def test_mirrored_twice_is_the_same() -> None:
    one = Tuple(Address(LOOPBACK, 1), Address(pack_ip("::1"), 2))
    assert one.mirrored == Tuple(one.destination, one.source)
    assert one.mirrored.mirrored == one


# Recordings


def test_recording_is_read_in_order_and_in_the_wanted_portions() -> None:
    records = [bytes([number]) for number in range(5)]
    source = ReplaySource(records)
    assert [source.read(2), source.read(2), source.read(2), source.read(2)] == [
        records[:2],
        records[2:4],
        records[4:],
        [],
    ]
    assert len(records) == 5

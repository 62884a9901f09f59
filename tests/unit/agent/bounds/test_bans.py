"""Who may not even connect for a while."""

import ctypes
import socket
import struct
from contextlib import suppress

import pytest

from agent.bounds.bans import BANNED_S, Bans, filter_program

_ATTACH = 26


def refused(bans: Bans, who: str, times: int, now_s: float) -> list[bool]:
    """Refuse a client so many times."""
    return [bans.refused(who, now_s) for _ in range(times)]


def test_a_client_that_is_refused_again_and_again_is_banned_once_and_for_seconds() -> None:
    bans = Bans()
    told = refused(bans, "10.0.0.1", 200, 0.0)
    assert told.count(True) == 1
    assert bans.banned == ("10.0.0.1",)
    assert not bans.expire(BANNED_S - 0.1)
    assert bans.expire(BANNED_S)
    assert not bans.banned


def test_a_client_that_is_refused_now_and_then_is_not_banned() -> None:
    bans = Bans()
    for second in range(100):
        refused(bans, "10.0.0.1", 10, second * 1.1)
    assert bans.banned == ()


def test_the_bans_and_what_is_remembered_are_bounded() -> None:
    bans = Bans()
    for number in range(5000):
        refused(bans, f"10.0.{number // 256}.{number % 256}", 60, 0.0)
    assert 0 < len(bans.banned) <= 64


@pytest.mark.parametrize("reach", ["127.99.0.1", "127.99.0.2"])
def test_the_kernel_drops_the_connections_of_the_banned_and_of_nobody_else(reach: str) -> None:
    program = filter_program(["2001:db8::/64", "127.99.0.2", "127.99.0.3"], 4)
    with socket.create_server(("127.99.0.9", 0)) as listener, socket.socket() as client:
        _attach(listener, program)
        client.settimeout(0.3)  # a SYN that is dropped is sent again after a second
        client.bind((reach, 0))
        if reach == "127.99.0.2":
            with pytest.raises(TimeoutError):
                client.connect(listener.getsockname())
        else:
            client.connect(listener.getsockname())


@pytest.mark.parametrize(("banned", "drops"), [("::1", True), ("::/64", True), ("2001:db8::1", False)])
def test_the_same_for_ipv6_by_address_and_by_network(banned: str, *, drops: bool) -> None:
    program = filter_program(["10.0.0.1", banned], 6)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        _attach(listener, program)
        with socket.socket(socket.AF_INET6) as client:
            client.settimeout(0.3)
            reached = False
            with suppress(TimeoutError):
                client.connect(listener.getsockname())
                reached = True
    assert reached is not drops


def _attach(listener: socket.socket, program: bytes) -> None:
    kept = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH, described)

"""Names are looked up without holding anybody else up."""

import asyncio
import socket
import threading

import pytest

from agent.holders.valkey.resolving import Address, Resolver, ask_resolver


def never(_: str) -> list[tuple[int, str]]:
    raise AssertionError("an address needs no look-up")


@pytest.mark.parametrize(("host", "family"), [("10.0.0.1", socket.AF_INET), ("fd00::1", socket.AF_INET6)])
async def test_address_is_taken_as_it_is(host: str, family: int) -> None:
    assert await Resolver(never).addresses(host, 1) == (Address(family=family, host=host, port=1),)


async def test_name_has_all_its_addresses_in_order_and_each_once() -> None:
    found = [(socket.AF_INET6, "fd00::1"), (socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd00::1")]
    addresses = await Resolver(lambda _: found).addresses("valkey.svc", 6379)
    assert [each.host for each in addresses] == ["fd00::1", "10.0.0.1"]


async def test_name_that_moved_is_looked_up_anew_each_time() -> None:
    answers = iter(["10.0.0.1", "10.0.0.2"])
    resolver = Resolver(lambda _: [(socket.AF_INET, next(answers))])
    assert [(await resolver.addresses("a", 1))[0].host for _ in range(2)] == ["10.0.0.1", "10.0.0.2"]


async def test_resolver_that_hangs_holds_one_thread_however_often_it_is_asked() -> None:
    asked, hang = [], threading.Event()

    def look_up(name: str) -> list[tuple[int, str]]:
        asked.append(name)
        hang.wait(60)
        return [(socket.AF_INET, "10.0.0.1")]

    resolver = Resolver(look_up)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await resolver.addresses("a", 1)
    last = asyncio.create_task(resolver.addresses("a", 1))
    await asyncio.sleep(0)
    hang.set()
    assert (await last)[0].host == "10.0.0.1"
    assert asked == ["a"]


async def test_name_that_is_not_known_is_an_error_and_may_be_known_later() -> None:
    def look_up(_: str) -> list[tuple[int, str]]:
        if not known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, "10.0.0.1")]

    known = False
    resolver = Resolver(look_up)
    with pytest.raises(socket.gaierror):
        await resolver.addresses("a", 1)
    known = True
    assert len(await resolver.addresses("a", 1)) == 1


async def test_name_that_can_not_be_one_is_an_error_of_the_resolver() -> None:
    with pytest.raises(OSError, match=r"."):
        await Resolver().addresses("a" * 64 + ".example", 1)


def test_this_machine_knows_itself() -> None:
    assert "127.0.0.1" in [address for _, address in ask_resolver("localhost")]

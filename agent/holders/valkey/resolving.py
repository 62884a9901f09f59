"""Looks up names, each in a thread of its own, and never the same name twice at once.

A resolver without an answer blocks its thread for ten seconds and more. The event loop has few threads for
that, which others need, and each new attempt would take another one.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An IP address of one family, with a port."""

    family: int
    host: str
    port: int


LookUp = Callable[[str], Sequence[tuple[int, str]]]
"""The families and addresses of a name. It may block for long. Raises OSError."""


def ask_resolver(name: str) -> list[tuple[int, str]]:
    """What this machine's resolver knows of a name, in its order."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [(family, str(address[0])) for family, _, _, _, address in found]


class Resolver:
    """``look_up``: how a name is looked up."""

    def __init__(self, look_up: LookUp = ask_resolver) -> None:
        self._look_up = look_up
        self._running: dict[str, asyncio.Future[Sequence[tuple[int, str]]]] = {}

    async def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """The addresses of a host, which may be one already. Raises OSError. May be cancelled at any time."""
        if (literal := _literal(host)) is not None:
            return (Address(family=literal, host=host, port=port),)
        running = self._running.get(host)
        if running is None:
            running = self._running[host] = asyncio.get_running_loop().create_future()
            running.add_done_callback(lambda done: self._ended(host, done))
            threading.Thread(target=self._run, args=(host, running), name="index: DNS", daemon=True).start()
        found = await asyncio.shield(running)
        return tuple(
            Address(family=family, host=address, port=port) for family, address in dict.fromkeys(found)
        )

    def _run(self, host: str, running: "asyncio.Future[Sequence[tuple[int, str]]]") -> None:
        """In the thread."""
        found: Sequence[tuple[int, str]] = ()
        error: OSError | None = None
        try:
            found = self._look_up(host)
        except (OSError, UnicodeError) as failed:
            error = failed if isinstance(failed, OSError) else socket.gaierror(0, str(failed))
        try:
            running.get_loop().call_soon_threadsafe(_finish, running, found, error)
        except RuntimeError:
            return  # the loop has ended meanwhile, and with it whoever asked

    def _ended(self, host: str, done: "asyncio.Future[Sequence[tuple[int, str]]]") -> None:
        del self._running[host]
        if not done.cancelled():
            done.exception()  # it is known: nobody may wait any more


def _finish(
    running: "asyncio.Future[Sequence[tuple[int, str]]]",
    found: Sequence[tuple[int, str]],
    error: OSError | None,
) -> None:
    if running.done():
        return
    if error is None:
        running.set_result(found)
    else:
        running.set_exception(error)


def _literal(host: str) -> int | None:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET6 if version == 6 else socket.AF_INET

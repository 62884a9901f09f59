"""Finds the server and connects to it: alone, by its Sentinels, or all primaries of a Cluster."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol, TypeVar

from agent.config import Deployment, Endpoint, IndexUrl
from agent.holders.valkey.access import Access, Shown
from agent.holders.valkey.lane import Invalidated, Lane
from agent.holders.valkey.resolving import Resolver
from agent.holders.valkey.shards import Shards, ranges_of
from agent.holders.valkey.trouble import IndexDown, Refused, of_connecting, of_garbage, of_mode, of_silence
from agent.holders.valkey.wire import Command, Reply, Wire, greet, open_wire
from agent.observe.index_metrics import IndexTrouble

_T = TypeVar("_T")

_SERVER, _SENTINEL, _CLUSTER = "standalone", "sentinel", "cluster"  # the modes that HELLO tells
_CONNECT_LEAST_S = 1.0
_TLS_LEAST_S = 3.0  # a server that all agents connect to at once takes 2 ms for each
_HANDSHAKE_PART = 0.8  # of that, so that a server without an answer is told from a network without one
_CONNECT_TIMES = 5  # a TCP and a TLS handshake, and a greeting, at least


class Link(Protocol):
    """The connection to the server, or to all primaries of a Cluster. See `Lane`."""

    lost: "asyncio.Future[IndexDown]"

    @property
    def is_tracking(self) -> bool: ...
    @property
    def is_clustered(self) -> bool: ...
    @property
    def lanes(self) -> tuple[Lane, ...]: ...
    def send(
        self, commands: Sequence[Command], *, tracked: bool = False
    ) -> "asyncio.Future[list[Reply]]": ...
    def give_up(self, error: IndexDown) -> None: ...
    async def drained(self) -> None: ...
    async def close(self) -> None: ...


class Connector:
    """``name``: how this node's connections are called in CLIENT LIST. ``timeout_s``: of a question."""

    def __init__(
        self,
        url: IndexUrl,
        *,
        access: Access,
        resolver: Resolver,
        name: str,
        timeout_s: float,
        invalidated: Invalidated,
    ) -> None:
        self._url = url
        self._access = access
        self._resolver = resolver
        self._name = name
        least_s = _TLS_LEAST_S if url.tls else _CONNECT_LEAST_S
        self._connect_s = max(least_s, _CONNECT_TIMES * timeout_s)
        self._invalidated = invalidated

    async def connect(self) -> Link:
        """Connect, log in, and have the server tell of changes. Raises `IndexDown`."""
        shown = await self._access.read()
        match self._url.deployment:
            case Deployment.ALONE:
                return await self._follow(await self._dial(self._url.hosts[0], shown, _SERVER))
            case Deployment.SENTINEL:
                return await self._follow(await self._dial(await self._ask_sentinels(shown), shown, _SERVER))
            case Deployment.CLUSTER:
                return await self._connect_cluster(shown)

    async def _dial(self, target: Endpoint, shown: Shown, mode: str) -> Wire:
        wire: Wire | None = None
        try:
            async with asyncio.timeout(self._connect_s):
                wire = await self._open(target, shown)
                found = await greet(
                    wire,
                    login=shown.login,
                    name=self._name,
                    database=self._url.database if mode == _SERVER else 0,
                )
                if found != mode:
                    raise of_mode(str(target), found)
        except (OSError, ValueError, IndexDown) as error:
            if wire is None:
                raise of_connecting(error, str(target)) from None
            wire.end()
            if isinstance(error, TimeoutError):  # it accepts connections, as a frozen one does
                raise of_silence(self._connect_s) from None
            raise of_connecting(error, str(target)) from None
        except BaseException:
            if wire is not None:
                wire.end()
            raise
        return wire

    async def _open(self, target: Endpoint, shown: Shown) -> Wire:
        """Try its addresses in turn. Raises the last error."""
        addresses = await self._resolver.addresses(target.host, target.port)
        failed: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                async with asyncio.timeout(self._connect_s / len(addresses)):
                    return await open_wire(
                        str(target),
                        (address.host, address.port),
                        tls=shown.tls,
                        server_name=shown.name_of(target.host),
                        handshake_s=_HANDSHAKE_PART * self._connect_s / len(addresses),
                        family=address.family,
                    )
            except OSError as error:
                failed = error
        raise failed

    async def _follow(self, wire: Wire) -> Lane:
        """The server says what changes of that which was read with ``tracked``, if it may be asked to."""
        lane = Lane(wire, self._invalidated)
        try:
            async with asyncio.timeout(self._connect_s):
                (reply,) = await lane.send([("CLIENT", "TRACKING", "ON", "OPTIN")])
            lane.is_tracking = not isinstance(reply, Refused)
        except (TimeoutError, IndexDown) as error:
            if not (isinstance(error, IndexDown) and error.kind is IndexTrouble.DENIED):
                await lane.close()
                raise of_connecting(error, wire.place) from None
        except BaseException:
            await lane.close()
            raise
        return lane

    async def _ask_sentinels(self, shown: Shown) -> Endpoint:
        """Where the server is. The Sentinels are asked in turn, beginning with any of them."""

        async def ask(sentinel: Endpoint) -> Endpoint:
            wire = await self._dial_sentinel(sentinel, shown)
            try:
                async with asyncio.timeout(self._connect_s):
                    (found,) = await wire.ask(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service))
            finally:
                wire.end()
            return _address(found, sentinel, self._url.service)

        return await _first(self._url.hosts, ask)

    async def _dial_sentinel(self, sentinel: Endpoint, shown: Shown) -> Wire:
        """Sentinels often know no user, or have no password, even if the server has one."""
        try:
            return await self._dial(sentinel, shown, _SENTINEL)
        except IndexDown as error:
            if error.kind is not IndexTrouble.DENIED or not shown.login:
                raise
        bare = Shown(login=(), tls=shown.tls, server_name=shown.server_name)
        return await self._dial(sentinel, bare, _SENTINEL)

    async def _connect_cluster(self, shown: Shown) -> Shards:
        async def ask(seed: Endpoint) -> tuple[Endpoint, Reply]:
            wire = await self._dial(seed, shown, _CLUSTER)
            try:
                async with asyncio.timeout(self._connect_s):
                    (found,) = await wire.ask(("CLUSTER", "SLOTS"))
            finally:
                wire.end()
            if isinstance(found, Refused):
                raise of_garbage(found.words)
            return seed, found

        seed, reply = await _first(self._url.hosts, ask)
        ranges = ranges_of(reply, seed)
        primaries = [*dict.fromkeys(each.primary for each in ranges)]
        dialed = await asyncio.gather(
            *(self._dial(each, shown, _CLUSTER) for each in primaries), return_exceptions=True
        )
        failed = next((each for each in dialed if isinstance(each, BaseException)), None)
        wires = [each for each in dialed if isinstance(each, Wire)]
        if failed is not None:
            for wire in wires:
                wire.end()
            raise failed
        lanes = {place: Lane(wire, self._invalidated) for place, wire in zip(primaries, wires, strict=True)}
        return Shards(ranges, lanes)


async def _first(hosts: Sequence[Endpoint], ask: Callable[[Endpoint], Coroutine[None, None, _T]]) -> _T:
    """The first answer of any of them. Raises `IndexDown`: why the last one gave none."""
    failed: IndexDown | None = None
    for host in random.sample(hosts, len(hosts)):
        try:
            return await ask(host)
        except (OSError, IndexDown) as error:
            failed = of_connecting(error, str(host))
    assert failed is not None  # there is at least one
    raise failed


def _address(reply: Reply, sentinel: Endpoint, service: str) -> Endpoint:
    if reply is None:
        raise IndexDown(
            IndexTrouble.OTHER,
            f"the Sentinel {sentinel} watches no server with the name {service}",
            "check the name: SENTINEL MASTERS lists those that it watches",
        )
    try:
        host, port = reply
        return Endpoint(host=host.decode(), port=int(port))
    except (ValueError, TypeError, AttributeError):
        raise of_garbage(f"{sentinel} is no Sentinel") from None

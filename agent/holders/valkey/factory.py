"""Makes the server from the settings, and looks at it once for people."""

import asyncio
import ipaddress
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from agent.config import IndexUrl, Settings
from agent.documents.index import IndexWarningEntry
from agent.holders.valkey.access import Access
from agent.holders.valkey.checks import Checks
from agent.holders.valkey.connecting import Connector, Link
from agent.holders.valkey.facts import Facts, warnings_of
from agent.holders.valkey.lane import Invalidated
from agent.holders.valkey.marker import keyed, named
from agent.holders.valkey.pacing import Pacing
from agent.holders.valkey.resolving import Resolver
from agent.holders.valkey.server import Server
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from agent.tasks import at_once

Ids = Callable[[], tuple[str, ...]]
"""The ids of the cluster's keys, that of the key which signs first."""


def make_server(
    settings: Settings,
    *,
    ids: Ids,
    members: Callable[[], int],
    failed: Callable[[IndexTrouble], None],
    members_known: Callable[[], Awaitable[object]] = at_once,
) -> Server:
    """The server that ``settings.index`` names.

    ``members``: how many agents there are. ``members_known``: returns when that is known.
    """
    url = _url(settings)
    return Server(
        partial(_connect, _connector(settings)),
        checks=_checks(settings, ids),
        pacing=Pacing(members=members, tls=url.tls, chance=random.uniform),
        timeout_s=settings.valkey.timeout_s,
        failed=failed,
        warnings=tuple(_warnings(settings, url)),
        members_known=members_known,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What one look at the server found. ``trouble``: why it can't be used; None: it can.

    ``cluster``: the id of this cluster there; None: no agent has used it yet.
    """

    trouble: IndexDown | None
    facts: Facts = field(default_factory=Facts)
    warnings: tuple[IndexWarningEntry, ...] = ()
    cluster: str | None = None
    latency_us: float | None = None


async def glance(settings: Settings, ids: tuple[str, ...]) -> Glance:
    """Connect once, look at everything that an agent looks at, and go. Never raises.

    ``ids``: of the cluster's keys. It leaves nothing there but a key that lives for a minute.
    """
    checks = _checks(settings, lambda: ids)
    link: Link | None = None
    try:
        link = await _connect(_connector(settings), _nobody)
        started_s = asyncio.get_running_loop().time()
        marker, full = await checks.peek(link)
        latency_us = (asyncio.get_running_loop().time() - started_s) * 1e6
        await checks.rights(link)
        facts = await checks.facts(link)
    except IndexDown as error:
        return Glance(trouble=error)
    finally:
        if link is not None:
            await link.close()
    return Glance(
        trouble=full,
        facts=facts,
        warnings=(*_warnings(settings, _url(settings)), *warnings_of(facts)),
        cluster=None if marker is None else marker.cluster,
        latency_us=latency_us,
    )


def _connector(settings: Settings) -> Callable[[Invalidated], Connector]:
    url, valkey = _url(settings), settings.valkey
    access, resolver = Access(url, valkey), Resolver()

    def make(invalidated: Invalidated) -> Connector:
        return Connector(
            url,
            access=access,
            resolver=resolver,
            name=f"shorthaul:{settings.node.name}",
            timeout_s=valkey.timeout_s,
            invalidated=invalidated,
        )

    return make


async def _connect(make: Callable[[Invalidated], Connector], invalidated: Invalidated) -> Link:
    return await make(invalidated).connect()


def _checks(settings: Settings, ids: Ids) -> Checks:
    name = settings.valkey.cluster
    return Checks(
        prefix=settings.valkey.prefix,
        clusters=lambda: named(name) if name else keyed(ids()),
        timeout_s=settings.valkey.timeout_s,
    )


def _url(settings: Settings) -> IndexUrl:
    if not isinstance(settings.index, IndexUrl):
        raise AssertionError(f"there is no server with index: {settings.index}")  # noqa: TRY004
    return settings.index


def _warnings(settings: Settings, url: IndexUrl) -> Iterator[IndexWarningEntry]:
    has_password = url.password is not None or settings.valkey.password_file is not None
    if has_password and not url.tls and not all(_is_inside(each.host) for each in url.hosts):
        yield IndexWarningEntry(
            problem="the password leaves this network in plain text",
            hint="use TLS (valkeys://…), or name the server by an address of this network",
        )


def _is_inside(host: str) -> bool:
    """Whether a server is on this machine or in its network, as far as the address or name tells.

    There the layers of images travel in plain text, too, unless `peering.tls` is set.
    """
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".svc", ".svc.cluster.local", ".internal"))


def _nobody(_: object) -> None:
    pass

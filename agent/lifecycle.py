"""Starts the agent's parts, waits for a signal, and stops them in order. Makes no part itself.

    start   the listening sockets: those of an older agent of this node, or new ones; the background tasks
    ready   the listeners, once the older agent is no longer needed; SIGHUP has the settings read again
    drain   after SIGTERM or SIGINT: unready, no new pulls; running responses end within `stop.drain_s`
    stop    the admin port, then the background tasks, then the connections to peers

A second signal ends the process at once.
"""

import asyncio
import gc
import logging
import resource
import signal
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import uvloop

from agent import __version__
from agent.admin.readiness import Phase
from agent.app.background import Rereading
from agent.app.inbound import HEALTH
from agent.app.parts import Parts, build, open_listeners
from agent.config import Settings
from agent.dumps import keep_memory_from_dumps
from agent.listen.caller import REQUEST_PATHS
from agent.listen.http import HttpListener
from agent.listen.sockets import ListenError, ListenErrors
from agent.succession import Succession
from agent.tasks import end_all
from agent.unixsocket import UnixListener

if TYPE_CHECKING:
    from agent.handover.taking import Older

_log = logging.getLogger("shorthaul")

_ADMIN_DRAIN_S = 1.0
_MEMBERS_S = 0.5  # for the first list of peers, before the agent says how many it knows
_TAKEN_S, _AGAIN_S = 15.0, 0.5  # an agent that starts just now has its ports before it can be asked
_LAST_S = 1.0  # for what came while the HostPort was closed


def run_agent(settings: Settings, rereading: Rereading) -> None:
    """Run the agent until a signal asks it to stop. Raises `ListenErrors` if a port is taken."""
    keep_memory_from_dumps()
    _raise_file_limit()
    older, sockets = find_sockets(settings)
    health = _health_listener(settings)
    if health is not None:
        sockets[HEALTH] = health.socket

    # The objects that the imports made never become garbage, so garbage collections can skip them.
    gc.collect()
    gc.freeze()

    async def build_and_run() -> None:
        await run(build(settings, sockets, rereading), older)

    try:
        uvloop.run(build_and_run())
    finally:
        if health is not None:
            health.close()
        if older is not None:
            older.close()
        for listener in sockets.values():
            listener.close()


def find_sockets(settings: Settings) -> "tuple[Older | None, dict[str, socket.socket]]":
    """The listening sockets: those of the agent that serves this node now, if there is one, else new ones.

    Raises `ListenErrors`. Then the older agent goes on as before.
    """
    until_s = time.monotonic() + _TAKEN_S
    while True:
        older, refused = _ask(settings)
        given = older.sockets if older is not None else []
        try:
            sockets = open_listeners(settings, given)
        except ListenErrors as errors:
            if older is not None:
                older.close()
            elif refused is not None:
                raise ListenErrors([refused, *errors.errors]) from errors
            elif settings.handover.socket is not None and errors.of_agents and time.monotonic() < until_s:
                time.sleep(_AGAIN_S)
                continue
            raise
        if older is not None:
            older.keep(sockets.values())
        elif refused is not None:
            _log.warning("%s", refused, extra={"fields": {"hint": refused.hint}})
        return older, sockets


def _ask(settings: Settings) -> "tuple[Older | None, ListenError | None]":
    """The agent that serves this node now, or why it gives no sockets."""
    path = settings.handover.socket
    if path is None:
        return None, None
    # An agent without a hand-over does without its memory.
    from agent.handover.taking import HandoverError, ask

    try:
        return ask(path, node=settings.node.name), None
    except HandoverError as error:
        return None, ListenError(f"handover.socket: {error}", error.hint)


def _health_listener(settings: Settings) -> UnixListener | None:
    path = settings.health.socket
    if path is None:
        return None
    try:
        return UnixListener(path)
    except OSError as error:
        problem = ListenError(
            f"health.socket: {path}: {error.strerror or error}",
            "name a path in a directory that this user may write",
        )
        raise ListenErrors([problem]) from error


async def run(parts: Parts, older: "Older | None" = None) -> None:
    """Serve until a signal. If a part crashes, the agent ends, and the kubelet starts it again.

    ``older``: the agent that gave its sockets.
    """
    stop = _stop_at_signal()
    outbound = parts.outbound
    async with (
        outbound.dialer,
        outbound.measure_dialer,
        outbound.channels,
        outbound.asker,
        outbound.client,
        outbound.measurer,
        asyncio.TaskGroup() as tasks,
    ):
        background = [tasks.create_task(work(), name=name) for name, work in parts.background.items()]
        try:
            await _serve(parts, Succession(parts, older), stop)
        finally:
            await end_all(background)
            await outbound.index.close()  # nobody uses it any more
            if outbound.claimant is not None:
                await outbound.claimant.close()


async def _serve(parts: Parts, succession: Succession, stop: asyncio.Event) -> None:
    inbound = parts.inbound
    answering = [one for one in (inbound.health_listener, inbound.listeners["admin"]) if one is not None]
    if inbound.health_listener is not None:
        await inbound.health_listener.start()
    try:
        if await _before(stop, succession.get_ready()):
            await succession.serve()
            await _say_what_is_served(parts)
            _say_what_is_closed(parts)
            await stop.wait()
            await _drain(parts, succession)
    finally:
        await succession.close()
        for listener in answering:
            listener.release()
        await inbound.feed.close()
        await asyncio.gather(*(listener.drain(_ADMIN_DRAIN_S) for listener in answering))
        parts.outbound.relays.close()
    _log.info("stopped")


async def _before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do this work. False if the agent is asked to stop before it is done."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait(), name="asked to stop")
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        await end_all((working, stopping))


async def _say_what_is_served(parts: Parts) -> None:
    """One line for whoever wonders what this agent is, where it listens, whom it knows and what it serves."""
    core, settings = parts.core, parts.settings
    with suppress(TimeoutError):  # a membership that can't be read says so itself
        async with asyncio.timeout(_MEMBERS_S):
            await core.members.known.wait()
    _log.info(
        "serving",
        extra={
            "fields": {
                "node": core.own,
                "version": __version__,
                **{name: str(endpoint) for name, endpoint in settings.listen.endpoints.items()},
                "peers": len(core.members.roster),
                "membership": settings.membership.name,
                "store": str(settings.store),
                "store_problem": core.content.store.problem,
            }
        },
    )


def _say_what_is_closed(parts: Parts) -> None:
    """The admin port is published, but nobody can have a token for it."""
    admin = parts.settings.listen.admin
    if parts.core.key is None and not ip_address(admin.host).is_loopback:
        _log.warning(
            "listen.admin is published at %s, but there is no key: from elsewhere only health and metrics "
            "are answered",
            admin,
            extra={"fields": {"hint": "set peering.key, or let listen.admin be 127.0.0.1:9090"}},
        )


async def _drain(parts: Parts, succession: Succession) -> None:
    readiness = parts.core.records.readiness
    readiness.phase = Phase.STOPPING
    replaced = await succession.leave()
    readiness.phase = Phase.STOPPING  # an agent that was asked to serve again may have said so
    _log.info("stopping: %s", "another agent of this node serves" if replaced else "unready now")
    if replaced:
        await _end_pulls(parts, parts.settings.stop.drain_s)
    else:
        await _drain_alone(parts, succession)


async def _drain_alone(parts: Parts, succession: Succession) -> None:
    """The HostPort refuses new pulls at once; the other listeners work until everybody knows."""
    inbound, settings = parts.inbound, parts.settings.stop
    hostport, others = _split(parts)
    inbound.draining.begin()
    hostport.end_connections(idle=False)
    await asyncio.sleep(settings.unready_s)
    if not succession.replaced:  # an agent that was started meanwhile may have taken over
        for listener in others:
            await listener.stop_accepting()
    await _close_channels(parts)
    _log.info("stopping: no new connections, draining")
    began_s = time.monotonic()
    await asyncio.gather(
        hostport.finish(settings.drain_s, lambda: inbound.draining.is_between(time.monotonic())),
        *(listener.drain(settings.drain_s) for listener in others),
    )
    if succession.replaced:
        left_s = max(0.0, settings.drain_s - (time.monotonic() - began_s))
        await _end_pulls(parts, left_s)
    else:
        await hostport.stop_accepting()
        await hostport.drain(_LAST_S)


async def _end_pulls(parts: Parts, drain_s: float) -> None:
    """Another agent accepts connections: finish what this one accepted."""
    hostport, others = _split(parts)
    listeners = (hostport, *others)
    for listener in listeners:
        listener.release()
    await _close_channels(parts)
    await asyncio.gather(*(listener.drain(drain_s) for listener in listeners))


def _split(parts: Parts) -> tuple[HttpListener, tuple[HttpListener, ...]]:
    """The HostPort's listener, and the other ones of the pull API."""
    listeners = parts.inbound.listeners
    return listeners["hostport"], tuple(listeners[name] for name in REQUEST_PATHS if name != "hostport")


async def _close_channels(parts: Parts) -> None:
    """Tell peers that this agent answers no more questions. They open new connections."""
    await parts.inbound.reports.close()
    await parts.inbound.questions.close()


def _stop_at_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets. The second signal ends the process."""
    stop = asyncio.Event()

    def asked_to_stop() -> None:
        if stop.is_set():
            _log.warning("asked to stop twice: not draining any longer")
            raise SystemExit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop)
    return stop


def _raise_file_limit() -> None:
    """Allow as many open files as the system permits. Each client and each peer needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

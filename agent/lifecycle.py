"""Starts the agent's parts, waits for a signal, and stops them in order. Makes no part itself.

    start   the background tasks, then the admin port, then the listeners of the pull API
    ready   until SIGTERM or SIGINT; SIGHUP has the settings read again (`agent.hangup`)
    drain   unready, then no new connections; running responses end within `stop.drain_s`
    stop    the admin port, then the background tasks, then the connections to peers

A second signal ends the process at once.
"""

import asyncio
import gc
import logging
import resource
import signal
from contextlib import suppress
from dataclasses import fields

import uvloop

from agent import __version__
from agent.admin.readiness import Phase
from agent.app import Parts, Rereading, build, open_listeners
from agent.config import Settings
from agent.tasks import end_all

_log = logging.getLogger("shorthaul")

_ADMIN_DRAIN_S = 1.0
_MEMBERS_S = 0.5  # for the first list of peers, before the agent says how many it knows


def run_agent(settings: Settings, rereading: Rereading) -> None:
    """Run the agent until a signal asks it to stop. Raises `ListenErrors` if a port is taken."""
    _raise_file_limit()
    sockets = open_listeners(settings)

    # The objects that the imports made never become garbage, so garbage collections can skip them.
    gc.collect()
    gc.freeze()

    async def build_and_run() -> None:
        await run(build(settings, sockets, rereading))

    try:
        uvloop.run(build_and_run())
    finally:
        for listener in sockets.values():
            listener.close()


async def run(parts: Parts) -> None:
    """Serve until a signal. If a part crashes, the agent ends, and the kubelet starts it again."""
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
            await _serve(parts, stop)
        finally:
            await end_all(background)
            await outbound.index.close()  # nobody uses it any more


async def _serve(parts: Parts, stop: asyncio.Event) -> None:
    inbound, core = parts.inbound, parts.core
    await inbound.admin_listener.start()
    try:
        for listener in inbound.pull_listeners:
            await listener.start()
        core.readiness.phase = Phase.SERVING
        await _say_what_is_served(parts)
        await stop.wait()
        await _drain(parts)
    finally:
        await inbound.admin_listener.stop_accepting()
        await inbound.admin_listener.drain(_ADMIN_DRAIN_S)
        parts.outbound.relays.close()
    _log.info("stopped")


async def _say_what_is_served(parts: Parts) -> None:
    """One line for whoever wonders what this agent is, where it listens, whom it knows and what it serves."""
    core, settings = parts.core, parts.settings
    with suppress(TimeoutError):  # a membership that can't be read says so itself
        async with asyncio.timeout(_MEMBERS_S):
            await core.members_known.wait()
    _log.info(
        "serving",
        extra={
            "fields": {
                "node": core.own,
                "version": __version__,
                **{
                    entry.name: str(getattr(settings.listen, entry.name)) for entry in fields(settings.listen)
                },
                "peers": len(core.roster),
                "membership": str(settings.membership.static or "none"),
                "store": str(settings.store),
                "store_problem": core.store.problem,
            }
        },
    )


async def _drain(parts: Parts) -> None:
    inbound, settings = parts.inbound, parts.settings.stop
    parts.core.readiness.phase = Phase.STOPPING
    _log.info("stopping: unready now")
    await asyncio.sleep(settings.unready_s)
    for listener in inbound.pull_listeners:
        await listener.stop_accepting()
    await inbound.reports.close()
    await inbound.questions.close()
    _log.info("stopping: no new connections, draining")
    await asyncio.gather(*(listener.drain(settings.drain_s) for listener in inbound.pull_listeners))


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

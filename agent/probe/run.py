"""Runs the probe: attach, serve the socket and the metrics, work until a signal, detach."""

import asyncio
import errno
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from agent.config import Settings
from agent.config.reload import SettingsReload
from agent.dumps import keep_memory_from_dumps
from agent.hangup import Hangup
from agent.observe import log
from agent.observe.probe_metrics import ProbeMetrics
from agent.observe.reloads import Reloads
from agent.observe.scraping import MetricsServer
from agent.oci.browser import BrowserGuard
from agent.probe.process import Probe, watched_node, watched_ports
from agent.probe.publisher import Publisher, SocketTaken
from agent.probe.sockets import own_netns
from bpf.cgroups import find_root, is_whole
from bpf.child import ProgramConfig
from bpf.errors import BpfUnsupported
from bpf.live import LiveSource

_log = logging.getLogger("shorthaul")

_COUNT_S = 1.0


@contextmanager
def attached(settings: Settings, *, known: tuple[int, ...] = ()) -> Iterator[LiveSource]:
    """A context in which the programs are attached. Raises `BpfError`. Blocks for half a second."""
    probe = settings.probe
    root = probe.cgroup or find_root()
    if probe.cgroup is None and not is_whole(root):
        _log.warning(
            "only this container's own connections are watched: %s is not the node's root cgroup; mount the "
            "node's /sys/fs/cgroup, or set probe.cgroup",
            root,
        )
    netns = own_netns()
    if not netns:
        raise BpfUnsupported(
            "this kernel does not tell network namespaces apart", hint="the probe needs Linux 5.15 or newer"
        )
    pages = -(-probe.ring_bytes // os.sysconf("SC_PAGE_SIZE"))
    config = ProgramConfig(
        ports=watched_ports(settings), netns=netns, ring_pages=1 << (pages - 1).bit_length()
    )
    with LiveSource(config, root=root, containerd=probe.containerd_cgroup, known=known) as source:
        fields = {
            "cgroup": root,
            "containerd": ",".join(map(str, source.containerds)) or "not found",
            "first_on_connect": source.connect_order().everywhere,
            "ports": ",".join(map(str, config.ports)),
            "bcc": source.loaded.bcc,
        }
        _log.info("attached", extra={"fields": fields})
        yield source


def make_probe(settings: Settings, source: LiveSource) -> Probe:
    """The probe of this node."""
    return Probe(
        watched_node(settings),
        source,
        canary_interval_s=settings.probe.canary_interval_s,
        programs=source.programs,
    )


def make_publisher(settings: Settings, probe: Probe) -> Publisher:
    """The socket of a probe, by which the agent tells its sockets and hears of its flows."""
    publisher = Publisher(
        settings.probe.socket,
        initial_messages=probe.initial_messages,
        uids=settings.probe.readers,
        desk=probe,
    )
    probe.sinks.append(publisher.publish)
    return publisher


def run_probe(settings: Settings, *, hangup: Hangup, read: Callable[[], Settings]) -> None:
    """Run the probe until a signal. Raises `BpfError`; `SocketTaken` for its socket or its metrics' port.

    ``read``: reads the settings again, after a SIGHUP. Only the log level changes without a restart.
    """
    keep_memory_from_dumps()  # the service token is in hosts.toml, which the canary reads
    changing = SettingsReload(settings, read, Reloads())
    changing.on(["log.level"], lambda new: log.set_level(new.log.level))
    with attached(settings) as source:
        # There is almost no cyclic garbage here, and looking for it would take a tenth of the time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        asyncio.run(_run(settings, source, partial(hangup.follow, changing.reload)))


async def _run(
    settings: Settings, source: LiveSource, reload: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    probe, metrics = make_probe(settings, source), ProbeMetrics()
    publisher = make_publisher(settings, probe)
    probe.sinks.append(metrics.on_message)
    async with publisher, asyncio.TaskGroup() as tasks:
        # After the socket, whose error says that another probe runs here.
        waiting = _serve_metrics(metrics, settings)
        working = [
            *([tasks.create_task(waiting, name="metrics")] if waiting is not None else []),
            tasks.create_task(probe.run(), name="probe"),
            tasks.create_task(_count(probe, publisher, metrics), name="counts"),
            tasks.create_task(reload(), name="reload"),
        ]
        await stop.wait()
        for task in working:
            task.cancel()
    _log.info("stopped")


def _serve_metrics(metrics: ProbeMetrics, settings: Settings) -> Coroutine[Any, Any, None] | None:
    """Serve the metrics. During an upgrade the older pod's probe has the port: returns what is left to do.

    Raises `SocketTaken` if the port is taken for good.
    """
    endpoint = settings.probe.metrics
    try:
        _open_metrics(metrics, settings)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and settings.handover.socket is not None:
            return _serve_metrics_later(metrics, settings)
        raise SocketTaken(
            f"probe.metrics: {endpoint}: {error.strerror}",
            "give it another port with --set probe.metrics=IP:PORT",
        ) from error
    return None


def _open_metrics(metrics: ProbeMetrics, settings: Settings) -> None:
    endpoint = settings.probe.metrics
    guard = BrowserGuard((settings.node.name, *settings.http.host_names))
    MetricsServer(endpoint.host, endpoint.port, metrics.exposed, guard).start()


async def _serve_metrics_later(metrics: ProbeMetrics, settings: Settings) -> None:
    _log.info("no metrics while the older pod's probe has %s", settings.probe.metrics)
    while True:
        await asyncio.sleep(_COUNT_S)
        with suppress(OSError):
            _open_metrics(metrics, settings)
            _log.info("metrics at %s", settings.probe.metrics)
            return


async def _count(probe: Probe, publisher: Publisher, metrics: ProbeMetrics) -> None:
    while True:
        await asyncio.sleep(_COUNT_S)
        metrics.delivered = probe.lost.delivered
        metrics.readers, metrics.refused = publisher.readers, publisher.refused
        metrics.cut_off = publisher.cut_off

"""Wiring: the one place where the parts meet, and the order in which they start and stop."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import time
from dataclasses import fields

import uvloop

from agent.config import ContainerdStore, Endpoint, Settings
from agent.content.ocilayout import OciLayout
from agent.content.store import ContentStore
from agent.content.tags import TagAges
from agent.holders.scatter import Scatter
from agent.holders.tags import TagResolver
from agent.listen.admin import AdminServer, AdminServices
from agent.listen.discovery import Discovery
from agent.listen.http import HttpListener
from agent.listen.questions import QuestionDesk
from agent.listen.server import OciServer, Services
from agent.listen.sockets import ListenError, ListenErrors, open_listener
from agent.members.member import Membership
from agent.members.neighbourhood import Neighbourhood
from agent.members.static import NoMembership, StaticMembership
from agent.observe.metrics import Metrics
from agent.observe.requests import RecentRequests, RequestPath
from agent.oci.patterns import parse_filter
from agent.transfer.peers import PeerClient
from agent.transfer.puller import Puller
from topology.placement import NodeName, Placement, Rack, Region, Zone

_log = logging.getLogger("shorthaul")


def run_agent(settings: Settings) -> None:
    """Run the agent until a signal asks it to stop. Raises `ListenErrors` when a port is taken."""
    _raise_file_limit()
    listeners = open_listeners(settings)

    # What the imports left never becomes garbage: collections need not look at it again and again.
    gc.collect()
    gc.freeze()

    async def run() -> None:
        await Agent(settings, listeners).run()  # made inside of the loop: some parts bind to it

    try:
        uvloop.run(run())
    finally:
        for listener in listeners.values():
            listener.close()


def open_listeners(settings: Settings) -> dict[str, socket.socket]:
    """The four listening sockets, by their names in the settings. Raises `ListenErrors`; all or none."""
    opened: dict[str, socket.socket] = {}
    errors: list[ListenError] = []
    for entry in fields(settings.listen):
        endpoint: Endpoint = getattr(settings.listen, entry.name)
        try:
            opened[entry.name] = open_listener(entry.name, endpoint)
        except ListenError as error:
            errors.append(error)
    if errors:
        for listener in opened.values():
            listener.close()
        raise ListenErrors(errors)
    return opened


def _raise_file_limit() -> None:
    """As many open files as the system lets us have: each client and each peer needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Agent:
    """One node agent. `run` it once."""

    def __init__(self, settings: Settings, listeners: dict[str, socket.socket]) -> None:
        self._settings = settings
        self._listeners = listeners
        self._metrics = Metrics()
        self._recent = RecentRequests()
        self._own = NodeName(settings.node.name)
        self._store = _store(settings)
        self._neighbourhood = Neighbourhood(
            own=self._own, placement=_placement(settings), cooloff_s=settings.pull.cooloff_s
        )
        self._state = "starting"
        self._stop = asyncio.Event()

    def unready(self) -> str | None:
        """Why the agent is not ready; None while it is. A node without peers is ready."""
        if self._state != "serving":
            return self._state
        return self._store.problem

    async def run(self) -> None:
        """Serve until a signal; then turn unready, stop accepting, drain, and return."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        settings = self._settings
        client = PeerClient(connect_s=settings.pull.connect_s, stall_s=settings.pull.stall_s)
        async with client:
            index = Scatter(
                neighbourhood=self._neighbourhood,
                ask=client.ask,
                settings=settings.lookup,
                metrics=self._metrics,
            )
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self._store.run(), name="store"),
                    tasks.create_task(_membership(settings).run(self._neighbourhood.update), name="members"),
                ]
                try:
                    await self._serve(index, client)
                finally:
                    await index.close()
                    for task in background:
                        task.cancel()

    async def _serve(self, index: Scatter, client: PeerClient) -> None:
        settings = self._settings
        puller = Puller(
            index=index,
            neighbourhood=self._neighbourhood,
            client=client,
            settings=settings.pull,
            metrics=self._metrics,
        )
        ages = TagAges(settings.state_dir / "tag-ages.json" if settings.state_dir else None)
        resolver = TagResolver(
            store=self._store,
            ages=ages,
            index=index,
            tags=parse_filter(("*",), settings.tag_exclude),
            enabled=settings.resolve_tags,
            max_age_s=settings.tag_max_age_s,
        )
        desk = QuestionDesk(resolver.reply_to)
        registries = parse_filter(settings.registries.include, settings.registries.exclude)
        services = Services(
            own=self._own,
            store=self._store,
            resolver=resolver,
            ages=ages,
            index=index,
            puller=puller,
            desk=desk,
            discovery=Discovery(store=self._store, registries=registries),
            registries=registries,
            metrics=self._metrics,
            recent=self._recent,
            send_stall_s=settings.http.send_stall_s,
        )
        admin = AdminServer(
            AdminServices(
                own=self._own,
                store=self._store,
                index=index,
                neighbourhood=self._neighbourhood,
                puller=puller,
                metrics=self._metrics,
                recent=self._recent,
                unready=self.unready,
                clock=time.monotonic,
            )
        )
        paths = {
            "local": RequestPath.HOSTPORT,
            "peer": RequestPath.PEER,
            "service": RequestPath.NODEPORT,
        }
        serving = [
            HttpListener(self._listeners[name], OciServer(path, services).handle, settings.http)
            for name, path in paths.items()
        ]
        admin_listener = HttpListener(self._listeners["admin"], admin.handle, settings.http)
        await admin_listener.start()
        try:
            for listener in serving:
                await listener.start()
            self._state = "serving"
            _log.info("serving", extra={"fields": {"node": self._own, "store": str(settings.store)}})
            await self._stop.wait()
            self._state = "stopping"
            _log.info("stopping: unready now")
            await asyncio.sleep(settings.stop.unready_s)
            for listener in serving:
                await listener.stop_accepting()
            await desk.close()
            _log.info("stopping: no new connections, draining")
            await asyncio.gather(*(listener.drain(settings.stop.drain_s) for listener in serving))
        finally:
            await admin_listener.stop_accepting()
            await admin_listener.drain(1.0)
        _log.info("stopped")

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            _log.warning("asked to stop twice: not draining any longer")
            raise SystemExit(1)
        self._stop.set()


def _store(settings: Settings) -> ContentStore:
    store = settings.store
    if isinstance(store, ContainerdStore):
        # Imported only when used: gRPC costs memory that a layout store need not pay.
        from agent.content.containerd import Containerd

        return Containerd(socket=store.socket, namespace=store.namespace, root=store.root)
    return OciLayout(store.directory)


def _membership(settings: Settings) -> Membership:
    static = settings.membership.static
    return StaticMembership(static, own=NodeName(settings.node.name)) if static else NoMembership()


def _placement(settings: Settings) -> Placement:
    place = settings.placement
    return Placement(
        region=Region(place.region) if place.region else None,
        zone=Zone(place.zone) if place.zone else None,
        rack=Rack(place.rack) if place.rack else None,
    )

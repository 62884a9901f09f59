"""The agents of a cluster as peers: its EndpointSlices, completed with what the agents say of themselves.

A slice names an agent's node, address, port and zone. An agent tells its region and the levels below its
zone to whoever it speaks with, so that nobody has to watch all Nodes. It speaks for itself only: its address
is the one in the slice. Its word does not move it to another zone than the slice has.
"""

import asyncio
import ipaddress
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agent import __version__
from agent.config import KubernetesSettings
from agent.members.checks import OwnAgent
from agent.members.kubernetes.client import ApiServer, Failed, access
from agent.members.kubernetes.departures import Departures
from agent.members.kubernetes.following import Following, Resource
from agent.members.kubernetes.node import OwnNode, node_resource
from agent.members.kubernetes.pacing import Chance
from agent.members.kubernetes.problems import slice_problems
from agent.members.kubernetes.slices import SERVICE_LABEL, Before, Listed, SliceTable, Source
from agent.members.member import Peer, Peers, describe_change
from agent.members.own import Learned
from agent.members.problems import Problems
from agent.observe.reloads import Reloads, first_names
from topology.interning import Interned
from topology.labels import ZONE_LABEL
from topology.placement import NodeName, Placement, Zone

_log = logging.getLogger("shorthaul")

_SOURCE = "EndpointSlices"
_GATHER_S = 0.1  # changes that come together are used together
_SHARE, _PAUSE_MOST_S = (
    10.0,
    1.0,
)  # using a change may take a tenth of the time, and is late by a second at most
_LOOK_S = 15.0  # how often it is looked whether something is over
_UNLISTED_S = 60.0  # a pod takes a while to become ready and to be listed, and one that stops ends before


class KubernetesMembership:
    """Follows the EndpointSlices of the agents' Service, and this node's own Node.

    ``labelled``: is told this node's labels. ``problems``: is told what is wrong with the slices;
    ``reloads``: each change.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        *,
        own: OwnAgent,
        own_address: str,
        labelled: Callable[[Learned, Mapping[str, str]], None],
        problems: Problems,
        reloads: Reloads,
        chance: Chance = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._own = own
        self._labelled = labelled
        self._problems = problems
        self._reloads = reloads
        self._chance = chance
        self._clock = clock
        self._table = SliceTable(
            Source(
                service=settings.service,
                namespace=settings.namespace,
                port_name=settings.port_name,
                family=ipaddress.ip_address(own_address).version,
            )
        )
        self._departures: Departures[Listed] = Departures()
        # Where an agent says that it is, and at which address it said so.
        self._said: dict[NodeName, tuple[str, Placement]] = {}
        self._shared = Interned[Placement]()
        self._started_s = self._own_listed_s = clock()
        self._heard_s: float | None = None
        self._heard_at: str | None = None  # the same, for people
        self._problem: str | None = None
        self._hint = ""
        self._listed_once = False
        self._dirty: set[NodeName] = set()  # whose peers have to be made anew
        self._all: dict[NodeName, Peer] = {}
        self._peers: Peers | None = None  # as they were last told
        self._wake = asyncio.Event()
        self._in_zone: dict[Zone | None, Placement] = {}  # of all agents of a zone that did not say more
        # The zone that an agent says, and that of its slice.
        self._elsewhere: dict[NodeName, tuple[Zone, Zone]] = {}

    @property
    def problem(self) -> str | None:
        """See `Membership.problem`. The same words for as long as the server is away for the same reason."""
        if self._problem is None:
            return None
        heard = "it was not heard yet" if self._heard_at is None else f"it was last heard at {self._heard_at}"
        return f"{self._problem}; {heard}"

    @property
    def hint(self) -> str:
        """See `Membership.hint`."""
        return self._hint

    @property
    def silent_s(self) -> float | None:
        """See `Membership.silent_s`."""
        since_s = self._started_s if self._heard_s is None else self._heard_s
        return self._clock() - since_s

    async def run(self, changed: Callable[[Peers], None]) -> None:
        """See `Membership.run`."""
        settings = self._settings
        where = access(settings.api, settings.ca_file, settings.token_file)
        async with ApiServer(where, agent=f"shorthaul/{__version__}") as server, asyncio.TaskGroup() as tasks:
            slices = Following(
                server,
                _slices_resource(settings),
                self,
                agents=lambda: len(self._table.agents),
                chance=self._chance,
                clock=self._clock,
            )
            tasks.create_task(slices.run(), name="follow the EndpointSlices")
            if settings.node_labels:
                node = Following(
                    server,
                    node_resource(self._own.name),
                    OwnNode(
                        self._own.name,
                        labelled=partial(self._labelled, Learned.NODE),
                        problems=self._problems,
                    ),
                    agents=lambda: len(self._table.agents),
                    chance=self._chance,
                    clock=self._clock,
                )
                tasks.create_task(node.run(), name="follow this node's Node")
            tasks.create_task(self._tell(changed), name="tell the peers")

    def reread(self) -> None:
        """See `Membership.reread`. What the server has is known, or is asked for already."""

    def placed(self, peer: Peer, placement: Placement) -> None:
        """See `Membership.placed`."""
        name = peer.name
        self._departures.heard(name, self._clock())
        if self._said.get(name) != (peer.address, placement):
            self._said[name] = peer.address, self._shared.of(placement)
            self._mark(name)

    def replaced(self, objects: list[Any]) -> None:
        """See `Follows.replaced`."""
        self._listed_once = True
        self._note(self._table.replace(objects))
        self._wake.set()  # even if nobody is listed: that is the first list

    def changed(self, document: Any, *, deleted: bool) -> None:
        """See `Follows.changed`."""
        self._note(self._table.apply(document, deleted=deleted))

    def heard(self) -> None:
        """See `Follows.heard`."""
        self._heard_s, self._problem = self._clock(), None
        self._heard_at = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def failed(self, error: Failed) -> float:
        """See `Follows.failed`."""
        self._problem, self._hint = str(error), error.hint
        return 0.0

    def _note(self, before: Before) -> None:
        """The slices say something about these nodes."""
        agents, now_s = self._table.agents, self._clock()
        for node, known in before.items():
            agent = agents.get(node)
            if agent is not None or self._table.stops(node):
                if self._departures.forget(node) or agent != known:
                    self._mark(node)
            elif known is not None:
                self._mark(node)
                if node != self._own.name:
                    self._departures.vanished(node, known, now_s)
        self._look(now_s)

    def _look(self, now_s: float) -> None:
        others = len(self._table.agents) - (self._own.name in self._table.agents)
        for node in self._departures.look(others, now_s):
            self._mark(node)

    def _mark(self, node: NodeName) -> None:
        self._dirty.add(node)
        self._wake.set()

    async def _tell(self, changed: Callable[[Peers], None]) -> None:
        """Tell the peers when they changed, and what is wrong with them."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            if not self._listed_once:
                self._wake.clear()
                continue
            await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            started_s = time.perf_counter()
            self._look(self._clock())
            self._use(changed)
            self._check()
            await asyncio.sleep(min(_PAUSE_MOST_S, _SHARE * (time.perf_counter() - started_s)))

    def _use(self, changed: Callable[[Peers], None]) -> None:
        dirty, self._dirty = self._dirty, set()
        if not dirty and self._peers is not None:
            return
        for node in dirty:
            self._renew(node)
        peers, before = self._usable(), self._peers
        if peers == before:
            return
        self._peers = peers
        changed(peers)
        if before is None:
            _log.info("peers", extra={"fields": {"peers": len(peers), "names": first_names(peers)}})
        elif _have_moved(before, peers):
            self._reloads.changed("peers", describe_change(before, peers))
        # Where agents say that they are is no news for the log: each says so once.

    def _renew(self, node: NodeName) -> None:
        """Make a node's peer anew."""
        self._elsewhere.pop(node, None)
        listed = self._table.agents.get(node) or self._departures.agent(node)
        if node == self._own.name and listed is not None and listed.zone is not None:
            self._labelled(Learned.SLICE, {ZONE_LABEL: listed.zone})
        if listed is None or node == self._own.name:
            self._all.pop(node, None)
            if listed is None:
                self._said.pop(node, None)
            return
        self._all[node] = Peer(
            name=node, address=listed.address, port=listed.port, placement=self._placement(listed)
        )

    def _placement(self, listed: Listed) -> Placement:
        address, said = self._said.get(listed.node, ("", Placement()))
        in_zone = self._in_zone.setdefault(listed.zone, Placement(zone=listed.zone, partial=True))
        if address != listed.address:
            return in_zone
        if listed.zone is None or said.zone == listed.zone:
            return said
        if said.zone is None:
            return self._shared.of(replace(said, zone=listed.zone, partial=said.region is None))
        self._elsewhere[listed.node] = said.zone, listed.zone
        return in_zone

    def _usable(self) -> dict[NodeName, Peer]:
        """The peers, each address once: of two nodes with one address, the one that came later is real."""
        at = {(peer.address, peer.port): name for name, peer in self._all.items()}
        for address in self._own.addresses:
            at.pop((address, self._own.port), None)
        if len(at) == len(self._all):
            return dict(self._all)
        return {name: self._all[name] for name in at.values()}

    def _check(self) -> None:
        """Tell what is wrong."""
        now_s = self._clock()
        if self._own.name in self._table.agents or self._table.stops(self._own.name):
            self._own_listed_s = now_s
        self._problems.found(
            _SOURCE,
            slice_problems(
                self._table,
                self._settings,
                own=self._own,
                unlisted=now_s - self._own_listed_s > _UNLISTED_S,
                kept=len(self._departures.kept),
                unused=self._all.keys() - (self._peers or {}).keys(),
                elsewhere=self._elsewhere,
            ),
        )


def _have_moved(before: Peers, after: Peers) -> bool:
    """Whether a peer came, left or has another address."""
    if before.keys() != after.keys():
        return True
    changed = ((one, after[name]) for name, one in before.items() if one is not after[name])
    return any((one.address, one.port) != (other.address, other.port) for one, other in changed)


def _slices_resource(settings: KubernetesSettings) -> Resource:
    return Resource(
        path=f"/apis/discovery.k8s.io/v1/namespaces/{settings.namespace}/endpointslices",
        kinds=frozenset({"EndpointSliceList"}),
        selector={"labelSelector": f"{SERVICE_LABEL}={settings.service}"},
    )

"""EndpointSlices to agents: which agent runs on which node, at which address. Pure.

An EndpointSlice lists the pods of a Service, some hundred in each. A change of one pod is a new version of
its whole slice. So a slice is compared with its version before, and only nodes that differ in it are looked
at again. Nothing in a slice is trusted to have the right type: an endpoint that can't be used is left out
and told. Source: the API reference of discovery.k8s.io/v1, EndpointSlice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.config.values import InvalidValue, parse_address, parse_name
from topology.labels import clean_value
from topology.placement import NodeName, Zone

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Which slices and which of their ports list the agents. ``family``: 4 or 6, that of node.address."""

    service: str
    namespace: str
    port_name: str
    family: int

    @property
    def address_type(self) -> str:
        """The ``addressType`` of the slices that are used. A dual-stack agent is in slices of both."""
        return f"IPv{self.family}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One endpoint: an agent's pod.

    ``used``: it is ready, and does not stop. ``stops``: it is terminating.
    """

    node: NodeName
    address: str
    port: int
    zone: Zone | None
    used: bool
    stops: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What one slice lists, by node: a pod and its successor are there together.

    ``wrong``: why endpoints were left out, and how many. ``other_type``: its addresses are of a type that
    this node does not use.
    """

    agents: Mapping[NodeName, tuple[Listed, ...]]
    wrong: Mapping[str, int]
    other_type: str | None = None


_EMPTY = Slice(agents={}, wrong={})
_SHOWN_MAX = 20

Before = Mapping[NodeName, Listed | None]
"""The nodes about which a change of the slices says something, and the agent that each had before."""


class SliceTable:
    """The slices of now, and the agents that they list."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._slices: dict[str, Slice] = {}
        self._holding: dict[NodeName, set[str]] = {}  # the slices that list a node
        self._agents: dict[NodeName, Listed] = {}
        self._double: dict[NodeName, tuple[str, ...]] = {}

    @property
    def agents(self) -> Mapping[NodeName, Listed]:
        """The agents that can be used, one for each node, this node's own too."""
        return self._agents

    @property
    def wrong(self) -> Mapping[str, int]:
        """Why endpoints were left out, and how many each time."""
        total: Counter[str] = Counter()
        for slice_ in self._slices.values():
            total.update(slice_.wrong)
        return total

    @property
    def other_types(self) -> tuple[str, ...]:
        """The types of addresses that are listed, and not used by this node."""
        return tuple(sorted({slice_.other_type for slice_ in self._slices.values() if slice_.other_type}))

    @property
    def double(self) -> Mapping[NodeName, tuple[str, ...]]:
        """The nodes that are listed as ready at several addresses, the address that is used first."""
        return self._double

    def stops(self, node: NodeName) -> bool:
        """Whether a pod of this node is said to stop."""
        return any(listed.stops for listed in self._listed(node))

    def replace(self, documents: Iterable[Any]) -> Before:
        """These are all slices."""
        found = dict(filter(None, map(self._read, documents)))
        before: dict[NodeName, Listed | None] = {}
        for name in self._slices.keys() - found.keys():
            self._put(name, _EMPTY, before)
        for name, slice_ in found.items():
            self._put(name, slice_, before)
        return before

    def apply(self, document: Any, *, deleted: bool) -> Before:
        """This slice is new, was changed or was deleted. O(endpoints of the slice)."""
        read = self._read(document)
        before: dict[NodeName, Listed | None] = {}
        if read is not None:
            name, slice_ = read
            self._put(name, _EMPTY if deleted else slice_, before)
        return before

    def _read(self, document: Any) -> "tuple[str, Slice] | None":
        """A slice by its name. None if it is none of this Service: its server ignores what was asked for."""
        metadata = _mapping(_mapping(document).get("metadata"))
        name, labels = metadata.get("name"), _mapping(metadata.get("labels"))
        ours = labels.get(SERVICE_LABEL) == self._source.service
        if not isinstance(name, str) or not ours or metadata.get("namespace") != self._source.namespace:
            return None
        known = self._slices.get(name, _EMPTY)
        return name, read_slice(document, self._source, known)

    def _put(self, name: str, slice_: "Slice", before: dict[NodeName, Listed | None]) -> None:
        old = self._slices.get(name, _EMPTY).agents
        new = slice_.agents
        if slice_ is _EMPTY:
            self._slices.pop(name, None)
        else:
            self._slices[name] = slice_
        for node in old.keys() | new.keys():
            if old.get(node) == new.get(node):
                continue
            if node in new:
                self._holding.setdefault(node, set()).add(name)
            else:
                self._holding[node].discard(name)
                if not self._holding[node]:
                    del self._holding[node]
            before.setdefault(node, self._agents.get(node))
            self._choose(node)

    def _choose(self, node: NodeName) -> None:
        """Decide which endpoint is the node's agent."""
        known = self._agents.get(node)
        candidates = {listed.address: listed for listed in self._listed(node) if listed.used}
        self._double.pop(node, None)
        if not candidates:
            self._agents.pop(node, None)
            return
        # Of several addresses the known one stays, so that two pods that claim one node do not alternate.
        address = known.address if known and known.address in candidates else min(candidates)
        self._agents[node] = candidates[address]
        if len(candidates) > 1:
            self._double[node] = (address, *sorted(candidates.keys() - {address}))

    def _listed(self, node: NodeName) -> Iterable[Listed]:
        for name in sorted(self._holding.get(node, ())):
            yield from self._slices[name].agents[node]


def read_slice(document: Any, source: Source, known: Slice = _EMPTY) -> Slice:
    """What a slice lists. O(endpoints).

    ``known``: the same slice before. What was checked then is not checked again, which is most of the work.
    """
    fields, wrong = _mapping(document), Counter[str]()
    address_type, endpoints = fields.get("addressType"), fields.get("endpoints")
    endpoints = endpoints if isinstance(endpoints, list) else []
    if address_type != source.address_type:
        return Slice(agents={}, wrong=wrong, other_type=str(address_type)[:_SHOWN_MAX] if endpoints else None)
    port = _port(fields.get("ports"), source.port_name)
    if port is None:
        wrong[f"no TCP port is named {source.port_name!r}"] += len(endpoints)
        return Slice(agents={}, wrong=wrong)
    found: dict[NodeName, tuple[Listed, ...]] = {}
    for endpoint in endpoints:
        listed = _known(endpoint, port, known.agents) or _endpoint(endpoint, port, source.family)
        if isinstance(listed, str):
            wrong[listed] += 1
        elif listed not in found.get(listed.node, ()):
            found[listed.node] = (*found.get(listed.node, ()), listed)
    return Slice(agents=found, wrong=wrong)


def _endpoint(endpoint: Any, port: int, family: int) -> Listed | str:
    """One endpoint, or why it can't be used."""
    if not isinstance(endpoint, dict):
        return "not an endpoint"
    node, addresses = endpoint.get("nodeName"), endpoint.get("addresses")
    if node is None:
        return "it names no node"
    try:
        node = parse_name(node)
    except InvalidValue:
        return "its node's name is none"
    if not isinstance(addresses, list) or not addresses:
        return "it has no address"
    try:
        address = parse_address(addresses[0])  # Kubernetes: further ones are to be ignored
    except InvalidValue:
        return "its address is none"
    if (":" in address) != (family == 6):
        return "its address is of another family than its slice"
    used, stops = _state(endpoint)
    zone = endpoint.get("zone")
    clean = clean_value(zone) if isinstance(zone, str) else ""
    return Listed(
        node=NodeName(node),
        address=address,
        port=port,
        zone=Zone(clean) if clean else None,
        used=used,
        stops=stops,
    )


def _known(endpoint: Any, port: int, agents: Mapping[NodeName, tuple[Listed, ...]]) -> Listed | None:
    """What was made of the same endpoint before."""
    try:
        node, (address, *_) = endpoint["nodeName"], endpoint["addresses"]
        zone, state = endpoint.get("zone"), _state(endpoint)
        for listed in agents.get(node, ()):
            if (listed.address, listed.port, listed.zone) == (address, port, zone):
                return listed if (listed.used, listed.stops) == state else None
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # not an endpoint; `_endpoint` says why
    return None


def _state(endpoint: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether an agent can be used, and whether it is terminating. Kubernetes: nil counts as ready."""
    conditions = _mapping(endpoint.get("conditions"))
    stops = conditions.get("terminating") is True
    return conditions.get("ready") in (True, None) and not stops, stops


def _port(ports: Any, wanted: str) -> int | None:
    for port in ports if isinstance(ports, list) else ():
        entry = _mapping(port)
        number = entry.get("port")
        if entry.get("name") == wanted and entry.get("protocol", "TCP") == "TCP":
            if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 65536:
                return number
            return None
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

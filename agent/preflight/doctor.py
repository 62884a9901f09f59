"""Looks at everything that serving pulls needs, side by side, and then says what it means.

All looks have one deadline together. The questions to the agent go to its own socket, so that during an
upgrade this pod's agent is asked and not the other one.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config import ContainerdStore, Endpoint, IndexUrl, Settings
from agent.documents.flows import FlowsDocument
from agent.documents.reach import ReachDocument
from agent.documents.registries import RegistriesDocument
from agent.documents.topology import TopologyDocument
from agent.hosts.hostsfile import Host
from agent.hosts.node import ContainerdNode
from agent.preflight import answering, apiserver, resolving
from agent.preflight.agentword import agent_parts, around, zone_label
from agent.preflight.authority import who_decides
from agent.preflight.canaries import canaries
from agent.preflight.certificates import certificate, look_at_certificate
from agent.preflight.check import Check
from agent.preflight.clocks import clock
from agent.preflight.containerdfiles import (
    content,
    hosts_files,
    look_at_content,
    look_at_directory,
    look_at_told,
)
from agent.preflight.daemon import SocketFacts, daemon, look_at_socket
from agent.preflight.gather import Unknown, gather
from agent.preflight.index import index_server, look_at_index
from agent.preflight.keys import KeyFacts, key_file, look_at_key
from agent.preflight.openings import openings
from agent.preflight.pages import AgentPages
from agent.preflight.ports import Listener
from agent.preflight.reach import peers_reached
from agent.preflight.registries import ToldContainerd, told
from agent.preflight.tokens import Told, tokens

AT_MOST_S = 9.0
_PAGE_S = 4.0
_REACH_S = 8.0  # a peer that drops everything is waited for

Listeners = Callable[[int], tuple[Listener, ...] | None]
"""Who listens on a port of this network namespace. None: that can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorTarget:
    """The node to look at. ``node``: its containerd. ``listeners``: see `Listeners`.

    ``name``: the node whose agent should answer; None: that of the settings is only a guess.
    """

    settings: Settings
    name: str | None
    node: ContainerdNode
    listeners: Listeners
    proc: Path = Path("/proc")


def examine(target: DoctorTarget) -> tuple[Check, ...]:
    """Everything that was found, in the order in which a pull meets it. Takes ten seconds at most."""
    return judge(target, gather(_looks(target), at_most_s=AT_MOST_S))


def _looks(target: DoctorTarget) -> dict[str, Callable[[], Any]]:
    settings, node = target.settings, target.node
    pages = AgentPages(admin=settings.listen.admin, path=settings.health.socket)
    host_port, node_port = settings.listen.hostport, settings.probe.node_port
    looks: dict[str, Callable[[], Any]] = {
        "ready": lambda: pages.ask("/readyz?verbose", at_most_s=_PAGE_S),
        "topology": lambda: pages.document(TopologyDocument, TopologyDocument.PATH, at_most_s=_PAGE_S),
        "flows": lambda: pages.document(FlowsDocument, f"{FlowsDocument.PATH}?limit=1", at_most_s=_PAGE_S),
        "registries": lambda: pages.document(RegistriesDocument, RegistriesDocument.PATH, at_most_s=_PAGE_S),
        "reach": lambda: pages.document(ReachDocument, ReachDocument.PATH, at_most_s=_REACH_S),
        "content": lambda: look_at_content(settings.store),
        "host port": lambda: answering.ask(host_port),
        "at host port": lambda: target.listeners(host_port.port),
        "at node port": lambda: target.listeners(node_port),
        "fallbacks": lambda: _ask_fallbacks(settings, node),
        "names": lambda: resolving.resolve(resolving.registry_names(_files(node))),
    }
    key = settings.peering.key
    if key is not None:
        looks["key"] = lambda: look_at_key(key)
    tls = settings.peering.tls
    if tls is not None:
        looks["certificate"] = lambda: look_at_certificate(
            tls, own=target.name, address=settings.node.address
        )
    store, kubernetes = settings.store, settings.membership.kubernetes
    if isinstance(store, ContainerdStore):
        looks["socket"] = lambda: look_at_socket(store.socket, store.namespace, proc=target.proc)
    if isinstance(settings.index, IndexUrl):
        looks["index"] = lambda: look_at_index(settings)
    if kubernetes is not None:
        looks["api server"] = lambda: apiserver.look_at_api_server(kubernetes)
    return looks


def judge(target: DoctorTarget, found: Mapping[str, Any]) -> tuple[Check, ...]:
    """What the facts mean."""
    settings, at_host_port = target.settings, found["at host port"]
    socket = found.get("socket")
    kubernetes = settings.membership.kubernetes
    containerd = _told(target, socket)
    host_port = answering.host_port(settings.listen.hostport, target.name, found["host port"], at_host_port)
    return (
        *agent_parts(found["ready"]),
        *(daemon(socket) if socket is not None else ()),
        content(found["content"]),
        *told(
            containerd,
            lambda host: name_of(host, settings),
            shares_arriving=settings.cold_start.claims,
        ),
        *shown_tokens(settings, containerd, found.get("key")),
        host_port,
        _node_port(settings, found),
        *_fallbacks(found["fallbacks"]),
        *canaries(found["flows"]),
        *key_file(found.get("key"), is_open=settings.peering.open),
        *certificate(found.get("certificate"), time.time()),
        *openings(settings),
        *resolving.resolved(found["names"]),
        *apiserver.api_server(found.get("api server"), "" if kubernetes is None else kubernetes.service),
        *index_server(found.get("index"), settings.index),
        *peers_reached(found["reach"], settings.listen.peer.port),
        *zone_label(found["topology"]),
        *around(found["topology"]),
        *who_decides(found["registries"]),
        clock(_ahead_s(found)),
    )


def name_of(host: Host, settings: Settings) -> str:
    """Which of the agent's addresses a host of hosts.toml is. Empty: none of them."""
    endpoint, local = host.endpoint, settings.listen.hostport
    if endpoint is None:
        return ""
    is_loopback = endpoint.host in ("127.0.0.1", "::1")
    # Of a pod on the pod network, listen.hostport is another address than the one that leads to it.
    if endpoint == local or (is_loopback and (endpoint.port == local.port or settings.node.pod_network)):
        return "hostport"
    if endpoint.port == settings.probe.node_port:
        return "nodeport"
    is_service = endpoint in settings.probe.services or (host.ours and not is_loopback)
    return "clusterip" if is_service else ""


def _told(target: DoctorTarget, socket: SocketFacts | Unknown | None) -> ToldContainerd | Unknown:
    node, facts = target.node, socket if isinstance(socket, SocketFacts) else None
    try:
        return look_at_told(
            node, facts.release if facts else "", started_s=facts.started_s if facts else None
        )
    except OSError as error:
        return Unknown(why=f"{error.filename or node.certs_d}: {(error.strerror or str(error)).lower()}")


def shown_tokens(settings: Settings, containerd: ToldContainerd | Unknown, key: Any) -> tuple[Check, ...]:
    """What containerd shows to the agents, if both ends are known. ``key``: see `look_at_key`."""
    if isinstance(containerd, Unknown) or not isinstance(key, KeyFacts):
        return ()
    shown_to = Told(
        certs_d=str(containerd.certs_d),
        files={name: each for name, each in containerd.files.items() if not containerd.drops(each)},
        modes=containerd.modes,
        name_of=lambda host: name_of(host, settings),
        pod_network=settings.node.pod_network,
    )
    return tokens(shown_to, key.ring)


def _files(node: ContainerdNode) -> Any:
    return hosts_files(look_at_directory(node, node.certs_d))


def _ask_fallbacks(
    settings: Settings, node: ContainerdNode
) -> tuple[tuple[Endpoint, str, answering.Answerer], ...]:
    """Who answers at the other addresses of the agents that the files name."""
    named: dict[Endpoint, tuple[str, str]] = {}
    for file in _files(node).values():
        for host in file.hosts:
            name = name_of(host, settings)
            if name not in ("", "hostport") and host.endpoint is not None:
                named[host.endpoint] = name, host.authorization
    return tuple(
        (endpoint, name, answering.ask(endpoint, authorization))
        for endpoint, (name, authorization) in [*named.items()][:2]
    )


def _fallbacks(found: Any) -> tuple[Check, ...]:
    if isinstance(found, Unknown):
        return ()  # `told` says why the files can't be read
    return tuple(answering.fallback(endpoint, name, answer) for endpoint, name, answer in found)


def _node_port(settings: Settings, found: Mapping[str, Any]) -> Check:
    listeners, fallbacks = found["at node port"], found["fallbacks"]
    if settings.node.pod_network:
        listeners = Unknown(why="this is the network of a pod, and not the node's")
    used = not isinstance(fallbacks, Unknown) and any(name == "nodeport" for _, name, _ in fallbacks)
    return answering.node_port_socket(settings.probe.node_port, listeners, used=used)


def _ahead_s(found: Mapping[str, Any]) -> dict[str, float]:
    reach, api = found["reach"], found.get("api server")
    ahead_s: dict[str, float] = {}
    if isinstance(reach, ReachDocument):
        ahead_s = {
            each.node: each.ahead_s for each in reach.asked if each.ahead_s is not None and not each.own
        }
    if isinstance(api, apiserver.ApiFacts) and api.ahead_s is not None:
        ahead_s["the API server"] = api.ahead_s
    return ahead_s

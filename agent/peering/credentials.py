"""How agents know each other. The one place that adds the proof to a request, and the one that checks it.

Today an agent is whoever calls itself one. A signature over method, target, range and the names of both nodes
goes into `Credentials.headers`, and its check into `Credentials.is_agent`. Nothing else has to change: every
request to a peer gets its headers here, and every request on the peer listener is checked here.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.members.introduction import PEER_LISTENER, Answer, Introduction
from agent.members.member import Peer
from agent.members.placements import PlacementInvalid, decode_placement, encode_placement
from topology.labels import clean_value
from topology.placement import NodeName, Placement

_USER_AGENT = "shorthaul"
_NAME_HEADER, _INSTANCE_HEADER = "Shorthaul-Node", "Shorthaul-Instance"
_LISTENER_HEADER, _PLACEMENT_HEADER = "Shorthaul-Listener", "Shorthaul-Placement"

Introduced = Callable[[Peer, Answer | None], None]
"""Is told what answered at a peer's address. None: nobody, or somebody who accepted and did not say who."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Those of one agent. ``own``: its node. ``instance``: a word that only this process uses.

    ``placement``: where it is now.
    """

    own: NodeName
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    placement: Callable[[], Placement] = Placement

    def headers(
        self, peer: Peer, method: str, target: str, more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The headers of a request to a peer, without Host. ``more``: those of this one request; they win."""
        return {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(more or {})}

    def is_agent(self, method: str, target: str, headers: Mapping[str, str]) -> bool:
        """Whether this request comes from another agent of the cluster. ``headers``: of any case."""
        return headers.get("User-Agent") == _USER_AGENT

    def introduction(self, listener: str = PEER_LISTENER) -> dict[str, str]:
        """The headers with which this agent answers another one on one of its listeners: who it is, and
        where.

        Listeners that are not for peers say so, because a peer that comes there has a wrong port in its list.
        """
        headers = {_NAME_HEADER: self.own, _INSTANCE_HEADER: self.instance, _LISTENER_HEADER: listener}
        placement = encode_placement(self.placement()) if listener == PEER_LISTENER else None
        return headers if placement is None else {**headers, _PLACEMENT_HEADER: placement}

    @staticmethod
    def introduced(headers: Mapping[str, str]) -> Introduction | None:
        """Who answered, by the answer's headers.

        None if they do not say. Agents of before say no placement.
        """
        name, instance = headers.get(_NAME_HEADER), headers.get(_INSTANCE_HEADER)
        if name is None or instance is None:
            return None
        try:
            placement = decode_placement(headers[_PLACEMENT_HEADER])
        except (KeyError, PlacementInvalid):
            placement = None
        return Introduction(
            name=clean_value(name),
            instance=instance,
            listener=clean_value(headers.get(_LISTENER_HEADER, PEER_LISTENER)),
            placement=placement,
        )

"""How agents know each other: what one puts into a request, and what another one answers.

The one place that signs a request and that proves an answer. `agent.peering.gate` checks requests. Every
request to a peer gets its headers here, and every answer that opens a standing connection.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.keyring import Key, KeyRing
from agent.members.introduction import PEER_LISTENER, Answer, Introduction
from agent.members.member import Peer
from agent.members.placements import PlacementInvalid, decode_placement, encode_placement
from agent.peering.gate import USER_AGENT
from agent.peering.redirects import with_proof
from agent.peering.signature import HEADER, PROOF_HEADER, is_proved, parse_signature, prove_answer, sign
from topology.labels import clean_value
from topology.placement import NodeName, Placement

_NAME_HEADER, _INSTANCE_HEADER = "Shorthaul-Node", "Shorthaul-Instance"
_LISTENER_HEADER, _PLACEMENT_HEADER = "Shorthaul-Listener", "Shorthaul-Placement"
_SAID = (_NAME_HEADER, _INSTANCE_HEADER, _LISTENER_HEADER, _PLACEMENT_HEADER)

Introduced = Callable[[Peer, Answer | None], None]
"""Is told what answered at a peer's address. None: nobody, or somebody who accepted and did not say who."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Those of one agent. ``own``: its node. ``instance``: a word that only this process uses.

    ``placement``: where it is now. ``ring``: the keys of now; None: it has none, and signs nothing.
    ``is_open``: peers need not prove who they are (``peering.open``). ``wall``: seconds since 1970.
    """

    own: NodeName
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    placement: Callable[[], Placement] = Placement
    ring: Callable[[], KeyRing | None] = lambda: None
    is_open: bool = False
    wall: Callable[[], float] = time.time

    def headers(
        self, peer: Peer, method: str, target: str, more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The headers of a request to a peer, without Host. ``more``: those of this one request; they win.

        They are for one request: its signature is taken once.
        """
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(more or {})}
        ring = self.ring()
        if ring is not None:
            headers[HEADER] = sign(
                ring.signs,
                method=method,
                target=target,
                byte_range=headers.get("Range", ""),
                sender=self.own,
                receiver=peer.name,
                time_ms=int(self.wall() * 1000),
                nonce=secrets.token_hex(8),
            )
        return headers

    def redirect(self, peer: Peer, target: str) -> str:
        """The address at which a client may fetch this path from a peer, for half a minute."""
        ring = self.ring()
        if ring is not None:
            target = with_proof(ring.signs, target, peer.name, int(self.wall() * 1000))
        return f"{peer.base_url}{target}"

    def answer(self, request: Mapping[str, str]) -> dict[str, str]:
        """The headers that answer another agent's request: who this one is, and the proof of it.

        ``request``: the request's headers, of any case. It was checked before.
        """
        said, signed = self.introduction(), self._signed(request)
        return said if signed is None else {**said, PROOF_HEADER: prove_answer(*signed, said)}

    def is_proved(self, request: Mapping[str, str], answered: Mapping[str, str]) -> bool:
        """Whether the answer comes from an agent that knows the key, or none has to.

        ``request``: the headers that were sent. ``answered``: those of the answer, of any case.
        """
        signed = self._signed(request)
        if self.is_open or signed is None:
            return self.is_open
        said = {name: answered[name] for name in _SAID if name in answered}
        return is_proved(*signed, said, answered.get(PROOF_HEADER, ""))

    def still_accepts(self, request: Mapping[str, str]) -> bool:
        """Whether the key of a request that was let in is one of now, or none has to prove anything."""
        return self.is_open or self._signed(request) is not None

    def _signed(self, request: Mapping[str, str]) -> tuple[Key, str] | None:
        """The key of a request and its HMAC, which was checked before. None: the key is none of now."""
        ring, signature = self.ring(), parse_signature(request.get(HEADER, ""))
        key = None if ring is None or signature is None else ring.by_id(signature.key_id)
        return None if key is None or signature is None else (key, signature.mac)

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

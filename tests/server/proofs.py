"""The proofs of a peer that is no agent: the key of every site, signed requests, proved answers.

An `Impostor` is a peer that lies although it knows the key, as an agent would whose node was taken over.
"""

import secrets
import time
from collections.abc import Mapping
from email.message import Message

from agent.keyring import new_key, parse_keys
from agent.peering.signature import HEADER, PROOF_HEADER, parse_signature, prove_answer, sign
from topology.placement import NodeName

KEY = new_key()
"""The key of all sites of this run."""

OPEN = {"open": True}
"""``peering`` of a node that tests ask by its peer listener without being a peer."""


def signed(
    path: str,
    *,
    sender: str,
    receiver: str,
    method: str = "GET",
    byte_range: str = "",
    ahead_s: float = 0.0,
) -> dict[str, str]:
    """The header that proves a request of one member to another one. ``ahead_s``: by so much its clock is."""
    header = sign(
        parse_keys(KEY).signs,
        method=method,
        target=path,
        byte_range=byte_range,
        sender=NodeName(sender),
        receiver=NodeName(receiver),
        time_ms=int((time.time() + ahead_s) * 1000),
        nonce=secrets.token_hex(8),
    )
    return {HEADER: header}


def proved(request: Message | Mapping[str, str], said: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers of an answer to a signed request, with its proof. ``said``: what it says of itself."""
    said = said or {}
    signature = parse_signature(request.get(HEADER, ""))
    if signature is None:
        return dict(said)
    return {**said, PROOF_HEADER: prove_answer(parse_keys(KEY).signs, signature.mac, said)}

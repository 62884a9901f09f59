"""The signature of a request between two agents, and the proof in the answer to it. Pure.

A signature is an HMAC-SHA256 over all that the request asks for, both names, the time and a nonce. So it is
good for one request to one node, and for a short time. The answer that opens a standing connection has an
HMAC over that signature and over all that the answerer says of itself. Sources: RFC 2104; RFC 9421 for what a
signature has to cover.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from agent.keyring import Key
from topology.placement import NodeName

HEADER, PROOF_HEADER = "Authorization", "Shorthaul-Proof"
SCHEME = "Shorthaul-HMAC-SHA256"

WINDOW_MS = 30_000
"""A signature is good for so long before and after the time in it: more than clocks differ that NTP sets."""

_NAME = "[A-Za-z0-9._~%-]{1,800}"
_FORM = re.compile(
    rf"{SCHEME} key=([0-9a-f]{{8}}), from=({_NAME}), to=({_NAME}), time=([0-9]{{1,15}}), "
    r"nonce=([0-9a-f]{16,64}), signature=([0-9a-f]{64})"
)
_REQUEST, _ANSWER = "shorthaul request v1", "shorthaul answer v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature as a header has it. Nothing in it is proved before `fits` says so.

    ``sender``, ``receiver``: the two nodes. ``time_ms``: when it was made, since 1970. ``mac``: the HMAC.
    """

    key_id: str
    sender: NodeName
    receiver: NodeName
    time_ms: int
    nonce: str
    mac: str

    def fits(self, key: Key, method: str, target: str, byte_range: str) -> bool:
        """Whether whoever knows the key signed this request. Takes the same time for all wrong signatures."""
        text = _text(method, target, byte_range, self.sender, self.receiver, self.time_ms, self.nonce)
        return hmac.compare_digest(_mac(key, text), self.mac)


def sign(
    key: Key,
    *,
    method: str,
    target: str,
    byte_range: str,
    sender: NodeName,
    receiver: NodeName,
    time_ms: int,
    nonce: str,
) -> str:
    """The header of a signed request. ``byte_range``: the Range header, empty if there is none.

    ``nonce``: hexadecimal digits that this sender never used before.
    """
    mac = _mac(key, _text(method, target, byte_range, sender, receiver, time_ms, nonce))
    return (
        f"{SCHEME} key={key.id}, from={_quoted(sender)}, to={_quoted(receiver)}, time={time_ms}, "
        f"nonce={nonce}, signature={mac}"
    )


def parse_signature(header: str) -> Signature | None:
    """The signature in a header. None if it has none, or not in the one form that `sign` writes."""
    found = _FORM.fullmatch(header)
    if found is None:
        return None
    key_id, sender, receiver, time_ms, nonce, mac = found.groups()
    if "%" in header:
        sender, receiver = unquote(sender, errors="replace"), unquote(receiver, errors="replace")
        if not (sender.isprintable() and receiver.isprintable()):  # the end of a line, for one
            return None
    return Signature(
        key_id=key_id,
        sender=NodeName(sender),
        receiver=NodeName(receiver),
        time_ms=int(time_ms),
        nonce=nonce,
        mac=mac,
    )


def prove_answer(key: Key, request_mac: str, said: Mapping[str, str]) -> str:
    """The proof of an answer. ``request_mac``: of the request. ``said``: the headers that are proved."""
    return _mac(key, _lines(_ANSWER, request_mac, *(f"{name}: {said[name]}" for name in sorted(said))))


def is_proved(key: Key, request_mac: str, said: Mapping[str, str], proof: str) -> bool:
    """Whether whoever knows the key answered this request with these headers."""
    return proof.isascii() and hmac.compare_digest(prove_answer(key, request_mac, said), proof)


def _text(
    method: str,
    target: str,
    byte_range: str,
    sender: NodeName,
    receiver: NodeName,
    time_ms: int,
    nonce: str,
) -> bytes:
    # No field can have the end of a line in it, so no two requests have one text.
    return _lines(_REQUEST, method, target, byte_range, sender, receiver, str(time_ms), nonce)


def _lines(*fields: str) -> bytes:
    return "\n".join(fields).encode(errors="surrogateescape")  # a client's bytes, as they came


def _mac(key: Key, text: bytes) -> str:
    return hmac.digest(key.peers, text, hashlib.sha256).hex()


def _quoted(name: NodeName) -> str:
    return quote(name, safe="")  # a node may be called by any letters, a header has ASCII

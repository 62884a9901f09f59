"""The proof in an address that an agent sends a containerd to: it may fetch this one content there. Pure.

It is good for one path, from one node, by GET or HEAD, and for as long as a signature. Whoever reads the
address can use it as long: it is for a client that could have had the content from the first agent. It stands
in the query, because that is all that a client takes along when it is redirected to another host.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass

from agent.keyring import Key
from topology.placement import NodeName

_PARAMETER = "shorthaul-proof="
_FORM = re.compile(r"([0-9a-f]{8})\.([0-9]{1,15})\.([0-9a-f]{64})")
_VERSION = "shorthaul redirect v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectProof:
    """A proof as an address has it. ``target``: path and query without it. ``time_ms``: when it was made."""

    key_id: str
    time_ms: int
    mac: str
    target: str

    def fits(self, key: Key, own: NodeName) -> bool:
        """Whether whoever knows the key sent a client to this target on this node."""
        return hmac.compare_digest(_mac(key, self.target, own, self.time_ms), self.mac)


def with_proof(key: Key, target: str, node: NodeName, time_ms: int) -> str:
    """Path and query with a proof: whoever has them may fetch them from this node."""
    mark = "&" if "?" in target else "?"
    return f"{target}{mark}{_PARAMETER}{key.id}.{time_ms}.{_mac(key, target, node, time_ms)}"


def redirect_proof(target: str) -> RedirectProof | None:
    """The proof at the end of a request's path and query. None: there is none."""
    before, parameter, text = target.rpartition(_PARAMETER)
    found = _FORM.fullmatch(text) if parameter and before[-1:] in ("?", "&") else None
    if found is None:
        return None
    key_id, time_ms, mac = found.groups()
    return RedirectProof(key_id=key_id, time_ms=int(time_ms), mac=mac, target=before[:-1])


def without_proof(target: str) -> str:
    """Path and query as they may be written down: a proof in them is left out."""
    before, parameter, _ = target.partition(_PARAMETER)
    return f"{before}…" if parameter else target


def _mac(key: Key, target: str, node: NodeName, time_ms: int) -> str:
    text = "\n".join((_VERSION, target, node, str(time_ms)))
    return hmac.digest(key.redirects, text.encode(errors="surrogateescape"), hashlib.sha256).hex()

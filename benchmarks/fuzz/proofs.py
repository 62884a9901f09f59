"""What lets a client in: signatures and tokens, made by hand from their description, not by the agent's code.

So a test that uses them shows that another implementation of the description is understood.
"""

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field

SCHEME = "Shorthaul-HMAC-SHA256"
KEY = "attack-table-key-0123456789-abcdefghijk"
"""The cluster's key. A word that is found wherever it leaks."""


def derived(key: str, purpose: str) -> bytes:
    """What is derived from a key for a purpose."""
    return hmac.digest(key.encode(), purpose.encode(), hashlib.sha256)


def token(key: str, purpose: str) -> str:
    """A token that is derived from a key."""
    return base64.urlsafe_b64encode(derived(key, purpose)).rstrip(b"=").decode()


def service_token(key: str = KEY) -> str:
    """The service token."""
    return token(key, "shorthaul service token v1")


def admin_token(key: str = KEY) -> str:
    """The admin token."""
    return token(key, "shorthaul admin token v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """All that a signature is over, and with which key. ``shown``: what the header says instead, by name."""

    sender: str
    receiver: str
    method: str = "GET"
    target: str = "/v2/"
    byte_range: str = ""
    key: str = KEY
    key_id: str = ""
    age_s: float = 0.0
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))
    shown: tuple[tuple[str, str], ...] = ()

    def header(self) -> str:
        """The header's value."""
        time_ms = str(int((time.time() - self.age_s) * 1000))
        fields = (self.method, self.target, self.byte_range, self.sender, self.receiver, time_ms, self.nonce)
        text = "\n".join(("shorthaul request v1", *fields)).encode()
        mac = hmac.digest(derived(self.key, "shorthaul peers v1"), text, hashlib.sha256).hex()
        says = {
            "key": self.key_id or key_id(self.key),
            "from": self.sender,
            "to": self.receiver,
            "time": time_ms,
            "nonce": self.nonce,
            "signature": mac,
        } | dict(self.shown)
        return f"{SCHEME} " + ", ".join(f"{name}={value}" for name, value in says.items())


def key_id(key: str) -> str:
    """The name of a key."""
    return derived(key, "shorthaul key id v1").hex()[:8]

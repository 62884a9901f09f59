"""The doors of a node as an attacker finds them, and what an honest client would send there.

Signatures and tokens are made by hand (`benchmarks.fuzz.proofs`), and not by the agent's code.
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from benchmarks.fuzz.proofs import Signed, service_token

from ..agents import ADMIN, LOCAL, PEER, SERVICE, Node
from ..wire import connected

Field = tuple[str, str]
OTHER_KEY = "another-clusters-key-0123456789-abcdefg"
MEMBER, STRANGER = "friend", "nobody-knows"


class Door(Enum):
    """A listener, with the way in which it is spoken to."""

    HOSTPORT = "HostPort"
    NODEPORT = "NodePort"
    ADMIN = "admin"
    PEER = "peer, signed"
    PEER_TLS = "peer, signed, TLS"

    @property
    def is_peer(self) -> bool:
        """Whether it is for agents."""
        return self in (Door.PEER, Door.PEER_TLS)


_PORTS = {
    Door.HOSTPORT: LOCAL,
    Door.NODEPORT: SERVICE,
    Door.ADMIN: ADMIN,
    Door.PEER: PEER,
    Door.PEER_TLS: PEER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One door of a running agent. ``friend``: a member's address. ``client_tls``: its certificate."""

    door: Door
    node: Node
    friend: str
    target: str
    client_tls: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        """Its port."""
        return _PORTS[self.door]

    @contextmanager
    def connect(
        self, *, source: str | None = None, context: ssl.SSLContext | None = None, timeout_s: float = 60.0
    ) -> Iterator[socket.socket]:
        """A connection, as a client has it that is let in. ``source``: from this address instead."""
        own = source or (self.friend if self.door.is_peer else None)
        with connected(self.node.address, self.port, source=own, timeout_s=timeout_s) as sock:
            if self.door is not Door.PEER_TLS:
                yield sock
                return
            chosen = context or self.client_tls
            assert chosen is not None
            with chosen.wrap_socket(sock, server_hostname=self.node.name) as wrapped:
                yield wrapped

    def proof(self, method: str, target: str, byte_range: str = "") -> list[Field]:
        """The fields that let an honest client in."""
        match self.door:
            case Door.NODEPORT:
                return [("Authorization", f"Bearer {service_token()}")]
            case Door.PEER | Door.PEER_TLS:
                signed = Signed(
                    sender=MEMBER,
                    receiver=self.node.name,
                    method=method,
                    target=target,
                    byte_range=byte_range,
                )
                return [("Authorization", signed.header()), ("User-Agent", "shorthaul")]
            case _:
                return []

    def honest(self, *more: Field, method: str = "GET", target: str | None = None) -> bytes:
        """A request that is answered, with more fields."""
        path = self.target if target is None else target
        byte_range = next((value for name, value in more if name == "Range"), "")
        return request([("Host", "localhost"), *self.proof(method, path, byte_range), *more], method, path)

    def unproved(self, *fields: Field, target: str | None = None) -> bytes:
        """A request with these fields only."""
        return request([("Host", "localhost"), *fields], "GET", self.target if target is None else target)


def request(fields: Sequence[Field], method: str = "GET", target: str = "/v2/", body: str = "") -> bytes:
    """A request, by hand."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + f"\r\n\r\n{body}").encode("latin-1")

"""Fetching content from other agents. Every answer is checked before anyone relies on it.

Exceptions of the connection become `AttemptFailed`. Cancelling a fetch closes its connection.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from agent.members.member import Peer
from agent.members.roster import Roster
from agent.observe.requests import read_id
from agent.oci.authority import AUTHORITY_HEADER, Authorities, Authority
from agent.oci.digest import digest_of
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest, parse_manifest
from agent.oci.ranges import ByteRange
from agent.oci.reference import Kind
from agent.peering.connections import Account, ConnectionPool, PeerConnection
from agent.peering.dial import Dialer, Exhausted, OwnFault, Unreachable
from agent.peering.heads import Malformed, ResponseHead
from agent.peering.tlsfailure import TlsRefused
from agent.pull.arrival import FOLLOW_AT_ONCE, FOLLOW_HEADER, FOLLOW_WAITING, Arrival, read_arrival
from agent.pull.events import Failure
from agent.transfer.answers import AttemptFailed, FetchRequest, check
from agent.transfer.patience import not_silent_for
from topology.placement import NodeName

VERIFIED_BYTES = 256 * 1024
"""A whole content up to this size is verified before its first byte is sent. That takes under 1 ms."""

_FIRST_BYTES = 16 * 1024  # are copied; what follows is spliced

_OWN_MEMORY = {errno.ENOMEM, errno.ENOBUFS}


class PeerBody:
    """A peer's checked answer. ``first``: the bytes received so far. ``left_bytes``: how many more will come
    from ``connection``.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        peer: Peer,
        connection: PeerConnection,
        *,
        head: ResponseHead,
        selected: ByteRange | None,
        size_bytes: int,
    ) -> None:
        self._pool = pool
        self._peer = peer
        self._keep_alive = head.keep_alive
        self.connection: PeerConnection | None = connection
        self.first = head.first
        self.selected = selected
        self.size_bytes = size_bytes
        self.verified = False  # ``first`` is the whole content, and it hashes to the digest
        self.manifest: Manifest | None = None  # verified and parsed, when a manifest was wanted
        self.request = read_id(head.headers)  # the id that the request has there
        self.connect_s = 0.0  # how long it took to connect; 0 if there was a connection
        self.arrival: Arrival | None = None  # what the peer says, if it is still fetching the content itself
        self.left_bytes = self.length - len(self.first)

    @property
    def length(self) -> int:
        """The size of the whole body, including ``first``."""
        return self.selected.length if self.selected else self.size_bytes

    @property
    def start(self) -> int:
        """Where in the content the body begins."""
        return self.selected.start if self.selected else 0

    @property
    def position(self) -> int:
        """Where in the content the next byte to be read is."""
        return self.start + self.length - self.left_bytes

    async def read(self, most_bytes: int) -> bytes:
        """The next bytes after ``first``, by copying. Raises `AttemptFailed` if the peer closed."""
        assert self.connection is not None, "read after close"
        with translated():
            received = await self.connection.read(min(most_bytes, self.left_bytes))
        if not received:
            raise AttemptFailed(Failure.BROKEN, f"{self.left_bytes} bytes short")
        self.left_bytes -= len(received)
        return received

    def close(self) -> None:
        """Keep the connection for reuse if the body was read to its end. Else close it."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.left_bytes == 0 and self._keep_alive:
            self._pool.give_back(self._peer, connection)
        else:
            connection.close()


class PeerClient:
    """Fetches content from all peers. Use as an async context manager; leaving it closes idle connections.

    ``stall_s``: how long to wait for the next byte of a content that is verified here. ``authorities``: this
    node's rules on names, which each request to a peer tells.
    """

    def __init__(self, dialer: Dialer, *, stall_s: float, authorities: Authorities | None = None) -> None:
        self._pool = ConnectionPool(dialer)
        self._stall_s = stall_s
        self._authorities = authorities or Authorities()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    async def meet(self, peer: Peer) -> None:
        """Request nothing of a peer, so that a connection to it is open. It may fail: that says nothing."""
        with contextlib.suppress(AttemptFailed, TimeoutError):
            async with asyncio.timeout(self._stall_s):
                with translated():
                    connection, head = await self._pool.request(peer, "GET", "/v2/", {})
            if head.ended and head.keep_alive:
                self._pool.give_back(peer, connection)
            else:
                connection.close()

    async def fetch(self, peer: Peer, wanted: FetchRequest, account: Account | None = None) -> PeerBody:
        """The peer's answer with its first bytes. Its head is checked.

        ``account``: is told how many bytes came, when the connection is no longer used for this request.
        Small contents, manifests and configs are received whole and verified. Raises `AttemptFailed`.
        There is no deadline for the first byte: the pull decides how long to wait.
        """
        headers = {} if wanted.range_spec is None else {"Range": str(wanted.range_spec)}
        if self._authorities.leaves_to_registry(wanted.target):
            headers[AUTHORITY_HEADER] = Authority.REGISTRY.value
        if wanted.follow:
            headers[FOLLOW_HEADER] = FOLLOW_WAITING if wanted.waits else FOLLOW_AT_ONCE
        with translated():
            connection, head = await self._pool.request(
                peer, "HEAD" if wanted.head else "GET", wanted.url_path, headers, account
            )
        try:
            selected, size_bytes = check(head, wanted)
        except AttemptFailed as error:
            error.request = read_id(head.headers)
            if head.ended and head.keep_alive:  # a 404 or a 429: the connection is still good
                self._pool.give_back(peer, connection)
            else:
                connection.close()
            raise
        try:
            body = PeerBody(self._pool, peer, connection, head=head, selected=selected, size_bytes=size_bytes)
            body.connect_s = connection.connect_s
            if wanted.follow:
                body.arrival = read_arrival(head.headers)
            if wanted.head:
                body.left_bytes = 0
            elif _is_verified(wanted, body):
                await self._verify(body, wanted)
            elif not body.first and body.left_bytes:
                body.first = await body.read(_FIRST_BYTES)
        except BaseException:
            connection.close()
            raise
        return body

    async def _verify(self, body: PeerBody, wanted: FetchRequest) -> None:
        """Receive the whole body and verify it."""
        what = wanted.target.kind.value
        if body.size_bytes > SIZE_MAX_BYTES:
            raise AttemptFailed(Failure.INVALID, f"a {what} of {body.size_bytes} bytes")
        parts = [body.first]
        while body.left_bytes:
            async with not_silent_for(self._stall_s):
                parts.append(await body.read(VERIFIED_BYTES))
        body.first = content = b"".join(parts)
        if digest_of(content, like=wanted.target.digest) != wanted.target.digest:
            # A peer that is still fetching it has not verified it: the bytes may be another one's.
            failure = Failure.INVALID if body.arrival is None else Failure.STARVED
            raise AttemptFailed(failure, f"a {what} that does not match its digest")
        body.verified = True
        if wanted.target.kind is Kind.MANIFEST:
            body.manifest = parse_manifest(content)
            if body.manifest is None:
                # The bytes are what the digest says, so the peer did nothing wrong.
                raise AttemptFailed(Failure.MISSING, "content that is not a manifest")


async def fetch_from(
    roster: Roster, client: PeerClient, node: NodeName, wanted: FetchRequest, account: Account | None = None
) -> PeerBody:
    """The answer of the node of that name. Raises `AttemptFailed`, also if it has left the members."""
    peer = roster.peer(node)
    if peer is None:
        raise AttemptFailed(Failure.MISSING, "no longer a member")
    return await client.fetch(peer, wanted, account)


def _is_verified(wanted: FetchRequest, body: PeerBody) -> bool:
    if wanted.target.kind is Kind.MANIFEST:
        return True
    whole = body.length == body.size_bytes
    return whole and (
        body.size_bytes <= VERIFIED_BYTES or (wanted.config and body.size_bytes <= SIZE_MAX_BYTES)
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate failures of the connection to `AttemptFailed`."""
    try:
        yield
    except Unreachable as error:
        raise AttemptFailed(Failure.UNREACHABLE, str(error)) from error
    except Exhausted as error:
        raise AttemptFailed(Failure.EXHAUSTED, str(error)) from error
    except OwnFault as error:
        raise AttemptFailed(Failure.CUT_OFF, str(error)) from error
    except Malformed as error:
        raise AttemptFailed(Failure.INVALID, str(error)) from error
    except BlockingIOError:
        raise
    except TlsRefused as error:
        raise AttemptFailed(Failure.BROKEN, str(error)) from error
    except OSError as error:
        failure = Failure.EXHAUSTED if error.errno in _OWN_MEMORY else Failure.BROKEN
        words = os.strerror(error.errno).lower() if error.errno else "the connection broke off"
        raise AttemptFailed(failure, words) from error

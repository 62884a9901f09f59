"""What happens between accept() and a request where agents speak TLS: the handshake, bounded and counted.

Plain HTTP gets an answer in plain HTTP that says what is wrong. A handshake costs a millisecond or more of
processor time, so only some run at once, from one address only a few, and each for a short time. Whoever
fails is told by TLS's own alert, is counted by reason, and is named in the log once a minute for each reason.
"""

import asyncio
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from agent.descriptors import is_ready
from agent.observe.seldom import Seldom
from agent.oci.errors import OciError
from agent.peering.dial import TLS_ONLY
from agent.peering.tls import ACCEPTED, PeerTls
from agent.peering.tlsfailure import TlsFailure, TlsReason, failure_of
from agent.peering.tlssocket import refusing
from agent.tasks import end_all

_log = logging.getLogger("shorthaul")

_HANDSHAKE_S = 5.0  # from accept() to the end of the handshake; two round trips around the world take one
_SHUTDOWN_S = 2.0  # for the other end's goodbye, which most do not say
_SAY_S = 1.0
_MOST, _STRANGERS = 256, 64  # handshakes at once; a waiting one has 60 KiB
_STRANGERS_PER_S, _STRANGERS_BURST = 20.0, 64.0  # 20 of them cost 3 % of a processor
_ADDRESS_MOST = 64  # of them from one address: a pull in chunks opens 32, and agents may share an address
_HANDSHAKE_RECORD = 0x16  # RFC 8446, section 5.1
_MANY = TlsFailure(reason=TlsReason.MANY, told=False, words="too many handshakes at once")
_PLAIN = TlsFailure(reason=TlsReason.PLAIN, told=False, words="it speaks plain HTTP, and this port TLS")

Factory = Callable[[], asyncio.Protocol]
"""Makes the protocol of a new connection."""


class TlsOnly(OciError):
    """This port speaks TLS (RFC 9110, section 15.5.22)."""

    status = TLS_ONLY
    code = "DENIED"


_BOTH = "set peering.tls on both nodes, or on none"
_ANSWER = TlsOnly("this port speaks TLS only", hint=_BOTH)


class FailureLog:
    """Logs and counts why there is no TLS: once a minute for each reason. ``count``: the reason's label."""

    def __init__(self, count: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._seldom = Seldom(clock=clock)

    def add(self, address: str, failure: TlsFailure, hint: str = "") -> None:
        """There is no TLS with a client."""
        self._count(failure.reason.value)
        if not self._seldom.happened(failure.reason):
            return
        fields = {"reason": failure.reason.value, **({"hint": hint} if hint else {})}
        _log.warning("no TLS with %s: %s", address, failure.words, extra={"fields": fields})

    def heard_tls(self, listener: str, address: str) -> None:
        """A client speaks TLS to a listener that has none."""
        hint = _BOTH if listener == "peer" else "containerd's hosts.toml has to name it with http://"
        words = f"it speaks TLS to listen.{listener}, which speaks plain HTTP"
        self.add(address, TlsFailure(reason=TlsReason.PLAIN, told=False, words=words), hint)


class _Allowance:
    """How many more handshakes strangers may begin now."""

    def __init__(self) -> None:
        self._left, self._at_s = _STRANGERS_BURST, 0.0

    def admits(self, now_s: float) -> bool:
        """Whether there may be one more, which begins now."""
        earned = (now_s - self._at_s) * _STRANGERS_PER_S
        self._left, self._at_s = min(_STRANGERS_BURST, self._left + earned), now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class TlsGate:
    """Opens the connections of one listener with TLS.

    ``is_member``: whether a member of the cluster has this address; others leave room for them. ``most``:
    handshakes at once. Whoever accepts should wait before there are more: a client that is closed without a
    word takes this node for a broken one.
    """

    def __init__(
        self,
        tls: PeerTls,
        *,
        is_member: Callable[[str], bool],
        handshake_s: float = _HANDSHAKE_S,
        most: int = _MOST,
        strangers_most: int = _STRANGERS,
        address_most: int = _ADDRESS_MOST,
    ) -> None:
        self._tls = tls
        self._is_member = is_member
        self._handshake_s = handshake_s
        self.most = most
        self._strangers_most = strangers_most
        self._address_most = address_most
        self._strangers = _Allowance()
        self._of_address: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = FailureLog(partial(tls.count, ACCEPTED))

    @property
    def opening(self) -> int:
        """How many connections are in their handshake now."""
        return self._of_address.total()

    async def open(self, connection: socket.socket, factory: Factory) -> None:
        """Open one accepted connection, which this takes over. Its protocol begins after the handshake.

        Never raises, but for cancelling. Run it in a task of its own.
        """
        self._note_task(asyncio.current_task())
        address = _address(connection)
        if not self._has_room(address):
            self._failed(address, _MANY)
            connection.close()
            return
        self._of_address[address] += 1
        errors: list[ssl.SSLError] = []
        try:
            async with asyncio.timeout(self._handshake_s) as limit:
                refusing.set(partial(_note, errors, limit))
                await self._opened(connection, factory)
        except (OSError, TimeoutError) as error:
            connection.close()
            self._failed(address, failure_of(errors[0] if errors else error))
        except BaseException:
            connection.close()
            raise
        finally:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def _has_room(self, address: str) -> bool:
        if self._of_address[address] >= self._address_most:
            return False
        if self._is_member(address):
            return self.opening < self.most
        return self.opening < self._strangers_most and self._strangers.admits(time.monotonic())

    async def _opened(self, connection: socket.socket, factory: Factory) -> None:
        if not await is_ready(connection.fileno(), self._handshake_s):
            raise TimeoutError
        first = connection.recv(1, socket.MSG_PEEK)
        if first and first[0] != _HANDSHAKE_RECORD:
            self._failed(_address(connection), _PLAIN)
            await _say(connection, _ANSWER)
            return
        if not first:
            raise ConnectionResetError("closed before the handshake")
        await asyncio.get_running_loop().connect_accepted_socket(
            factory,
            connection,
            ssl=self._tls.server,
            ssl_handshake_timeout=self._handshake_s,
            ssl_shutdown_timeout=_SHUTDOWN_S,
        )

    def begin(self, connection: socket.socket, factory: Factory) -> None:
        """`open` in a task of its own."""
        self._note_task(asyncio.create_task(self.open(connection, factory), name="TLS handshake"))

    def _note_task(self, task: asyncio.Task[None] | None) -> None:
        """`close` ends this task, unless it is done."""
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End the handshakes that are not done."""
        await end_all(self._tasks)

    def _failed(self, address: str, failure: TlsFailure) -> None:
        self._log.add(address, failure, _BOTH if failure.reason is TlsReason.PLAIN else "")


def _note(errors: list[ssl.SSLError], limit: asyncio.Timeout, error: ssl.SSLError) -> None:
    """The handshake fails: what is left of it is to send the alert, and to see the other end close."""
    errors.append(error)
    limit.reschedule(asyncio.get_running_loop().time() + _SAY_S)


async def _say(connection: socket.socket, error: OciError) -> None:
    """Answer in plain HTTP, and close."""
    body = error.body()
    head = (
        f"HTTP/1.1 {error.status} Upgrade Required\r\nUpgrade: TLS/1.3\r\nConnection: Upgrade, close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    with connection, suppress(OSError, TimeoutError):
        async with asyncio.timeout(_SAY_S):
            await loop.sock_sendall(connection, head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(connection, 16 * 1024):
                pass  # until it closes: closing with unread bytes would reset, and lose the answer


def _address(connection: socket.socket) -> str:
    try:
        return str(connection.getpeername()[0])
    except (OSError, IndexError):
        return ""

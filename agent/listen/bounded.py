"""A connection of a client that has an account (`agent.bounds`): it reads no faster than the account allows.

What it costs to read and parse is measured in CPU time of this thread, and charged. While the account owes
something, nothing more is read: the bytes wait in the kernel, and then at the sender. Of a WebSocket, only
so many messages are read as are taken. A connection that breaks a rule is ended.
"""

import asyncio
import logging
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp.web_protocol import RequestHandler

from agent.bounds.accounts import REQUEST_S, Account, Accounts, Excess
from agent.bounds.bans import Bans
from agent.bounds.frames import FrameGuard, FrameRefused
from agent.observe.seldom import Seldom

_log = logging.getLogger(__name__)

_HEAD_MAX_BYTES = 64 * 1024  # of all lines together; those of agents and containerd take less than 2 kB
_HEAD_S = 10.0  # agents and containerd send their request as soon as they have connected
_MESSAGE_S = 10.0  # a message is sent at once
_GOODBYE_S = 0.25  # so that a client that breaks a rule by mistake can read why
_WAITING_MAX_BYTES = 64 * 1024  # two full questions; more are read when these are answered


@dataclass(slots=True, kw_only=True)
class ClientBounds:
    """The accounts of a listener's clients, and who is told of refusals. ``name``: the listener's.

    ``connections_max``: of the listener. ``counted``: is called with each refusal. ``banned``: is called
    when there is one more in ``bans``. ``opening``: accepted, and no connection yet, by their addresses.
    """

    name: str
    accounts: Accounts
    connections_max: int
    counted: Callable[[Excess], None] = lambda _: None
    bans: Bans = field(default_factory=Bans)
    banned: Callable[[], None] = lambda: None
    opening: dict[Any, Account] = field(default_factory=dict)
    _seldom: Seldom = field(default_factory=Seldom)

    def account_of(self, peer: Any) -> Account:
        """The account of a connection that begins. ``peer``: its address, with the port."""
        account = self.opening.pop(peer, None)
        return account or self.accounts.connected(peer[0] if peer else "", time.monotonic())

    def gave_up(self, peer: Any) -> None:
        """What was accepted did not become a connection, unless it did."""
        account = self.opening.pop(peer, None)
        if account is not None:
            self.accounts.left(account)

    def refused(self, excess: Excess, address: str, *, proven: bool = False) -> None:
        """A client at this address took too much. Logged once a minute: a flood must not fill the log.

        ``proven``: it knows the key. Then it is not banned: it pays for what it asks, and many agents may
        have one translated address, to which a node that drops their packets looks like a dead one.
        """
        self.counted(excess)
        if not proven and self.bans.refused(self.accounts.place(address), time.monotonic()):
            self.banned()
        if times := self._seldom.happened():
            _log.warning(
                "clients of listen.%s take too much: %d refused or cut since the last such line, "
                "the latest at %s (%s)",
                self.name,
                times,
                address,
                excess.value,
            )


class BoundedConnection(RequestHandler):
    """``bounds``: None for a listener whose clients are all trusted not to flood."""

    __slots__ = (
        "_address",
        "_deadline",
        "_debt",
        "_full",
        "_head_bytes",
        "_refused",
        "account",
        "bounds",
        "guard",
    )

    bounds: ClientBounds | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.account: Account | None = None
        self.guard: FrameGuard | None = None
        self._debt: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._full = self._refused = False
        self._head_bytes = 0
        if self.bounds is not None:
            peer = transport.get_extra_info("peername")
            self._address = peer[0] if peer else ""
            if not peer:  # it has left: nobody's account
                self._loop.call_soon(cast("asyncio.Transport", transport).abort)
            self.account = self.bounds.account_of(peer)
            self.account.silent[self._give_way] = None
            self._deadline = self._loop.call_later(_HEAD_S, self._end_without_request)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.bounds is not None and self.account is not None:
            self.account.silent.pop(self._give_way, None)
            self.account.hold(-self._held_bytes)
            self.bounds.accounts.left(self.account)
            self.account = self.guard = None
            for timer in (self._debt, self._deadline):
                if timer is not None:
                    timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.account is None:
            super().data_received(data)
            return
        began_s = time.thread_time()
        if self.guard is None or self._payload_parser is None:
            self._head_received(data)
        else:
            self._frames_received(data)
        self._charge(time.thread_time() - began_s)

    def prove(self, name: str) -> bool:
        """The client was proven to be this node, or another one's containerd at this address.

        False: it has too many connections.
        """
        if self.bounds is None or self.account is None:
            return True
        proven = self.bounds.accounts.prove(self.account, name, self._address, time.monotonic())
        if proven is None:
            self.bounds.refused(Excess.CONNECTIONS, self._address, proven=True)
            return False
        if proven is not self.account:
            self.account.hold(-self._held_bytes)
            proven.hold(self._held_bytes)
            self.account = proven
        return True

    def guard_frames(self, message_max_bytes: int) -> None:
        """The connection is about to become an agent's WebSocket with messages of this size."""
        if self.account is not None:
            self.guard = FrameGuard(message_max_bytes=message_max_bytes)

    async def pay(self, cost_s: float = REQUEST_S) -> None:
        """Charge CPU time for what was done for this client, and wait until its account owes nothing."""
        if self.account is None:
            return
        wait_s = self.account.spend(cost_s, time.monotonic())
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        if self._full and self.guard is None and not self._messages:
            self._full = False
            self._resume()

    def taken(self, message_bytes: int) -> None:
        """A message of the WebSocket was taken."""
        if self.guard is None:
            return
        self.guard.take(message_bytes)
        if self._full and self.guard.waiting_bytes < _WAITING_MAX_BYTES:
            self._full = False
            self._resume()

    @property
    def _held_bytes(self) -> int:
        return self._head_bytes + (0 if self.guard is None else self.guard.unfinished_bytes)

    def set_parser(self, parser: object, data_received_cb: Callable[[], None] | None = None) -> None:
        """What came right behind the request for the WebSocket goes through the guard, too."""
        tail, self._message_tail = self._message_tail, b""
        super().set_parser(parser, data_received_cb)  # type: ignore[arg-type]
        if tail:
            self.data_received(tail)

    def _head_received(self, data: bytes) -> None:
        """A head or a part of it, or of the body of a request that is not answered yet."""
        if self.account is None or self.bounds is None or self._refused:
            return
        before = self._request_count
        is_head = not self._request_in_progress and not self._messages
        super().data_received(data)
        if self._request_count > before:
            self.account.silent.pop(self._give_way, None)
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
            self.account.hold(-self._head_bytes)
            self._head_bytes = 0
            if len(self._messages) > 1 and not self._full:  # nobody here sends the next request ahead
                self._full = True
                self._pause_transport_reading()
        elif is_head:
            self._head_bytes += len(data)
            if not self.account.hold(len(data)) or self._head_bytes > _HEAD_MAX_BYTES:
                self._refused = True
                self.bounds.refused(Excess.UNFINISHED, self._address)
                if self.transport is not None:
                    self.transport.abort()

    def _frames_received(self, data: bytes) -> None:
        guard, account = self.guard, self.account
        if self._refused or guard is None or account is None or self.bounds is None:
            return
        before_bytes = guard.unfinished_bytes
        try:
            guard.feed(data, time.monotonic())
        except FrameRefused as error:
            account.hold(guard.unfinished_bytes - before_bytes)
            self._refuse(Excess.FRAMES, error.code)
            return
        if not account.hold(guard.unfinished_bytes - before_bytes):
            self._refuse(Excess.UNFINISHED, 1009)
            return
        self._limit_time(guard)
        super().data_received(data)
        if guard.waiting_bytes >= _WAITING_MAX_BYTES and not self._full:
            self._full = True
            self._pause_transport_reading()

    def _limit_time(self, guard: FrameGuard) -> None:
        """A message that has begun has to end in time."""
        if not guard.unfinished_bytes:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif self._deadline is None:
            self._deadline = self._loop.call_later(_MESSAGE_S, self._refuse, Excess.UNFINISHED, 1008)

    def _refuse(self, excess: Excess, code: int) -> None:
        """End the WebSocket. Until then, what still comes is thrown away."""
        self._refused = True
        if self.bounds is None or self.account is None or self.transport is None:
            return
        self.bounds.refused(excess, self._address)
        if not self.transport.get_write_buffer_size():
            self.transport.write(b"\x88\x02" + struct.pack(">H", code))
        self._loop.call_later(_GOODBYE_S, self.transport.abort)

    def _give_way(self) -> None:
        """End for a new connection of the same account. Nobody is banned for it: an agent may be there."""
        if self.bounds is not None:
            self.bounds.refused(Excess.CONNECTIONS, self._address, proven=True)
        if self.transport is not None:
            self.transport.abort()

    def _end_without_request(self) -> None:
        self._deadline = None
        if self._request_count == 0 and self.transport is not None:
            self.transport.abort()

    def _charge(self, cost_s: float) -> None:
        if self.account is None:
            return
        wait_s = self.account.spend(cost_s, time.monotonic())
        if wait_s > 0 and self._debt is None:
            self._debt = self._loop.call_later(wait_s, self._paid)
            self._pause_transport_reading()

    def _paid(self) -> None:
        self._debt = None
        self._resume()

    def _resume(self) -> None:
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if self._debt is None and not self._full:
            super()._resume_transport_reading()

"""Who takes how much of the peer listener and the NodePort: CPU time, connections, unfinished bytes.

All clients of these two share one event loop with this node's containerd. So each client has an account, and
each account a share of the processor. Who has used up its share waits, and so do its further bytes, in the
kernel. All strangers together have a small share, and all proven clients together a larger one. What is left
is for the HostPort, `/livez` and this agent's own work, whatever comes.

An account is a member's if the connection was proven and comes from that member's own address. Otherwise it
is the address's: whoever stole the key can claim any name, and would have the shares of all of them. What
comes from a member's address and is not proven yet has an account of its own, as large as a member's: else a
pod on that node could use up what its agent needs to connect. If that one has all its connections, a new one
ends the oldest that has asked for nothing: an agent asks as soon as it has connected.

A light spender never waits for what the others of its pool owe, and nobody for more than seconds. Where
strangers together take more than their share, each of them has to be lighter to count as light: so twenty
addresses do not get twenty shares. Pure. Times are seconds of one clock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, IPv6Network

from agent.bounds.share import Share

_REMEMBERED_MAX = 4096
_WAITS_S = 2.0  # who is refused takes this node for dead: rather let it wait
_WAITS_MOST_S = 3.0  # for its own debt; for its pool's `_WAITS_S`, so that nobody is refused for others alone
_LIGHT = 0.5  # who has this much of its burst left is no part of what its pool owes
_CROWDED = 20.0  # times as much is charged to a stranger while strangers together owe something

ACCEPT_S, HANDSHAKE_S, REQUEST_S = 0.000_1, 0.001, 0.000_3
"""What a connection, one with TLS, and a request cost, in CPU time. Reading and parsing is measured."""


class Excess(Enum):
    """What a client took too much of."""

    CONNECTIONS = "connections"  # it has too many, or strangers do, or all together
    CPU = "cpu"  # it used up its share of the processor, and connects again
    UNFINISHED = "unfinished"  # its unfinished messages take too much memory, or too long
    FRAMES = "frames"  # its WebSocket breaks the rules of agents


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one account, and all together, may take. Rates are shares of one core.

    A pull of an image of 127 layers from one peer takes some 0.06 s of its CPU time, and more on a busy node.
    ``member_burst_s`` is several of these at once, and ``member_rate`` some 500 requests a second. Strangers
    have nothing to do here but to be refused, which takes 0.3 ms.
    """

    member_rate: float = 0.2
    member_burst_s: float = 0.6
    members_rate: float = 0.5
    members_burst_s: float = 1.0
    stranger_rate: float = 0.1
    stranger_burst_s: float = 0.2
    strangers_rate: float = 0.15
    strangers_burst_s: float = 0.3
    member_connections_max: int = 256  # of one account; each takes some 10 kB, and its bodies are admitted
    stranger_connections_max: int = 256  # of one account: agents may share a translated address
    strangers_connections_max: int = 1024  # of all strangers
    unfinished_max_bytes: int = 1 << 20  # of one account: four questions of the largest size
    all_unfinished_max_bytes: int = 8 << 20


class Account:
    """What one client takes. Made by `Accounts`.

    ``name``: a node or an address. ``proven``: whether its requests were. ``stranger``: whether it is nothing
    but an address, and no member's.
    """

    __slots__ = (
        "_owner",
        "_pool",
        "connections",
        "name",
        "proven",
        "share",
        "silent",
        "stranger",
        "unfinished_bytes",
    )

    def __init__(
        self, owner: "Accounts", name: str, pool: Share, share: Share, *, proven: bool, stranger: bool
    ) -> None:
        self._owner = owner
        self._pool = pool
        self.name = name
        self.proven = proven
        self.stranger = stranger
        self.share = share
        self.connections = 0
        self.unfinished_bytes = 0
        self.silent: dict[Callable[[], None], None] = {}
        """What ends each connection that has not asked for anything yet, the oldest first."""

    def end_oldest(self) -> bool:
        """End the connection that has asked for nothing for the longest time. False: there is none."""
        if not self.silent:
            return False
        end = next(iter(self.silent))
        del self.silent[end]
        end()
        return True

    def spend(self, cost_s: float, now_s: float) -> float:
        """Note that CPU time was spent for this client. Returns how long it has to wait for more."""
        crowded = self.stranger and self._pool.wait_s(now_s) > 0
        self.share.spend(cost_s * _CROWDED if crowded else cost_s, now_s)
        self._pool.spend(cost_s, now_s)
        return self.wait_s(now_s)

    def wait_s(self, now_s: float) -> float:
        """How long this client has to wait before it gets more."""
        own_s = self.share.wait_s(now_s)
        if self.share.left_s(now_s) >= _LIGHT * self.share.burst_s:
            return own_s
        return max(own_s, self._pool.wait_s(now_s))

    def hold(self, change_bytes: int) -> bool:
        """Note that unfinished messages of this client take more or less memory. False: it is too much."""
        return self._owner.held(self, change_bytes)


class Accounts:
    """The accounts of all clients. ``member_at``: the member that has an address."""

    def __init__(self, limits: Limits, *, member_at: Callable[[str], str | None], now_s: float) -> None:
        self._limits = limits
        self._member_at = member_at
        self._strangers = Share(
            rate=limits.strangers_rate, burst_s=limits.strangers_burst_s, now_s=now_s, wait_max_s=_WAITS_S
        )
        self._members = Share(
            rate=limits.members_rate, burst_s=limits.members_burst_s, now_s=now_s, wait_max_s=_WAITS_S
        )
        self._accounts: dict[tuple[bool, str], Account] = {}
        self._unfinished: set[Account] = set()
        self._unfinished_bytes = 0
        self.strangers = 0
        """How many connections from addresses that are no member's are open, and not proven."""

    def __len__(self) -> int:
        return len(self._accounts)

    @property
    def unfinished_bytes(self) -> int:
        """How many bytes of unfinished messages are kept for all."""
        return self._unfinished_bytes

    def admit(self, address: str, cost_s: float, now_s: float) -> Account | Excess:
        """The account of one more connection from this address, which counts from now on and is charged.

        Or what speaks against it.
        """
        account = self._of(address, now_s)
        if account.wait_s(now_s) > _WAITS_S:
            return Excess.CPU
        if account.connections >= self._connections_max(account) and (
            account.stranger or not account.end_oldest()
        ):
            return Excess.CONNECTIONS
        if account.stranger and self.strangers >= self._limits.strangers_connections_max:
            return Excess.CONNECTIONS
        account.spend(cost_s, now_s)
        self._count(account, 1)
        return account

    def connected(self, address: str, now_s: float) -> Account:
        """The account of a new connection that nobody could refuse. It counts from now on."""
        account = self._of(address, now_s)
        self._count(account, 1)
        return account

    def prove(self, account: Account, name: str, address: str, now_s: float) -> Account | None:
        """A connection of ``account`` from this address was proven to be that of this node.

        Returns its account from now on: the node's if this is the node's own address, else the address's.
        None: that one has too many connections already.
        """
        if self._member_at(address) != name:
            name = self.place(address)
        if account.proven and account.name == name:
            return account
        proven = self._get(name, proven=True, stranger=False, now_s=now_s)
        if proven.connections >= self._connections_max(proven):
            return None
        self._count(account, -1)
        self._count(proven, 1)
        return proven

    def left(self, account: Account) -> None:
        """A connection of this account ended."""
        self._count(account, -1)

    def held(self, account: Account, change_bytes: int) -> bool:
        """See `Account.hold`. If all together hold too much, nobody may hold more than an equal share."""
        account.unfinished_bytes += change_bytes
        self._unfinished_bytes += change_bytes
        if account.unfinished_bytes > 0:
            self._unfinished.add(account)
        else:
            self._unfinished.discard(account)
        if change_bytes <= 0:
            return True
        most_bytes = self._limits.unfinished_max_bytes
        if self._unfinished_bytes > self._limits.all_unfinished_max_bytes:
            most_bytes = min(most_bytes, self._limits.all_unfinished_max_bytes // len(self._unfinished))
        return account.unfinished_bytes <= most_bytes

    def place(self, address: str) -> str:
        """What has one account at this address: the address, or the IPv6 network, if nobody is proven."""
        return address if ":" not in address or self._is_member(address) else _neighbourhood(address)

    def _of(self, address: str, now_s: float) -> Account:
        """The account of what is not proven at this address."""
        return self._get(
            self.place(address), proven=False, stranger=not self._is_member(address), now_s=now_s
        )

    def _get(self, name: str, *, proven: bool, stranger: bool, now_s: float) -> Account:
        account = self._accounts.get((proven, name))
        if account is None or account.stranger != stranger:  # it became a member meanwhile, or was one
            if len(self._accounts) >= _REMEMBERED_MAX:
                self._forget(now_s)
            limits, pool = self._limits, self._strangers if stranger else self._members
            rate, burst_s = (
                (limits.stranger_rate, limits.stranger_burst_s)
                if stranger
                else (limits.member_rate, limits.member_burst_s)
            )
            share = Share(rate=rate, burst_s=burst_s, now_s=now_s, wait_max_s=_WAITS_MOST_S)
            account = Account(self, name, pool, share, proven=proven, stranger=stranger)
            self._accounts[proven, name] = account
        return account

    def _is_member(self, address: str) -> bool:
        return self._member_at(address) is not None

    def _connections_max(self, account: Account) -> int:
        limits = self._limits
        return limits.stranger_connections_max if account.stranger else limits.member_connections_max

    def _count(self, account: Account, change: int) -> None:
        account.connections += change
        if account.stranger:
            self.strangers += change

    def _forget(self, now_s: float) -> None:
        """Forget the accounts that nothing depends on: they would be made again as they are."""
        for key, account in [*self._accounts.items()]:
            if not account.connections and account.share.left_s(now_s) >= account.share.burst_s:
                del self._accounts[key]


def _neighbourhood(address: str) -> str:
    """The network of 64 bits, which one machine may have whole."""
    number = int(IPv6Address(address.partition("%")[0])) >> 64 << 64
    return str(IPv6Network((number, 64)))

"""Makes the bounds on clients, from the settings and from how many files this process may open."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from agent.bounds.accounts import Accounts, Excess, Limits
from agent.listen.bounded import ClientBounds
from agent.observe.refusals import Reason

_SHARES = {"hostport": 1 / 4, "peer": 1 / 4, "nodeport": 1 / 8, "admin": 1 / 16, "health": 1 / 32}
"""Of the files that this process may open. What is left is for contents, peers and the API server."""

_ADMIN_MAX = 128  # probes, scrapers and people
_FOR_OTHERS = ("peer", "nodeport")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerBounds:
    """``connections``: the most of each listener. ``clients``: for those that other machines reach."""

    connections: Mapping[str, int]
    clients: Mapping[str, ClientBounds]


def make_bounds(
    connections_max: int,
    *,
    member_at: Callable[[str], str | None],
    turned_away: Callable[[str, Reason], None],
) -> ListenerBounds:
    """The bounds of all listeners. ``member_at``: the member that has an address.

    ``turned_away``: is called with each refusal, and the listener's name.
    """
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = {name: connections_of(name, connections_max, files_max) for name in _SHARES}
    accounts = Accounts(_limits(connections["peer"]), member_at=member_at, now_s=time.monotonic())
    return ListenerBounds(
        connections=connections,
        clients={
            name: ClientBounds(
                name=name,
                accounts=accounts,
                connections_max=connections[name],
                counted=partial(_count, turned_away, name),
            )
            for name in _FOR_OTHERS
        },
    )


def _limits(connections_max: int) -> Limits:
    """Half of the connections are for members, and one client has at most half of its kind's."""
    usual = Limits()
    return replace(
        usual,
        member_connections_max=min(usual.member_connections_max, max(1, connections_max // 4)),
        stranger_connections_max=min(usual.stranger_connections_max, max(1, connections_max // 4)),
        strangers_connections_max=min(usual.strangers_connections_max, max(1, connections_max // 2)),
    )


def _count(turned_away: Callable[[str, Reason], None], name: str, excess: Excess) -> None:
    turned_away(name, Reason(excess.value))


def connections_of(name: str, connections_max: int, files_max: int) -> int:
    """How many connections a listener may have if this process may open ``files_max`` files."""
    most = connections_max if name in ("hostport", *_FOR_OTHERS) else _ADMIN_MAX
    if files_max < 0:  # RLIM_INFINITY
        return most
    return max(1, min(most, int(files_max * _SHARES[name])))

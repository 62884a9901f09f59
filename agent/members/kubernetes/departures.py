"""Keeps agents that vanish together: most likely it is the control plane that is ill, not they. Pure.

A node that dies takes one agent with it. An API server that was just restored from a backup lists nobody,
and a control plane that is cut off from its nodes says of all that they are not ready, while the agents
answer on. If all peers were dropped then, every pull would go to the registry, in the very moment in which
everything is pulled again. An agent that is kept although it is gone costs little: it refuses, and is left
alone for a while (`agent.pull.regard`). An agent that is said to *stop* is never kept. All times are seconds
of one clock.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from topology.placement import NodeName

_Agent = TypeVar("_Agent")

TOGETHER_S = 60.0
"""Agents that vanish within this time vanish together."""

KEPT_S = 600.0
"""For how long agents that vanished together are kept, since they vanished or were last heard themselves.

A control plane that was restarted or restored has listed its pods again by then."""

_LEAST = 2  # a single agent that vanishes is nothing special


@dataclass(slots=True, kw_only=True)
class _Gone(Generic[_Agent]):
    agent: _Agent
    since_s: float
    until_s: float | None = None  # None: it is not kept


class Departures(Generic[_Agent]):
    """The agents that vanished lately without being said to stop."""

    def __init__(self) -> None:
        self._gone: dict[NodeName, _Gone[_Agent]] = {}

    @property
    def kept(self) -> dict[NodeName, _Agent]:
        """The agents that are kept."""
        return {node: gone.agent for node, gone in self._gone.items() if gone.until_s is not None}

    def agent(self, node: NodeName) -> _Agent | None:
        """This node's agent, if it is kept."""
        gone = self._gone.get(node)
        return gone.agent if gone is not None and gone.until_s is not None else None

    def vanished(self, node: NodeName, agent: _Agent, now_s: float) -> None:
        """The agent is listed no more, or is not ready."""
        self._gone[node] = _Gone(agent=agent, since_s=now_s)

    def forget(self, node: NodeName) -> bool:
        """The agent is listed again, or is said to stop. Whether it was kept."""
        gone = self._gone.pop(node, None)
        return gone is not None and gone.until_s is not None

    def heard(self, node: NodeName, now_s: float) -> None:
        """The agent itself gave a sign of life."""
        gone = self._gone.get(node)
        if gone is not None and gone.until_s is not None:
            gone.until_s = now_s + KEPT_S

    def look(self, listed: int, now_s: float) -> set[NodeName]:
        """Decide who is kept. Returns those for whom that changed. ``listed``: how many agents are listed
        now.

        O(agents that vanished lately).
        """
        for node in [node for node, gone in self._gone.items() if _is_old(gone, now_s)]:
            del self._gone[node]
        over = {
            node for node, gone in self._gone.items() if gone.until_s is not None and gone.until_s <= now_s
        }
        for node in over:
            del self._gone[node]
        # What is left is those that vanished together, and those that are kept already.
        many = len(self._gone) >= _LEAST and len(self._gone) > listed
        new = {node for node, gone in self._gone.items() if gone.until_s is None} if many else set()
        for node in new:
            self._gone[node].until_s = self._gone[node].since_s + KEPT_S
        return over | new


def _is_old(gone: "_Gone[_Agent]", now_s: float) -> bool:
    return gone.until_s is None and now_s - gone.since_s > TOGETHER_S

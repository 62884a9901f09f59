"""Whether the agent is ready, and why not."""

from collections.abc import Sequence
from enum import Enum

from agent.observe.components import Component


class Phase(Enum):
    """The phase of the agent's life. The value is what ``/readyz`` says."""

    STARTING = "starting"
    TAKING_OVER = "getting ready to take over from the agent that serves now"
    SERVING = "serving"
    STANDING_BY = "standing by: a newer agent of this node serves"
    STOPPING = "stopping"


class Readiness:
    """The agent is ready while it serves and its required parts work. A node without peers is ready."""

    def __init__(self) -> None:
        self._components: tuple[Component, ...] = ()
        self.phase = Phase.STARTING  # changed by the lifecycle only

    @property
    def components(self) -> tuple[Component, ...]:
        """The parts that may stop working."""
        return self._components

    def watch(self, components: Sequence[Component]) -> None:
        """These are parts, too. Before anything starts."""
        self._components += tuple(components)

    def reason(self) -> str | None:
        """Why the agent is not ready. None while it is."""
        if self.phase is not Phase.SERVING:
            return str(self.phase.value)
        for one in self._components:
            problem = one.problem()
            if one.required and problem is not None:
                return problem
        return None

    def problems(self) -> dict[str, bool]:
        """Which parts have a problem now, by their keys."""
        return {one.key: one.problem() is not None for one in self._components}

    def report(self) -> str:
        """A line for each part: ``[+]`` works, ``[-]`` does not, ``[!]`` does not and is not needed."""
        serving = self.phase is Phase.SERVING
        lines = [f"[{'+' if serving else '-'}] phase: {self.phase.value}"]
        for one in self._components:
            problem = one.problem()
            if problem is None:
                lines.append(f"[+] {one.name}: {one.state() or 'works'}")
            else:
                lines.append(f"[{'-' if one.required else '!'}] {one.name}: {problem} ({one.advice})")
        reason = self.reason()
        lines.append("ready" if reason is None else f"not ready: {reason}")
        return "\n".join(lines) + "\n"

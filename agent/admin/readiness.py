"""Whether the agent is ready, and why not."""

from enum import Enum

from agent.content.store import ContentStore


class Phase(Enum):
    """The phase of the agent's life. The value is what ``/readyz`` says."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class Readiness:
    """The agent is ready while it serves and its store works. A node without peers is ready."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self.phase = Phase.STARTING  # changed by the lifecycle only

    def reason(self) -> str | None:
        """Why the agent is not ready. None while it is."""
        return self._store.problem if self.phase is Phase.SERVING else self.phase.value

"""One attempt of a pull, and how long its holder is waited for. Pure."""

from dataclasses import dataclass

from agent.pull.events import Limits
from agent.pull.following import is_in_flight, patience_s
from topology.ranking import Ranked


@dataclass(slots=True)
class Attempt:
    """An attempt at the body from ``offset`` on. ``avoided``: its holder is slow, and others were told so."""

    holder: Ranked
    started_s: float
    offset: int
    avoided: bool = False

    def is_slow(self, limits: Limits, now_s: float) -> bool:
        """Whether its holder took longer for a first byte than any healthy one."""
        return now_s >= self.started_s + patience_s(limits.patience_s, self.holder)

    def stalls(self, limits: Limits, now_s: float) -> bool:
        """Whether it is to be ended."""
        return now_s >= self.started_s + limits.stall_s

    def wake_s(self, limits: Limits) -> float:
        """When to look at it again."""
        slow_s = limits.stall_s if self.avoided else patience_s(limits.patience_s, self.holder)
        return self.started_s + min(slow_s, limits.stall_s)

    def hedge_at_s(self, limits: Limits) -> float:
        """When to ask a second holder as well. One that is not ahead yet takes its time."""
        patient_s = patience_s(limits.patience_s, self.holder)
        usual_s = patient_s if is_in_flight(self.holder) else limits.hedge_s.get(self.holder.tier, patient_s)
        return self.started_s + usual_s

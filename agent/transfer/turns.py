"""One pull's question whose turn it is to fetch from the registry. Executes `AskClaim`."""

import asyncio
from collections.abc import Callable
from functools import partial

from agent.holders.claimant import Outcome
from agent.holders.claims import Held
from agent.holders.clusterclaims import Claims
from agent.observe.steps import Outcome as StepOutcome
from agent.observe.steps import Step, StepKind, Steps
from agent.oci.reference import Addressed
from agent.pull.events import AskClaim, ClaimAnswered, Turn
from agent.transfer.attempts import Attempts, Report
from topology.ranking import Ranked

_WORDS = {
    Outcome.GRANTED: "; it is this node's turn to fetch it from the registry",
    Outcome.TIMEOUT: "; the node whose turn it is to fetch it did not begin in time",
    Outcome.REFUSED: "; no node's turn was waited for",
}


_STEP_OUTCOMES = {
    Outcome.GRANTED: StepOutcome.GRANTED,
    Outcome.FOLLOWED: StepOutcome.OK,
    Outcome.TIMEOUT: StepOutcome.TIMEOUT,
    Outcome.REFUSED: StepOutcome.NONE,
    Outcome.ALONE: StepOutcome.NONE,
}

_STEP_WORDS = {
    Outcome.GRANTED: "it is this node's turn to fetch it from the registry",
    Outcome.FOLLOWED: "another node fetches it from the registry, and has the first bytes",
    Outcome.TIMEOUT: "the node whose turn it is did not begin in time",
    Outcome.REFUSED: "whoever decides had no room, so no node's turn was waited for",
    Outcome.ALONE: "there is no other node to wait for",
}


class OwnTurn:
    """Whether it is this node's turn to fetch ``target``, for one pull. `close` it at the end.

    ``attempts``: run the question. ``rank``: whom of those that have it this pull may fetch from, in order.
    ``report``: gets `ClaimAnswered`. ``steps``: those of its request; None: nobody is told of them.
    """

    def __init__(
        self,
        claimant: Claims,
        target: Addressed,
        *,
        attempts: Attempts,
        rank: Callable[[Held], tuple[Ranked, ...]],
        report: Report,
        steps: Steps | None = None,
    ) -> None:
        self._claimant = claimant
        self._key = claimant.key_of(target)
        self._attempts = attempts
        self._rank = rank
        self._report = report
        self._steps = Steps(lambda: 0.0) if steps is None else steps
        self._question: asyncio.Task[None] | None = None
        self._step: Step | None = None
        self._granted = False
        self.followed = False  # another node's turn led to a holder
        self.words = ""  # what came of the last question, for whoever reads why nobody gave the content

    @property
    def begun(self) -> bool:
        """Whether this node's containerd was sent to the registry for it, and is still fetching."""
        return self._claimant.has(self._key)

    def ask(self, command: AskClaim, position: int) -> None:
        """Ask. ``position``: the byte of the content that the client needs next. An earlier question ends."""
        self.close()
        self._step = self._steps.begin(StepKind.CLAIM)
        self._question = self._attempts.run(partial(self._ask, command, position, self._step))

    def delivering(self, *, far: bool) -> None:
        """A holder gives the content: there is nothing to ask for any more.

        ``far``: one of another zone. Then this node keeps its turn: its zone follows what arrives here.
        """
        if self._granted and far:
            self.to_the_registry()
        self.close()

    def to_the_registry(self) -> None:
        """The client is sent to the registry. This node keeps its turn as long as containerd gets on."""
        if self._granted:
            self._granted = False
            self._claimant.use(self._key)

    def close(self) -> None:
        """The pull ends."""
        if self._question is not None:
            self._question.cancel()
            self._question = None
        if self._step is not None:
            self._steps.end(self._step, StepOutcome.LEFT, why="it is not needed any more")
            self._step = None
        if self._granted:
            self._granted = False
            self._claimant.give_back(self._key)

    async def _ask(self, command: AskClaim, position: int, step: Step) -> None:
        steps = self._steps
        answer = await self._claimant.ask(
            self._key, beyond_bytes=position, wait_s=command.wait_s, despite=command.despite
        )
        if answer.held is not None and answer.held.sources:
            step.node = answer.held.sources[0]
        steps.end(step, _STEP_OUTCOMES[answer.outcome], why=_STEP_WORDS[answer.outcome])
        holders: tuple[Ranked, ...] = ()
        turn, complete = Turn.NOBODYS, False
        if answer.held is not None:
            turn, holders, complete = Turn.OTHER, self._rank(answer.held), answer.held.complete
            self.followed = True
        elif answer.outcome is Outcome.GRANTED:
            turn, self._granted = Turn.OWN, True
        self.words = _WORDS.get(answer.outcome, "")
        self._report(ClaimAnswered(turn=turn, holders=holders, complete=complete))

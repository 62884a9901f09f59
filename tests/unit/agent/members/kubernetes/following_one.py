"""A membership that follows the double of an API server, on a real loop and over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.config import KubernetesSettings
from agent.members.checks import OwnAgent
from agent.members.kubernetes.membership import KubernetesMembership
from agent.members.member import Peers
from agent.members.own import Learned
from agent.members.problems import Problems
from agent.observe.reloads import Reloads
from agent.tasks import end_all
from benchmarks.lab.apiserver import FakeApiServer, Pod
from tests.unit.agent.transfer.scripted import until
from tests.unit.twins import node

OWN = OwnAgent(name=node("own"), addresses=("10.9.9.9",), port=30020)
OWN_POD = Pod(node="own", address="10.9.9.9")


def pods(*names: str, **more: Any) -> list[Pod]:
    """Ready agents of these nodes, each with an address of its own, and this node's."""
    return [
        OWN_POD,
        *(Pod(node=name, address=f"10.0.0.{sum(map(ord, name)) % 250 + 1}", **more) for name in names),
    ]


@dataclass
class Followed:
    """A membership that runs, and what it told."""

    membership: KubernetesMembership
    problems: Problems
    lists: list[Peers] = field(default_factory=list)
    labels: dict[Learned, Mapping[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The peers of now."""
        return set(self.lists[-1]) if self.lists else set()

    async def until_peers(self, *names: str) -> None:
        """Wait until these are the peers."""
        await until(lambda: self.names == set(names), f"the peers are {names}, not {self.names}")

    async def until_problem(self, text: str) -> None:
        """Wait until a problem says this."""
        await until(lambda: self.says(text), text)

    def says(self, text: str) -> bool:
        """Whether a problem says this."""
        return any(text in problem.problem for problem in self.problems.all)


@asynccontextmanager
async def following(
    server: FakeApiServer, *, clock: Callable[[], float] = time.monotonic, **settings: Any
) -> AsyncIterator[Followed]:
    """A membership that follows the double. No wait is random: each is the shortest that is possible."""
    problems, labels = Problems(), dict[Learned, Mapping[str, str]]()
    membership = KubernetesMembership(
        KubernetesSettings(**{"api": server.url, **settings}),
        own=OWN,
        own_address=OWN.addresses[0],
        labelled=labels.__setitem__,
        problems=problems,
        reloads=Reloads(),
        chance=lambda least, _most: least,
        clock=clock,
    )
    followed = Followed(membership=membership, problems=problems, labels=labels)
    task = asyncio.create_task(membership.run(followed.lists.append))
    try:
        yield followed
        assert not task.done(), task.exception()
    finally:
        await end_all([task])

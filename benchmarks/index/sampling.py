"""How much of what the agents have the server knows, by looking at a sample of bits on the server itself."""

import random
from collections.abc import Callable, Mapping, Sequence

import valkey

from agent.holders.valkey.layout import EPOCH_S, Layout
from agent.oci.digest import Digest


class Sample:
    """Some nodes and some of what each has."""

    def __init__(self, held: Mapping[int, Sequence[Digest]], *, prefix: str) -> None:
        self._held = held
        self._layout = Layout(prefix)
        self.nodes = sorted(held)

    @classmethod
    def drawn(
        cls,
        nodes: int,
        of: Callable[[int], Sequence[Digest]],
        *,
        prefix: str,
        count: int = 200,
        each: int = 10,
        seed: int = 1,
    ) -> "Sample":
        """``each`` contents of ``count`` nodes."""
        dice = random.Random(seed)
        chosen = dice.sample(range(nodes), min(count, nodes))
        return cls({node: dice.sample(of(node), each) for node in chosen}, prefix=prefix)

    def known(self, client: valkey.Valkey, numbers: Mapping[int, int | None]) -> float:
        """The share that the server knows, 0 to 1. ``numbers``: those that the nodes have now."""
        seconds = client.time()[0]  # type: ignore[index]
        epochs = seconds // EPOCH_S, seconds // EPOCH_S - 1
        pipeline = client.pipeline(transaction=False)
        asked = 0
        for node, digests in self._held.items():
            if (number := numbers.get(node)) is None:
                continue
            for digest in digests:
                asked += 1
                for epoch in epochs:
                    pipeline.getbit(self._layout.bitmap(epoch, digest), number)
        answers: list[int] = pipeline.execute() if asked else []  # type: ignore[no-untyped-call]
        found = sum(present or past for present, past in zip(answers[::2], answers[1::2], strict=True))
        return found / sum(len(digests) for digests in self._held.values())

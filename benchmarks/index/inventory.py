"""Which node has which content, in a simulated cluster. Pure, and the same for the same seed.

Contents are shared as images are: a few layers are nearly everywhere, and most are on few nodes. The share of
nodes that have the content of rank r falls as 1/r (Zipf's law).
"""

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agent.oci.digest import Digest


class Inventory:
    """``digests`` contents, ``blobs`` of which each node has."""

    def __init__(self, *, digests: int, blobs: int, seed: int = 1) -> None:
        self.digests = [digest_number(each) for each in range(digests)]
        self.blobs = min(blobs, digests)
        self._seed = seed
        self._log_weights = -np.log(np.arange(1, digests + 1))

    def numbers(self, node: int) -> NDArray[np.intp]:
        """The numbers of the contents that the node has, in no order. O(digests)."""
        dice = np.random.default_rng((self._seed, node))
        # The largest of log(weight) + Gumbel noise are a draw by weight without putting back.
        drawn = self._log_weights + dice.gumbel(size=len(self.digests))
        return np.argpartition(-drawn, self.blobs - 1)[: self.blobs]

    def of(self, node: int) -> tuple[Digest, ...]:
        """What the node has."""
        return tuple(self.digests[each] for each in self.numbers(node))

    def asked(self, seed: int) -> Iterator[int]:
        """The numbers of the contents that are asked for, by the same law, without an end."""
        dice = np.random.default_rng((self._seed, seed, 1))
        weights = np.exp(self._log_weights)
        while True:
            yield from dice.choice(len(self.digests), size=4096, p=weights / weights.sum()).tolist()


def digest_number(number: int) -> Digest:
    """A digest for each number."""
    return Digest(f"sha256:{hashlib.sha256(b'content %d' % number).hexdigest()}")

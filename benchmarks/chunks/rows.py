"""What a row of the matrix is: how containerd fetches, who holds the image, how fast links are, who pulls."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """How containerd fetches a layer. ``at_once``: how many chunks in all; 0: layers in one piece."""

    at_once: int
    size_mib: int = 0

    @classmethod
    def parse(cls, text: str) -> "Chunks":
        """``off``, or ``8x16``: eight chunks of 16 MiB. Raises ValueError."""
        if text == "off":
            return UNCHUNKED
        at_once, size_mib = text.split("x")
        return cls(at_once=int(at_once), size_mib=int(size_mib))

    def __str__(self) -> str:
        return f"{self.at_once}x{self.size_mib}" if self.at_once else "off"


UNCHUNKED = Chunks(at_once=0)


class Trouble(Enum):
    """What happens to the holder that sends most, once a quarter of a layer is there."""

    NONE = "none"
    KILLED = "killed"
    FROZEN = "frozen"
    RESTARTED = "restarted"


class Holders(Enum):
    """Who has the image at first, what happens to the holder that sends, and whether the registry is up."""

    ONE = ("one", 1, Trouble.NONE, True)
    TWO = ("two", 2, Trouble.NONE, True)
    DYING = ("dying", 1, Trouble.KILLED, True)
    FREEZING = ("freezing", 1, Trouble.FROZEN, True)
    RESTARTING = ("restarting", 1, Trouble.RESTARTED, True)
    DYING_OF_TWO = ("dying-of-two", 2, Trouble.KILLED, False)
    FREEZING_OF_TWO = ("freezing-of-two", 2, Trouble.FROZEN, False)

    def __init__(self, title: str, count: int, trouble: Trouble, registry_up: bool) -> None:
        self.title = title
        self.count = count
        self.trouble = trouble
        self.registry_up = registry_up

    @classmethod
    def parse(cls, text: str) -> "Holders":
        """The one with this title. Raises ValueError."""
        for holders in cls:
            if holders.title == text:
                return holders
        raise ValueError(f"{text} is none of {', '.join(each.title for each in cls)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What the rows that are compared with each other have in common.

    ``link_mbit_s``: the rate of each holder's link. None: not limited. ``nodes``: how many pull at once.
    """

    holders: Holders
    link_mbit_s: float | None
    nodes: int

    def __str__(self) -> str:
        link = "no limit" if self.link_mbit_s is None else f"{self.link_mbit_s:.0f} Mbit/s"
        return f"{self.holders.title}, {link}, {self.nodes} at once"


def conditions(
    holders: Sequence[Holders], links_mbit_s: Sequence[float | None], nodes: Sequence[int]
) -> Iterator[Condition]:
    """All combinations."""
    for each, link_mbit_s, count in itertools.product(holders, links_mbit_s, nodes):
        yield Condition(holders=each, link_mbit_s=link_mbit_s, nodes=count)

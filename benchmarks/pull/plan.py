"""What is pulled, by which way, and in which order. Pure."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

_MB = 1_000_000
_SIZE = re.compile(r"(?P<number>[1-9]\d{0,3})(?P<unit>MB|GB)-(?P<layers>[1-9]\d?)")
_SMALL_MB = 100
_COPIES = 3.2
"""What a node keeps of each byte: a layer as it came, its files, and what a file system takes for itself."""


class Way(Enum):
    """What is between the containerds and the registry."""

    REGISTRY = "registry"
    NGINX = "nginx"
    SHORTHAUL = "shorthaul"
    CLUSTER = "shorthaul, cluster"

    @property
    def has_agents(self) -> bool:
        """Whether agents run."""
        return self in (Way.SHORTHAUL, Way.CLUSTER)

    @classmethod
    def parse(cls, text: str) -> "Way":
        """``registry``, ``nginx``, ``shorthaul`` or ``cluster``. Raises ValueError."""
        return cls.CLUSTER if text == "cluster" else cls(text)


class Phase(Enum):
    """How the nodes begin."""

    CREATE = "all at once"
    ROLLING = "rolling, 20 % at a time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of an image. A megabyte is a million bytes."""

    megabytes: int
    layers: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """``10MB-1``, ``1GB-4``: as the field's public benchmark names its images. Raises ValueError."""
        found = _SIZE.fullmatch(text)
        if found is None:
            raise ValueError(text)
        megabytes = int(found["number"]) * (1000 if found["unit"] == "GB" else 1)
        return cls(megabytes=megabytes, layers=int(found["layers"]))

    def __str__(self) -> str:
        size = f"{self.megabytes // 1000} GB" if self.megabytes % 1000 == 0 else f"{self.megabytes} MB"
        return f"{size} in {self.layers} layer{'s' if self.layers > 1 else ''}"

    @property
    def name(self) -> str:
        """For a repository: lower case, without spaces."""
        return f"{self.megabytes}mb-{self.layers}"

    @property
    def layer_bytes(self) -> list[int]:
        """The sizes of its layers."""
        return [self.megabytes * _MB // self.layers] * self.layers

    def disk_bytes(self, nodes: int) -> int:
        """How much room a run with it needs at most: two releases on each node, in the registry, and in
        nginx's cache or in the layout from which they are pushed.
        """
        return int(2 * self.megabytes * _MB * (nodes * _COPIES + 2))


FIELD = tuple(Size(megabytes=size, layers=layers) for size in (10, 100, 1000) for layers in (1, 4))
"""The images of the field's public benchmark (spegel.dev/docs/benchmark)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One way's turn: it pulls all of these, one after the other."""

    number: int
    way: Way
    sizes: tuple[Size, ...]


def batches(sizes: Iterable[Size]) -> list[tuple[Size, ...]]:
    """Small images share their turns, because the nodes have to be made ready for each. Large ones would not
    fit on the disk together.
    """
    every = list(sizes)
    small = tuple(size for size in every if size.megabytes <= _SMALL_MB)
    return [*([small] if small else []), *((size,) for size in every if size.megabytes > _SMALL_MB)]


def turns(batch: Sequence[Size], ways: Sequence[Way], rounds: Mapping[Size, int]) -> Iterator[Turn]:
    """In each round each way once. Each round begins with another way: noise that comes and goes meets all of
    them, and who comes second finds a warmer machine. ``rounds``: how often each size is pulled.
    """
    for number in range(max(rounds[size] for size in batch)):
        sizes = tuple(size for size in batch if rounds[size] > number)
        first = number % len(ways)
        for way in (*ways[first:], *ways[:first]):
            yield Turn(number=number, way=way, sizes=sizes)


def at_once(phase: Phase, nodes: int, share: float = 0.2) -> int:
    """How many nodes pull at a time. A DaemonSet's ``maxUnavailable`` in per cent is rounded up."""
    return nodes if phase is Phase.CREATE else max(1, math.ceil(nodes * share))


def that_fit(sizes: Sequence[Size], nodes: int, free_bytes: int) -> tuple[list[Size], list[str]]:
    """The sizes for which there is room, and of the others why they are left out."""
    fitting: list[Size] = []
    problems: list[str] = []
    for batch in batches(sizes):
        needed_bytes = sum(size.disk_bytes(nodes) for size in batch)
        if needed_bytes <= free_bytes:
            fitting += batch
        else:
            problems.append(
                f"{', '.join(map(str, batch))}: left out, because {needed_bytes / 1e9:.1f} GB of disk are "
                f"needed for {nodes} nodes, and {free_bytes / 1e9:.1f} GB are free where temporary files go "
                "(TMPDIR names another place)"
            )
    return fitting, problems

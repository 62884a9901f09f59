"""The holders of a digest as a bitmap, and the nearest of them. Pure.

A node is a small number. Bit n of a digest's bitmap says whether node n has it, in the order of Redis: bit 0
is the most significant bit of byte 0. Here a bitmap is an integer whose bit n is 1 << n, whatever its length.

The members are sorted into groups of equally near ones, once for each change of the topology. Then a look-up
costs one AND for each group, however many nodes have the digest, and the ranking sees only the few that are
left. A node that is not a member is in no group: its bits mean nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import or_

from topology.placement import NodeName, Tier
from topology.ranking import EQUAL_STEPS
from topology.snapshot import SEED_BITS, TIER_WIDTH, Snapshot, seed_of

NUMBERS_MAX = 1 << 17
"""Node numbers are below this: ten times as many nodes as Kubernetes is made for, and those they replaced."""

BITMAP_BYTES_MAX = NUMBERS_MAX // 8

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Part(IntEnum):
    """A part of the cluster, as one node sees it. No farther part is a substitute for a nearer one."""

    ZONE = 0
    REGION = 1
    REMOTE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Members that are equally near. ``mask``: the bits of their numbers."""

    part: Part
    mask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lots:
    """What decides which of too many equally near holders are taken.

    ``near``: of this node's own zone; each node takes others. ``far``: of other zones; the nodes of one zone
    take the same ones, so that `topology.ranking.rank` can let the whole zone ask the same one. Without zones
    each node takes others of these as well.
    """

    near: int
    far: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """The members of the cluster by nearness. ``groups``: the nearest first. ``names``: by number.

    ``known``: the bits of all of them. This node itself is none of them.
    """

    groups: tuple[Group, ...]
    names: Mapping[int, NodeName]
    known: int
    own: NodeName
    zone: str | None

    def part(self, part: Part) -> int:
        """The bits of all members in this part of the cluster."""
        return _union(group.mask for group in self.groups if group.part is part)

    def lots(self, digest: str) -> Lots:
        """The lots for this digest. Costs two hashes."""
        near = seed_of(f"{digest}\0{self.own}")
        return Lots(near=near, far=near if self.zone is None else seed_of(f"{digest}\0{self.zone}"))


def bits_of(value: bytes) -> int:
    """The bitmap that a server gave. Raises ValueError if it is longer than any bitmap can be."""
    if len(value) > BITMAP_BYTES_MAX:
        raise ValueError(f"a bitmap of {len(value)} bytes, where {BITMAP_BYTES_MAX} are the most")
    return int.from_bytes(value.translate(_REVERSED), "little")


def value_of(numbers: Iterable[int]) -> bytes:
    """The bitmap with these numbers, as a server keeps it."""
    bits = _mask(numbers)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little").translate(_REVERSED)


def numbers_of(bits: int) -> Iterator[int]:
    """The numbers whose bits are set, the lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def masks_of(numbers: Mapping[NodeName, int], snapshot: Snapshot) -> Masks:
    """The members by nearness. ``numbers``: of those whose number is known; this node's own is left out.

    O(members): some milliseconds for thousands.
    """
    places: dict[tuple[int, int], tuple[Part, list[int]]] = {}
    names: dict[int, NodeName] = {}
    standings, keys = snapshot.standings, snapshot.keys
    for name, number in numbers.items():
        standing = standings.get(name)
        if standing is None or name == snapshot.own:
            continue
        names[number] = name
        tier, steps = divmod(keys[name] >> SEED_BITS, TIER_WIDTH)
        place = tier, steps // EQUAL_STEPS
        if place in places:
            places[place][1].append(number)
        else:
            places[place] = _part(standing.tier), [number]
    groups = tuple(Group(part=part, mask=_mask(many)) for _, (part, many) in sorted(places.items()))
    return Masks(
        groups=groups,
        names=names,
        known=_union(group.mask for group in groups),
        own=snapshot.own,
        zone=None if (zone := snapshot.zone_of(snapshot.own)) is None else str(zone),
    )


def nearest(bits: int, masks: Masks, *, at_most: int, lots: Lots) -> tuple[NodeName, ...]:
    """The nearest ``at_most`` of the holders, all in the nearest part of the cluster that has any.

    Of equally near ones that are too many, the lots decide. The result is in no order that means anything.
    """
    for part in Part:
        if chosen := _of_part(bits, masks, part, at_most=at_most, lots=lots):
            return chosen
    return ()


def nearest_of_each(bits: int, masks: Masks, *, at_most: int, lots: Lots) -> tuple[NodeName, ...]:
    """The nearest ``at_most`` of the holders in each part of the cluster."""
    return tuple(name for part in Part for name in _of_part(bits, masks, part, at_most=at_most, lots=lots))


def _of_part(bits: int, masks: Masks, part: Part, *, at_most: int, lots: Lots) -> tuple[NodeName, ...]:
    chosen: list[NodeName] = []
    for group in masks.groups:
        if group.part is not part or not (found := bits & group.mask):
            continue
        left = at_most - len(chosen)
        if found.bit_count() > left:
            lot = lots.near if part is Part.ZONE else lots.far
            chosen += _names(masks.names, _some(found, left, lot))
            break
        chosen += _names(masks.names, numbers_of(found))
    return tuple(chosen)


def _some(bits: int, count: int, lot: int) -> Iterator[int]:
    """``count`` of the numbers, from one that the lot decides on, around the end of the bitmap."""
    start = lot % bits.bit_length()
    above = bits >> start
    for number in numbers_of(above):
        if not count:
            return
        yield start + number
        count -= 1
    for number in numbers_of(bits ^ above << start):
        if not count:
            return
        yield number
        count -= 1


def _names(names: Mapping[int, NodeName], numbers: Iterable[int]) -> Iterator[NodeName]:
    return map(names.__getitem__, numbers)


def _mask(numbers: Iterable[int]) -> int:
    many = [*numbers]
    mask = bytearray(max(many, default=0) // 8 + 1)
    for number in many:
        mask[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(mask, "little")


def _union(masks: Iterable[int]) -> int:
    return reduce(or_, masks, 0)


def _part(tier: Tier) -> Part:
    match tier:
        case Tier.REGION:
            return Part.REGION
        case Tier.REMOTE:
            return Part.REMOTE
        case _:
            return Part.ZONE

"""From whom each zone's gateway takes a content, when one node fetches it from the registry for the cluster.

Decides on the arbiter of the content. A gateway is a node that has its zone's claim and was not granted the
cluster's. It is told several sources, best first: the gateways of the zone from which `topology.spread` has
the content travel to its zone, then theirs, and so on, and at last the node that asks the registry. The next
one is asked if a source is gone or is not ahead. So the death of a gateway costs its children a resume. A
zone has two gateways for a large content; whoever asks besides is told of these two first.

What a zone was told stays as it was while more zones ask. Pure; bounded by `_KEYS_MAX`, oldest out.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from topology.placement import NodeName
from topology.spread import AnyZone, Way, spread

_KEYS_MAX = 1024
_SOURCES_MAX = 16  # a gateway asks one after the other, and few of them fail
_ZONE_GATEWAYS = 2  # so many of a zone take it from another zone; whoever asks besides takes it from them
_ZONE_GATEWAYS_MAX = 4  # the latest ones of a zone are named: more than that died, or somebody lies


@dataclass(slots=True)
class _Tree:
    """The parent of each zone. ``planned_from``: the zone of the node to which they lead."""

    parents: dict[AnyZone, AnyZone] = field(default_factory=dict)
    planned_from: AnyZone = None


class Gateways:
    """The trees of the contents on which this node decides for the cluster.

    ``zone_of``: where a node is, as this node knows it; None if it has no zone. ``is_there``: whether it can
    be asked. ``way``: what the way between two zones costs. ``children_max``: see `topology.spread`.
    """

    def __init__(
        self,
        *,
        zone_of: Callable[[NodeName], AnyZone],
        is_there: Callable[[NodeName], bool],
        way: Callable[[AnyZone, AnyZone], Way],
        children_max: int,
    ) -> None:
        self._zone_of = zone_of
        self._is_there = is_there
        self._way = way
        self._children_max = children_max
        self._trees: dict[Hashable, _Tree] = {}

    def sources(
        self, key: Hashable, asker: NodeName, root: NodeName, carriers: Iterable[NodeName]
    ) -> tuple[NodeName, ...]:
        """From whom ``asker`` takes the content that ``root`` fetches, best first. Never from itself.

        ``key``: what the content is. ``carriers``: all nodes that asked for it, in the order in which they
        did: those whose answer is on its way as well, so that all of them are in the tree from the start.
        """
        gateways = self._gateways((*carriers, asker), root)
        tree = self._planned(key, gateways.keys(), self._zone_of(root))
        zone = self._zone_of(asker)
        own = gateways.get(zone, [])
        place = own.index(asker) if asker in own else 0
        near = own[:place] if place >= _ZONE_GATEWAYS else ()
        above = [near, *(_turned(gateways[each], place) for each in _zones_above(tree, zone))]
        named = dict.fromkeys(node for node in chain.from_iterable(above) if node != asker)
        return (*[*named][: _SOURCES_MAX - 1], root)

    def ways(self, key: Hashable) -> Mapping[AnyZone, AnyZone]:
        """The parent of each zone in the tree of a content, as it was told. Empty if there is none."""
        tree = self._trees.get(key)
        return {} if tree is None else tree.parents

    def _gateways(self, carriers: Iterable[NodeName], root: NodeName) -> dict[AnyZone, list[NodeName]]:
        """The gateways of each zone but the root's, in the order in which they came."""
        gateways: dict[AnyZone, list[NodeName]] = {}
        for node in dict.fromkeys(carriers):
            if node != root and self._is_there(node):
                gateways.setdefault(self._zone_of(node), []).append(node)
        gateways.pop(self._zone_of(root), None)
        return {zone: nodes[-_ZONE_GATEWAYS_MAX:] for zone, nodes in gateways.items()}

    def _planned(self, key: Hashable, zones: Collection[AnyZone], root: AnyZone) -> _Tree:
        """The tree over these zones. Parents that still lead to the root stay as they were told."""
        tree = self._trees.pop(key, None) or _Tree()
        self._trees[key] = tree  # the youngest
        if len(self._trees) > _KEYS_MAX:
            del self._trees[next(iter(self._trees))]
        if zones != tree.parents.keys() or tree.planned_from != root:
            tree.parents = spread(
                root, zones, self._way, children_max=self._children_max, settled=tree.parents
            )
            tree.planned_from = root
        return tree


def _zones_above(tree: _Tree, zone: AnyZone) -> list[AnyZone]:
    """The zones through which the content comes to a zone, the nearest first. Not that of the root."""
    above: list[AnyZone] = []
    while zone in tree.parents and (zone := tree.parents[zone]) in tree.parents:
        above.append(zone)
    return above


def _turned(gateways: Sequence[NodeName], place: int) -> tuple[NodeName, ...]:
    """The second gateway of a zone takes from the second one of the zone above, if there are two."""
    place %= len(gateways)
    return (*gateways[place:], *gateways[:place])

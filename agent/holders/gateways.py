"""From whom each zone's gateway takes a blob, when one node fetches it from the registry for the cluster.

Decides on the arbiter of the digest: a gateway is a node that has its zone's claim and was not granted the
cluster's. It is told several sources, best first: the gateways of the zone from which `topology.spread` has
the blob travel to its zone, then theirs, and so on, and at last the node that asks the registry. The next one
is asked if a source is gone or is not ahead. So the death of a gateway costs its children a resume.

What a zone was told stays as it was while more zones ask. Pure; bounded by `_DIGESTS_MAX`, oldest out.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from agent.oci.digest import Digest
from topology.placement import NodeName
from topology.spread import AnyZone, Way, spread

_DIGESTS_MAX = 1024
_ZONE_GATEWAYS_MAX = 4  # further ones of a zone push out the oldest: more than that died, or somebody lies


@dataclass(slots=True)
class _Tree:
    """Who carries one digest: the gateways of each zone in the order in which they came, and the parent of
    each zone. ``planned_from``: the zone of the root to which these parents lead.
    """

    root: NodeName
    gateways: dict[AnyZone, list[NodeName]] = field(default_factory=dict)
    parents: dict[AnyZone, AnyZone] = field(default_factory=dict)
    planned_from: AnyZone = None


class Gateways:
    """The trees of the digests of which this node is the cluster's arbiter.

    ``zone_of``: where a node is, as this node knows it; None if it has no zone. ``is_there``: whether it is
    a member. ``way``: what the way between two zones costs. ``children_max``: see `topology.spread`.
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
        self._trees: dict[Digest, _Tree] = {}

    def sources(
        self, digest: Digest, asker: NodeName, root: NodeName, waiting: Iterable[NodeName] = ()
    ) -> tuple[NodeName, ...]:
        """From whom ``asker`` takes the digest that ``root`` fetches, best first. Never from itself.

        ``waiting``: who else waits for this answer, so that all of them are in the tree from the start.
        """
        tree = self._tree(digest, root)
        for node in (*waiting, asker):
            self._join(tree, node)
        self._plan(tree)
        place = self._place(tree, asker)
        above = [_turned(tree.gateways.get(zone, ()), place) for zone in self._zones_above(tree, asker)]
        return tuple(dict.fromkeys(node for node in (*chain.from_iterable(above), root) if node != asker))

    def left(self, digest: Digest, node: NodeName) -> None:
        """This node does not carry the digest any more."""
        if (tree := self._trees.get(digest)) is not None:
            _remove(tree, node)

    def forget(self, digest: Digest) -> None:
        """Nobody carries the digest any more, or everybody has it."""
        self._trees.pop(digest, None)

    def _tree(self, digest: Digest, root: NodeName) -> _Tree:
        tree = self._trees.pop(digest, None) or _Tree(root=root)
        self._trees[digest] = tree  # the youngest
        if len(self._trees) > _DIGESTS_MAX:
            del self._trees[next(iter(self._trees))]
        if tree.root != root:  # the parents that still lead to the new one stay
            tree.root = root
            _remove(tree, root)
        for node in [*chain.from_iterable(tree.gateways.values())]:
            if not self._is_there(node):
                _remove(tree, node)
        return tree

    def _join(self, tree: _Tree, node: NodeName) -> None:
        """A node is a gateway of its zone from now on, behind those that were before."""
        gateways = tree.gateways.setdefault(self._zone_of(node), [])
        if node != tree.root and node not in gateways:
            gateways.append(node)
            del gateways[:-_ZONE_GATEWAYS_MAX]

    def _plan(self, tree: _Tree) -> None:
        """Give each zone that has a gateway a parent."""
        zones = [zone for zone, gateways in tree.gateways.items() if gateways]
        root = self._zone_of(tree.root)
        if {*zones} - {root} != tree.parents.keys() or tree.planned_from != root:
            tree.parents = spread(
                root, zones, self._way, children_max=self._children_max, settled=tree.parents
            )
            tree.planned_from = root

    def _zones_above(self, tree: _Tree, node: NodeName) -> list[AnyZone]:
        """The zones from which the blob comes to a node's zone, the nearest first. Not that of the root."""
        above: list[AnyZone] = []
        zone = self._zone_of(node)
        while zone in tree.parents and (zone := tree.parents[zone]) in tree.parents:
            above.append(zone)
        return above

    def _place(self, tree: _Tree, node: NodeName) -> int:
        """Which gateway of its zone a node is."""
        gateways = tree.gateways[self._zone_of(node)]
        return gateways.index(node) if node in gateways else 0


def _turned(gateways: Sequence[NodeName], place: int) -> tuple[NodeName, ...]:
    """The second gateway of a zone takes from the second one of the zone above, if there are two."""
    place %= max(1, len(gateways))
    return (*gateways[place:], *gateways[:place])


def _remove(tree: _Tree, node: NodeName) -> None:
    for gateways in tree.gateways.values():
        if node in gateways:
            gateways.remove(node)

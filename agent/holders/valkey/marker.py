"""The marker: one key that says whose the other keys are, and since when they are there. Pure.

Whoever finds none makes it. So it tells an emptied server by its number, which is random, and another cluster
by its id. Its life is renewed by all agents together; without agents it ends, as all keys do.
"""

import re
from dataclasses import dataclass

from agent.holders.valkey.layout import VERSION, Layout
from agent.holders.valkey.trouble import IndexDown, clipped
from agent.observe.index_metrics import IndexTrouble

MARKER_LIFE_S = 3 * 3600
"""Without any agent, the marker is there so long: longer than every other key, whose owner it tells, and no
longer than needed. A cluster that is made anew has another id, and is refused until then.
"""

_FORM = re.compile(rb"([0-9]{1,9}) (\S{1,160}) ([0-9a-f]{16}) ([0-9]{1,15})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """``cluster``: whose keys these are. ``number``: random. ``made_s``: when, by the server's clock."""

    cluster: str
    number: str
    made_s: int

    def __bytes__(self) -> bytes:
        return f"{VERSION} {self.cluster} {self.number} {self.made_s}".encode()

    def is_in(self, value: object) -> bool:
        """Whether a value is this marker, if with the id of another key of the same cluster."""
        found = _FORM.fullmatch(value) if isinstance(value, bytes) else None
        return found is not None and found[3] == self.number.encode()


def marker_key(prefix: str) -> str:
    """Where it is."""
    return Layout(prefix).marker


def named(name: str) -> tuple[str, ...]:
    """The id of a cluster that has a name. Spaces can't be in it."""
    return (f"name:{name}",)


def keyed(ids: tuple[str, ...]) -> tuple[str, ...]:
    """The ids of a cluster with a key, that of the key which signs first."""
    return tuple(f"key:{each}" for each in ids)


def read_marker(value: object, clusters: tuple[str, ...], prefix: str) -> Marker:
    """The marker in a value of the server.

    ``clusters``: the ids of this cluster, of which one may be in it. Raises `IndexDown`.
    """
    found = _FORM.fullmatch(value) if isinstance(value, bytes) else None
    if found is None or int(found[1]) != VERSION:
        said = clipped(value.decode(errors="replace")) if isinstance(value, bytes) else "no text"
        raise IndexDown(
            IndexTrouble.FOREIGN,
            f"the key {marker_key(prefix)} has a value of another version, or of another program: {said}",
            "give this cluster a prefix of its own (valkey.prefix), or delete that key if nobody uses it",
        )
    marker = Marker(cluster=found[2].decode(errors="replace"), number=found[3].decode(), made_s=int(found[4]))
    if marker.cluster not in clusters:
        raise IndexDown(
            IndexTrouble.FOREIGN,
            f"the keys {prefix}:… on this server belong to another cluster ({clipped(marker.cluster)}; this "
            f"one is {', '.join(clusters) or 'without a key'})",
            "give each cluster its own valkey.prefix; if its key was replaced at once and not in turn, "
            f"delete the key {marker_key(prefix)}",
        )
    return marker

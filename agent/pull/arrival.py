"""The headers with which agents share content that is still arriving. Pure.

A request names `FOLLOW_HEADER` if its sender understands the rest. Nobody else is given content that is not
complete, or is sent on to another node. What peers say is read by `read_arrival` and `read_shared`, which
ignore what they do not understand.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from agent.config.values import InvalidValue, parse_name
from topology.placement import NodeName

FOLLOW_HEADER = "Shorthaul-Follow"
"""In a request: the asker follows content that is arriving, and goes to the nodes of `SHARED_HEADER`."""

FOLLOW_WAITING, FOLLOW_AT_ONCE = "1", "at-once"
"""The values of that header. The asker knows that the content is still arriving, and may be kept waiting for
`AHEAD_S`; or it believes that all of it is there. If it was told something wrong, a wait would be in vain.
"""

IN_FLIGHT_HEADER = "Shorthaul-In-Flight"
"""In a 200 or 206: the content is still arriving, and so many bytes of it are there. The body has all of it.

In a 404: so many bytes are there, and the byte that was asked for is not.
"""

ORIGIN_HEADER = "Shorthaul-Origin"
"""With `IN_FLIGHT_HEADER`: the first node that the bytes came through. It had all of them, or a registry gave
them to it. If they are wrong, it is to blame.
"""

DEPTH_HEADER = "Shorthaul-Depth"
"""With `IN_FLIGHT_HEADER`: how many steps away the origin is. 0: this node is the origin."""

SHARED_HEADER = "Shorthaul-Shared"
"""In a 429: the content is given to these nodes now. Take it from them."""

SHARED_MAX = 8
"""So many names are read, and sent. A node has a few followers."""

AHEAD_S = 0.4
"""So long a node that has not got as far waits for the byte that it is asked for, before it says so."""

_DEPTH_MAX = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a node says of content that is arriving there.

    ``origin``: see `ORIGIN_HEADER`; None: it does not say. ``depth``: see `DEPTH_HEADER`.
    """

    available_bytes: int
    origin: NodeName | None = None
    depth: int = 0

    def percent_of(self, size_bytes: int) -> int:
        """How much of the content is there: 0 to 100."""
        return min(100, 100 * self.available_bytes // size_bytes) if size_bytes else 100

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        said = {IN_FLIGHT_HEADER: str(self.available_bytes), DEPTH_HEADER: str(self.depth)}
        return said if self.origin is None else said | {ORIGIN_HEADER: quote(self.origin)}


def read_arrival(headers: Mapping[str, str]) -> Arrival | None:
    """What an answer says. None: its content is complete. ``headers``: their names in lower case."""
    available_bytes = _number(headers.get(IN_FLIGHT_HEADER.lower()))
    if available_bytes is None:
        return None
    return Arrival(
        available_bytes=available_bytes,
        origin=_name(headers.get(ORIGIN_HEADER.lower(), "")),
        depth=min(_number(headers.get(DEPTH_HEADER.lower())) or 0, _DEPTH_MAX),
    )


def shared_headers(nodes: Iterable[NodeName]) -> dict[str, str]:
    """The header that names these nodes, the first ones of them."""
    return {SHARED_HEADER: ",".join(map(quote, [*nodes][:SHARED_MAX]))}


def read_shared(headers: Mapping[str, str]) -> tuple[NodeName, ...]:
    """The nodes that an answer names, each once. ``headers``: their names in lower case."""
    texts = headers.get(SHARED_HEADER.lower(), "").split(",", SHARED_MAX)[:SHARED_MAX]
    names = (_name(text.strip()) for text in texts)
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _number(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdecimal() and len(text) < 20):
        return None
    return int(text)


def _name(text: str) -> NodeName | None:
    try:
        return NodeName(parse_name(unquote(text)))
    except InvalidValue:
        return None

"""A client of a running agent's admin port: asks with a deadline, checks the answer, gives it as values.

Imported only when a command asks: the agent's own process has no use for it. Every text of an answer
is made printable here, once: labels come from other machines, and a terminal obeys control characters.
"""

import http.client
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

from agent.cli.errors import CommandError
from topology.labels import LabelProblem
from topology.placement import NodeName

_T = TypeVar("_T")

_HEADERS = {"Accept": "application/json", "Shorthaul-Action": "1"}  # the latter where something is changed

_DEADLINE_S = 15.0  # an explanation waits for peers, and the agent bounds that at a few seconds
_PART_BYTES = 64 * 1024
_ANSWER_MAX_BYTES = 64 * 1024 * 1024  # 5,000 nodes are about 2 MB; whatever sends more is no agent
_IS_IT_RUNNING = "is it running? name its admin port with --url (listen.admin of its settings)"
_NO_SUCH_PAGE = "no such page"  # what the admin port says of a path it does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Rtt:
    """What the asked node measured of one peer."""

    jitter_us: float
    samples: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node as the asked node sees it. ``placement``: (level, value), coarse to fine; may be empty."""

    name: str
    own: bool
    placement: tuple[tuple[str, str], ...]
    cost_us: float | None
    source: str
    rtt: Rtt | None
    inferred: bool
    suspect: str | None
    cooling: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneView:
    """A zone and how many nodes are in it."""

    region: str | None
    zone: str | None
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyView:
    """The cluster as one node sees it. The matrix's rows and columns are ``zones``.

    A cell of ``matrix_source`` may be None only where the cost is: nothing is known of the two zones.
    """

    node: str
    age_s: float
    nodes: tuple[NodeView, ...]
    zones: tuple[ZoneView, ...]
    matrix_us: tuple[tuple[float | None, ...], ...]
    matrix_source: tuple[tuple[str | None, ...], ...]
    problems: tuple[LabelProblem, ...]

    @property
    def own_zone(self) -> int | None:
        """The place of the asked node's zone in ``zones``."""
        own = next((node for node in self.nodes if node.own), None)
        if own is None:
            return None
        labels = dict(own.placement)
        zones = [(zone.region, zone.zone) for zone in self.zones]
        sought = (labels.get("region"), labels.get("zone"))
        return zones.index(sought) if sought in zones else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A peer that has what was asked for.

    ``load``: the bodies it is sending, as it told, or those that the asked node is fetching from it:
    the larger of the two.
    """

    node: str
    tier: str
    rank: int
    rtt_us: float | None
    load: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """A peer whose holdings are not fully known, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One blob of an image. ``choice`` is the node it would come from; None: the registry."""

    digest: str
    kind: str
    size_bytes: float | None
    local: bool
    choice: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where the asked node would take a blob or an image from, and why."""

    node: str
    image: str | None
    digest: str
    local: bool
    choice: str | None
    holders: tuple[Holder, ...]
    not_asked_in_full: tuple[Unasked, ...]
    content: tuple[Content, ...]


def ask(
    url: str,
    path: str,
    query: dict[str, str] | None = None,
    *,
    method: str = "GET",
    deadline_s: float = _DEADLINE_S,
) -> Any:
    """The JSON object that the admin port at ``url`` gives for ``path``; else `CommandError`.

    ``deadline_s`` bounds each wait for the agent, and the reading of the answer's body as a whole.
    """
    base = _parse_url(url)
    target = f"{base.path.rstrip('/')}{path}" + (f"?{urlencode(query)}" if query else "")
    try:
        status, body = _exchange(base, method, target, deadline_s)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an impossible host
        raise _unreachable(url, error, deadline_s) from error
    return _read(url, path, status, body)


def read_topology(answer: Any) -> TopologyView:
    """The answer of ``/api/topology`` as values; `CommandError` when it is something else."""
    return _checked(lambda: _topology(_Fields(answer)))


def read_explanation(answer: Any) -> Explanation:
    """The answer of ``/api/explain`` as values; `CommandError` when it is something else."""
    return _checked(lambda: _explanation(_Fields(answer)))


def printable(text: str) -> str:
    r"""``text`` with everything that is no visible character or space as an escape such as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _parse_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and parts.port != 0 and parts.path.isascii()
    except ValueError:
        good = False
    else:
        if "://" in url and parts.scheme == "https":
            raise CommandError(
                f"{printable(url)}: the admin port speaks plain HTTP", hint="write http://", status=2
            )
        good = good and parts.scheme == "http" and not (parts.query or parts.fragment or parts.username)
    if not good:
        raise CommandError(
            f"{printable(url)!r} is no URL of an admin port",
            hint="write http://HOST:PORT, for example http://127.0.0.1:9090",
            status=2,
        )
    return parts


def _exchange(base: SplitResult, method: str, target: str, deadline_s: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(base.hostname or "", base.port or 80, timeout=deadline_s)
    try:
        connection.request(method, target, headers=_HEADERS)
        with connection.getresponse() as response:
            end_s = time.monotonic() + deadline_s  # the socket's own time-out counts anew with every byte
            body = bytearray()
            while len(body) <= _ANSWER_MAX_BYTES and (part := response.read1(_PART_BYTES)):
                body += part
                if time.monotonic() > end_s:
                    raise TimeoutError
            return response.status, bytes(body)
    finally:
        connection.close()


def _unreachable(url: str, error: Exception, deadline_s: float) -> CommandError:
    url = printable(url)
    if isinstance(error, TimeoutError):
        return CommandError(f"no answer from {url} within {deadline_s:g} s", hint=_IS_IT_RUNNING)
    if isinstance(error, http.client.HTTPException | ConnectionResetError | BrokenPipeError):
        # Before OSError: RemoteDisconnected is both, and somebody did take the connection.
        return CommandError(
            f"what answers at {url} does not speak HTTP as an agent does ({_words(error)})",
            hint="name the agent's admin port with --url, not one of its other listeners",
        )
    return CommandError(f"no agent answers at {url} ({_words(error)})", hint=_IS_IT_RUNNING)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    return printable(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:200]


def _read(url: str, path: str, status: int, body: bytes) -> Any:
    url = printable(url)
    if len(body) > _ANSWER_MAX_BYTES:
        raise CommandError(
            f"what answers at {url} sends more than {_ANSWER_MAX_BYTES >> 20} MiB",
            hint="that is no agent's admin port; name it with --url",
        )
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    said = answer.get("error") if isinstance(answer, dict) else None
    if status != 200 and isinstance(said, str) and said != _NO_SUCH_PAGE:
        hint = answer.get("hint")
        raise CommandError(
            printable(said), hint=printable(hint) if isinstance(hint, str) else f"{url} answered {status}"
        )
    if status == 404:
        raise CommandError(
            f"what answers at {url} has no {path}",
            hint="is that the agent's admin port, and is the agent as new as this command?",
        )
    if status != 200:
        raise CommandError(
            f"{url} answered {status} to {path}", hint="the agent's log tells more, if that is its admin port"
        )
    if not isinstance(answer, dict):
        raise CommandError(
            f"what answers at {url} gives no JSON object for {path}",
            hint="that is no agent's admin port; name it with --url",
        )
    return answer


class _Unreadable(Exception):
    """A field that is missing or of another type."""


class _Fields:
    """The fields of a JSON object, taken by type. Those it has besides are a newer agent's business."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise _Unreadable(f"{type(value).__name__} in place of an object")
        self._values = value

    def _take(self, key: str, *kinds: type) -> Any:
        value = self._values.get(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _Unreadable(f"{key!r} is missing or of another type")
        return value

    def text(self, key: str) -> str:
        return printable(self._take(key, str))

    def text_or_none(self, key: str) -> str | None:
        return None if self._values.get(key) is None else self.text(key)

    def count(self, key: str) -> int:
        return int(self._take(key, int))

    def number(self, key: str) -> float:
        number = _number(self._take(key, int, float))
        return math.inf if number is None else number

    def number_or_none(self, key: str) -> float | None:
        return None if self._values.get(key) is None else _number(self._take(key, int, float))

    def flag(self, key: str) -> bool:
        return bool(self._take(key, bool))

    def items(self, key: str, read: Callable[[Any], _T]) -> tuple[_T, ...]:
        return tuple(read(item) for item in self._take(key, list))

    def items_if_any(self, key: str, read: Callable[[Any], _T]) -> tuple[_T, ...]:
        """As `items`, for a field that an older agent does not have."""
        return () if self._values.get(key) is None else self.items(key, read)

    def object_or_none(self, key: str) -> "_Fields | None":
        value = self._values.get(key)
        return None if value is None else _Fields(value)


def _checked(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except _Unreadable as error:
        raise CommandError(
            f"the agent's answer can't be shown: {printable(str(error))}",
            hint="agent and command may be of different versions; --json shows the answer as it is",
        ) from error


def _number(value: Any) -> float | None:
    """A finite number; None for null and for what is infinite or none, which JSON has no word for."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Unreadable(f"{type(value).__name__} in place of a number")
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unreadable(f"{type(value).__name__} in place of text")
    return printable(value)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _row(value: Any, read: Callable[[Any], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise _Unreadable(f"{type(value).__name__} in place of a list")
    return tuple(read(item) for item in value)


def _label(value: Any) -> tuple[str, str]:
    row = _row(value, _text)
    if len(row) != 2:
        raise _Unreadable("a label that is no pair")
    return row[0], row[1]


def _rtt(fields: _Fields | None) -> Rtt | None:
    if fields is None:
        return None
    return Rtt(
        jitter_us=fields.number("jitter_us"), samples=fields.count("samples"), age_s=fields.number("age_s")
    )


def _node(value: Any) -> NodeView:
    fields = _Fields(value)
    return NodeView(
        name=fields.text("name"),
        own=fields.flag("self"),
        placement=fields.items("placement", _label),
        cost_us=fields.number_or_none("cost_us"),
        source=fields.text("source"),
        rtt=_rtt(fields.object_or_none("rtt")),
        inferred=fields.flag("inferred"),
        suspect=fields.text_or_none("suspect"),
        cooling=fields.flag("cooling"),
    )


def _zone(value: Any) -> ZoneView:
    fields = _Fields(value)
    return ZoneView(
        region=fields.text_or_none("region"), zone=fields.text_or_none("zone"), nodes=fields.count("nodes")
    )


def _problem(value: Any) -> LabelProblem:
    fields = _Fields(value)
    return LabelProblem(
        node=NodeName(fields.text("node")), problem=fields.text("problem"), hint=fields.text("hint")
    )


def _topology(fields: _Fields) -> TopologyView:
    view = TopologyView(
        node=fields.text("node"),
        age_s=fields.number("age_s"),
        nodes=fields.items("nodes", _node),
        zones=fields.items("zones", _zone),
        matrix_us=fields.items("matrix_us", lambda row: _row(row, _number)),
        matrix_source=fields.items("matrix_source", lambda row: _row(row, _text_or_none)),
        problems=fields.items("problems", _problem),
    )
    sides = [len(view.zones)] * len(view.zones)
    if [len(row) for row in view.matrix_us] != sides or [len(row) for row in view.matrix_source] != sides:
        raise _Unreadable("the matrix is not as large as the list of zones")
    rows = zip(view.matrix_us, view.matrix_source, strict=True)
    cells = [cell for costs_us, sources in rows for cell in zip(costs_us, sources, strict=True)]
    if any(source is None and cost_us is not None for cost_us, source in cells):
        raise _Unreadable("a cost in the matrix has no source")
    return view


def _holder(value: Any) -> Holder:
    fields = _Fields(value)
    return Holder(
        node=fields.text("node"),
        tier=fields.text("tier"),
        rank=fields.count("rank"),
        rtt_us=fields.number_or_none("rtt_us"),
        load=fields.number_or_none("load"),
        reason=fields.text("reason"),
    )


def _unasked(value: Any) -> Unasked:
    fields = _Fields(value)
    return Unasked(node=fields.text("node"), reason=fields.text("reason"))


def _content(value: Any) -> Content:
    fields = _Fields(value)
    return Content(
        digest=fields.text("digest"),
        kind=fields.text("kind"),
        size_bytes=fields.number_or_none("size_bytes"),
        local=fields.flag("local"),
        choice=fields.text_or_none("choice"),
        reason=fields.text("reason"),
    )


def _explanation(fields: _Fields) -> Explanation:
    return Explanation(
        node=fields.text("node"),
        image=fields.text_or_none("image"),
        digest=fields.text("digest"),
        local=fields.flag("local"),
        choice=fields.text_or_none("choice"),
        holders=fields.items("holders", _holder),
        not_asked_in_full=fields.items_if_any("not_asked_in_full", _unasked),
        content=fields.items_if_any("content", _content),
    )

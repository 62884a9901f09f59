"""The messages between the probe and its readers: one JSON text per line, over a Unix socket. Pure.

The probe sends a new reader `Hello`, then every open flow, then `Health`, then everything that is new. A
reader that is an agent sends `Introduction`, with its listening sockets beside it (SCM_RIGHTS). The probe
answers `Introduced` when the kernel marks what they take, and the agent then sends `Claims`: what they took
before. Any reader may send `SendCanaries`. Both ends come from the same release, so a different version is an
error and there is no negotiation.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict
from bpf.events import Address

VERSION = 4
LINE_MAX = 1 << 20
FLOWS_MAX = 100  # per message, so that decoding one does not delay the agent's pulls
NODE_HEADER = "Shorthaul-Node"
SOCKET_HEADER = "Shorthaul-Socket"
"""Headers of the answer to ``GET /v2/``: the node of the agent, and the cookie of the agent's socket."""


class MessageInvalid(ValueError):
    """These bytes are not a message of this version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first message: which node's probe this is. ``programs``: the ids of its eBPF programs.

    ``started_s``: when the probe started, in CLOCK_MONOTONIC. Its counts start then. ``netns``: the cookie of
    the network namespace that it watches.
    """

    node: str
    netns: int = 0
    started_s: float = 0.0
    programs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """Flows with a new verdict, and flows that closed. ``rtts``: round trips (address, microseconds)."""

    flows: tuple[Flow, ...]
    rtts: tuple[tuple[bytes, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A connection that the probe made itself, and its verdict.

    ``went``: the destination on the wire. ``at_s``: CLOCK_MONOTONIC. ``answered_by``: the node name of the
    agent that answered. ``taken_by``: the cookie of the socket that accepted it, 0 if not known.
    """

    endpoint: EndpointName
    address: str
    verdict: Verdict
    reason: str
    went: str
    answered_by: str
    rtt_us: int
    at_s: float
    taken_by: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The state of the probe, sent once a second and after each round of canaries.

    ``round_s``: when the round of these canaries began, by the clock of their ``at_s``; 0 before the first. A
    round is empty if no endpoint is this node's.

    The counts start when the probe starts. ``forgotten``: flows that were dropped before they were judged
    and reported. ``foreign``: connections of other network namespaces, which nothing else is told of.
    ``held_back``: ends that were left for their next packet, because there were too many in a second.
    ``sure_of_intent``: no other program can rewrite a connect() before it is read. ``agents``: how many
    agents told their sockets.
    """

    canaries: tuple[Canary, ...] = ()
    round_s: float = 0.0
    lost_events: int = 0
    lost_flows: int = 0
    lost_packets: int = 0
    lost_ends: int = 0
    invalid_events: int = 0
    forgotten: int = 0
    contradictions: int = 0
    foreign: int = 0
    held_back: int = 0
    agents: int = 0
    sure_of_intent: bool = True
    alike: bool = True  # whatever happens to canaries happens to containerd's connections too


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduced:
    """To an agent alone: from now on the kernel marks what its listening sockets take."""


Message = Hello | Flows | Health | Introduced


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """From an agent: which node it belongs to. Its listening sockets come with it.

    ``known``: the ids of the programs of another probe of this node: that of the older pod, in an upgrade.
    They rewrite nothing.
    """

    node: str
    known: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """From an agent: the cookies of sockets that it accepted. ``complete``: it accepted no others before it
    was told `Introduced`.
    """

    cookies: tuple[int, ...]
    complete: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCanaries:
    """From any reader: send canaries soon, and tell of them."""


Request = Introduction | Claims | SendCanaries

_COUNTS = (
    "lost_events",
    "lost_flows",
    "lost_packets",
    "lost_ends",
    "invalid_events",
    "forgotten",
    "contradictions",
    "foreign",
    "held_back",
    "agents",
)
_N = TypeVar("_N", int, float)


def encode(message: Message) -> bytes:
    """A message as one line, with the newline."""
    if isinstance(message, Hello):
        document: dict[str, Any] = {
            "hello": VERSION,
            "node": message.node,
            "netns": message.netns,
            "started_s": message.started_s,
            "programs": message.programs,
        }
    elif isinstance(message, Flows):
        document = {
            "flows": [_pack(flow) for flow in message.flows],
            "rtts": [(ip.hex(), rtt_us) for ip, rtt_us in message.rtts],
        }
    elif isinstance(message, Introduced):
        document = {"introduced": True}
    else:
        document = asdict(message)
        for canary in document["canaries"]:
            canary["endpoint"] = canary["endpoint"].value
            canary["verdict"] = canary["verdict"].value
        document = {"health": document}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message in a line. Raises `MessageInvalid`."""
    try:
        document = json.loads(line)
        if "hello" in document:
            return _hello(document)
        if "health" in document:
            return _health(document["health"])
        if "introduced" in document:
            return Introduced()
        return Flows(
            flows=tuple(_unpack(packed) for packed in document["flows"]),
            rtts=tuple((_ip(ip), _number(rtt_us)) for ip, rtt_us in document["rtts"]),
        )
    except MessageInvalid:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise MessageInvalid(f"not a message of a probe: {error!r}") from error


def encode_request(request: Request) -> bytes:
    """What a reader sends, as one line, with the newline."""
    if isinstance(request, Introduction):
        document: dict[str, Any] = {"agent": VERSION, "node": request.node, "known": request.known}
    elif isinstance(request, Claims):
        document = {"claims": request.cookies, "complete": request.complete}
    else:
        document = {"canaries": True}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """What a reader sent in a line. Raises `MessageInvalid`."""
    try:
        document = json.loads(line)
        if "agent" in document:
            if document["agent"] != VERSION:
                raise MessageInvalid(f"the agent speaks version {document['agent']!r}, not {VERSION}")
            known = tuple(_number(program) for program in document["known"])
            return Introduction(node=str(document["node"]), known=known)
        if "claims" in document:
            cookies = tuple(_number(cookie) for cookie in document["claims"])
            return Claims(cookies=cookies, complete=bool(document["complete"]))
        if document["canaries"]:
            return SendCanaries()
    except MessageInvalid:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise MessageInvalid(f"not a message of a reader: {error!r}") from error
    raise MessageInvalid("not a message of a reader")


def _hello(document: dict[str, Any]) -> Hello:
    if document["hello"] != VERSION:
        raise MessageInvalid(f"the probe speaks version {document['hello']!r}, not {VERSION}")
    return Hello(
        node=str(document["node"]),
        netns=_number(document["netns"]),
        started_s=_number(document["started_s"], float),
        programs=tuple(_number(number) for number in document["programs"]),
    )


def _health(document: dict[str, Any]) -> Health:
    canaries = tuple(
        Canary(
            endpoint=EndpointName(canary["endpoint"]),
            address=str(canary["address"]),
            verdict=Verdict(canary["verdict"]),
            reason=str(canary["reason"]),
            went=str(canary["went"]),
            answered_by=str(canary["answered_by"]),
            rtt_us=_number(canary["rtt_us"]),
            at_s=_number(canary["at_s"], float),
            taken_by=_number(canary["taken_by"]),
        )
        for canary in document["canaries"]
    )
    counts = {name: _number(document[name]) for name in _COUNTS}
    return Health(
        canaries=canaries,
        round_s=_number(document["round_s"], float),
        sure_of_intent=bool(document["sure_of_intent"]),
        alike=bool(document["alike"]),
        **counts,
    )


def _number(value: object, kind: type[_N] = int) -> _N:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MessageInvalid(f"{value!r} is not a number")
    return kind(value)


def _ip(text: str) -> bytes:
    ip = bytes.fromhex(text)
    if len(ip) != 16:
        raise MessageInvalid(f"{text!r} is not an address")
    return ip


def _pack(flow: Flow) -> list[Any]:
    return [
        flow.cookie,
        flow.taken_by,
        flow.endpoint.value,
        flow.verdict.value,
        flow.reason,
        flow.client.ip.hex(),
        flow.client.port,
        flow.asked.ip.hex(),
        flow.asked.port,
        None if flow.went is None else flow.went.ip.hex(),
        None if flow.went is None else flow.went.port,
        flow.pid,
        flow.comm,
        flow.rtt_us,
        flow.closed,
        flow.bytes_received,
        flow.bytes_sent,
        flow.verdict_is_new,
        flow.canary,
        flow.translated,
        flow.by_containerd,
        flow.contradicted,
    ]


def _unpack(packed: list[Any]) -> Flow:
    (
        cookie, taken_by, endpoint, verdict, reason, client_ip, client_port, asked_ip, asked_port,
        went_ip, went_port, pid, comm, rtt_us, closed, received, sent, verdict_is_new, canary,
        translated, by_containerd, contradicted,
    ) = packed  # fmt: skip
    return Flow(
        cookie=_number(cookie),
        taken_by=_number(taken_by),
        endpoint=EndpointName(endpoint),
        verdict=Verdict(verdict),
        reason=str(reason),
        client=Address(_ip(client_ip), _number(client_port)),
        asked=Address(_ip(asked_ip), _number(asked_port)),
        went=None if went_ip is None else Address(_ip(went_ip), _number(went_port)),
        pid=_number(pid),
        comm=str(comm),
        rtt_us=_number(rtt_us),
        closed=bool(closed),
        bytes_received=_number(received),
        bytes_sent=_number(sent),
        verdict_is_new=bool(verdict_is_new),
        canary=bool(canary),
        translated=bool(translated),
        by_containerd=bool(by_containerd),
        contradicted=bool(contradicted),
    )

"""What the probe tells its readers: one JSON text a line, over a Unix socket. Pure.

A reader is told hello first, then every flow that is open, then what is new. Both ends come from one
release, so a version that differs is an error, not a negotiation.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from agent.flows.table import Flow
from agent.flows.verdicts import EndpointName, Verdict
from bpf.events import Address

VERSION = 1
LINE_MAX = 1 << 20
FLOWS_MAX = 1000  # a message


class MessageInvalid(ValueError):
    """These bytes are no message of this version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first message: whose probe this is."""

    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """Flows whose verdict is new, and those that closed; round trips (address, microseconds) besides."""

    flows: tuple[Flow, ...]
    rtts: tuple[tuple[bytes, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A connection that the probe made itself. ``at_s``: CLOCK_MONOTONIC. ``answered_by``: a node's name."""

    endpoint: EndpointName
    address: str
    verdict: Verdict
    reason: str
    went: str
    answered_by: str
    rtt_us: int
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the probe is, once a second and after each round of canaries. Counts are since its start."""

    canaries: tuple[Canary, ...] = ()
    lost_events: int = 0
    lost_flows: int = 0
    lost_packets: int = 0
    invalid_events: int = 0
    forgotten: int = 0
    contradictions: int = 0
    sure_of_intent: bool = True


Message = Hello | Flows | Health


def encode(message: Message) -> bytes:
    """A line, with its end."""
    if isinstance(message, Hello):
        told: dict[str, Any] = {"hello": VERSION, "node": message.node}
    elif isinstance(message, Flows):
        told = {
            "flows": [_pack(flow) for flow in message.flows],
            "rtts": [(ip.hex(), rtt_us) for ip, rtt_us in message.rtts],
        }
    else:
        told = asdict(message)
        for canary in told["canaries"]:
            canary["endpoint"] = canary["endpoint"].value
            canary["verdict"] = canary["verdict"].value
        told = {"health": told}
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The other way round. Raises `MessageInvalid`."""
    try:
        told = json.loads(line)
        if "hello" in told:
            if told["hello"] != VERSION:
                raise MessageInvalid(f"the probe speaks version {told['hello']}, not {VERSION}")
            return Hello(node=str(told["node"]))
        if "health" in told:
            health = told["health"]
            canaries = tuple(
                Canary(
                    **{
                        **canary,
                        "endpoint": EndpointName(canary["endpoint"]),
                        "verdict": Verdict(canary["verdict"]),
                    }
                )
                for canary in health.pop("canaries")
            )
            return Health(canaries=canaries, **health)
        return Flows(
            flows=tuple(_unpack(packed) for packed in told["flows"]),
            rtts=tuple((bytes.fromhex(ip), int(rtt_us)) for ip, rtt_us in told["rtts"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        if isinstance(error, MessageInvalid):
            raise
        raise MessageInvalid(f"not a message of a probe: {error!r}") from error


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
    ]


def _unpack(packed: list[Any]) -> Flow:
    (
        cookie, taken_by, endpoint, verdict, reason, client_ip, client_port, asked_ip, asked_port,
        went_ip, went_port, pid, comm, rtt_us, closed, received, sent,
    ) = packed  # fmt: skip
    return Flow(
        cookie=int(cookie),
        taken_by=int(taken_by),
        endpoint=EndpointName(endpoint),
        verdict=Verdict(verdict),
        reason=str(reason),
        client=Address(bytes.fromhex(client_ip), int(client_port)),
        asked=Address(bytes.fromhex(asked_ip), int(asked_port)),
        went=None if went_ip is None else Address(bytes.fromhex(went_ip), int(went_port)),
        pid=int(pid),
        comm=str(comm),
        rtt_us=int(rtt_us),
        closed=bool(closed),
        bytes_received=int(received),
        bytes_sent=int(sent),
    )

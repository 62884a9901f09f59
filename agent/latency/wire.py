"""What a node tells its peers of its measurements: messages on ``/shorthaul/v1/latency``.

The connection is the prober's: every message is a probe as well, as the peer's kernel acknowledges it.
An empty message is a probe and nothing else; the peer never answers, because an answer would carry the
acknowledgement and so measure the peer's process instead of the way to it. JSON, bounded; zones are
named by their labels. What a peer says is checked for its form here and for its sense by the topology.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from topology.labels import clean_value
from topology.placement import NodeName, Region, Zone, ZoneKey
from topology.zones import REPORT_NODES_MAX, REPORT_ZONES_MAX, Report

PATH = "/shorthaul/v1/latency"
REPORT_MAX_BYTES = 32 * 1024
_LOAD_MAX = 1_000_000


class ReportInvalid(Exception):
    """A message that is no report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A report and the name of the node that it comes from, as it says."""

    node: NodeName
    report: Report


def encode_report(node: NodeName, report: Report) -> bytes:
    """The report as a message; whole microseconds are precise enough."""
    zones = [[zone.region, zone.zone, round(rtt_us)] for zone, rtt_us in report.zones.items()][
        :REPORT_ZONES_MAX
    ]
    nodes = [[name, round(rtt_us)] for name, rtt_us in report.nodes.items()][:REPORT_NODES_MAX]
    while True:
        document = {"node": node, "zones": zones, "nodes": nodes, "load": report.load}
        message = json.dumps(document, separators=(",", ":")).encode()
        if len(message) <= REPORT_MAX_BYTES or not (zones or nodes):
            return message
        zones, nodes = zones[: len(zones) // 2], nodes[: len(nodes) // 2]  # labels of great length


def decode_report(message: bytes) -> Told:
    """A report from a message. Raises `ReportInvalid`. Its values may still be absurd, or no numbers."""
    try:
        document = json.loads(message)
        zones, nodes, load = document["zones"], document["nodes"], document["load"]
        if len(zones) > REPORT_ZONES_MAX or len(nodes) > REPORT_NODES_MAX:
            raise ReportInvalid(f"more than {REPORT_ZONES_MAX} zones or {REPORT_NODES_MAX} nodes")
        return Told(
            node=NodeName(_text(document["node"])),
            report=Report(zones=_zones(zones), nodes=_nodes(nodes), load=_load(load)),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ReportInvalid(str(error)) from error


def _zones(entries: Any) -> Mapping[ZoneKey, float]:
    zones: dict[ZoneKey, float] = {}
    for region, zone, rtt_us in entries:
        key = ZoneKey(region=None if region is None else Region(_text(region)), zone=Zone(_text(zone)))
        zones[key] = _number(rtt_us)
    return zones


def _nodes(entries: Any) -> Mapping[NodeName, float]:
    return {NodeName(_text(name)): _number(rtt_us) for name, rtt_us in entries}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ReportInvalid(f"{value!r} is not text")
    return clean_value(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReportInvalid(f"{value!r} is not a number")
    return float(value)


def _load(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ReportInvalid(f"{value!r} is not a load")
    return min(max(value, 0), _LOAD_MAX)

"""A node's reports about its measurements to its peers: messages on ``/shorthaul/v1/latency``.

The measurer opens the connection. Every message is also a measurement, because the peer's kernel acknowledges
it. An empty message is only a measurement. The peer never answers. An answer would carry the acknowledgement,
and the measurer would measure the peer's process instead of the network. Reports are JSON of bounded size.
They name zones by their labels, and say where the sender is. This module checks the form of a report. The
topology checks its values.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.members.placements import PlacementInvalid, encode_placement, from_json, to_json
from topology.labels import clean_value
from topology.placement import NodeName, Placement, Region, Zone, ZoneKey
from topology.zones import REPORT_NODES_MAX, REPORT_ZONES_MAX, Report

PATH = "/shorthaul/v1/latency"
REPORT_MAX_BYTES = 32 * 1024
_LOAD_MAX = 1_000_000


class ReportInvalid(Exception):
    """A message that is no report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """A report, and the node name that its sender claims.

    ``placement``: where it says that it is, if it does.
    """

    node: NodeName
    report: Report
    placement: Placement | None = None


def encode_report(node: NodeName, report: Report, placement: Placement | None = None) -> bytes:
    """The report as a message, in whole microseconds. Lists that are too long are halved until it fits."""
    told = None if placement is None or encode_placement(placement) is None else to_json(placement)
    zones = [[zone.region, zone.zone, round(rtt_us)] for zone, rtt_us in report.zones.items()][
        :REPORT_ZONES_MAX
    ]
    nodes = [[name, round(rtt_us)] for name, rtt_us in report.nodes.items()][:REPORT_NODES_MAX]
    while True:
        document: dict[str, Any] = {"node": node, "zones": zones, "nodes": nodes, "load": report.load}
        if told is not None:
            document["placement"] = told
        message = json.dumps(document, separators=(",", ":")).encode()
        if len(message) <= REPORT_MAX_BYTES or not (zones or nodes):
            return message
        zones, nodes = zones[: len(zones) // 2], nodes[: len(nodes) // 2]  # long labels


def decode_report(message: bytes) -> NodeReport:
    """The report in a message. Raises `ReportInvalid`. Its values may still be absurd, or not finite."""
    try:
        document = json.loads(message)
        zones, nodes, load = document["zones"], document["nodes"], document["load"]
        if len(zones) > REPORT_ZONES_MAX or len(nodes) > REPORT_NODES_MAX:
            raise ReportInvalid(f"more than {REPORT_ZONES_MAX} zones or {REPORT_NODES_MAX} nodes")
        return NodeReport(
            node=NodeName(_text(document["node"])),
            report=Report(zones=_zones(zones), nodes=_nodes(nodes), load=_load(load)),
            placement=_placement(document.get("placement")),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ReportInvalid(str(error)) from error


def _placement(document: Any) -> Placement | None:
    """Where the sender is. None if it does not say, as agents of before, or in a form of agents to come."""
    if document is None:
        return None
    try:
        return from_json(document)
    except PlacementInvalid:
        return None


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

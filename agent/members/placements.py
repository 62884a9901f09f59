"""A placement as agents tell it of themselves, in the header of an introduction and in a report.

It is JSON of bounded size in ASCII, because it goes into a header. An agent tells where it is and not its
labels: which labels count, and in which order, was decided where they were read.
"""

import json
from typing import Any

from topology.labels import clean_value
from topology.placement import Placement, Region, Zone

TEXT_MAX = 4000
"""Characters: a line of a head may have 8,190."""

_LEVELS_MAX = 32


class PlacementInvalid(ValueError):
    """A text that is no placement."""


def encode_placement(placement: Placement) -> str | None:
    """The placement as printable ASCII. None if it is too long to be told."""
    text = json.dumps(to_json(placement), separators=(",", ":"))
    return text if len(text) <= TEXT_MAX else None


def decode_placement(text: str) -> Placement:
    """The placement in a text. Raises `PlacementInvalid`."""
    if len(text) > TEXT_MAX:
        raise PlacementInvalid("too long")
    try:
        return from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise PlacementInvalid(str(error)) from error


def to_json(placement: Placement) -> list[Any]:
    """``[region, zone, [[level, value], …]]``; null: unknown."""
    return [placement.region, placement.zone, [list(step) for step in placement.finer]]


def from_json(document: Any) -> Placement:
    """The placement in a document. Raises `PlacementInvalid`. Values are made safe to show."""
    if not isinstance(document, list) or len(document) != 3 or not isinstance(document[2], list):
        raise PlacementInvalid("not a placement")
    region, zone, finer = document
    if len(finer) > _LEVELS_MAX or not all(isinstance(step, list) and len(step) == 2 for step in finer):
        raise PlacementInvalid("not the levels of a placement")
    region_text, zone_text = _text(region), _text(zone)
    steps = [(_text(level), _text(value)) for level, value in finer]
    found = tuple((level, value) for level, value in steps if level is not None and value is not None)
    if len(dict(found)) != len(steps) or any(level in ("region", "zone") for level, _ in found):
        raise PlacementInvalid("a level without a value, or twice")
    return Placement(
        region=None if region_text is None else Region(region_text),
        zone=None if zone_text is None else Zone(zone_text),
        finer=found,
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise PlacementInvalid(f"{value!r} is not text")
    return clean_value(value) or None

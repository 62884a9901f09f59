"""Figures of made-up runs."""

from typing import Any

from benchmarks.simulator.figures import Figures


def made_up(**changes: Any) -> Figures:
    """A run that keeps every promise, with these figures changed."""
    usual: dict[str, Any] = {
        "workload": "everyone",
        "policy": "shorthaul",
        "scope": "zone",
        "nodes": 5000,
        "zones": 10,
        "size_bytes": 1_000_000_000,
        "seed": 1,
        "pulls": 5000,
        "failed": 0,
        "p50_s": 8.0,
        "p99_s": 9.0,
        "p999_s": 9.5,
        "last_s": 10.0,
        "fetches": 60,
        "fetches_per_scope": 1.0,
        "registry_copies": 10.0,
        "crossed_copies": 0.0,
        "crossed_per_delivered": 0.0,
        "usd": 0.45,
        "zone_spread": 1.1,
        "small_zone": 1.0,
        "dials": 10_000,
        "dead_dials": 0,
        "curve_s": tuple(5.0 + step / 20 for step in range(101)),
        "wall_s": 60.0,
        "peak_mib": 900.0,
    }
    return Figures(**usual | changes)

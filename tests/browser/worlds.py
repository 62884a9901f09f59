"""Clusters that are made up: documents of any number of nodes, always the same ones for the same numbers."""

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

TIERS = ("node", "rack", "zone", "region", "remote")
NOW = datetime(2026, 11, 27, 9, 0, 0, tzinfo=UTC)

_REGIONS = {"eu-west": (0.0, 0.0), "eu-north": (9.0, 5.0), "us-east": (0.0, 70.0), "ap-south": (60.0, 90.0)}
_CALM = {"silent": 0.0, "cooling": 0.0, "suspect": 0.0, "unmeasured": 0.5}


def text_of(moment: datetime) -> str:
    """A moment as the API writes it."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def zones_of(count: int) -> list[tuple[str, str]]:
    """So many zones, as region and zone."""
    regions = list(_REGIONS)
    per_region = math.ceil(count / len(regions)) if count > 3 else count
    named = [
        (region, f"{region}-{letter}") for region in regions for letter in "abcdefghijklmnop"[:per_region]
    ]
    return named[:count]


def documents(nodes: int = 24, zones: int = 5) -> dict[str, Any]:
    """The documents of such a cluster, by their names."""
    return {
        "overview": overview_document(nodes),
        "map": map_document(nodes, zones),
        "history": history_document(),
        "cluster": cluster_document(nodes, zones),
    }


def map_document(nodes: int = 24, zones: int = 5, seed: int = 7) -> dict[str, Any]:
    """A MapDocument. The asked node is the first one."""
    chance = random.Random(seed)
    named = zones_of(zones)
    index = [min(int(chance.paretovariate(1.0)) - 1, zones - 1) for _ in range(nodes)]
    index[: min(zones, nodes)] = range(min(zones, nodes))  # no zone is empty
    index.sort()
    names = [f"{named[zone][1][-1]}{number:04}" for number, zone in enumerate(index)]
    states = ["self", *(_state(chance, zone == 0) for zone in index[1:])]
    matrix = [[_cost_us(one, other, chance) for other in named] for one in named]
    sources = [
        [_source(cost, row, column) for column, cost in enumerate(costs)] for row, costs in enumerate(matrix)
    ]
    rtt: list[float | None] = [
        None
        if state in {"self", "unmeasured"}
        else round((matrix[0][zone] or 900) * chance.uniform(0.8, 1.3), 1)
        for state, zone in zip(states, index, strict=True)
    ]
    near = [number for number in range(1, nodes) if index[number] == 0 and states[number] == "ok"][:5]
    far = [number for number in range(1, nodes) if index[number] == 1 and states[number] == "ok"][:3]
    return {
        "time": text_of(NOW),
        "node": names[0],
        "map": 1,
        "own_trouble": "",
        "zones": [_map_zone(number, named[number], index, states) for number in range(zones)],
        "names": names,
        "zone_index": index,
        "racks": [f"r{number % 4}" for number in range(nodes)],
        "states": states,
        "rtt_us": rtt,
        "matrix_us": matrix,
        "matrix_source": sources,
        "chosen": [
            {"node": names[number], "tier": tier, "reason": reason}
            for numbers, tier, reason in (
                (near, "zone", "same zone, 0.2 ms"),
                (far, "region", "same region, 0.9 ms"),
            )
            for number in numbers
        ],
    }


def history_document(points: int = 180, step_s: int = 5, seed: int = 3) -> dict[str, Any]:
    """A HistoryDocument with two rollouts in it."""
    chance = random.Random(seed)
    swell = [_swell(number / points) for number in range(points)]
    parts = {"node": 0.18, "rack": 0.22, "zone": 0.44, "region": 0.13, "remote": 0.03}
    columns = {
        f"{tier}_bytes": [int(part * size * chance.uniform(0.7, 1.3) * 4e8) for size in swell]
        for tier, part in parts.items()
    }
    saved = [sum(column[number] for column in columns.values()) for number in range(points)]
    crossing = [columns["region_bytes"][n] + columns["remote_bytes"][n] for n in range(points)]
    busy = [size > 0.02 for size in swell]
    return {
        "time": text_of(NOW),
        "node": "a0000",
        "step_s": step_s,
        "points": points,
        "started_at": text_of(NOW - timedelta(seconds=step_s * points)),
        "ended_at": text_of(NOW),
        **columns,
        "saved_bytes": saved,
        "crossing_bytes": crossing,
        "usd": [round(size * 1e-11, 6) for size in crossing],
        "usd_saved": [round(size * 9e-11, 6) for size in saved],
        "requests": [int(size * 40) for size in swell],
        "served": [int(size * 39) for size in swell],
        "failed": [1 if chance.random() < 0.01 else 0 for _ in swell],
        "first_byte_p50_s": [round(chance.uniform(0.0008, 0.0016), 6) if each else None for each in busy],
        "first_byte_p95_s": [round(chance.uniform(0.003, 0.009), 6) if each else None for each in busy],
    }


def sums(scale: float = 1.0, seconds: float = 900.0) -> dict[str, Any]:
    """A SumsEntry."""
    sizes = {"node": 5.1e9, "rack": 6.2e9, "zone": 14.3e9, "region": 3.4e9, "remote": 0.4e9}
    saved, crossing = sum(sizes.values()) * scale, (sizes["region"] + sizes["remote"]) * scale
    return {
        "seconds": seconds,
        "requests": int(1284 * scale),
        "served": int(1279 * scale),
        "failed": int(2 * scale),
        "bytes_by_tier": [{"tier": tier, "bytes": int(sizes[tier] * scale)} for tier in TIERS],
        "saved_bytes": int(saved),
        "crossing_bytes": int(crossing),
        "usd": round(crossing * 1e-11, 4),
        "usd_saved": round(saved * 9e-11, 4),
        "net_usd_saved": round(saved * 9e-11 - crossing * 1e-11, 4),
    }


def overview_document(members: int = 24) -> dict[str, Any]:
    """An OverviewDocument of a node that works, with one warning."""
    return {
        "time": text_of(NOW),
        "node": "a0000",
        "region": "eu-west",
        "zone": "eu-west-a",
        "version": "0.1.0",
        "instance": "first",
        "since": text_of(NOW - timedelta(hours=52)),
        "uptime_s": 187_200.0,
        "ready": True,
        "why_not_ready": None,
        "phase": "serving",
        "components": [
            {
                "key": name.replace(" ", "_"),
                "name": name,
                "ok": True,
                "required": required,
                "problem": None,
                "hint": "",
                "state": state,
            }
            for name, required, state in (
                ("content store", True, "containerd, 214 blobs"),
                ("hostport listener", True, ""),
                ("peer listener", True, ""),
                ("index", False, "the peers are asked"),
                ("probe", False, "2 endpoints watched"),
            )
        ],
        "problems": [
            {
                "grave": False,
                "what": "peer",
                "node": "b0013",
                "problem": "it did not answer within 1 s, 14 s ago",
                "hint": "look whether its pod runs: kubectl get pods -o wide",
            }
        ],
        "own_trouble": "",
        "members": members,
        "peers_reachable": members - 2,
        "peers_cooling": 1,
        "peers_silent": 1,
        "window_s": 900.0,
        "window": sums(),
        "total": sums(61.0, 187_200.0),
        "requests": [
            {"path": "hostport", "result": "ok", "in_window": 1279, "since_start": 78_019},
            {"path": "hostport", "result": "not_found", "in_window": 3, "since_start": 1_210},
        ],
        "success": [
            {"path": "hostport", "asked": 1284, "served": 1279, "missed": 3, "failed": 2, "share": 0.99611},
            {"path": "nodeport", "asked": 0, "served": 0, "missed": 0, "failed": 0, "share": None},
        ],
        "first_byte": [
            _quantiles("all", None, 1279, 0.0011, 0.0062, 0.0141),
            _quantiles("local", "node", 231, 0.00031, 0.00052, 0.0011),
            _quantiles("peer", "rack", 288, 0.0009, 0.0031, 0.0058),
            _quantiles("peer", "zone", 602, 0.0012, 0.0048, 0.0092),
            _quantiles("peer", "region", 142, 0.0031, 0.0102, 0.0188),
            _quantiles("peer", "remote", 16, 0.0741, 0.0912, 0.121),
        ],
        "lookup": _quantiles("all", None, 1279, 0.00042, 0.0019, 0.0033),
        "proof": {
            "probe": True,
            "proved": True,
            "why": "the last canary of each endpoint and the last connections of containerd were direct",
            "canaries": [
                {
                    "endpoint": "hostport",
                    "verdict": "DIRECT",
                    "sent_at": text_of(NOW - timedelta(seconds=21)),
                },
                {
                    "endpoint": "nodeport",
                    "verdict": "PROXIED",
                    "sent_at": text_of(NOW - timedelta(seconds=21)),
                },
            ],
        },
        "index": {
            "index": "scatter",
            "state": "peers",
            "words": "the peers are asked who has what; there is no server",
            "problem": None,
            "hint": "",
        },
        "claims": {"held": 1, "awaited": 1, "decided": 2, "followers": 2},
        "transfers": {"downloads": 2, "uploads": 1, "uploads_refused": 0},
        "content": {"blobs": 214, "bytes": 38_400_000_000, "unreadable": 0, "corrupt": 0, "scrub": "waiting"},
        "tabs": 1,
    }


def cluster_document(nodes: int = 24, zones: int = 5) -> dict[str, Any]:
    """A ClusterDocument about the nodes of `map_document`."""
    drawn = map_document(nodes, zones)
    sampled = nodes > 200
    told_of = dict.fromkeys(range(zones), 0)
    rows = []
    for name, zone, state in zip(drawn["names"], drawn["zone_index"], drawn["states"], strict=True):
        told_of[zone] += 1
        if not sampled or told_of[zone] <= 40:
            rows.append(_cluster_node(name, zone, state))
    told = sum(row["says"] == "told" for row in rows)
    return {
        "time": text_of(NOW),
        "node": drawn["node"],
        "members": nodes,
        "asked": len(rows),
        "told": told,
        "silent": sum(row["says"] == "silent" for row in rows),
        "sampled": sampled,
        "scope": f"a sample of {len(rows)} of {nodes} nodes; nothing is scaled up"
        if sampled
        else f"all {nodes} nodes",
        "round_s": max(2.0, len(rows) / 10),
        "own_trouble": "",
        "window_s": 900.0,
        "window": sums(told),
        "total": sums(61.0 * told, 187_200.0),
        "zones": [_cluster_zone(number, zone, rows) for number, zone in enumerate(drawn["zones"])],
        "nodes": rows,
    }


def _state(chance: random.Random, own_zone: bool) -> str:
    drawn = chance.random()
    if drawn < 0.01:
        return "silent"
    if drawn < 0.02:
        return "cooling"
    if drawn < 0.025:
        return "suspect"
    return "ok" if own_zone or drawn < 0.45 else "unmeasured"


def _source(cost_us: float | None, row: int, column: int) -> str | None:
    if cost_us is None:
        return None
    if 0 in (row, column):
        return "measured"
    return "prior" if (row + column) % 5 == 0 else "told"


def _cost_us(one: tuple[str, str], other: tuple[str, str], chance: random.Random) -> float | None:
    if one == other:
        return round(chance.uniform(120, 260), 1)
    if one[0] == other[0]:
        return round(chance.uniform(600, 1400), 1)
    (x, y), (u, v) = _REGIONS[one[0]], _REGIONS[other[0]]
    if {one[0], other[0]} == {"ap-south", "eu-north"}:
        return None
    return round(1000 * (math.hypot(x - u, y - v) + chance.uniform(1, 4)), 1)


def _map_zone(number: int, zone: tuple[str, str], index: list[int], states: list[str]) -> dict[str, Any]:
    own = [state for at, state in zip(index, states, strict=True) if at == number]
    silent, cooling = own.count("silent"), own.count("cooling")
    return {
        "region": zone[0],
        "zone": zone[1],
        "nodes": len(own),
        "answering": len(own) - silent - cooling,
        "silent": silent,
        "cooling": cooling,
    }


def _swell(part: float) -> float:
    return math.exp(-(((part - 0.35) / 0.07) ** 2)) + 0.7 * math.exp(-(((part - 0.78) / 0.05) ** 2))


def _quantiles(
    source: str, tier: str | None, count: int, p50: float | None, p95: float | None, p99: float | None
) -> dict[str, Any]:
    return {"source": source, "tier": tier, "count": count, "p50_s": p50, "p95_s": p95, "p99_s": p99}


def _cluster_node(name: str, zone: int, state: str) -> dict[str, Any]:
    tells = state != "silent"
    return {
        "node": name,
        "zone_index": zone,
        "says": "told" if tells else "silent",
        "age_s": 0.8 if tells else None,
        "version": "0.1.0" if tells else None,
        "uptime_s": 187_200.0 if tells else None,
        "ready": True if tells else None,
        "why_not_ready": None,
        "proved": True if tells else None,
        "window_bytes": 29_400_000_000 if tells else None,
        "window_failed": 2 if tells else None,
        "uploads": 1 if tells else None,
        "downloads": 2 if tells else None,
    }


def _cluster_zone(number: int, zone: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    own = [row for row in rows if row["zone_index"] == number]
    told = sum(row["says"] == "told" for row in own)
    return {
        "region": zone["region"],
        "zone": zone["zone"],
        "nodes": zone["nodes"],
        "asked": len(own),
        "told": told,
        "silent": len(own) - told,
        "ready": told,
        "proved": told,
        "no_probe": 0,
        "index_down": 0,
        "versions": ["0.1.0"],
        "oldest_s": 1.9 if told else None,
        "window": sums(told),
        "total": sums(61.0 * told, 187_200.0),
    }

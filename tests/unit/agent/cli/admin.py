"""An admin port that serves prepared answers, and functions that prepare them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]

DIGEST = "sha256:" + "ab" * 32
LAYER = "sha256:" + "cd" * 32
NETWORK = "topology.k8s.aws/network-node-layer-3"

# A quote, backslashes, rich's markup, Graphviz's HTML, entity and escapes, wide and combining characters,
# a right-to-left override and a terminal's escape.
ODD = '<b>"[red]x[/red]\\N\\\\" &lt; {a|b} :smile: 日本 e\u0301 \u202e\x1b[2J\\'
SHOWN_ODD = '<b>"[red]x[/red]\\N\\\\" &lt; {a|b} :smile: 日本 e\u0301 \\u202e\\x1b[2J\\'


@dataclass
class AdminTwin:
    """``asked``: the requests so far. ``acted``: those that change something, with their header.

    ``shown``: their tokens.

    The answer can be changed at any time.
    """

    url: str
    body: bytes
    status: int = 200
    asked: list[str] = field(default_factory=list)
    acted: list[tuple[str, str | None]] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)


@contextmanager
def admin(answer: Json | bytes, *, status: int = 200) -> Iterator[AdminTwin]:
    """A server on loopback that gives this answer to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            twin.asked.append(self.path)
            twin.shown.append(self.headers["Authorization"])
            self.send_response(twin.status)
            self.send_header("Content-Length", str(len(twin.body)))
            self.end_headers()
            self.wfile.write(twin.body)

        def do_POST(self) -> None:
            twin.acted.append((self.path, self.headers["Shorthaul-Action"]))
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        twin = AdminTwin(f"http://127.0.0.1:{server.server_port}", body, status)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield twin
        finally:
            server.shutdown()
            thread.join()


def node(name: str, placement: list[list[str]], cost_us: float | None = 312.0, **changes: Any) -> Json:
    """A measured peer, with these changes."""
    estimate = {
        "low_us": cost_us,
        "min_us": cost_us,
        "jitter_us": 22.0,
        "samples": 12,
        "age_s": 2.1,
        "weight": 1.0,
    }
    measured = changes.get("source", "measured") == "measured"
    return {
        "name": name,
        "self": False,
        "placement": placement,
        "tier": "zone",
        "cost_us": cost_us,
        "source": "measured",
        "rtt": estimate if measured else None,
        "inferred": False,
        "suspect": None,
        "cooling": False,
        **changes,
    }


def own(name: str, placement: list[list[str]]) -> Json:
    """The asked node."""
    return node(name, placement, 0.0, source="self", self=True)


def labels(region: str | None, zone: str, *rack: str) -> list[list[str]]:
    """A placement. Its rack has the name of a cloud's own level."""
    return [
        *([["region", region]] if region is not None else []),
        ["zone", zone],
        *([NETWORK, value] for value in rack),
    ]


def topology(nodes: list[Json], **changes: Any) -> Json:
    """An answer of /api/topology with these nodes: zones counted, 0.9 ms between any two of them."""
    zones: dict[tuple[str | None, str], int] = {}
    for each in nodes:
        where = dict(each["placement"])
        if "zone" in where:
            key = (where.get("region"), where["zone"])
            zones[key] = zones.get(key, 0) + 1
    return {
        "time": "2026-08-01T12:00:00.000Z",
        "node": next((each["name"] for each in nodes if each["self"]), "nobody"),
        "age_s": 0.8,
        "levels": ["region", "zone", NETWORK],
        "nodes": nodes,
        "zones": [{"region": r, "zone": z, "nodes": count} for (r, z), count in zones.items()],
        "matrix_us": [[900.0] * len(zones)] * len(zones),
        "matrix_source": [["measured"] * len(zones)] * len(zones),
        "problems": [],
        **changes,
    }


def small() -> Json:
    """Three zones in two regions with one of everything."""
    return topology(
        [
            own("a1", labels("r1", "a", "n-7")),
            node("a2", labels("r1", "a", "n-7"), 212.0),
            node("a3", labels("r1", "a", "n-8"), cooling=True),
            node("b1", labels("r1", "b"), 905.0),
            node("b2", labels("r1", "b"), 905.0, source="zone_pair", inferred=True),
            node("b3", labels("r1", "b"), 7400.0, suspect="7.40 ms to it, 0.91 ms to its zone"),
            node("c1", labels("r2", "c"), 23400.0, source="prior"),
            node("c2", labels("r2", "c"), 46800.0, source="says_slower"),
            node("odd", [], 1000.0, source="path"),
        ],
        matrix_us=[[260.0, 905.0, 23400.0], [905.0, 280.0, 21000.0], [23400.0, 20000.0, None]],
        matrix_source=[["measured"] * 3, ["told", "told", "path"], ["measured", "prior", None]],
        problems=[{"node": "odd", "problem": "no zone label", "hint": "kubectl label node odd zone=ZONE"}],
    )


def large(nodes: int, zones: int, *, racks: int = 0) -> Json:
    """Nodes spread over zones in three regions, and over racks if there are any."""

    def place(number: int) -> list[list[str]]:
        rack = [f"k{number % racks}"] if racks else []
        return labels(f"r{number % zones % 3}", f"z{number % zones}", *rack)

    return topology(
        [own("n0", place(0)), *(node(f"n{i}", place(i), 300.0 + i) for i in range(1, nodes))],
    )


def explanation(**changes: Any) -> Json:
    """An answer of /api/explain for an image that two peers hold."""
    return {
        "time": "2026-08-01T12:00:00.000Z",
        "node": "a1",
        "image": "docker.io/library/nginx:1.27",
        "digest": DIGEST,
        "local": False,
        "choice": "a2",
        "holders": [
            {"node": "a2", "tier": "zone", "rank": 1, "rtt_us": 312.0, "load": 0, "reason": "1 of 2 equals"},
            {"node": "b1", "tier": "region", "rank": 2, "rtt_us": None, "load": 3, "reason": "further"},
        ],
        "not_asked_in_full": [{"node": "a3", "reason": "failed a moment ago"}],
        "content": [
            {
                "digest": DIGEST,
                "kind": "config",
                "size_bytes": 1234,
                "local": True,
                "choice": "a1",
                "reason": "in this node's store",
            },
            {
                "digest": LAYER,
                "kind": "layer",
                "size_bytes": 29_150_000,
                "local": False,
                "choice": None,
                "reason": "nobody holds it",
            },
        ],
        **changes,
    }

"""All benchmarks: what each answers, what it needs, and about how long it takes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """``question``: what it answers. ``full_s``, ``quick_s``: about how long, on two idle cores."""

    question: str
    needs_root: bool = True
    full_s: float | None = None
    quick_s: float | None = None


_MIN = 60.0

CATALOGUE: Mapping[str, Entry] = {
    # The short run of `make bench`, and its parts.
    "short": Entry(question="what README.md says: latency, pull, path and node, each short", full_s=9 * _MIN),
    "latency": Entry(
        question="how long do the first byte and a whole blob take, by where the blob is, at fixed rates?",
        full_s=8 * _MIN,
        quick_s=2.2 * _MIN,
    ),
    "pull": Entry(
        question="how long does a pull take with shorthaul, from the registry, and by a caching nginx?",
        full_s=80 * _MIN,
        quick_s=4 * _MIN,
    ),
    "path": Entry(
        question="what does each way to an agent cost: HostPort, port map, NodePort?",
        full_s=15 * _MIN,
        quick_s=1.2 * _MIN,
    ),
    "node": Entry(
        question="what does an agent cost its node: memory, processor, idle?",
        full_s=25 * _MIN,
        quick_s=1.7 * _MIN,
    ),
    # One subject each.
    "pulls": Entry(question="first bytes, bytes across zones and a killed holder, with real containerds"),
    "transfer": Entry(question="what do relays cost beside nginx, and what do failures cost a pull?"),
    "coldstart": Entry(question="what do many nodes do at once that pull what nobody has?"),
    "chunks": Entry(question="what do parallel chunks of containerd 2.1 cost?"),
    "topology": Entry(question="how well is near known and chosen, and what does that cost?"),
    "probe": Entry(question="what does the eBPF probe add to connections and packets?"),
    "index": Entry(question="what does the index in a server cost, and what happens without it?"),
    "footprint": Entry(question="what does an agent take in a cluster of thousands?"),
    "membership": Entry(question="what does following the API server cost?", needs_root=False),
    "references": Entry(question="what does the graph of references cost?", needs_root=False),
    "callers": Entry(question="what does it cost to know who is at the HostPort?"),
    "signing": Entry(question="what do signatures between agents cost?"),
    "tls": Entry(question="what does TLS between agents cost?"),
    "private": Entry(question="does anyone get a private image without credentials?"),
    "floods": Entry(question="what does one client that floods an agent cost the others?"),
    "fuzz": Entry(question="does any mutated request break a listener?", needs_root=False),
    "upgrade": Entry(question="what does an upgrade of the agents cost their clients?"),
    "simulator": Entry(question="what do thousands of nodes do? (simulated)", needs_root=False),
    "versions": Entry(question="is this checkout as fast as another one?", needs_root=False),
}

"""What a run on a cluster found, told to the recorder that all benchmarks tell. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.cluster.run import NodePull, Outcome, Prepared
from benchmarks.cluster.wire import Latency
from benchmarks.reporting.histogram import from_text
from benchmarks.reporting.recorder import Recorder

TIERS = {
    "node": "from the node itself",
    "rack": "from the same rack",
    "zone": "from the same zone",
    "region": "from another zone",
    "remote": "from another region",
    "none": "what no node has (404)",
}
"""The agents' words for how near a holder is, in a person's."""

_MB = 1_000_000


def tell(report: Recorder, prepared: Prepared, outcome: Outcome) -> None:
    """Tell everything: latencies, pulls, and what went wrong."""
    _tell_latencies(report, outcome)
    _tell_pulls(report, prepared, outcome)
    report.begin("the run", question="Which nodes took part, and what did it cost?")
    report.single("nodes", "", len(outcome.looks))
    report.single("zones", "", prepared.choice.zones)
    report.single("moved in all", "MB", outcome.moved_bytes / _MB)
    versions = Counter(look.containerd for look in outcome.looks.values())
    report.verdict(
        "containerd: " + ", ".join(f"{count} × {each}" for each, count in sorted(versions.items()))
    )
    for note in outcome.notes:
        report.verdict(note)
    for problem in dict.fromkeys(outcome.problems):
        report.problem(problem)


def unfinished(seconds: float, *, cleaned: bool) -> str:
    """What is said of a run that a person ended. ``cleaned``: they let it clean up."""
    rest = "what it had made was deleted"
    if not cleaned:
        rest = "what it had made ends by itself; to delete it now: shorthaul bench --cluster --clean"
    return f"it was ended after {seconds:.0f} s, before it was done; {rest}"


def _tell_latencies(report: Recorder, outcome: Outcome) -> None:
    if not outcome.latencies:
        return
    report.begin(
        "latency by locality",
        question="How long do the first byte and a whole blob take on this cluster, by where the blob is?",
        method="On each node a generator asks the node's own agent as containerd does, at a fixed rate; a "
        "request counts from when it was to begin. Where a blob came from is the agent's own word. "
        "One repeat is one node.",
    )
    found: dict[tuple[str, str], list[Latency]] = defaultdict(list)
    for latencies in outcome.latencies.values():
        for each in latencies.measured:
            found[each.tier, each.connection].append(each)
    for (tier, connection), every in sorted(found.items(), key=_near_first):
        place = TIERS.get(tier, tier)
        for what, texts in (
            ("first byte", [each.first_byte for each in every]),
            ("whole blob", [each.whole for each in every]),
        ):
            histograms = [*_histograms(texts)]
            if histograms:
                report.latencies(f"{what}, {place}", histograms, way=f"{connection} connection")
        failed, requests = sum(each.failed for each in every), sum(each.requests for each in every)
        if failed:
            words = "; ".join(dict.fromkeys(word for each in every for word in each.failures))
            report.problem(f"{failed} of {requests} requests {place} failed: {words}")
    every = [each for latencies in outcome.latencies.values() for each in latencies.measured]
    begun, late = sum(each.requests for each in every), sum(each.late for each in every)
    report.share("requests that began within 1 ms of their time", begun - late, begun)
    if late * 20 > begun:
        report.verdict(
            f"{late} of {begun} requests began late, because the processors of these nodes are busy: the "
            "latencies are partly the generator's own"
        )


def _near_first(item: tuple[tuple[str, str], object]) -> tuple[int, str]:
    (tier, connection), _ = item
    order = [*TIERS]
    return (order.index(tier) if tier in order else len(order)), connection


def _histograms(texts: Iterable[str]) -> Iterable[object]:
    """Those of the texts that are histograms: they come from the nodes, and may be anything."""
    for text in texts:
        try:
            histogram = from_text(text)
        except ValueError:
            continue
        if histogram.get_total_count():
            yield histogram


def _tell_pulls(report: Recorder, prepared: Prepared, outcome: Outcome) -> None:
    pulls = [each for each in outcome.pulls if not each.pulled.there_before]
    for each in outcome.pulls:
        if each.pulled.there_before:
            outcome.notes.append(
                f"node {each.node.name} has {each.pulled.image} by now: it was not pulled or removed there"
            )
    if not pulls:
        return
    chosen = outcome.chosen
    report.begin(
        "pull by containerd",
        question=f"How long does a pull of {chosen.image} take, and where do its bytes come from?",
        method="The node's own containerd pulls over CRI, as for the kubelet: one node first, then half of "
        "the others at once, then the rest, a fifth of them at a time. One value is one node; the image is "
        "removed again at the end.",
    )
    for wave in dict.fromkeys(each.wave for each in pulls):
        for each in pulls:
            if each.wave == wave:
                report.value("time of a pull", "s", each.pulled.seconds, way=_way(wave, cold=chosen.cold))
    report.single("size of the image", "MB", max(each.pulled.size_bytes for each in pulls) / _MB)
    _tell_sources(report, pulls)
    held = "no node that took part had it" if chosen.cold else "other nodes had it already"
    report.verdict(f"before the first pull, {held}")
    if outcome.removed == len(pulls):
        report.verdict(f"it was removed again from all {len(pulls)} nodes that pulled it")


def _way(wave: str, *, cold: bool) -> str:
    if wave == "first":
        return "first, nobody has it" if cold else "first"
    return wave


def _tell_sources(report: Recorder, pulls: Sequence[NodePull]) -> None:
    told = [each.pulled for each in pulls if each.pulled.tiers is not None]
    if not told:
        report.verdict(
            "where the bytes came from is not known: no pod of this benchmark reached its agent's admin "
            "port, which is on the pod network"
        )
        return
    tiers: Counter[str] = Counter()
    for pulled in told:
        for each in pulled.tiers or ():
            tiers[each.tier] += each.bytes
    whole = sum(pulled.size_bytes for pulled in told)
    for tier in [*(tier for tier in TIERS if tier in tiers), *(tier for tier in tiers if tier not in TIERS)]:
        report.share(f"bytes {TIERS.get(tier, tier)}", tiers[tier], whole)
    report.share("bytes from the registry, past the agents", max(0, whole - sum(tiers.values())), whole)

"""The metrics of contents that no node had: who fetched them, and who followed."""

from agent.observe.exemplars import CURRENT
from agent.observe.families import Families
from topology.placement import Tier

_CLAIM_BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40)
_DEPTH_BUCKETS = (1, 2, 3, 4, 6, 8)

CLAIM_OUTCOMES = ("granted", "followed", "timeout", "lost", "refused", "alone")


class ColdStartMetrics:
    """Counts facts about claims and about content that is taken while it arrives."""

    def __init__(self, families: Families) -> None:
        self._claims = families.counter(
            "claims_total",
            "Contents that this node's containerd wanted and no node had, by the reach of the claim (scope: "
            "zone, cluster) and by outcome. granted: this node was told to fetch it from the registry. "
            "followed: it came from a node that was fetching it, or had just done so. timeout: the time for "
            "waiting ended, and the registry was asked. lost: this node had the claim and did not fetch. "
            "refused: whoever decides had no room. alone: there was nobody to ask, so nothing was waited "
            "for.",
            "scope",
            "outcome",
        )
        for scope in ("zone", "cluster"):  # Prometheus sees no rate in a series that begins at 1
            for outcome in CLAIM_OUTCOMES:
                self._claims.labels(scope, outcome)
        self._claim_wait = families.linked(
            "claim_wait_seconds",
            "Seconds for which a request waited for a node that was to fetch its content from the registry, "
            "by what came of it (followed, granted, timeout). Requests that did not wait are left out.",
            "outcome",
            buckets=_CLAIM_BUCKETS_S,
        )
        self._claims_open = families.gauge(
            "claims_open",
            "Claims now, by this node's part in them. held: it fetches from the registry for others. "
            "waiting: it waits for another node. decided: it decides who fetches.",
            "part",
        )
        self._in_flight_bytes = families.counter(
            "in_flight_received_bytes_total",
            "Body bytes that came from peers which were still fetching the content themselves, by the peer's "
            "tier. They are part of shorthaul_bytes_total.",
            "tier",
        )
        for tier in Tier:
            if tier is not Tier.NODE:
                self._in_flight_bytes.labels(tier.label)
        self._followers = families.gauge(
            "followers", "Bodies that peers are being sent now of contents that this node is still fetching."
        )
        self._depth = families.histogram(
            "tree_depth",
            "How many nodes were between this node and the registry, or the node that had the whole content, "
            "when it took content in flight. 1: it came from the node that fetched it.",
            buckets=_DEPTH_BUCKETS,
        )
        self._avoided = families.counter(
            "registry_fetches_avoided_total",
            "Contents that no node had when they were asked for here, and that came from a peer all the "
            "same, because that peer fetched them for others too, by kind (manifest, config, layer).",
            "kind",
        )
        for kind in ("manifest", "config", "layer"):
            self._avoided.labels(kind)

    def claim(self, outcome: str, scope: str = "zone") -> None:
        """A wish for content that nobody had ended. ``outcome``: one of `CLAIM_OUTCOMES`."""
        self._claims.labels(scope, outcome).inc()

    def claim_waited(self, outcome: str, seconds: float) -> None:
        """A request waited. ``outcome``: it ``followed``, was ``granted`` the claim, or ``timeout``."""
        self._claim_wait.observe(seconds, CURRENT.get(), outcome)

    def claims_open(self, *, held: int, waiting: int, decided: int) -> None:
        """The claims that this node holds, waits for and decides on now."""
        for part, number in (("held", held), ("waiting", waiting), ("decided", decided)):
            self._claims_open.labels(part).set(number)

    def in_flight_received(self, tier: Tier, size_bytes: int) -> None:
        """Body bytes came from a peer that was still fetching the content."""
        self._in_flight_bytes.labels(tier.label).inc(size_bytes)

    def followers(self, number: int) -> None:
        """So many bodies of growing content are being sent to peers now."""
        self._followers.set(number)

    def followed(self, depth: int) -> None:
        """This node began to take content from a peer that was fetching it. ``depth``: its place, from 1."""
        self._depth.observe(depth)

    def registry_avoided(self, kind: str) -> None:
        """Content that nobody had came from a peer. ``kind``: ``manifest``, ``config`` or ``layer``."""
        self._avoided.labels(kind).inc()

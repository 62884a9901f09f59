"""The gauges, which are read when Prometheus scrapes. All other metrics are counted when they happen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.admin.claims import ClaimsView
from agent.content.scrub import Scrubber
from agent.content.store import ContentStore
from agent.documents.index import IndexState
from agent.flows.book import FlowBook
from agent.holders.index import HolderIndex
from agent.latency.measurer import Measurer
from agent.listen.traffic import Traffic
from agent.members.problems import Problems
from agent.members.roster import Roster
from agent.observe.exposition import Exposed
from agent.observe.metrics import Metrics
from agent.pull.regard import Regard


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Reads the state of the agent's parts.

    ``unready``: returns why the agent is not ready, or None. ``components``: see `Readiness.problems`.
    ``members_silent_s``: see `Membership.silent_s`. ``connections``: how many are open by listener.
    """

    metrics: Metrics
    store: ContentStore
    roster: Roster
    regard: Regard
    measurer: Measurer
    traffic: Traffic
    claims: ClaimsView
    index: HolderIndex
    book: FlowBook
    scrubber: Scrubber
    problems: Problems
    unready: Callable[[], str | None]
    components: Callable[[], Mapping[str, bool]]
    members_silent_s: Callable[[], float | None]
    connections: Callable[[], Mapping[str, int]]

    def expose(self, now_s: float, accept: str = "") -> Exposed:
        """All metrics as of now, in the format that this ``Accept`` header prefers."""
        metrics = self.metrics
        metrics.store(*self.store.totals, unreadable=len(self.store.unreadable))
        cooling = frozenset(self.regard.cooling(now_s))
        silent = {node for node, _ in self.regard.failures() if self.regard.silence(node) is not None}
        away = self.roster.peers.keys() & (cooling | silent)
        metrics.peers(len(self.roster), cooling=len(cooling), reachable=len(self.roster) - len(away))
        metrics.connections(self.connections())
        metrics.scrub_paused(self.scrubber.paused)
        metrics.uploads(self.traffic.uploads, self.traffic.admission.left_bytes)
        metrics.claims_open(**self.claims.numbers())
        metrics.followers(self.traffic.followers)
        self._read_index()
        self._read_topology()
        metrics.proof(connected=self.book.connected, proved=self.book.proved(now_s)[0])
        metrics.problems(len(self.problems))
        metrics.ready(self.unready() is None)
        standing = self.roster.snapshot.standings.get(self.roster.own)
        placement = self.roster.placement if standing is None else standing.placement
        metrics.health.node(self.roster.own, region=placement.region, zone=placement.zone)
        metrics.health.components(self.components())
        metrics.members_silent(self.members_silent_s())
        return metrics.exposed(accept)

    def _read_index(self) -> None:
        status = self.index.status()
        if status.state is not IndexState.PEERS:  # without a server there are no metrics of one
            self.metrics.index.up(status.state is not IndexState.DOWN)
            self.metrics.index.announced(status.announced, pending=status.pending)

    def _read_topology(self) -> None:
        roster = self.roster
        standings = roster.snapshot.standings.values()
        inferred = sum(1 for standing in standings if standing.inferred)
        unknown = sum(1 for standing in standings if standing.placement.zone is None)
        nodes = {
            "labelled": len(standings) - inferred - unknown,
            "inferred": inferred,
            "unknown": unknown,
            "suspect": sum(1 for standing in standings if standing.suspect is not None),
        }
        self.metrics.topology(nodes, problems=len(roster.problems), measured=len(self.measurer.measured))
        self.metrics.zone_rtts(
            {str(zone): cost_us for zone, (cost_us, _) in roster.topology.zone_costs.items()}
        )

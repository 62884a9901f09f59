"""``/api/overview``: what is wrong is told gravest first, and what changes by itself is no change."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from agent.admin.overview import OverviewView, without_time
from agent.admin.readiness import Phase, Readiness
from agent.config import ScrubSettings
from agent.content.scrub import Scrubber
from agent.documents.doctor import DoctorDocument, FindingEntry
from agent.documents.overview import OverviewDocument
from agent.documents.times import Moment
from agent.flows.book import FlowBook
from agent.holders.index import IndexStatus
from agent.members.problems import Problem
from agent.members.roster import Roster
from agent.observe.components import Component
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, Result
from agent.observe.tally import Tally
from agent.pull.policy import Policy
from tests.unit.agent.content.test_scrub import MemoryStore
from tests.unit.agent.observe.test_tally import Clock, local
from tests.unit.twins import located, make_policy, node, peer, peers
from topology.ledger import CostLedger, Prices
from topology.placement import Tier


@dataclass
class Scene:
    """An agent with one peer, and what is wrong with it."""

    store: str | None = None
    index: str | None = None
    trouble: str = ""
    findings: tuple[FindingEntry, ...] = ()
    problems: tuple[Problem, ...] = ()
    clock: Clock = field(default_factory=Clock)
    policy: Policy = field(default_factory=make_policy)

    def __post_init__(self) -> None:
        self.tally = Tally(CostLedger(Prices()), clock=self.clock)
        self.readiness = Readiness()
        self.readiness.phase = Phase.SERVING
        self.readiness.watch(
            [
                Component(
                    key="index", name="the index", problem=lambda: self.index, hint="i", required=False
                ),
                Component(key="store", name="the store", problem=lambda: self.store, hint="s"),
            ]
        )
        roster = Roster(own=node("own"), placement=located("r", "a"))
        roster.on_change(self.policy.regard.members_changed)
        roster.update(peers(peer("a1", located("r", "a"))))
        store = MemoryStore()
        nothing: Any = SimpleNamespace(
            status=IndexStatus,
            running=(),
            uploads=0,
            followers=0,
            admission=SimpleNamespace(refused=0),
            numbers=lambda: {"held": 1, "waiting": 2, "decided": 3},
        )
        self.view = OverviewView(
            own=node("own"),
            instance="i",
            began=Moment(now_s=self.clock.now_s, unix_s=1e9),
            roster=roster,
            policy=self.policy,
            store=store,
            scrubber=Scrubber(store, ScrubSettings(), Metrics()),
            index=nothing,
            claims=nothing,
            puller=nothing,
            traffic=nothing,
            book=FlowBook(own="own", canary_interval_s=15.0),
            readiness=self.readiness,
            tally=self.tally,
            problems=lambda: self.problems,
            doctor=lambda: DoctorDocument(node="own", serves=True, seconds=1.0, findings=self.findings),
            trouble=lambda _: self.trouble,
            tabs=lambda: 3,
        )

    def document(self) -> OverviewDocument:
        now_s = self.clock.now_s
        return self.view.document(Moment(now_s=now_s, unix_s=1e9 + now_s))


def finding(subject: str, status: str) -> FindingEntry:
    return FindingEntry(subject=subject, status=status, found="found", advice="do it")


def told(scene: Scene) -> list[tuple[str, bool]]:
    return [(each.what, each.grave) for each in scene.document().problems]


def test_agent_that_is_well_has_no_problems() -> None:
    document = Scene(findings=(finding("the key", "ok"), finding("the probe", "?"))).document()
    assert (document.ready, document.problems, document.tabs) == (True, (), 3)
    assert (document.members, document.peers_reachable) == (2, 1)
    assert (document.claims.held, document.claims.awaited, document.claims.decided) == (1, 2, 3)


def test_what_pulls_suffer_from_comes_first() -> None:
    scene = Scene(
        store="gone",
        index="down",
        trouble="no route",
        findings=(finding("the clock", "warn"), finding("hosts.toml", "bad")),
        problems=(Problem(node=node("a1"), problem="no zone", hint="label it"),),
    )
    assert told(scene) == [
        ("the store", True),
        ("this node's network", True),
        ("doctor: hosts.toml", True),
        ("the index", False),
        ("doctor: the clock", False),
        ("the cluster", False),
    ]
    assert scene.document().why_not_ready == "gone"


def test_silent_peers_are_a_problem_unless_it_is_rather_this_node() -> None:
    scene = Scene()
    scene.policy.regard.noted(node("a1"), "no answer", scene.clock.now_s, silent=True)
    assert told(scene) == [("peers", False)]
    assert (scene.document().peers_silent, scene.document().peers_reachable) == (1, 0)
    scene.trouble = "network is unreachable"
    assert told(scene) == [("this node's network", True)]


def test_of_very_many_problems_forty_are_told() -> None:
    problem = Problem(node=node("a1"), problem="no zone", hint="label it")
    assert len(Scene(problems=(problem,) * 100).document().problems) == 40


def test_time_alone_is_no_change_and_a_request_is_one() -> None:
    scene = Scene()
    before = without_time(scene.document())
    scene.clock.now_s += 100
    assert without_time(scene.document()) == before
    scene.tally.request(local())
    assert without_time(scene.document()) != before


def test_success_counts_what_nobody_has_apart_from_faults() -> None:
    scene = Scene()
    for result in (Result.OK, Result.OK, Result.NOT_FOUND, Result.CUT, Result.CLIENT_GONE):
        scene.tally.request(local(result=result))
    hostport, nodeport = scene.document().success
    assert (hostport.asked, hostport.served, hostport.missed, hostport.failed) == (4, 2, 1, 1)
    assert (hostport.share, nodeport.share) == (0.5, None)
    assert nodeport.path == RequestPath.NODEPORT.value


def test_first_bytes_are_told_in_all_and_by_tier() -> None:
    scene = Scene()
    scene.tally.request(local())
    scene.tally.request(local(tier=Tier.ZONE))
    found = [(each.source, each.tier, each.count) for each in scene.document().first_byte]
    assert found == [("all", None, 2), ("local", None, 1), ("peer", None, 1), ("peer", "zone", 1)]

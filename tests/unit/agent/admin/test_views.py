"""The documents of the admin API as JSON: every number is finite, whatever was measured and reported."""

import asyncio
import dataclasses
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.admin.views import (
    costs_view,
    flows_view,
    latency_view,
    requests_view,
    topology_view,
    transfers_view,
)
from agent.config import LookupSettings, PullSettings
from agent.documents.codec import encode
from agent.documents.times import Moment
from agent.flows.book import FlowBook
from agent.flows.messages import Flows, Health, Hello
from agent.flows.table import FlowTable
from agent.holders.asking import PeerAsker
from agent.holders.scatter import ScatterIndex
from agent.listen.traffic import Traffic
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.requests import RecentRequests, RequestPath, RequestRecord
from agent.oci.reference import Addressed, Kind, Repository
from agent.peering.dial import Dialer
from agent.pull.admission import Admission, Upload
from agent.pull.asking import AskingPolicy
from agent.pull.bucket import TokenBucket
from agent.pull.lineages import Lineages
from agent.pull.regard import Regard
from agent.pull.trust import Distrust
from agent.transfer.answers import FetchRequest
from agent.transfer.executor import Puller
from agent.transfer.peers import PeerClient
from agent.transfer.relays import Relays
from agent.transfer.striper import StripeBuffers
from tests.unit.agent.flows.scenes import direct, play
from tests.unit.agent.flows.scenes import node as scene_node
from tests.unit.agent.observe.test_probe_metrics import canary
from tests.unit.evidence import make_checks, make_commits
from tests.unit.twins import CREDENTIALS, FakePeers, located, make_policy, node, peer, peers, sha256, zone_key
from topology.labels import REGION_LABEL, ZONE_LABEL, read_labels
from topology.ledger import CostLedger, Prices
from topology.placement import Placement
from topology.zones import Report

ODD = ("a", "1", "", "\x00", "\ud800", '"', "é" * 400, "\u202e", None)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    @property
    def moment(self) -> Moment:
        return Moment(now_s=self.now_s, unix_s=self.now_s)


def plain(document: object) -> Any:
    """The document as JSON, which has neither NaN nor infinity, and text that can be encoded."""
    text = json.dumps(json.loads(encode(document), parse_constant=pytest.fail), ensure_ascii=False)
    return json.loads(text.encode())


def odd_placement(dice: random.Random) -> Placement:
    labels = {REGION_LABEL: dice.choice(ODD), ZONE_LABEL: dice.choice(ODD), "rack": dice.choice(ODD)}
    return read_labels(node("n"), {key: value for key, value in labels.items() if value is not None})[0]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_views_are_plain_json_whatever_happened(seed: int) -> None:
    dice, clock = random.Random(seed), Clock()
    names = [node(f"n{number}") for number in range(8)]
    roster = Roster(own=node("own"), placement=odd_placement(dice), clock=clock)
    roster.update(peers(*(peer(name, odd_placement(dice)) for name in names)))
    values = (300.0, 900.0, 1e7, 1.0, 0.0, -1.0, 1e300, math.nan, math.inf)
    for _ in range(40):
        clock.now_s += dice.choice((0.1, 1.0, 100.0, 1000.0))
        roster.sample(dice.choice(names), dice.choice(values))
        zones = [*roster.snapshot.zones, zone_key("made/up")]
        report = Report(
            zones={zone: dice.choice(values) for zone in zones},
            nodes={name: dice.choice(values) for name in names},
        )
        reporter = dice.choice(names)
        roster.receive_report(reporter, report, address=roster.peers[reporter].address)
        if dice.random() < 0.5:
            roster.refresh()
    topology = plain(asyncio.run(topology_view(roster, Regard(cooloff_s=5.0), clock.moment)))
    latency = plain(asyncio.run(latency_view(roster, names[:2], clock.moment)))
    assert [each["name"] for each in topology["nodes"]].count("own") == 1
    assert len(topology["nodes"]) == 9
    assert {each["node"] for each in latency["peers"]} >= set(names[:2])
    for view in (topology, latency):
        assert len(view["matrix_us"]) == len(view["matrix_source"]) == len(view["zones"])
        assert all(cost is None or cost >= 0 for row in view["matrix_us"] for cost in row)


def test_matrix_says_who_measured() -> None:
    clock = Clock()
    roster = Roster(own=node("own"), placement=located("r", "a"), clock=clock)
    roster.update(peers(peer("b", located("r", "b")), peer("c", located("r", "c"))))
    for _ in range(3):
        roster.sample(node("b"), 900.0)
    told = Report(zones={zone_key("r/b"): 950.0}, nodes={})
    roster.receive_report(node("c"), told, address=roster.peers[node("c")].address)
    roster.refresh()
    view = plain(asyncio.run(topology_view(roster, Regard(cooloff_s=5.0), clock.moment)))
    assert [zone["zone"] for zone in view["zones"]] == ["a", "b", "c"]
    assert view["matrix_source"][0][1] == "measured"
    assert view["matrix_source"][1][2] == "told"
    assert (view["matrix_us"][0][1], view["matrix_us"][2][1]) == (900.0, 950.0)


def test_costs_add_up_and_are_plain_json() -> None:
    ledger = CostLedger(Prices(cross_zone=0.01))
    for number in range(300):
        ledger.add(zone_key(f"r/{number}"), None, 10**9)
    ledger.save(100 * 10**9)
    start, later = Moment(now_s=0.0, unix_s=0.0), Moment(now_s=5.0, unix_s=5.0)
    view = plain(costs_view(ledger, start, later))
    assert view["bytes"] == 300 * 10**9
    assert abs(view["usd"] - 3.0) < 1e-6
    assert plain(costs_view(CostLedger(Prices()), start, later)) == {
        "time": "1970-01-01T00:00:05.000Z",
        "since": "1970-01-01T00:00:00.000Z",
        "pairs": [],
        "bytes": 0,
        "usd": 0,
        "registry_bytes_saved": 0,
        "registry_usd_saved": 0,
        "net_usd_saved": 0,
    }


def test_net_saving_is_what_the_registry_would_have_cost_minus_what_was_paid_between_zones() -> None:
    ledger = CostLedger(Prices(cross_zone=0.02, registry=0.045))
    ledger.add(zone_key("r/a"), zone_key("r/b"), 10 * 10**9)
    ledger.save(40 * 10**9)
    now = Moment(now_s=0.0, unix_s=0.0)
    view = plain(costs_view(ledger, now, now))
    assert (view["registry_bytes_saved"], view["registry_usd_saved"]) == (40 * 10**9, 1.8)
    assert (view["usd"], view["net_usd_saved"]) == (0.2, 1.6)


def idle_puller(roster: Roster, clock: Clock) -> Puller:
    metrics, regard = Metrics(), Regard(cooloff_s=5.0)
    regard.members_changed(roster.peers)
    pull = PullSettings()
    asker = PeerAsker(
        roster=roster,
        policy=AskingPolicy(regard=regard, at_once=64, patience_s=0.05, timeout_s=0.5),
        query=FakePeers().query,
        metrics=metrics,
    )
    policy = make_policy(regard=regard, pull=pull)
    return Puller(
        lineages=Lineages(node("own")),
        index=ScatterIndex(asker, settings=LookupSettings(), metrics=metrics),
        roster=roster,
        client=PeerClient(Dialer(credentials=CREDENTIALS, connect_s=1.0), stall_s=1.0),
        policy=policy,
        stall_s=pull.stall_s,
        metrics=metrics,
        relays=Relays(zero_copy=False),
        buffers=StripeBuffers(0),
        limit=TokenBucket(0),
        commits=make_commits(policy, metrics, clock),
        checks=make_checks(policy, metrics, clock),
        clock=clock,
    )


def test_transfers_are_bodies_in_both_directions_and_whom_nobody_asks() -> None:
    clock = Clock()
    roster = Roster(own=node("own"), placement=located("r", "a"), clock=clock)
    roster.update(peers(peer("b", located("r", "b")), peer("c", located("r", "c"))))
    puller = idle_puller(roster, clock)
    admission = Admission(uploads_max=1, bytes_max=1 << 40)
    traffic = Traffic(
        ledger=CostLedger(Prices(cross_zone=0.01)),
        roster=roster,
        metrics=Metrics(),
        admission=admission,
        young_s=1.0,
        clock=clock,
    )
    empty = {
        "time": "1970-01-01T00:01:40.000Z",
        "downloads": [],
        "uploads": [],
        "uploads_refused": 0,
        "cooling": [],
        "not_asked": [],
        "asked_last": [],
    }
    assert plain(transfers_view(puller, traffic, clock.moment)) == empty

    upload = admission.admit("192.0.2.7", 1000, clock.now_s)
    assert isinstance(upload, Upload)
    admission.sent(upload, 300)
    admission.admit("192.0.2.8", 1000, clock.now_s)
    regard = puller.policy.regard
    regard.failed(node("b"), clock.now_s)
    regard.trust.distrust(sha256(1), node("c"), clock.now_s + 40.0)
    regard.trust.delivered(
        sha256(3),
        [node("b")],
        start=0,
        stop=9,
        size_bytes=9,
        taken=True,
        began_s=0.0,
        now_s=0.0,
        received=True,
    )
    regard.trust.requested_again(sha256(3), clock.now_s)
    target = Addressed(registry=None, repository=Repository("a"), kind=Kind.BLOB, digest=sha256(2))
    puller.running.add(puller.pull(FetchRequest(target=target)))
    clock.now_s += 2.0
    view = plain(transfers_view(puller, traffic, clock.moment))
    assert view["uploads"] == [
        {
            "started_at": "1970-01-01T00:01:40.000Z",
            "to": "192.0.2.7",
            "bytes": 300,
            "left_bytes": 700,
            "age_s": 2.0,
        }
    ]
    assert view["uploads_refused"] == 1
    assert view["cooling"] == [{"node": "b", "left_s": 3.0, "reason": "it did not answer in time, 2 s ago"}]
    broke_off, suspect = Distrust.BROKE_OFF.value, Distrust.SUSPECT.value
    assert view["not_asked"] == [{"digest": sha256(1), "node": "c", "left_s": 38.0, "reason": broke_off}]
    assert view["asked_last"] == [{"digest": sha256(3), "node": "b", "left_s": 598.0, "reason": suspect}]
    (download,) = view["downloads"]
    assert (download["digest"], download["node"], download["bytes"]) == (sha256(2), None, 0)


def test_flows_and_canaries_say_when_they_were_judged_and_sent() -> None:
    flows, scene = FlowTable(scene_node()), direct()
    play(flows, scene.client(), scene.server())
    flows.changes(9.0)
    judged = dataclasses.replace(flows.open_flows()[-1], verdict_is_new=True)
    book = FlowBook(own="node-1", canary_interval_s=30.0)
    book.apply(Hello(node="node-1"), 90.0)
    book.apply(Health(canaries=(canary(50),)), 95.0)
    book.apply(Flows(flows=(judged,)), 96.5)
    view = plain(flows_view(book, Moment(now_s=100.0, unix_s=1000.0)))
    assert view["time"] == "1970-01-01T00:16:40.000Z"
    assert [flow["judged_at"] for flow in view["flows"]] == ["1970-01-01T00:16:36.500Z"]
    assert [(each["sent_at"], each["age_s"]) for each in view["canaries"]] == [
        ("1970-01-01T00:15:01.000Z", 99.0)
    ]


def test_other_tasks_run_while_many_requests_are_made_into_documents() -> None:
    recent = RecentRequests()
    for number in range(400):
        recent.add(RequestRecord(id=f"{number:016x}", path=RequestPath.HOSTPORT, method="GET"))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        other = asyncio.create_task(count())
        found = await requests_view(recent, 350)
        other.cancel()
        assert [found[0].id, found[-1].id, len(found)] == [f"{399:016x}", f"{50:016x}", 350]

    asyncio.run(main())
    assert turns >= 3


def test_flows_are_limited_to_the_newest() -> None:
    flows, scene = FlowTable(scene_node()), direct()
    play(flows, scene.client(), scene.server())
    flows.changes(9.0)
    judged = dataclasses.replace(flows.open_flows()[-1], verdict_is_new=True)
    book = FlowBook(own="node-1", canary_interval_s=30.0)
    for cookie in range(1, 6):
        book.apply(Flows(flows=(dataclasses.replace(judged, cookie=cookie),)), float(cookie))
    now = Moment(now_s=10.0, unix_s=10.0)
    assert [flow["cookie"] for flow in plain(flows_view(book, now, limit=2))["flows"]] == [5, 4]
    assert len(plain(flows_view(book, now))["flows"]) == 5

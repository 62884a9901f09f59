"""Requests of one client for one repository, one soon after the other, are one pull of an image."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.documents.pulls import PullEntry
from agent.observe.pulls import GAP_S, ImagePulls
from agent.observe.requests import RequestPath, RequestRecord, Result, SourceBytes, new_id
from agent.observe.steps import StepKind, Steps
from agent.oci.digest import digest_of
from agent.oci.reference import Addressed, Kind, Named, parse_target
from tests.unit.twins import node
from topology.placement import Tier

DIGEST = digest_of(b"")


def named(tag: str = "v1", repository: str = "library/app") -> Named:
    target = parse_target(f"/v2/{repository}/manifests/{tag}?ns=registry.test")
    assert isinstance(target, Named)
    return target


def addressed(kind: Kind = Kind.BLOB, repository: str = "library/app") -> Addressed:
    room = "blobs" if kind is Kind.BLOB else "manifests"
    target = parse_target(f"/v2/{repository}/{room}/{DIGEST}?ns=registry.test")
    assert isinstance(target, Addressed)
    return target


@dataclass
class Desk:
    """Requests that come in and end, by a clock that goes on when it is told."""

    now_s: float = 1000.0
    keep: int = 64
    pulls: ImagePulls = field(init=False)

    def __post_init__(self) -> None:
        self.pulls = ImagePulls(keep=self.keep, clock=lambda: self.now_s)

    def asks(
        self, target: Named | Addressed, *, client: str = "10.0.0.1", path: RequestPath = RequestPath.HOSTPORT
    ) -> RequestRecord:
        record = RequestRecord(id=new_id(), path=path, method="GET", steps=Steps(lambda: self.now_s))
        self.pulls.asked(record, target, client)
        return record

    def ends(self, record: RequestRecord, after_s: float = 0.1, **facts: Any) -> None:
        self.now_s += after_s
        for name, value in facts.items():
            setattr(record, name, value)
        record.steps.close()
        self.pulls.ended(record)

    def asked(self, target: Named | Addressed, **facts: Any) -> RequestRecord:
        record = self.asks(target)
        self.ends(record, **facts)
        return record

    @property
    def entries(self) -> tuple[PullEntry, ...]:
        return self.pulls.newest_first()


def test_requests_for_one_image_are_one_pull() -> None:
    desk = Desk()
    records = [desk.asked(named()), desk.asked(addressed(Kind.MANIFEST)), desk.asked(addressed())]
    (pull,) = desk.entries
    assert pull.requests == tuple(record.id for record in records)
    assert (pull.id, pull.image, pull.references) == (records[0].id, "registry.test/library/app", ("v1",))
    assert (pull.path, pull.client, pull.under_way, pull.request_count) == ("hostport", "10.0.0.1", False, 3)
    assert pull.seconds == pytest.approx(0.3)


def test_pull_without_a_tag_is_named_by_its_manifest() -> None:
    desk = Desk()
    desk.asked(addressed(Kind.MANIFEST))
    assert desk.entries[0].references == (DIGEST,)


def test_other_repositories_clients_and_listeners_are_other_pulls_and_the_newest_is_first() -> None:
    desk = Desk()
    records = [
        desk.asks(addressed()),
        desk.asks(addressed(repository="library/other")),
        desk.asks(addressed(), client="b"),
        desk.asks(addressed(), path=RequestPath.NODEPORT),
    ]
    assert [pull.id for pull in desk.entries] == [record.id for record in reversed(records)]
    assert [pull.id for pull in desk.pulls.newest_first(1)] == [records[-1].id]


def test_a_gap_ends_a_pull_and_a_long_request_is_no_gap() -> None:
    desk = Desk()
    long = desk.asks(addressed())
    desk.now_s += 2 * GAP_S
    desk.asked(addressed())
    assert len(desk.entries) == 1, "one of its requests is under way"
    desk.ends(long)
    desk.now_s += GAP_S - 1
    desk.asked(addressed())
    assert len(desk.entries) == 1
    desk.now_s += GAP_S + 1
    desk.asked(addressed())
    assert len(desk.entries) == 2


def test_tag_that_is_asked_for_after_blobs_begins_another_pull() -> None:
    desk = Desk()
    desk.asked(named())
    desk.asked(named())  # a HEAD, then a GET
    layer = desk.asks(addressed())
    desk.asked(named("v2"))
    assert [pull.references for pull in desk.entries] == [("v1", "v2")], "two images, at the same time"
    desk.ends(layer)
    desk.asked(named("v3"))
    assert [pull.references for pull in desk.entries] == [("v3",), ("v1", "v2")]


def test_bytes_are_told_by_how_near_they_came_from_also_while_they_come() -> None:
    desk = Desk()
    sources = (SourceBytes(node("near"), Tier.ZONE, 700), SourceBytes(node("far"), Tier.REGION, 300))
    desk.asked(addressed(), sources=sources, body_bytes=1000, tier=Tier.ZONE)
    desk.asked(addressed(), body_bytes=50, tier=Tier.NODE)
    running = desk.asks(addressed())
    running.body_bytes, running.tier = 5, Tier.REGION
    (pull,) = desk.entries
    assert [(each.tier, each.size_bytes) for each in pull.bytes_by_tier] == [
        ("node", 50),
        ("zone", 700),
        ("region", 305),
    ]
    assert (pull.size_bytes, pull.under_way) == (1055, True)
    assert [request.id for request in pull.running] == [running.id]


def test_what_the_registry_has_to_give_and_what_failed_are_told_apart() -> None:
    desk = Desk()
    for result in (Result.OK, Result.NOT_FOUND, Result.NOT_FOUND, Result.CUT, Result.REDIRECTED):
        desk.asked(addressed(), result=result)
    assert (desk.entries[0].not_found, desk.entries[0].failed) == (2, 1)


def test_slowest_step_of_all_requests_is_told_with_its_request() -> None:
    desk = Desk()
    slow = desk.asks(named())
    slow.steps.begin(StepKind.LOOKUP)
    desk.ends(slow, after_s=3.0)
    quick = desk.asks(addressed())
    quick.steps.begin(StepKind.HEADERS)
    desk.ends(quick, after_s=0.5)
    slowest = desk.entries[0].slowest
    assert slowest is not None
    assert (slowest.request, slowest.step.kind, slowest.step.seconds) == (slow.id, "lookup", 3.0)


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        (["DIRECT", "DIRECT"], "DIRECT"),
        (["DIRECT", "KUBE_PROXY", "UNKNOWN"], "KUBE_PROXY"),
        (["UNKNOWN", "DIRECT"], "UNKNOWN"),
        ([None], None),
    ],
)
def test_gravest_verdict_of_its_connections_is_the_pulls(
    verdicts: list[str | None], told: str | None
) -> None:
    desk = Desk()
    for verdict in verdicts:
        record = desk.asked(addressed())
        record.verdict = verdict
        desk.pulls.judged(record)
    assert desk.entries[0].verdict == told


def test_memory_is_bounded_whatever_is_asked() -> None:
    desk = Desk(keep=3)
    for number in range(10):
        desk.asked(addressed(repository=f"library/app{number}"))
    assert [pull.image[-4:] for pull in desk.entries] == ["app9", "app8", "app7"]
    for number in range(200):
        desk.asked(named(f"v{number}"))
    pull = desk.entries[0]
    assert (len(pull.requests), len(pull.references), pull.request_count) == (64, 8, 200)


def test_end_of_a_request_whose_pull_is_forgotten_changes_nothing() -> None:
    desk = Desk(keep=1)
    forgotten = desk.asks(addressed())
    desk.asked(addressed(repository="library/other"))
    desk.ends(forgotten)
    desk.ends(RequestRecord(path=RequestPath.PEER, method="GET", steps=Steps(lambda: desk.now_s)))
    assert [pull.image for pull in desk.entries] == ["registry.test/library/other"]


def test_a_thousand_requests_under_way_are_counted_and_not_all_told() -> None:
    desk = Desk()
    for _ in range(1000):
        desk.asks(addressed())
    (pull,) = desk.pulls.newest_first()
    assert (pull.request_count, len(pull.running), len(pull.requests)) == (1000, 64, 64)

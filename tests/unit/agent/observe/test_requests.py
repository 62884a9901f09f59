"""The record of a request: what metrics, log and API say of it."""

import json

import pytest

from agent.observe.requests import RecentRequests, RequestPath, RequestRecord, Result, SourceBytes
from tests.unit.twins import node
from topology.placement import Tier


def record(target: str = "/v2/", **facts: object) -> RequestRecord:
    return RequestRecord(path=RequestPath.HOSTPORT, method="GET", target=target, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tier", "source", "label"),
    [
        (None, "none", "none"),
        (Tier.NODE, "local", "node"),
        (Tier.ZONE, "peer", "zone"),
        (Tier.REMOTE, "peer", "remote"),
    ],
)
def test_source_is_told_by_the_tier_of_what_was_sent(tier: Tier | None, source: str, label: str) -> None:
    answered = record(tier=tier)
    assert (answered.source, answered.tier_label) == (source, label)


def test_log_has_the_same_facts_under_the_same_names_as_the_api() -> None:
    answered = record(
        result=Result.CUT,
        status=206,
        tier=Tier.ZONE,
        node=node("near"),
        sources=(SourceBytes(node("near"), Tier.ZONE, 7), SourceBytes(node("far"), Tier.REMOTE, 5)),
        first_byte_s=0.0012345678,
        seconds=1.0000001,
    )
    logged = json.loads(json.dumps(answered.as_dict()))
    assert (logged["path"], logged["result"], logged["status"]) == ("hostport", "cut", 206)
    assert (logged["source"], logged["node"], logged["tier"]) == ("peer", "near", "zone")
    assert [(each["node"], each["tier"], each["bytes"]) for each in logged["sources"]] == [
        ("near", "zone", 7),
        ("far", "remote", 5),
    ]
    assert (logged["first_byte_s"], logged["seconds"]) == (0.001235, 1.0)


def test_request_says_when_it_arrived() -> None:
    assert record(unix_s=1_785_585_600.25).document().started_at == "2026-08-01T12:00:00.250Z"


def test_limit_keeps_the_newest() -> None:
    recent = RecentRequests(keep=3)
    for number in range(5):
        recent.add(record(str(number)))
    assert [request.target for request in recent.newest_first(2)] == ["4", "3"]
    assert len(recent.newest_first(100)) == 3


def test_recent_requests_are_the_newest_ones_newest_first() -> None:
    recent = RecentRequests(keep=3)
    for number in range(5):
        recent.add(record(str(number)))
    assert [request.target for request in recent.newest_first()] == ["4", "3", "2"]


def test_verdict_that_comes_later_is_shown() -> None:
    recent, answered = RecentRequests(), record()
    recent.add(answered)
    answered.verdict = "DIRECT"
    assert [request.verdict for request in recent.newest_first()] == ["DIRECT"]

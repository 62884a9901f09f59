"""What became of clients' requests: only faults count against the mirror."""

from dataclasses import replace

import pytest

from agent.observe.metrics import Metrics
from agent.observe.mirror_metrics import Outcome, outcome_of
from agent.observe.requests import RequestPath, RequestRecord, Result
from tests.unit.exposition import total

_BLOB = RequestRecord(path=RequestPath.HOSTPORT, method="GET", kind="blob")


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (Result.OK, Outcome.SERVED),
        (Result.REDIRECTED, Outcome.SERVED),
        (Result.NOT_FOUND, Outcome.MISSED),
        (Result.CUT, Outcome.FAILED),
        (Result.BUSY, Outcome.FAILED),
        (Result.UNAVAILABLE, Outcome.FAILED),
        (Result.ERROR, Outcome.FAILED),
        (Result.REJECTED, None),
        (Result.CLIENT_GONE, None),
    ],
)
def test_each_result_of_a_client_s_request_has_an_outcome_or_is_its_own_doing(
    result: Result, outcome: Outcome | None
) -> None:
    assert outcome_of(replace(_BLOB, result=result)) == outcome


def test_404_is_a_fault_only_if_a_node_may_have_it_and_the_settings_did_not_ask_for_it() -> None:
    missing = replace(_BLOB, result=Result.NOT_FOUND)
    assert outcome_of(replace(missing, fault=True)) is Outcome.FAILED
    assert outcome_of(replace(missing, left_to_registry=True)) is Outcome.LEFT


def test_agents_and_pings_are_no_clients_that_pull() -> None:
    assert outcome_of(replace(_BLOB, path=RequestPath.PEER)) is None
    assert outcome_of(replace(_BLOB, kind="ping")) is None


def test_outcomes_are_counted_by_path_and_are_all_there_from_the_start() -> None:
    metrics = Metrics()
    assert metrics.expose().count(b"shorthaul_mirror_requests_total{") == 2 * len(Outcome)
    metrics.request(_BLOB)
    metrics.request(replace(_BLOB, kind="ping"))
    assert total(metrics.expose(), "mirror_requests_total") == 1
    assert total(metrics.expose(), "mirror_requests_total", path="hostport", outcome="served") == 1

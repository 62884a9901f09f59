"""What the probe's messages add up to."""

import dataclasses

from agent.flows.messages import Canary, Flows, Health
from agent.flows.table import Flow, FlowTable
from agent.flows.verdicts import EndpointName, Verdict
from agent.observe.probe_metrics import ProbeMetrics
from tests.unit.agent.flows.scenes import direct, node, play
from tests.unit.exposition import total


def exposed(metrics: ProbeMetrics) -> bytes:
    return metrics.exposed().body


def flow(**changes: object) -> Flow:
    flows, scene = FlowTable(node()), direct()
    play(flows, scene.client(), scene.server())
    flows.changes(9.0)
    return dataclasses.replace(flows.open_flows()[-1], **changes)  # type: ignore[arg-type]


def canary(rtt_us: int, verdict: Verdict = Verdict.DIRECT) -> Canary:
    return Canary(
        endpoint=EndpointName.HOSTPORT,
        address="127.0.0.1:30020",
        verdict=verdict,
        reason="as it was",
        went="127.0.0.1:30020",
        answered_by="node-1",
        rtt_us=rtt_us,
        at_s=1.0,
        taken_by=9,
    )


def test_flow_is_counted_once_for_each_new_verdict() -> None:
    metrics = ProbeMetrics()
    told = (flow(verdict_is_new=True), flow(verdict_is_new=False))
    metrics.on_message(Flows(flows=told))
    assert total(exposed(metrics), "probe_flows_total", endpoint="hostport", verdict="DIRECT") == 1
    assert total(exposed(metrics), "probe_flows_total") == 1


def test_every_pair_of_endpoint_and_verdict_is_there_from_the_start() -> None:
    lines = exposed(ProbeMetrics()).decode().splitlines()
    series = [line for line in lines if line.startswith("shorthaul_probe_flows_total{")]
    assert len(series) == len(EndpointName) * len(Verdict)


def test_health_is_the_last_that_was_told() -> None:
    metrics = ProbeMetrics()
    metrics.on_message(Health(lost_events=1, lost_ends=2, canaries=(canary(50),)))
    metrics.on_message(Health(lost_events=5, lost_ends=2, canaries=(canary(70), canary(90))))
    told = exposed(metrics)
    assert total(told, "probe_lost_total", what="events") == 5
    assert total(told, "probe_lost_total", what="ends") == 2
    assert total(told, "probe_canaries", endpoint="hostport", verdict="DIRECT") == 2
    assert total(told, "probe_canary_rtt_seconds") == 90e-6


def test_canary_that_met_nobody_has_no_round_trip() -> None:
    metrics = ProbeMetrics()
    metrics.on_message(Health(canaries=(canary(0, Verdict.FAILED),)))
    assert b"shorthaul_probe_canary_rtt_seconds{" not in exposed(metrics)
    assert total(exposed(metrics), "probe_canaries", verdict="FAILED") == 1

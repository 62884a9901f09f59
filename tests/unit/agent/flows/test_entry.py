"""A flow as people and programs get it."""

import dataclasses

from agent.flows.entry import flow_entry
from agent.flows.table import FlowTable
from tests.unit.agent.flows.scenes import direct, node, play


def test_entry_has_the_facts_of_the_flow_as_text() -> None:
    flows, scene = FlowTable(node()), direct()
    play(flows, scene.client(), scene.server())
    flows.changes(9.0)
    flow = flows.open_flows()[-1]
    entry = flow_entry(flow, "2026-08-01T12:00:00.000Z")
    assert (entry.judged_at, entry.verdict) == ("2026-08-01T12:00:00.000Z", "DIRECT")
    assert (entry.asked, entry.went, entry.cookie) == (str(flow.asked), str(flow.went), flow.cookie)
    assert flow_entry(dataclasses.replace(flow, went=None), "").went is None

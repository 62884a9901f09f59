"""A judged flow as the API and ``shorthaul probe --watch --json`` show it. Pure."""

from agent.documents.flows import FlowEntry
from agent.flows.table import Flow


def flow_entry(flow: Flow, judged_at: str) -> FlowEntry:
    """The entry of a flow. ``judged_at``: when its verdict became known, as text."""
    return FlowEntry(
        judged_at=judged_at,
        endpoint=flow.endpoint.value,
        verdict=flow.verdict.value,
        reason=flow.reason,
        made_by="canary" if flow.canary else "containerd" if flow.by_containerd else "other",
        client=str(flow.client),
        asked=str(flow.asked),
        went=None if flow.went is None else str(flow.went),
        process=flow.comm,
        pid=flow.pid,
        rtt_us=flow.rtt_us,
        cookie=flow.cookie,
    )

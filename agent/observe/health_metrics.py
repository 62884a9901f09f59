"""What the agent knows of its own node: where it is, which parts have a problem, what the doctor found.

Labels are bounded: a part's key, a finding's status. The node's own name is the label of one series, by which
the others can be chosen by node and zone.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

STATUSES = {"ok": "ok", "warn": "warn", "bad": "bad", "?": "unknown"}
"""The label's value for each status of a `FindingEntry`."""


class HealthMetrics:
    """Keeps the state of the agent's parts, and of the doctor's last look. The registry is injected."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._parts = Gauge(
            "shorthaul_component_problem",
            "1 while this part of the agent has a problem, else 0, by part (component: store, references, "
            "key, index, listen_hostport and so on). /readyz?verbose says what it is and what to do. An "
            "agent may be ready all the same.",
            ("component",),
            registry=registry,
        )
        self._node = Gauge(
            "shorthaul_node_info",
            "Always 1. The labels say which node this is, and its region and zone as the agent uses them now "
            "(empty: not known). Join with it on the target's labels to choose other series by zone or node.",
            ("node_name", "node_region", "node_zone"),
            registry=registry,
        )
        self._place: tuple[str, str, str] | None = None
        self._findings: Gauge | None = None

    def node(self, name: str, *, region: str | None, zone: str | None) -> None:
        """Which node this is, and where."""
        place = (name, region or "", zone or "")
        if place != self._place:
            self._place = place
            self._node.clear()
            self._node.labels(*place).set(1)

    def components(self, problems: Mapping[str, bool]) -> None:
        """Which parts have a problem now, by their keys."""
        for key, wrong in problems.items():
            self._parts.labels(key).set(wrong)

    def doctor(self, findings: Mapping[str, int], ended_s: float) -> None:
        """The doctor looked. ``findings``: how many of each `STATUSES`. ``ended_s``: when, since 1970.

        Before it did, there is no series: an alarm on what nobody looked at would be a guess.
        """
        if self._findings is None:
            self._findings = Gauge(
                "shorthaul_doctor_findings",
                "Findings of the last `shorthaul doctor` that the agent ran, by status. bad: it keeps pulls "
                "of this node from being served. warn: a person should know. unknown: it could not be "
                "looked at. ok. /api/doctor has them in words.",
                ("status",),
                registry=self._registry,
            )
            self._ended = Gauge(
                "shorthaul_doctor_last_run_timestamp_seconds",
                "When the last `shorthaul doctor` that the agent ran had ended, in seconds since 1970.",
                registry=self._registry,
            )
        for status in STATUSES.values():
            self._findings.labels(status).set(findings.get(status, 0))
        self._ended.set(ended_s)

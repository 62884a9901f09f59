"""A real Prometheus scrapes real agents: every query has data, every alert fires when its fault is made.

One Prometheus and one lab serve all tests of this module, because they take long to come up.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from benchmarks.lab.certificates import Authority
from tests.chart.monitoring import (
    alerts,
    as_asked,
    dashboard_queries,
    grouping_labels,
    rules,
    rules_file,
    selectors,
)
from tests.prometheus.faults import Lab
from tests.prometheus.scaling import THRESHOLDS, scaled
from tests.prometheus.server import Prometheus
from tests.server.agents import fresh_address

_VALUES = {"metrics": {"rules": {"enabled": True, "thresholds": THRESHOLDS}}}
_NAMES = sorted({rule["alert"] for rule in alerts()})
_ASKED_AT = {"$__rate_interval": "6s", "$__range_s": "60", "$__range": "60s"}
_AT_MOST_S = 60.0
_QUERIES = {
    where: as_asked(expr, _ASKED_AT)
    for where, expr in dashboard_queries().items()
    if not where.endswith("/Upgrades")  # nobody is upgraded here
}
_RECORDS = sorted({rule["record"] for rule in rules() if "record" in rule})


@dataclass
class Watched:
    """What happened in one run: faults were made one after the other, and then all were mended."""

    prometheus: Prometheus
    fired: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    unanswered: dict[str, str] = field(
        default_factory=lambda: {**_QUERIES, **{name: name for name in _RECORDS}}
    )
    labels: dict[str, set[str]] = field(default_factory=dict)
    unhealthy: list[str] = field(default_factory=list)
    samples: dict[str, int] = field(default_factory=dict)
    still_firing: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Remember which alerts fire now."""
        for alert in self.prometheus.alerts():
            if alert["state"] == "firing":
                self.fired.setdefault(alert["labels"]["alertname"], []).append(alert)

    def until_fired(self, *names: str) -> None:
        """Wait until each of these has fired, or it takes too long: then its own test says so."""
        self._until(lambda: set(names) <= self.fired.keys())

    def until_fired_for(self, name: str, paths: set[str]) -> None:
        """Wait until this alert has fired for all these listeners, or it takes too long."""
        self._until(lambda: paths <= self.paths_of(name))

    def paths_of(self, name: str) -> set[str]:
        """The listeners for which this alert has fired."""
        return {alert["labels"]["path"] for alert in self.fired.get(name, ())}  # type: ignore[index]

    def _until(self, is_so: Callable[[], bool]) -> None:
        until_s = time.monotonic() + _AT_MOST_S
        while not is_so() and time.monotonic() < until_s:
            self.look()
            time.sleep(0.2)

    def until_resolved(self) -> None:
        """Wait until nothing fires."""
        until_s = time.monotonic() + _AT_MOST_S
        while (firing := self.prometheus.firing()) and time.monotonic() < until_s:
            time.sleep(0.2)
        self.still_firing = firing

    def until_answered(self, at_most_s: float) -> None:
        """Wait until every query and every record has had data once, or it takes too long."""
        until_s = time.monotonic() + at_most_s
        while True:
            for where, expr in [*self.unanswered.items()]:
                if self.prometheus.ask(expr):
                    del self.unanswered[where]
            if not self.unanswered or time.monotonic() >= until_s:
                return


_CLIENTS = {"hostport", "nodeport"}
_GROSS = {
    "ShorthaulAgentsDown",
    "ShorthaulAgentUnready",
    "ShorthaulMirrorSuccessLow",
    "ShorthaulFirstByteSlow",
    "ShorthaulStalledPeers",
    "ShorthaulIndexDegraded",
    "ShorthaulMembershipSilent",
}


@pytest.fixture(scope="module")
def watched(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """All faults, made and mended."""
    folder = tmp_path_factory.mktemp("prometheus")
    prometheus = Prometheus(folder, fresh_address(), scaled(rules_file(**_VALUES)))
    try:
        with Lab(authority, folder) as lab:
            run = Watched(prometheus)
            prometheus.wait()
            lab.start()
            run.until_fired("ShorthaulAgentsAbsent")
            prometheus.scrape(lab.targets)
            lab.serve()
            run.until_fired("ShorthaulProbeAbsent")
            lab.make()
            run.until_fired(*(name for name in _NAMES if name not in _GROSS))
            run.until_answered(0.0)
            lab.make_gross()
            run.until_fired(*_NAMES)
            run.until_fired_for("ShorthaulMirrorSuccessLow", _CLIENTS)
            run.until_answered(20.0)
            run.labels = {
                name: {label for each in prometheus.series(name) for label in each}
                for name in {name for expr in _every_expression() for name, _ in selectors(expr)}
            }
            run.unhealthy = prometheus.unhealthy_rules()
            run.samples = {
                each["metric"]["node"]: int(each["value"][1])
                for each in prometheus.ask("scrape_samples_scraped")
            }
            lab.mend()
            prometheus.scrape(lab.targets)
            run.until_resolved()
            yield run
    finally:
        prometheus.stop()


def _every_expression() -> list[str]:
    return [*_QUERIES.values(), *(rule["expr"] for rule in rules())]


@pytest.mark.parametrize("name", _NAMES)
def test_alert_fires_when_its_fault_is_made(watched: Watched, name: str) -> None:
    assert name in watched.fired, f"fired: {sorted(watched.fired)}"


def test_all_alerts_resolve_when_their_faults_are_mended(watched: Watched) -> None:
    assert watched.still_firing == set()


@pytest.mark.parametrize("where", sorted(_QUERIES))
def test_query_of_a_dashboard_has_data(watched: Watched, where: str) -> None:
    assert where not in watched.unanswered, _QUERIES[where]


@pytest.mark.parametrize("name", _RECORDS)
def test_recording_rule_records(watched: Watched, name: str) -> None:
    assert name not in watched.unanswered


def test_prometheus_can_evaluate_every_rule(watched: Watched) -> None:
    assert watched.unhealthy == []


def test_every_query_is_about_metrics_and_labels_that_real_agents_expose(watched: Watched) -> None:
    added = {"__name__", "cluster"}  # by Prometheus, and by whoever joins several of them
    for expr in _every_expression():
        known = set(added)
        for name, matchers in selectors(expr):
            labels = watched.labels[name]
            assert labels, f"nobody exposes {name}"
            assert {each.name for each in matchers} <= labels | added, expr
            known |= labels
        assert set(grouping_labels(expr)) <= known | {"from"}, expr


def test_agent_that_saw_all_of_it_exposes_few_series(watched: Watched) -> None:
    """With 5,000 agents a Prometheus has a few million series, which it needs some 10 GB for."""
    agents = {name: number for name, number in watched.samples.items() if not name.startswith("standin")}
    assert 300 < max(agents.values()) < 900, agents


def test_alert_of_a_node_says_which_one_and_with_which_value(watched: Watched) -> None:
    doctor = watched.fired["ShorthaulDoctorFailing"][0]
    assert doctor["labels"]["node"] == "alone"  # type: ignore[index]
    assert "{{" not in str(doctor["annotations"])
    assert watched.paths_of("ShorthaulMirrorSuccessLow") == _CLIENTS

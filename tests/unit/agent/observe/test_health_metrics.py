"""What is wrong with the agent's parts and its node, as metrics."""

import pytest

from agent.observe.health_metrics import STATUSES
from agent.observe.metrics import Metrics
from tests.unit.exposition import total


def test_part_with_a_problem_is_1_and_0_again_when_it_works() -> None:
    metrics = Metrics()
    metrics.health.components({"store": True, "index": False})
    assert total(metrics.expose(), "component_problem", component="store") == 1
    assert b'shorthaul_component_problem{component="index"} 0.0' in metrics.expose()
    metrics.health.components({"store": False, "index": False})
    assert total(metrics.expose(), "component_problem") == 0


def test_nothing_is_said_of_a_node_that_no_doctor_looked_at() -> None:
    assert b"doctor" not in Metrics().expose()


@pytest.mark.parametrize("status", STATUSES.values())
def test_findings_are_counted_by_status_and_those_that_are_gone_are_0(status: str) -> None:
    metrics = Metrics()
    metrics.health.doctor({status: 2}, 1e9)
    assert total(metrics.expose(), "doctor_findings", status=status) == 2
    assert total(metrics.expose(), "doctor_last_run_timestamp_seconds") == 1e9
    metrics.health.doctor({}, 1e9)
    assert total(metrics.expose(), "doctor_findings") == 0
    assert metrics.expose().count(b"shorthaul_doctor_findings{") == len(STATUSES)


def test_node_is_told_with_its_zone_once_and_anew_when_that_changes() -> None:
    metrics = Metrics()
    metrics.health.node("n1", region=None, zone=None)
    metrics.health.node("n1", region="r", zone="a")
    exposed = metrics.expose().decode()
    assert exposed.count("shorthaul_node_info{") == 1
    assert 'shorthaul_node_info{node_name="n1",node_region="r",node_zone="a"} 1.0' in exposed

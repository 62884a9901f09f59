"""The alerts with their real windows, on series that are made up: promtool plays hours in a second.

tests/prometheus makes each fault for real.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.chart.monitoring import alerts, rules_file

_NAMES = sorted({rule["alert"] for rule in alerts()})
_STEP_S = 30
_HOURS = 2
_STEPS = _HOURS * 3600 // _STEP_S
_OUTCOMES = ("served", "missed", "failed", "left")

Series = dict[str, str]
"""What promtool plays: the values of each series, every half minute."""


def still(value: float) -> str:
    """A gauge that stays as it is."""
    return f"{value}+0x{_STEPS}"


def rising(per_step: float) -> str:
    """A counter."""
    return f"0+{per_step}x{_STEPS}"


def of(metric: str, node: int, **labels: str) -> str:
    """One series of an agent."""
    every = {"instance": f"n{node}:9090", "node": f"n{node}", "job": "shorthaul-metrics", **labels}
    return metric + "{" + ",".join(f'{name}="{value}"' for name, value in every.items()) + "}"


def agent(node: int, **changed: str) -> Series:
    """An agent that is well, and that nobody asks. ``changed``: other values of its series."""
    series = {
        of("up", node): still(1),
        of("shorthaul_ready", node): still(1),
        of(
            "shorthaul_node_info", node, node_name=f"n{node}", node_region="r", node_zone=f"{node % 3}"
        ): still(1),
        of("shorthaul_probe_connected", node): still(1),
        of("shorthaul_local_path_proved", node): still(1),
        of("shorthaul_index_up", node): still(1),
        of("shorthaul_index_resets_total", node): still(0),
        of("shorthaul_peers", node): still(49),
        of("shorthaul_peers_reachable", node): still(49),
        of("shorthaul_store_unreadable_blobs", node): still(0),
        of("shorthaul_certificate_not_after_seconds", node): still(0),
        of("shorthaul_api_server_silent_seconds", node): still(20),
        of("shorthaul_doctor_findings", node, status="bad"): still(0),
        of("shorthaul_flow_contradictions_total", node): still(0),
        of("shorthaul_registry_saved_usd_total", node): still(0),
    }
    for part in ("key", "store", "index", "membership"):
        series[of("shorthaul_component_problem", node, component=part)] = still(0)
    for path in ("hostport", "nodeport"):
        for outcome in _OUTCOMES:
            series[of("shorthaul_mirror_requests_total", node, path=path, outcome=outcome)] = still(0)
    for found_by in ("read", "scrub"):
        series[of("shorthaul_corrupt_blobs_total", node, found_by=found_by)] = still(0)
    for outcome in ("granted", "followed", "timeout", "lost"):
        series[of("shorthaul_claims_total", node, scope="zone", outcome=outcome)] = still(0)
    return {**series, **changed}


def fleet(size: int = 6) -> Series:
    """Agents that are well."""
    return {name: values for node in range(size) for name, values in agent(node).items()}


def requests(node: int, outcome: str, *, path: str = "hostport") -> str:
    """The name of one series."""
    return of("shorthaul_mirror_requests_total", node, path=path, outcome=outcome)


def attempts(node: int, result: str) -> str:
    """The name of one series."""
    return of("shorthaul_peer_attempts_total", node, result=result)


def received(node: int, tier: str) -> str:
    """The name of one series."""
    return of("shorthaul_bytes_total", node, path="hostport", tier=tier)


def flows(node: int, verdict: str) -> str:
    """The name of one series."""
    return of("shorthaul_local_flows_total", node, endpoint="hostport", verdict=verdict)


def claims(node: int, outcome: str) -> str:
    """The name of one series."""
    return of("shorthaul_claims_total", node, scope="zone", outcome=outcome)


def first_bytes(node: int, *, source: str = "peer", path: str = "hostport") -> Series:
    """Half of the first bytes come late."""
    labels = {"path": path, "source": source}
    bucket = "shorthaul_first_byte_seconds_bucket"
    return {
        of(bucket, node, **labels, le="0.25"): rising(5),
        of(bucket, node, **labels, le="+Inf"): rising(10),
        of("shorthaul_first_byte_seconds_count", node, **labels): rising(10),
    }


def part(node: int, key: str) -> str:
    """The name of one series."""
    return of("shorthaul_component_problem", node, component=key)


FAULTS: Mapping[str, Series] = {
    "ShorthaulAgentsDown": {of("up", 0): still(0)},
    "ShorthaulAgentUnready": {of("shorthaul_ready", 0): still(0)},
    "ShorthaulMirrorSuccessLow": {
        requests(node, outcome): rising(per_step)
        for node in range(6)
        for outcome, per_step in (("served", 3), ("failed", 1))
    },
    "ShorthaulFirstByteSlow": first_bytes(0),
    "ShorthaulAgentLate": {
        of("shorthaul_event_loop_lag_seconds_bucket", 0, le=le): rising(per_step)
        for le, per_step in (("0.1", 10), ("0.5", 20), ("2.5", 60), ("+Inf", 60))
    },
    "ShorthaulLocalTrafficThroughKubeProxy": {flows(0, "KUBE_PROXY"): rising(1)},
    "ShorthaulNodePortLeavesNode": {
        of("shorthaul_nodeport_remote_bytes_total", 0, direction="received"): rising(1e8)
    },
    "ShorthaulHostPortUnproved": {of("shorthaul_local_path_proved", 0): still(0)},
    "ShorthaulProbeAbsent": {of("shorthaul_probe_connected", 0): still(0)},
    "ShorthaulProbeLosesEvents": {of("shorthaul_probe_lost_total", 0, what="events"): rising(5)},
    "ShorthaulFlowContradiction": {of("shorthaul_flow_contradictions_total", 0): rising(1)},
    "ShorthaulCrossZoneShareHigh": {
        received(node, tier): rising(per_step)
        for node in range(9)
        for tier, per_step in (("node", 1e9), ("zone", 1e7), ("region", 1e8))
    },
    "ShorthaulStalledPeers": {attempts(0, "ok"): rising(10), attempts(0, "silent"): rising(2)},
    "ShorthaulPeersUnreachable": {of("shorthaul_peers_reachable", 0): still(10)},
    "ShorthaulMembershipSilent": {of("shorthaul_api_server_silent_seconds", 0): still(400)},
    "ShorthaulKeyRefused": {part(0, "key"): still(1)},
    "ShorthaulCertificateEnds": {of("shorthaul_certificate_not_after_seconds", 0): still(2 * 86400)},
    "ShorthaulIndexDegraded": {of("shorthaul_index_up", node): still(0) for node in range(2)},
    "ShorthaulIndexUnusable": {of("shorthaul_index_up", 0): still(0)},
    "ShorthaulIndexResets": {of("shorthaul_index_resets_total", 0): rising(0.1)},
    "ShorthaulClaimsTimeOut": {claims(0, "granted"): rising(1), claims(0, "timeout"): rising(1)},
    "ShorthaulStoreUnreadable": {of("shorthaul_store_unreadable_blobs", 0): still(3)},
    "ShorthaulCorruptContent": {
        of("shorthaul_corrupt_blobs_total", 0, found_by="scrub"): f"0x60 1x{_STEPS - 60}"
    },
    "ShorthaulDoctorFailing": {of("shorthaul_doctor_findings", 0, status="bad"): still(1)},
    "ShorthaulComponentProblem": {part(0, "membership"): still(1)},
}
"""What is other than in a fleet that is well, for each alert."""


def upgraded(size: int = 4) -> Series:
    """A roll-out: one node after the other is away for a minute, and its counters begin anew."""
    series = fleet(size)
    for node in range(size):
        before = 20 + 15 * node
        after = _STEPS - before - 3
        for name in agent(node):
            if name.startswith(("up{", "shorthaul_ready")):
                series[name] = f"1x{before} 0x1 1x{after}"
            elif "doctor" in name:
                series[name] = f"0x{before} _x32 0x{after - 32}"
            elif 'outcome="served"' in name:
                series[name] = f"1000+9x{before} _x1 0+9x{after}"
            elif 'outcome="failed"' in name and 'path="hostport"' in name:
                series[name] = f"7x{before} _x1 0 1x{after}"  # one body is cut
            elif name.startswith(("shorthaul_probe_connected", "shorthaul_local_path")):
                series[name] = f"1x{before} 0x3 1x{after - 2}"
            elif 'component="membership"' in name:
                series[name] = f"0x{before} 1x3 0x{after - 2}"
    return series


def _one_odd_node() -> Series:
    """One of them fails a little, lost its index for a moment, and does not answer its peers."""
    odd = {
        requests(0, "served"): rising(20),
        requests(0, "failed"): f"0x60 0+0.5x30 15x{_STEPS - 91}",
        of("shorthaul_index_up", 0): f"1x60 0x20 1x{_STEPS - 80}",
        of("shorthaul_api_server_silent_seconds", 0): still(1000),
        of("up", 1): still(0),
    }
    for node in range(2, 25):
        odd[attempts(node, "ok")] = rising(3)
        odd[attempts(node, "silent")] = rising(0.02)
        odd[requests(node, "served")] = rising(20)
        odd[received(node, "node")] = rising(1e8)
        odd[received(node, "zone")] = rising(1e7)
        odd[received(node, "region")] = rising(1e6)
    return {**fleet(25), **odd}


CALM: Mapping[str, Series] = {
    "nobody pulls": fleet(),
    "agents that started just now": {
        name: "_x60 " + values.replace(f"x{_STEPS}", f"x{_STEPS - 61}") for name, values in fleet().items()
    },
    "a roll-out": upgraded(),
    "one odd node of twenty-five": _one_odd_node(),
    "cold images only": {
        **fleet(),
        **{requests(node, "missed"): rising(5) for node in range(6)},
        **{claims(node, "granted"): rising(5) for node in range(6)},
    },
    "a handful of requests, all of which fail": {
        **fleet(),
        requests(0, "failed"): f"0x60 15x{_STEPS - 60}",
    },
    "agents that send late to others, whose clients don't wait for them": {
        **fleet(),
        **first_bytes(0, source="local", path="peer"),
    },
    "three nodes in three zones": {
        **fleet(3),
        **{received(node, "region"): rising(1e8) for node in range(3)},
    },
    "a cluster without a probe's, an index's or a doctor's metrics": {
        name: values
        for name, values in fleet().items()
        if not any(word in name for word in ("index", "doctor", "certificate"))
    },
}
"""What happens in clusters that are well."""


def _in_cluster(cluster: str, series: Mapping[str, str]) -> Series:
    """The series as Prometheus has them that serves several clusters: rules keep clusters apart."""
    return {name.replace("{", f'{{cluster="{cluster}",', 1): values for name, values in series.items()}


def _play(
    folder: Path,
    series: Mapping[str, str],
    *expected: tuple[float, str, list[dict[str, Any]]],
    thresholds: Mapping[str, float] = {},
) -> None:
    """``expected``: after so many minutes, what an expression has. Fails with what it has instead."""
    rules = rules_file(metrics={"rules": {"thresholds": dict(thresholds)}})
    test = {
        "interval": f"{_STEP_S}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": expr, "eval_time": f"{int(minutes)}m", "exp_samples": samples}
            for minutes, expr, samples in expected
        ],
    }
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    (folder / "tests.yaml").write_text(
        json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": f"{2 * _STEP_S}s", "tests": [test]})
    )
    told = subprocess.run(
        ["promtool", "test", "rules", str(folder / "tests.yaml")], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr


_LATEST = 75  # minutes: longer than any alert waits
_SUCCESS = 'ALERTS{alertname="ShorthaulMirrorSuccessLow",alertstate="firing",severity="critical"}'


def test_every_alert_is_made_to_fire() -> None:
    assert sorted([*FAULTS, "ShorthaulAgentsAbsent"]) == _NAMES


def test_each_alert_fires_in_the_cluster_that_has_its_fault_and_no_other_one_does_there(
    tmp_path: Path,
) -> None:
    series: Series = {}
    for name, fault in FAULTS.items():
        size = 9 if name == "ShorthaulCrossZoneShareHigh" else 3
        series |= _in_cluster(name, {**fleet(size), **fault})
    expected = [{"labels": f'{{cluster="{name}",alertname="{name}"}}', "value": 1} for name in sorted(FAULTS)]
    firing = 'group by (cluster, alertname) (ALERTS{alertstate="firing"})'
    _play(tmp_path, series, (_LATEST, firing, expected))


_LAXEST = {
    "successObjective": 0.94,
    "firstByteObjective": 0.01,
    **dict.fromkeys(("agentsDownShare", "crossZoneShare", "stalledShare", "claimsLostShare"), 0.99),
}
"""As much as the chart lets each be. What is laxer it refuses: see test_monitoring.py."""


def test_alert_on_a_share_fires_with_the_laxest_threshold_where_nothing_goes_well(tmp_path: Path) -> None:
    nodes = range(9)
    series = {
        **fleet(len(nodes)),
        **{of("up", node): still(0) for node in nodes},
        **{requests(node, "failed"): rising(5) for node in nodes},
        **{received(node, "region"): rising(1e8) for node in nodes},
        **{attempts(node, "silent"): rising(5) for node in nodes},
        **{claims(node, "timeout"): rising(5) for node in nodes},
        **first_bytes(0),
        **{name: still(0) for name in first_bytes(0) if 'le="0.25"' in name},
    }
    expected = [
        {"labels": f'{{alertname="{name}",severity="{severity}"}}', "value": 1}
        for name, severity in (
            ("ShorthaulAgentsDown", "warning"),
            ("ShorthaulClaimsTimeOut", "warning"),
            ("ShorthaulCrossZoneShareHigh", "warning"),
            ("ShorthaulFirstByteSlow", "warning"),
            ("ShorthaulMirrorSuccessLow", "critical"),
            ("ShorthaulMirrorSuccessLow", "warning"),
            ("ShorthaulStalledPeers", "warning"),
        )
    ]
    firing = 'group by (alertname, severity) (ALERTS{alertstate="firing"})'
    _play(tmp_path, series, (_LATEST, firing, expected), thresholds=_LAXEST)


def test_that_nobody_is_heard_of_is_an_alert_after_a_while(tmp_path: Path) -> None:
    firing = 'group by (alertname) (ALERTS{alertstate="firing"})'
    absent = {"labels": '{alertname="ShorthaulAgentsAbsent"}', "value": 1}
    _play(tmp_path, {"up": still(1)}, (10, firing, []), (20, firing, [absent]))


def test_nothing_fires_in_clusters_that_are_well(tmp_path: Path) -> None:
    series = {each: values for name in CALM for each, values in _in_cluster(name, CALM[name]).items()}
    firing = 'group by (cluster, alertname, instance) (ALERTS{alertstate="firing"})'
    _play(tmp_path, series, *((minutes, firing, []) for minutes in range(10, 80, 10)))


def test_success_of_a_path_is_an_alert_of_that_path_and_over_soon_after_its_fault(tmp_path: Path) -> None:
    began = 3600 // _STEP_S
    series = fleet(2)
    for node in range(2):
        series[requests(node, "served")] = rising(3)
        series[requests(node, "failed", path="nodeport")] = f"0x{began} 0+4x40 160x{_STEPS - began - 41}"
    firing = f"count by (path) ({_SUCCESS})"
    _play(
        tmp_path,
        series,
        (59, firing, []),
        (75, firing, [{"labels": '{path="nodeport"}', "value": 1}]),
        (100, firing, []),
    )

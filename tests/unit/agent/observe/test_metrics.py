"""All metrics of an agent together: what is there from the start, and what is never a label."""

from collections import Counter

from prometheus_client import CollectorRegistry

from agent.observe.families import Families
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord
from tests.unit.exposition import label_names, total
from tests.unit.twins import node
from topology.placement import Tier


def test_series_of_alarms_are_there_before_the_first_one() -> None:
    exposed = Metrics().expose().decode()
    assert 'shorthaul_corrupt_blobs_total{found_by="scrub"} 0.0' in exposed
    assert 'shorthaul_local_flows_total{endpoint="hostport",verdict="KUBE_PROXY"} 0.0' in exposed
    assert 'shorthaul_other_flows_total{endpoint="hostport",verdict="PROXIED"} 0.0' in exposed
    assert 'shorthaul_claims_total{outcome="lost",scope="zone"} 0.0' in exposed
    assert 'shorthaul_registry_fetches_avoided_total{kind="manifest"} 0.0' in exposed


def test_no_label_is_named_for_a_node_an_address_or_a_digest() -> None:
    metrics = Metrics()
    metrics.request(
        RequestRecord(
            path=RequestPath.HOSTPORT,
            method="GET",
            kind="blob",
            tier=Tier.ZONE,
            node=node("n"),
            first_byte_s=0.1,
            body_bytes=1,
        )
    )
    metrics.rtt(Tier.ZONE, 300.0, "connection")
    assert not label_names(metrics.expose()) & {"node", "peer", "address", "ip", "digest", "client"}


def test_two_agents_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.hedge()
    assert total(other.expose(), "hedges_total") == 0


def test_no_two_subjects_share_a_name_public_or_private() -> None:
    """`Metrics` inherits them all: of two with one name, one would count the other's facts."""
    names: Counter[str] = Counter()
    for base in Metrics.__bases__:
        made = base(Families(CollectorRegistry()))
        names.update({name for name in {*vars(base), *vars(made)} if not name.startswith("__")})
    assert names.keys() >= {"request", "_requests", "lookup"}, "methods and families are looked at"
    assert not [name for name, count in names.items() if count > 1]


def test_metrics_override_no_name_of_a_subject_but_those_that_they_pass_on() -> None:
    subjects = {name for base in Metrics.__bases__ for name in vars(base)}
    subjects |= {name for base in Metrics.__bases__ for name in vars(base(Families(CollectorRegistry())))}
    own = {*vars(Metrics), "_registry", "on_lookup", "health", "_mirror", "exemplars"}
    assert {name for name in own & subjects if not name.startswith("__")} == {"request", "lookup"}

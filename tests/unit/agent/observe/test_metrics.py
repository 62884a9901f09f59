"""All metrics of an agent together: what is there from the start, and what is never a label."""

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

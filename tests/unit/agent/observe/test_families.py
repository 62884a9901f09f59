"""Metrics are made under the product's name, in the registry that is given."""

from prometheus_client import CollectorRegistry, generate_latest

from agent.observe.families import Families


def test_names_begin_with_the_products_and_samples_are_in_the_given_registry() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    families = Families(registry)
    families.counter("things_total", "Things.", "kind").labels("a").inc()
    families.gauge("level", "A level.").set(3)
    families.histogram("wait_seconds", "Seconds.", buckets=(1, 2)).observe(1.5)
    text = generate_latest(registry).decode()
    assert 'shorthaul_things_total{kind="a"} 1.0' in text
    assert "shorthaul_level 3.0" in text
    assert 'shorthaul_wait_seconds_bucket{le="2.0"} 1.0' in text
    assert not generate_latest(other)

"""What a text in Prometheus' format says."""

from benchmarks.lab.cluster import metric_total


def total(exposed: bytes, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return metric_total(exposed, f"shorthaul_{name}", labels)


def label_names(exposed: bytes) -> set[str]:
    """The names of all labels."""
    samples = [line for line in exposed.decode().splitlines() if line and not line.startswith("#")]
    groups = [line.partition("{")[2].rpartition("}")[0] for line in samples]
    return {pair.partition("=")[0] for group in groups for pair in group.split(",") if pair}

"""What Prometheus scrapes: names by its conventions, help that stands alone, and no noise."""

import re
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from agent import __version__
from agent.observe.exposition import Exposed, prefers_openmetrics
from agent.observe.metrics import Metrics
from agent.observe.probe_metrics import ProbeMetrics
from agent.observe.requests import RequestPath, RequestRecord, Result
from tests.promtool import complaints
from tests.unit.agent.observe.test_probe_metrics import exposed as exposed_by_the_probe
from tests.unit.twins import REPOSITORY_ROOT
from topology.placement import Tier

_LABELS = {
    "direction", "endpoint", "found_by", "kind", "le", "listener", "path", "placed", "python",
    "outcome", "reason", "result", "scope", "source", "source_zone", "destination_zone", "tier", "verdict",
    "version", "way", "what", "zone",
}  # fmt: skip
_WORDS = {"found_by": "found", "placed": "known", "python": "Python", "destination_zone": "destination zone"}
_BAD_UNITS = re.compile(r"_(ms|us|milliseconds|microseconds|minutes|hours|kb|mb|gb|kib|mib|gib|percent)(_|$)")


def used() -> Metrics:
    """Metrics of an agent that answered one request of each kind."""
    metrics = Metrics()
    for path in RequestPath:
        for result in Result:
            metrics.request(
                RequestRecord(
                    path=path,
                    method="GET",
                    kind="blob",
                    result=result,
                    tier=Tier.ZONE,
                    body_bytes=1 << 21,
                    first_byte_s=0.1,
                    seconds=0.3,
                )
            )
    return metrics


def families() -> Iterator[Metric]:
    for text in (used().expose(), exposed_by_the_probe(ProbeMetrics())):
        yield from text_string_to_metric_families(text.decode())


FAMILIES = [*families()]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_name_and_labels_follow_the_conventions(family: Metric) -> None:
    assert re.fullmatch(r"(shorthaul|process)_[a-z0-9_]+", family.name)
    assert not _BAD_UNITS.search(family.name), "base units: seconds, bytes"
    assert not family.name.endswith("_created")
    assert family.type in ("counter", "gauge", "histogram"), "an untyped family is a sample without its help"
    if family.type != "counter":
        assert not family.name.endswith("_total")
    assert {label for sample in family.samples for label in sample.labels} <= _LABELS


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_help_is_a_sentence_that_stands_alone(family: Metric) -> None:
    text = family.documentation
    assert len(text) > 25
    assert text[0].isupper() or text[0].isdigit()
    assert text.endswith(".")
    assert not re.search(r"\b(those|these) (bodies|nodes)\b|^The same", text)
    name = family.name
    if name.endswith("seconds"):
        assert "second" in text.lower()
    if name.endswith(("bytes", "bytes_per_second")):
        assert "byte" in text.lower()
    if "usd" in name:
        assert "US dollars" in text
    for label in {label for sample in family.samples for label in sample.labels} - {"le"}:
        assert _WORDS.get(label, label.replace("_", " ")) in text, f"the help says nothing of {label}"


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param("*/*", False, id="curl"),
        pytest.param("application/openmetrics-text", True, id="OpenMetrics"),
        pytest.param(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
            id="Prometheus 2",
        ),
        pytest.param(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;"
            "q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            True,
            id="Prometheus 3",
        ),
        pytest.param("text/plain;version=0.0.4, application/openmetrics-text;q=0.5", False, id="rather text"),
        pytest.param("application/openmetrics-text;q=0", False, id="anything but OpenMetrics"),
        pytest.param("application/openmetrics-text;version=0.0.1", False, id="an older version"),
        pytest.param("Application/OpenMetrics-Text; Version=1.0.0", True, id="other letters"),
        pytest.param("application/openmetrics-text;q=nan", False, id="no weight"),
        pytest.param(";;==,,,q=1;text/plain;", False, id="garbage"),
        pytest.param("application/openmetrics-text;q=9e999", False, id="too heavy"),
    ],
)
def test_format_is_the_one_that_is_preferred(accept: str, preferred: bool) -> None:
    answer = used().exposed(accept)
    assert prefers_openmetrics(accept) is preferred
    assert answer.content_type.startswith("application/openmetrics-text;" if preferred else "text/plain;")
    assert answer.body.endswith(b"# EOF\n") is preferred


@pytest.mark.parametrize("exposes", [used().exposed, ProbeMetrics().exposed], ids=["agent", "probe"])
def test_both_formats_say_the_same(exposes: Callable[[str], Exposed]) -> None:
    text = text_string_to_metric_families(exposes("").body.decode())
    open_ = openmetrics_families(  # type: ignore[no-untyped-call]
        exposes("application/openmetrics-text").body.decode()
    )
    said = [
        {(sample.name, *sorted(sample.labels.items())) for each in one for sample in each.samples}
        for one in (text, open_)
    ]
    assert said[0] == said[1]


def test_promtool_finds_nothing_to_say_of_any_metric() -> None:
    metrics = used()
    assert metrics.index
    metrics.health.components({"store": True})
    metrics.health.doctor({"ok": 1}, ended_s=1.0)
    assert complaints(metrics.expose()) == ""
    assert complaints(exposed_by_the_probe(ProbeMetrics())) == ""


def test_promtool_finds_what_breaks_a_convention() -> None:
    wrong = b"# HELP things Things.\n# TYPE things counter\nthings 1\n"
    assert "_total" in complaints(wrong)
    assert complaints(b"# HELP x \xff\n{}{}")


def test_no_series_tells_when_it_was_made() -> None:
    assert b"_created" not in used().expose()


def test_process_and_release_are_told_by_agent_and_probe() -> None:
    for exposed in (Metrics().expose(), exposed_by_the_probe(ProbeMetrics())):
        text = exposed.decode()
        for name in (
            "cpu_seconds_total",
            "resident_memory_bytes",
            "open_fds",
            "max_fds",
            "start_time_seconds",
        ):
            assert re.search(rf"^process_{name} [0-9.e+]+$", text, re.MULTILINE), name
        assert f'version="{__version__}"}} 1.0' in text


def test_version_is_that_of_the_release() -> None:
    project = (REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{__version__}"\n' in project


def test_number_of_series_is_bounded_by_paths_tiers_and_results() -> None:
    lines = [
        line for line in used().expose().decode().splitlines() if "request_duration_seconds_count{" in line
    ]
    assert len(lines) == len(RequestPath) * len(Result)

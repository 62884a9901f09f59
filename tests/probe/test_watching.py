"""``shorthaul probe --watch``, its output being no terminal: a line for each verdict."""

import json
import re
import signal

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from benchmarks.lab.process import Process
from tests.promtool import complaints
from tests.server.agents import LOCAL, log_lines, wait_for

from .places import HOST, METRICS, Place

# verdict, endpoint, asked for, process and pid, on the wire to, RTT, open or closed, why
DIRECT = re.compile(
    rf"^DIRECT  hostport  {HOST}:{LOCAL}  python\S* \d+  {HOST}:{LOCAL}  "  # and not the probe's canaries
    rf"\S.*?  (open|closed)  taken by {HOST}:{LOCAL}"
)


def lines(watch: Process) -> list[str]:
    """What it printed so far."""
    return log_lines(watch.log)


def direct(watch: Process) -> int:
    """How many lines tell of a direct connection."""
    return sum(1 for line in lines(watch) if DIRECT.match(line))


def test_watch_shows_a_line_for_each_connection_that_the_running_probe_judges(place: Place) -> None:
    worker = place.worker()
    worker("listen", HOST, LOCAL)
    place.probe()
    wait_for(lambda: place.probe_metric("shorthaul_probe_canaries") == 2, "its canaries are over")
    watch = place.start("probe", "--watch")
    wait_for(lambda: place.probe_metric("shorthaul_probe_readers") == 2, "it and the agent follow the probe")
    worker("many", 7, HOST, LOCAL)
    wait_for(lambda: direct(watch) >= 7, "seven lines")
    assert direct(watch) == 7
    assert len(place.attached()) == 4  # it attached nothing of its own
    watch.signal(signal.SIGINT)
    wait_for(lambda: not watch.running, "it ends", at_most_s=60.0)
    assert watch.stop() == 0
    assert any("the probe of node-1" in line for line in lines(watch))


def test_metrics_of_the_running_probe_pass_promtool_in_both_formats(place: Place) -> None:
    place.probe()
    wait_for(lambda: place.probe_metric("shorthaul_probe_canaries") == 2, "its canaries are over")
    assert complaints(place.ask("/metrics", port=METRICS).body) == ""
    reply = place.ask("/metrics", port=METRICS, accept="application/openmetrics-text; version=1.0.0")
    assert reply.body.endswith(b"# EOF\n")
    families = text_string_to_metric_families(reply.body.decode())  # type: ignore[no-untyped-call]
    assert "shorthaul_probe_flows" in {family.name for family in families}


def test_watch_in_json_is_an_object_for_each_verdict(place: Place) -> None:
    worker = place.worker()
    worker("listen", HOST, LOCAL)
    place.probe()
    wait_for(lambda: place.probe_metric("shorthaul_probe_canaries") == 2, "its canaries are over")
    watch = place.start("probe", "--watch", "--json")
    wait_for(lambda: place.probe_metric("shorthaul_probe_readers") == 2, "it and the agent follow the probe")
    worker("many", 3, HOST, LOCAL)
    wait_for(lambda: watch.log.read_text().count('"DIRECT"') >= 3, "three lines")
    told = [json.loads(line) for line in lines(watch)]
    assert all(
        each.keys() >= {"judged_at", "endpoint", "verdict", "reason", "asked", "cookie"} for each in told
    )
    watch.signal(signal.SIGINT)
    wait_for(lambda: not watch.running, "it ends", at_most_s=60.0)
    assert watch.stop() == 0


def test_watch_ends_when_the_probe_does(place: Place) -> None:
    probe = place.probe()
    watch = place.start("probe", "--watch")
    wait_for(lambda: place.probe_metric("shorthaul_probe_readers") == 1, "it follows the probe")
    assert probe.stop() == 0
    wait_for(lambda: not watch.running, "it ends", at_most_s=60.0)
    assert watch.stop() == 0
    assert "which is gone" in watch.log.read_text()


def test_watch_without_a_probe_is_one_itself_and_leaves_nothing(place: Place) -> None:
    worker = place.worker()
    worker("listen", HOST, LOCAL)
    watch = place.start("probe", "--watch")
    wait_for(lambda: len(place.attached()) == 4, "it attaches")
    wait_for(lambda: worker("many", 1, HOST, LOCAL) and direct(watch) >= 3, "three lines")
    watch.signal(signal.SIGINT)
    wait_for(lambda: not watch.running, "it ends", at_most_s=60.0)
    assert watch.stop() == 0
    assert not place.attached()
    assert not place.socket.exists()
    assert "Traceback" not in watch.log.read_text()

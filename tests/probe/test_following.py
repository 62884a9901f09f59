"""The agent follows a probe that comes and goes, and needs none."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agent.flows.verdicts import Verdict
from tests.server.agents import LOCAL, wait_for

from .places import HOST, Orders, Place

_numbers = itertools.count(1)
COUNTERS = ("shorthaul_local_flows_total", "shorthaul_local_requests_total")


def test_agent_runs_fully_without_a_probe_and_says_so(place: Place) -> None:
    place.agent()
    assert place.worker()("get", HOST, LOCAL, "/v2/") == 200
    (record,) = place.ask("/api/requests").json()
    assert record["verdict"] == "UNKNOWN"
    assert place.agent_metric("shorthaul_probe_connected") == 0
    assert place.agent_metric("shorthaul_local_path_proved") == 0
    assert place.agent_metric("shorthaul_local_requests_total", endpoint="hostport", verdict="UNKNOWN") == 1


def test_agent_that_starts_after_the_probe_has_its_path_proved_without_waiting_for_the_next_round(
    place: Place,
) -> None:
    place.probe()  # whose next regular canaries are due in an hour
    place.agent()
    wait_for(lambda: place.agent_metric("shorthaul_local_path_proved") == 1, "proved")


def test_agent_follows_a_probe_that_is_killed_and_restarted(place: Place) -> None:
    place.agent()
    client, background = place.worker(), place.worker()
    with asked_all_the_time(background) as statuses:
        counted = [counts(place)]
        for _ in range(2):
            probe = place.probe()
            wait_for(lambda: place.agent_metric("shorthaul_probe_connected") == 1, "connected")
            wait_for(lambda: place.agent_metric("shorthaul_local_path_proved") == 1, "proved")
            counted.append(counts(place))
            assert judged(place, client) == "DIRECT"
            counted.append(counts(place))
            probe.kill()
            wait_for(lambda: place.agent_metric("shorthaul_probe_connected") == 0, "gone")
            assert place.agent_metric("shorthaul_local_path_proved") == 0
            counted.append(counts(place))
            assert judged(place, client) == "UNKNOWN"
        asked = len(statuses)
        wait_for(lambda: len(statuses) > asked, "requests go on")
    assert set(statuses) == {200}
    for one, next_one in itertools.pairwise(counted):
        assert all(now >= then for now, then in zip(next_one, one, strict=True))


def test_connection_older_than_the_probe_is_judged_at_its_next_packet(place: Place) -> None:
    client = place.worker()
    client("listen", HOST, LOCAL)
    (cookie,) = client("open", 1, HOST, LOCAL)
    place.probe()
    listener = place.listener()
    wait_for(lambda: len(listener.canaries) == 2, "the first canaries")
    assert listener.flow(cookie) is None
    client("pulse")
    wait_for(lambda: listener.flow(cookie) is not None, "a verdict")


def judged(place: Place, client: Orders) -> str:
    """The verdict of a new request, which its tag tells from those in the background."""
    number = next(_numbers)
    assert client("get", HOST, LOCAL, f"/v2/app/manifests/{number}?ns=r") == 404

    def found() -> list[str]:
        records = place.ask("/api/requests").json()
        return [record["verdict"] for record in records if record["target"] == f"r/app:{number}"]

    wait_for(lambda: any(found()), "the request has a verdict")
    (verdict,) = found()
    return verdict


def counts(place: Place) -> list[float]:
    """The agent's counters of flows and requests, by verdict."""
    return [place.agent_metric(name, verdict=verdict.value) for name in COUNTERS for verdict in Verdict] + [
        place.agent_metric("shorthaul_flow_contradictions_total")
    ]


@contextmanager
def asked_all_the_time(worker: Orders) -> Iterator[list[int]]:
    """Requests on connections of their own, one after the other, in a thread; their statuses so far."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.02):
            statuses.append(worker("get", HOST, LOCAL, "/v2/"))

    thread = threading.Thread(target=ask, name="requests")
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join(30)

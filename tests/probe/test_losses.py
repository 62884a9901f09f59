"""What the kernel can't tell is counted, never made up: overflow, no memory, as many connections as fit."""

import signal
from dataclasses import dataclass, fields
from typing import Self

import pytest

from agent.flows.verdicts import EndpointName, Verdict
from tests.server.agents import LOCAL, wait_for

from .places import HOST, Listener, Orders, Place, memory_kib

RSS_MOST_KIB = 40 * 1024
PEAK_MOST_KIB = 64 * 1024  # 42 MiB where the probe has enough CPU to fall behind only now and then
USER = 54321
OTHERS_MOST = 4000  # events a second
RING_BYTES = 65536
RING_EVENTS = RING_BYTES // 200
OVERFLOW = 3000
OPEN, OTHER_HOST = 5000, "127.0.0.9"  # more than the probe keeps
AT_ONCE = 1000  # their events fit into the ring buffer, however busy the machine is
CANARY_EVENTS = 12  # of two rounds that may fall into the time
NOT_TOLD = ("events", "ends")

# Bytes: the storage of a flow's state takes some hundred of them, and the kernel's default is 131072.
OPTIONS_MEMORY = 16384


@pytest.fixture
def worker(place: Place) -> Orders:
    """A client, and a server at the HostPort, in the node."""
    made = place.worker()
    made("listen", HOST, LOCAL)
    return made


def settled(place: Place) -> Listener:
    """A reader of a probe whose first canaries are over."""
    listener = place.listener()
    wait_for(lambda: len(listener.canaries) == 2, "the first canaries")
    return listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the programs, the probe and the agent counted so far."""

    told: float
    lost: float
    judged: float
    unknown: float
    counted_by_agent: float

    @classmethod
    def of(cls, place: Place) -> Self:
        """As of now."""
        return cls(
            told=place.probe_metric("shorthaul_probe_events_total"),
            lost=sum(
                place.probe_metric("shorthaul_probe_lost_total", what=what) for what in ("events", "ends")
            ),
            judged=place.probe_metric("shorthaul_probe_flows_total"),
            unknown=place.probe_metric("shorthaul_probe_flows_total", verdict="UNKNOWN"),
            counted_by_agent=place.agent_metric("shorthaul_local_flows_total"),
        )

    @property
    def agree(self) -> bool:
        """Whether the agent heard of every flow."""
        return self.counted_by_agent == self.judged

    def minus(self, before: Self) -> Self:
        """What is new since then."""
        names = [field.name for field in fields(self)]
        return type(self)(**{name: getattr(self, name) - getattr(before, name) for name in names})


def test_probe_stays_below_40_mib_idle_and_after_20_000_connections(place: Place) -> None:
    probe = place.probe()
    listener = settled(place)
    listener.wait_for_healths(5)
    assert memory_kib(probe.pid) <= RSS_MOST_KIB
    made, _ = place.blast(most=20_000)
    assert made == 20_000
    listener.wait_for_healths(2)
    assert memory_kib(probe.pid) <= RSS_MOST_KIB


def test_probe_stays_below_40_mib_with_more_open_connections_than_it_keeps(
    place: Place, worker: Orders
) -> None:
    """To the agent, and then to another process: those wait for an agent that may have just started."""
    probe = place.probe()
    listener = settled(place)
    worker("listen", OTHER_HOST, LOCAL, ours=False)
    for host, verdict in ((HOST, Verdict.DIRECT), (OTHER_HOST, Verdict.PROXIED)):
        # Of other processes' connections as many wait for evidence as there is room for: the later the probe
        # runs, the fewer. What counts here is its memory.
        lost_most = 0 if verdict is Verdict.DIRECT else AT_ONCE // 2
        for _ in range(OPEN // AT_ONCE):
            listener.wait_for(verdict, worker("open", AT_ONCE, host, LOCAL), lost_most=lost_most)
        listener.wait_for_healths(2)
        assert memory_kib(probe.pid) <= RSS_MOST_KIB
        worker("drop")


def test_events_that_overflow_the_ring_buffer_are_counted_and_their_flows_judged_at_their_next_packet(
    place: Place, worker: Orders
) -> None:
    probe = place.probe(ring_bytes=RING_BYTES)
    listener = settled(place)
    listener.wait_for_healths(2)  # all of them is counted
    told = place.probe_metric("shorthaul_probe_events_total")
    probe.signal(signal.SIGSTOP)
    worker("many", OVERFLOW, HOST, LOCAL)
    late = worker("open", 20, HOST, LOCAL)  # no event of theirs fits in
    probe.signal(signal.SIGCONT)
    wait_for(lambda: listener.health.lost_events > 0, "lost events are told")
    listener.wait_for_healths(2)
    lost = listener.health.lost_events + listener.health.lost_ends
    told = place.probe_metric("shorthaul_probe_events_total") - told
    # Each connection has an event at either end, and one more when it closes.
    assert told <= RING_EVENTS + CANARY_EVENTS
    assert told + lost >= 3 * OVERFLOW + 2 * len(late)
    assert [listener.verdict(cookie) for cookie in late] == [None] * len(late)
    assert worker("pulse") == len(late)
    listener.wait_for(Verdict.DIRECT, late)
    assert place.probe_metric("shorthaul_probe_lost_total", what="events") == listener.health.lost_events
    assert set(listener.verdicts()) <= {
        (EndpointName.HOSTPORT, Verdict.DIRECT),
        (EndpointName.HOSTPORT, Verdict.UNKNOWN),
        (EndpointName.HOSTPORT, Verdict.FAILED),  # canaries: the server is no agent
        (EndpointName.NODEPORT, Verdict.FAILED),
    }
    assert probe.running


def test_flow_without_memory_for_its_state_works_is_counted_and_never_direct(
    place: Place, worker: Orders
) -> None:
    place.probe()
    listener = settled(place)
    place.sysctl("net.core.optmem_max", OPTIONS_MEMORY)
    cookies = worker("open", 5, HOST, LOCAL, fill=True)
    assert worker("pulse") == 5
    wait_for(lambda: listener.health.lost_flows >= 5, "lost flows are told")
    (witness,) = worker("open", 1, HOST, LOCAL)
    listener.wait_for(Verdict.DIRECT, [witness])
    listener.wait_for_healths(2)
    assert {listener.verdict(cookie) for cookie in cookies} <= {None, Verdict.UNKNOWN}
    assert place.probe_metric("shorthaul_probe_lost_total", what="flows") >= 5


def test_namespace_without_any_memory_for_options_has_no_verdicts_until_there_is_some(place: Place) -> None:
    """Whose server is it is not known: with so little memory, the agent's mark could not be passed on."""
    worker = place.worker()
    worker("listen", HOST, LOCAL, ours=False)
    place.probe()
    listener = settled(place)
    place.sysctl("net.core.optmem_max", 0)
    cookies = worker("open", 3, HOST, LOCAL)
    assert worker("pulse") == 3
    wait_for(lambda: listener.health.lost_flows >= 3, "lost flows are told")
    assert [listener.verdict(cookie) for cookie in cookies] == [None] * 3
    place.sysctl("net.core.optmem_max", 131072)
    worker("pulse")  # as flows older than the probe: judged at their next packet
    listener.wait_for(Verdict.UNKNOWN, cookies)


def test_agent_in_a_namespace_with_hardly_any_memory_for_options_is_not_marked_and_works(
    place: Place,
) -> None:
    """A mark that can't be passed on would keep the kernel from accepting connections at all."""
    place.sysctl("net.core.optmem_max", 1024)
    place.probe()
    agent = place.agent()
    wait_for(lambda: place.probe_metric("shorthaul_probe_agents") == 1, "it told its sockets")
    place.sysctl("net.core.optmem_max", 0)
    assert place.worker()("get", HOST, LOCAL, "/v2/") == 200
    assert agent.running


def test_as_many_connections_as_this_machine_can_make_break_nothing(place: Place) -> None:
    """Counts add up, memory is bounded, the agent follows, and the next connection is judged."""
    agent, probe = place.agent(), place.probe()
    listener = settled(place)
    wait_for(lambda: place.agent_metric("shorthaul_probe_connected") == 1, "the agent hears of the probe")
    listener.wait_for_healths(2)
    before = Counts.of(place)
    made, _ = place.blast(seconds=5)
    listener.wait_for_healths(2)
    new = Counts.of(place).minus(before)
    # Each connection has an event at either end, and one more when it closes; a lost one may be tried again.
    assert new.told <= 3 * made <= new.told + new.lost
    assert 0 < new.judged <= made + new.unknown  # one that was UNKNOWN may become another
    assert {verdict for endpoint, verdict in listener.verdicts() if endpoint is EndpointName.HOSTPORT} <= {
        Verdict.DIRECT,
        Verdict.UNKNOWN,
        Verdict.PROXIED,  # the servers of the load are no agent's
    }
    assert probe.running
    assert memory_kib(probe.pid) <= RSS_MOST_KIB
    assert memory_kib(probe.pid, "VmHWM") <= PEAK_MOST_KIB
    assert agent.running
    wait_for(lambda: place.agent_metric("shorthaul_probe_connected") == 1, "the agent follows the probe")
    if not place.probe_metric("shorthaul_probe_readers_cut_off_total"):
        wait_for(lambda: Counts.of(place).minus(before).agree, "the agent counted what the probe judged")
    assert place.worker()("get", HOST, LOCAL, "/v2/") == 200
    wait_for(lambda: place.ask("/api/requests").json()[0]["verdict"] == "DIRECT", "the request is judged")


def test_flood_of_another_user_costs_no_evidence_and_is_counted_apart(place: Place) -> None:
    """However fast it is: it leaves room for every canary, even in the smallest ring buffer."""
    probe, agent = place.probe(ring_bytes=RING_BYTES, canary_interval_s=1), place.agent()
    listener = settled(place)
    wait_for(lambda: place.agent_metric("shorthaul_local_path_proved") == 1, "the path is proved")
    listener.wait_for_healths(1)
    before, rounds_before = Counts.of(place), len(listener.rounds)
    _, took_s = place.blast(seconds=5, uid=USER)
    wait_for(lambda: len(listener.rounds) > rounds_before, "canaries were sent meanwhile")
    after, rounds = Counts.of(place), listener.rounds[rounds_before:]
    new = after.minus(before)
    assert new.lost == 0
    assert new.told <= OTHERS_MOST * 2 * (took_s + 2), "an end of what was told is always told"
    assert place.probe_metric("shorthaul_probe_lost_total", what="held_back") > 0
    canaries = [canary for canary_round in rounds for canary in canary_round]
    host_port = [canary.verdict for canary in canaries if canary.endpoint is EndpointName.HOSTPORT]
    assert set(host_port) == {Verdict.DIRECT}
    wait_for(lambda: place.agent_metric("shorthaul_local_path_proved") == 1, "the path is proved")
    listener.wait_for_healths(2)
    assert place.probe_metric("shorthaul_probe_other_flows_total") > 0
    assert place.probe_metric("shorthaul_probe_flows_total", verdict="PROXIED") == 0
    assert place.agent_metric("shorthaul_other_flows_total", verdict="PROXIED") > 0
    assert place.agent_metric("shorthaul_local_flows_total", verdict="PROXIED") == 0
    assert memory_kib(probe.pid) <= RSS_MOST_KIB
    assert agent.running

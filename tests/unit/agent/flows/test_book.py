"""What the agent makes of a probe's messages: counts, answers, and whether the local path is proved."""

import dataclasses
from collections import Counter

import pytest

from agent.flows.book import FlowBook, MetricsDelta
from agent.flows.messages import Canary, Flows, Health, Hello
from agent.flows.table import Flow, FlowTable
from agent.flows.verdicts import EndpointName, Verdict
from tests.unit.agent.flows.scenes import (
    NODE_IP,
    REMOTE_IP,
    USERS,
    Scene,
    direct,
    node,
    node_port,
    play,
    portmap,
)

HOSTPORT, NODEPORT = EndpointName.HOSTPORT, EndpointName.NODEPORT
OWN = "node-1"
TAKEN = 900
STARTED = 7.0


def book(*, connected: bool = True) -> FlowBook:
    made = FlowBook(own=OWN, canary_interval_s=10.0)
    if connected:
        made.apply(Hello(node=OWN, started_s=STARTED), 0.0)
    return made


def judged(scene: Scene, *, closed: bool = False, **changes: object) -> Flow:
    """A flow as the probe's table tells of it, with both its ends."""
    flows = FlowTable(node())
    events = [scene.client(), scene.server()] + ([scene.closed()] if closed else [])
    play(flows, *events[:2])
    flows.changes(9.0)
    told = [*flows.open_flows(), *play(flows, *events[2:])][-1]
    return dataclasses.replace(told, **changes)  # type: ignore[arg-type]


def failed(scene: Scene) -> Flow:
    return play(FlowTable(node()), scene.failed())[-1]


def tell(to: FlowBook, *flows: Flow, now_s: float = 1.0) -> MetricsDelta:
    return to.apply(Flows(flows=flows), now_s)


def canary(
    endpoint: EndpointName = HOSTPORT,
    verdict: Verdict = Verdict.DIRECT,
    *,
    at_s: float = 0.0,
    by: str = OWN,
    address: str = "127.0.0.1:30020",
    taken_by: int = TAKEN,
) -> Canary:
    return Canary(
        endpoint=endpoint,
        address=address,
        verdict=verdict,
        reason="as it was",
        went="127.0.0.1:30020",
        answered_by=by,
        rtt_us=50,
        at_s=at_s,
        taken_by=taken_by,
    )


def canaries(*sent: Canary, contradictions: int = 0) -> Health:
    return Health(canaries=sent, contradictions=contradictions)


# Counting


def test_each_flow_is_counted_once_by_endpoint_and_verdict() -> None:
    flows = book()
    news = tell(flows, judged(direct()), judged(portmap(41000, cookie=2)), judged(node_port(cookie=3)))
    assert news.flows == Counter(
        {
            (HOSTPORT, Verdict.DIRECT): 1,
            (HOSTPORT, Verdict.HOSTPORT_NAT): 1,
            (NODEPORT, Verdict.KUBE_PROXY): 1,
        }
    )
    assert tell(flows, judged(direct())).flows == Counter()


def test_flow_is_counted_again_when_its_verdict_is_another() -> None:
    flows = book()
    flow = judged(direct())
    tell(flows, dataclasses.replace(flow, verdict=Verdict.UNKNOWN))
    assert tell(flows, flow).flows == Counter({(HOSTPORT, Verdict.DIRECT): 1})


def test_flow_that_closes_is_not_counted_again() -> None:
    flows = book()
    tell(flows, judged(node_port()))
    assert tell(flows, judged(node_port(), closed=True)).flows == Counter()


def test_probe_that_restarts_and_tells_all_again_counts_nothing_twice() -> None:
    flows = book()
    tell(flows, judged(direct()), judged(node_port(cookie=2)))
    flows.on_probe_lost()
    flows.apply(Hello(node=OWN, started_s=STARTED), 5.0)
    assert tell(flows, judged(direct()), judged(node_port(cookie=2))).flows == Counter()


@pytest.mark.parametrize("others_close", [True, False])
def test_kept_alive_flow_is_counted_once_whatever_number_of_others_come(others_close: bool) -> None:
    flows = book()
    kept = judged(direct())
    assert tell(flows, dataclasses.replace(kept, verdict_is_new=True)).flows.total() == 1
    for cookie in range(10, 10_010):
        other = dataclasses.replace(kept, cookie=cookie, verdict_is_new=True)
        assert tell(flows, other).flows.total() == 1
        if others_close:
            assert (
                tell(flows, dataclasses.replace(other, closed=True, verdict_is_new=False)).flows.total() == 0
            )
    later = dataclasses.replace(kept, closed=True, verdict_is_new=False)
    assert tell(flows, later).flows == Counter()


def test_socket_that_connects_twice_counts_as_two_flows() -> None:
    flows = book()
    flow = dataclasses.replace(judged(direct()), verdict_is_new=True)
    counted = [
        tell(flows, flow).flows.total(),
        tell(flows, dataclasses.replace(flow, closed=True, verdict_is_new=False)).flows.total(),
        tell(flows, flow).flows.total(),
    ]
    assert counted == [1, 0, 1]


def test_bytes_count_once_for_closed_flows_that_left_the_node() -> None:
    flows = book()
    remote = judged(node_port(to=REMOTE_IP), closed=True, bytes_received=100, bytes_sent=7)
    here = judged(node_port(cookie=2), closed=True, bytes_received=5000, bytes_sent=5000)
    opened = dataclasses.replace(remote, closed=False, cookie=3)
    news = tell(flows, remote, here, opened)
    assert (news.remote_received, news.remote_sent) == (100, 7)


def test_contradictions_are_those_since_the_last_message() -> None:
    flows = book()
    counted = [flows.apply(canaries(contradictions=number), 1.0).contradictions for number in (0, 2, 2, 3)]
    assert counted == [0, 2, 0, 1]


def test_contradictions_of_a_restarted_probe_start_anew() -> None:
    flows = book()
    flows.apply(canaries(contradictions=2), 1.0)
    flows.on_probe_lost()
    flows.apply(Hello(node=OWN, started_s=STARTED + 2.0), 2.0)
    assert flows.apply(canaries(contradictions=2), 3.0).contradictions == 2


def test_contradictions_are_not_counted_twice_when_the_same_probe_is_heard_again() -> None:
    flows = book()
    flows.apply(canaries(contradictions=2), 1.0)
    flows.on_probe_lost()
    flows.apply(Hello(node=OWN, started_s=STARTED), 2.0)
    assert flows.apply(canaries(contradictions=2), 3.0).contradictions == 0


# The verdict behind a connection of the agent's


class Answers(list[Verdict | None]):
    """What was answered."""

    def __call__(self, verdict: Verdict | None) -> None:
        self.append(verdict)


def test_verdict_is_known_by_the_cookie_of_the_agents_own_socket() -> None:
    flows = book()
    tell(flows, judged(direct()))
    assert flows.verdict(1001) is Verdict.DIRECT
    assert flows.verdict(1) is None
    assert flows.verdict(4711) is None


def test_known_verdict_is_answered_at_once() -> None:
    flows, answers = book(), Answers()
    tell(flows, judged(direct()))
    flows.when_judged(1001, answers, 1.0)
    assert answers == [Verdict.DIRECT]


def test_verdict_that_comes_later_is_answered_when_it_does_to_all_who_asked() -> None:
    flows, first, second = book(), Answers(), Answers()
    flows.when_judged(1001, first, 1.0)
    flows.when_judged(1001, second, 1.1)
    flows.tick(1.2)
    assert first == second == []
    tell(flows, judged(direct()))
    assert first == second == [Verdict.DIRECT]
    flows.tick(99.0)
    assert first == [Verdict.DIRECT]


def test_those_who_wait_too_long_are_told_nothing_is_known() -> None:
    flows, early, late = book(), Answers(), Answers()
    flows.when_judged(1001, early, 1.0)
    flows.when_judged(1002, late, 2.0)
    flows.tick(2.5)
    assert (early, late) == ([None], [])
    flows.tick(3.5)
    assert late == [None]


def test_without_a_probe_nothing_is_waited_for() -> None:
    flows, answers = book(connected=False), Answers()
    flows.when_judged(1001, answers, 1.0)
    assert answers == [None]


def test_those_who_wait_are_answered_when_the_probe_goes() -> None:
    flows, answers = book(), Answers()
    flows.when_judged(1001, answers, 1.0)
    flows.on_probe_lost()
    assert answers == [None]


def test_what_was_known_stays_known_when_the_probe_goes() -> None:
    flows, answers = book(), Answers()
    tell(flows, judged(direct()))
    flows.on_probe_lost()
    flows.when_judged(1001, answers, 1.0)
    assert answers == [Verdict.DIRECT]


def test_one_who_asks_again_from_its_answer_is_answered() -> None:
    flows, answers = book(), Answers()
    flows.when_judged(1001, lambda _: flows.when_judged(1001, answers, 5.0), 1.0)
    flows.on_probe_lost()
    assert answers == [None]


def test_the_number_of_those_who_wait_and_of_what_is_kept_is_bounded() -> None:
    flows, answers = book(), Answers()
    for cookie in range(10_000):
        flows.when_judged(cookie, answers, 1.0)
    assert answers == []
    flows.when_judged(10_000, answers, 1.0)
    assert answers == [None]
    flow = judged(direct())
    told = [dataclasses.replace(flow, cookie=10**6 + one, taken_by=10**7 + one) for one in range(20_000)]
    tell(flows, *told)
    assert flows.verdict(10**7) is None
    assert flows.verdict(10**7 + 19_999) is Verdict.DIRECT
    assert flows.verdict(10**7 + 19_999 - 8192) is None


# Other processes of the node


def of_others(flow: Flow, **changes: object) -> Flow:
    return dataclasses.replace(flow, by_containerd=False, verdict_is_new=True, **changes)  # type: ignore[arg-type]


def test_other_processes_connections_are_counted_apart_from_containerds_and_canaries() -> None:
    flows, flow = book(), judged(direct())
    canary_flow = of_others(flow, cookie=2, canary=True)
    other = of_others(flow, cookie=3, verdict=Verdict.PROXIED)
    news = tell(flows, flow, canary_flow, other)
    assert news.flows == Counter({(HOSTPORT, Verdict.DIRECT): 2})
    assert news.others == Counter({(HOSTPORT, Verdict.PROXIED): 1})
    again = tell(flows, dataclasses.replace(other, closed=True, verdict_is_new=False))
    assert again.others == Counter()


def test_flood_of_other_processes_pushes_nothing_of_containerds_out() -> None:
    flows, kept = book(), judged(direct())
    tell(flows, dataclasses.replace(kept, verdict_is_new=True), now_s=1.0)
    for one in range(20_000):
        tell(flows, of_others(kept, cookie=10**6 + one, taken_by=10**7 + one), now_s=2.0)
    assert flows.verdict(kept.taken_by) is Verdict.DIRECT
    assert flows.verdict(10**7) is None, "theirs are bounded"
    assert tell(flows, dataclasses.replace(kept, closed=True, verdict_is_new=False)).flows == Counter()
    listed = [flow.cookie for _, flow in flows.newest_first()]
    assert listed == [*range(10**6 + 19_999, 10**6 + 19_949, -1), kept.cookie]
    assert [flow.cookie for _, flow in flows.newest_first(1)] == [10**6 + 19_999]


def test_bytes_that_another_process_sent_to_another_node_are_not_containerds() -> None:
    flow = judged(node_port(to=REMOTE_IP), closed=True, bytes_received=5, bytes_sent=7)
    mine, theirs = tell(book(), flow), tell(book(), of_others(flow))
    assert (mine.remote_received, mine.remote_sent) == (5, 7)
    assert (theirs.remote_received, theirs.remote_sent) == (0, 0)


# Whether the path is proved


def test_direct_canary_answered_by_this_nodes_agent_proves_the_path() -> None:
    flows = book()
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    assert flows.proved(2.0)[0]


def test_nothing_is_proved_without_a_probe() -> None:
    flows = book(connected=False)
    assert flows.proved(0.0) == (False, "no probe reports this node's flows")
    flows = book()
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    flows.on_probe_lost()
    assert not flows.proved(2.0)[0]


def test_nothing_is_proved_before_a_canary_and_after_a_restart_of_the_probe() -> None:
    flows = book()
    assert "no canary" in flows.proved(0.0)[1]
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    flows.on_probe_lost()
    flows.apply(Hello(node=OWN, started_s=STARTED), 2.0)
    assert not flows.proved(2.0)[0]
    flows.apply(Health(), 3.0)
    assert not flows.proved(3.0)[0]


def test_canary_to_the_node_port_proves_nothing_of_the_host_port() -> None:
    flows = book()
    flows.apply(canaries(canary(NODEPORT, at_s=1.0)), 1.0)
    assert "no canary was sent to the HostPort" in flows.proved(2.0)[1]


def test_node_ports_canary_may_be_translated() -> None:
    flows = book()
    flows.apply(
        canaries(canary(at_s=1.0), canary(NODEPORT, Verdict.KUBE_PROXY_REMOTE, at_s=1.0, by="x")), 1.0
    )
    assert flows.proved(2.0)[0]


def test_canary_that_is_too_old_proves_nothing_any_more() -> None:
    flows = book()
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    assert flows.proved(26.0)[0]
    proved, reason = flows.proved(26.1)
    assert not proved
    assert "25 s old" in reason


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.DIRECT])
def test_canary_that_was_not_direct_disproves_and_says_why(verdict: Verdict) -> None:
    flows = book()
    flows.apply(
        canaries(canary(at_s=1.0), canary(verdict=verdict, at_s=1.0, address=f"{NODE_IP}:30020")), 1.0
    )
    proved, reason = flows.proved(2.0)
    assert not proved
    assert f"{NODE_IP}:30020 was {verdict.value}: as it was" in reason


@pytest.mark.parametrize(("by", "named"), [("node-2", "node-2"), ("", "something that is not an agent")])
def test_canary_that_somebody_else_answered_disproves(by: str, named: str) -> None:
    flows = book()
    flows.apply(canaries(canary(at_s=1.0, by=by)), 1.0)
    proved, reason = flows.proved(2.0)
    assert not proved
    assert named in reason


def test_health_without_canaries_keeps_the_last_round() -> None:
    flows = book()
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    flows.apply(Health(lost_events=5), 2.0)
    assert flows.proved(2.0)[0]
    assert [one.at_s for one in flows.proof.canaries] == [1.0]


def test_translated_connection_to_the_host_port_disproves_for_ten_intervals() -> None:
    """Whatever others are: rules can tell clients apart."""
    flows = book()
    tell(flows, judged(portmap()), now_s=2.0)
    flows.apply(canaries(canary(at_s=100.0)), 100.0)
    tell(flows, judged(direct(), canary=True), judged(direct(40001, cookie=1001)), now_s=100.0)
    proved, reason = flows.proved(101.9)
    assert not proved
    assert "127.0.0.1:30020 was HOSTPORT_NAT" in reason
    assert flows.proved(102.0)[0]


def test_requests_by_a_translated_connection_disprove_for_as_long_as_they_come() -> None:
    flows = book()
    flow = judged(portmap())
    tell(flows, flow, now_s=2.0)
    flows.apply(canaries(canary(at_s=199.0)), 199.0)
    flows.when_judged(flow.taken_by, lambda verdict: None, 150.0)
    assert "HOSTPORT_NAT" in flows.proved(200.0)[1]


def test_masquerade_disproves_although_nobody_can_be_named() -> None:
    flows = book()
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    tell(flows, judged(direct(), verdict=Verdict.UNKNOWN, translated=True, reason="masquerade"), now_s=2.0)
    assert "masquerade" in flows.proved(3.0)[1]


def test_canary_proves_nothing_of_containerd_where_other_programs_run_on_its_connects() -> None:
    flows = book()
    flows.apply(dataclasses.replace(canaries(canary(at_s=1.0)), alike=False), 1.0)
    assert "containerd's connect()" in flows.proved(2.0)[1]


def test_canary_that_was_translated_disproves_by_itself_only() -> None:
    flows = book()
    tell(flows, judged(portmap(), canary=True), now_s=2.0)
    flows.apply(canaries(canary(at_s=4.0)), 4.0)
    assert flows.proved(5.0)[0]


def test_what_disproved_is_not_told_again_by_a_probe_that_restarts() -> None:
    flows = book()
    tell(flows, judged(portmap()), now_s=2.0)
    flows.on_probe_lost()
    flows.apply(Hello(node=OWN, started_s=STARTED), 90.0)
    tell(flows, judged(portmap()), now_s=90.0)
    flows.apply(canaries(canary(at_s=103.5)), 103.5)
    assert flows.proved(105.0)[0]


@pytest.mark.parametrize(
    "flow",
    [
        judged(direct()),
        judged(node_port()),
        judged(node_port(to=REMOTE_IP)),
        judged(portmap(cgroup=USERS)),
        judged(direct(cgroup=USERS, ours=False)),
        failed(direct()),
    ],
    ids=lambda flow: f"{flow.endpoint.value} {flow.verdict.value}",
)
def test_other_connections_and_other_users_disprove_nothing_of_the_host_port(flow: Flow) -> None:
    flows = book()
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    tell(flows, flow, now_s=2.0)
    assert flows.proved(3.0)[0]


def test_contradiction_of_containerds_disproves_for_ten_intervals_and_anothers_is_only_counted() -> None:
    flows = book()
    flows.apply(canaries(canary(at_s=1.0)), 1.0)
    assert flows.apply(canaries(canary(at_s=1.0), contradictions=1), 2.0).contradictions == 1
    flow = judged(direct(), verdict=Verdict.UNKNOWN, contradicted=True)
    tell(flows, dataclasses.replace(flow, by_containerd=False), now_s=2.0)
    assert flows.proved(3.0)[0]
    tell(flows, dataclasses.replace(flow, cookie=2), now_s=2.0)
    assert flows.proved(3.0) == (False, "the two ends of a connection contradict each other")
    flows.apply(canaries(canary(at_s=100.0), contradictions=1), 101.0)
    assert not flows.proved(101.9)[0]
    assert flows.proved(102.0)[0]


def test_connections_of_other_namespaces_are_a_number_and_nothing_else() -> None:
    flows = book()
    assert flows.apply(Health(foreign=12), 1.0).flows == Counter()
    assert flows.foreign == 12
    assert flows.newest_first() == []

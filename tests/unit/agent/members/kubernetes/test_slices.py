"""EndpointSlices to agents: the recorded answers of a real API server, and slices that nobody should send."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.members.kubernetes.slices import Listed, SliceTable, Source, read_slice
from benchmarks.lab.apiserver import Pod, slice_object
from tests.unit.twins import REPOSITORY_ROOT, node

RECORDED = REPOSITORY_ROOT / "tests" / "recorded" / "kubernetes"
SOURCE = Source(service="shorthaul-peers", namespace="shorthaul", port_name="peer", family=4)


def recorded(name: str) -> list[Any]:
    lines = Path(RECORDED / name).read_text().splitlines()
    return [json.loads(line) for line in lines]


def table(*pods: Pod, source: Source = SOURCE, **more: Any) -> SliceTable:
    made = SliceTable(source)
    made.replace([slice_object("one", pods, **more)])
    return made


def addresses(made: SliceTable) -> dict[str, str]:
    return {name: listed.address for name, listed in made.agents.items()}


def test_recorded_list_has_each_node_once_with_its_address_port_and_zone() -> None:
    made = SliceTable(SOURCE)
    document = json.loads((RECORDED / "endpointslices-list.json").read_text())
    made.replace(document["items"])
    assert made.agents == {
        name: Listed(node=node(name), address=address, port=30020, zone=zone, used=True, stops=False)  # type: ignore[arg-type]
        for name, address, zone in (
            ("k8-n3", "192.168.70.3", "b"),
            ("k8-n1", "192.168.70.1", "a"),
            ("k8-n2", "192.168.70.2", "a"),
        )
    }
    assert not made.wrong


def test_recorded_rolling_update_with_surge_changes_no_agent_until_a_kubelet_dies() -> None:
    made = SliceTable(SOURCE)
    made.replace(json.loads((RECORDED / "endpointslices-list.json").read_text())["items"])
    at_first, seen = dict(made.agents), []
    for event in recorded("endpointslices-watch-rolling-update.jsonl"):
        if event["type"] != "BOOKMARK":
            made.apply(event["object"], deleted=event["type"] == "DELETED")
            seen.append(dict(made.agents))
    assert all(agents == at_first for agents in seen[:-1])
    assert sorted(seen[-1]) == ["k8-n1", "k8-n2"]  # the kubelet of k8-n3 was stopped
    assert seen[-1][node("k8-n1")].zone == "b"  # it was relabelled
    assert not made.stops(node("k8-n3"))


def test_pod_and_its_successor_are_one_agent_whatever_their_order() -> None:
    old = Pod(node="a", address="10.0.0.1", ready=False, serving=True, terminating=True)
    new = Pod(node="a", address="10.0.0.2")
    for pods in ((old, new), (new, old)):
        made = table(*pods)
        assert addresses(made) == {"a": "10.0.0.2"}
        assert made.stops(node("a"))


@pytest.mark.parametrize(
    ("pod", "used"),
    [
        (Pod(node="a", address="10.0.0.1", ready=None), True),
        (Pod(node="a", address="10.0.0.1", ready=False), False),
        (Pod(node="a", address="10.0.0.1", ready=True, terminating=True), False),  # publishNotReadyAddresses
        (Pod(node="a", address="10.0.0.1", ready=None, terminating=True), False),
        (Pod(node="a", address="10.0.0.1", zone=None), True),
    ],
)
def test_agent_is_used_if_it_is_ready_or_nobody_says_that_it_is_not_and_does_not_stop(
    pod: Pod, used: bool
) -> None:
    assert bool(table(pod).agents) is used


def test_change_of_one_endpoint_tells_of_one_node_among_a_thousand() -> None:
    pods = [
        Pod(node=f"n{number}", address=f"10.0.{number // 250}.{number % 250 + 1}") for number in range(1000)
    ]
    made = SliceTable(SOURCE)
    assert len(made.replace([slice_object("large", pods)])) == 1000
    pods[500] = Pod(node="n500", address=pods[500].address, ready=False)
    before = made.apply(slice_object("large", pods), deleted=False)
    assert list(before) == ["n500"]
    assert len(made.agents) == 999


def test_node_that_moves_from_one_slice_to_another_stays() -> None:
    pod = Pod(node="a", address="10.0.0.1")
    made = table(pod)
    made.apply(slice_object("two", [pod]), deleted=False)  # in both for a moment
    made.apply(slice_object("one", []), deleted=False)
    assert addresses(made) == {"a": "10.0.0.1"}
    made.apply(slice_object("two", []), deleted=True)
    assert not made.agents


def test_slice_that_is_listed_no_more_takes_its_agents_with_it() -> None:
    made = table(Pod(node="a", address="10.0.0.1"))
    made.replace([slice_object("two", [Pod(node="b", address="10.0.0.2")])])
    assert addresses(made) == {"b": "10.0.0.2"}


def test_of_two_ready_agents_with_one_node_name_the_known_one_stays() -> None:
    one, two = Pod(node="a", address="10.0.0.9"), Pod(node="a", address="10.0.0.1")
    made = table(one)
    made.apply(slice_object("other", [two]), deleted=False)
    assert addresses(made) == {"a": "10.0.0.9"}
    assert made.double == {"a": ("10.0.0.9", "10.0.0.1")}
    made.apply(slice_object("one", []), deleted=False)
    assert addresses(made) == {"a": "10.0.0.1"}
    assert not made.double


def test_dual_stack_agent_is_one_agent_with_the_family_of_this_node() -> None:
    four, six = Pod(node="a", address="10.0.0.1"), Pod(node="a", address="fd00::1")
    documents = [slice_object("four", [four]), slice_object("six", [six], address_type="IPv6")]
    for family, address in ((4, "10.0.0.1"), (6, "fd00::1")):
        made = SliceTable(
            Source(service="shorthaul-peers", namespace="shorthaul", port_name="peer", family=family)
        )
        made.replace(documents)
        assert addresses(made) == {"a": address}
        assert made.other_types == (f"IPv{10 - family}",)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"nodeName": None}, "it names no node"),
        ({"nodeName": "../x"}, "its node's name is none"),
        ({"addresses": []}, "it has no address"),
        ({"addresses": ["0.0.0.0"]}, "its address is none"),
        ({"addresses": ["reg.example"]}, "its address is none"),
        ({"addresses": ["fd00::1"]}, "its address is of another family than its slice"),
    ],
)
def test_endpoint_that_can_not_be_used_is_left_out_and_told(change: dict[str, Any], why: str) -> None:
    document = slice_object("one", [Pod(node="a", address="10.0.0.1"), Pod(node="b", address="10.0.0.2")])
    document["endpoints"][0].update(change)
    made = SliceTable(SOURCE)
    made.replace([document])
    assert addresses(made) == {"b": "10.0.0.2"}
    assert made.wrong == {why: 1}


def test_slice_without_the_port_is_told_with_the_name_that_was_looked_for() -> None:
    document = slice_object("one", [Pod(node="a", address="10.0.0.1")])
    for ports in (None, [], [{"name": "metrics", "port": 9090}], [{"name": "peer", "port": True}]):
        made = SliceTable(SOURCE)
        made.replace([{**document, "ports": ports}])
        assert not made.agents
        assert list(made.wrong) == ["no TCP port is named 'peer'"]


def test_slices_of_other_services_are_ignored_though_the_server_sends_them() -> None:
    pod = Pod(node="a", address="10.0.0.1")
    made = SliceTable(SOURCE)
    others = [slice_object("one", [pod], service="web"), slice_object("two", [pod], namespace="default")]
    assert not made.replace(others)
    assert not made.apply(others[0], deleted=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["addresses", "nodeName", "conditions", "zone", "ready", "terminating", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(endpoints=JSON, ports=JSON, conditions=JSON, zone=JSON)
def test_no_slice_of_any_shape_raises(endpoints: Any, ports: Any, conditions: Any, zone: Any) -> None:
    document = slice_object("one", [Pod(node="a", address="10.0.0.1")])
    document["endpoints"][0] |= {"conditions": conditions, "zone": zone}
    for changed in (
        {},
        {"endpoints": endpoints},
        {"ports": ports},
        {"endpoints": [endpoints, *document["endpoints"]]},
    ):
        known = read_slice(document, SOURCE)
        read_slice({**document, **changed}, SOURCE, known)
        SliceTable(SOURCE).replace([{**document, **changed}, endpoints])


@given(
    st.lists(
        st.lists(
            st.builds(
                Pod,
                node=st.sampled_from("abc"),
                address=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
                ready=st.sampled_from([True, False, None]),
                terminating=st.booleans(),
                zone=st.sampled_from([None, "a", "b"]),
            ),
            max_size=4,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_changes_one_by_one_lead_to_the_nodes_of_the_whole_list(versions: list[list[Pod]]) -> None:
    step_by_step = SliceTable(SOURCE)
    for number, pods in enumerate(versions):
        step_by_step.apply(slice_object(f"s{number % 2}", pods), deleted=False)
    last = {f"s{number % 2}": slice_object(f"s{number % 2}", pods) for number, pods in enumerate(versions)}
    at_once = SliceTable(SOURCE)
    at_once.replace(last.values())
    assert step_by_step.agents.keys() == at_once.agents.keys()
    assert step_by_step.double.keys() == at_once.double.keys()

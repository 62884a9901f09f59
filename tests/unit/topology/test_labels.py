"""Labels to placements: which count, in which order they nest, and what is said of those that are wrong."""

import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.twins import located, node
from topology.labels import (
    FINER_LEVELS,
    RACK,
    REGION_LABEL,
    ZONE_LABEL,
    LabelProblem,
    clean_value,
    complete,
    parse_downward_api,
    path_levels,
    read_labels,
)
from topology.placement import Placement, Tier, relation

OLD_REGION, OLD_ZONE = "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone"
AZURE = {"kubernetes.azure.com/cluster": "MC_x", REGION_LABEL: "westeurope"}
N = node("n")
WHERE = {REGION_LABEL: "eu", ZONE_LABEL: "eu-a"}


def read(labels: dict[str, str], configured: Placement | None = None) -> Placement:
    """The placement of labels with which nothing is wrong."""
    placement, problems = read_labels(N, labels, configured=configured)
    assert problems == ()
    return placement


def problems_of(labels: dict[str, str], configured: Placement | None = None) -> list[LabelProblem]:
    """What is wrong with them; every problem is reported in full, for the right node."""
    problems = read_labels(N, labels, configured=configured)[1]
    assert all(each.node == N and each.problem and each.hint for each in problems)
    return list(problems)


def test_region_and_zone_come_from_the_well_known_labels() -> None:
    assert read(WHERE) == located("eu", "eu-a")


def test_other_labels_do_not_count() -> None:
    assert read({**WHERE, "kubernetes.io/hostname": "n", "zone": "x", "region": "y"}) == located("eu", "eu-a")


def test_node_without_labels_has_an_empty_placement_and_no_problem_of_its_own() -> None:
    assert read({}) == located()


def test_deprecated_labels_count_where_the_present_ones_are_missing() -> None:
    assert read({OLD_REGION: "eu", OLD_ZONE: "eu-a"}) == located("eu", "eu-a")
    assert read({REGION_LABEL: "eu", OLD_ZONE: "eu-a"}) == located("eu", "eu-a")


def test_deprecated_label_that_agrees_is_no_problem_and_one_that_differs_is_told() -> None:
    assert read({**WHERE, OLD_ZONE: "eu-a"}) == located("eu", "eu-a")
    (problem,) = problems_of({**WHERE, OLD_ZONE: "eu-b"})
    assert OLD_ZONE in problem.problem
    assert "eu-b" in problem.problem
    assert read_labels(N, {**WHERE, OLD_ZONE: "eu-b"})[0] == located("eu", "eu-a")


def test_aws_network_layers_nest_the_widest_first_whatever_order_they_come_in() -> None:
    layers = {f"topology.k8s.aws/network-node-layer-{n}": f"nn-{n}" for n in (3, 1, 2)}
    assert read({**layers, **WHERE}).finer == tuple(
        (f"topology.k8s.aws/network-node-layer-{n}", f"nn-{n}") for n in (1, 2, 3)
    )


def test_gke_block_subblock_and_host_nest() -> None:
    keys = [f"cloud.google.com/gce-topology-{level}" for level in ("block", "subblock", "host")]
    placement = read({**dict.fromkeys(reversed(keys), "x"), **WHERE})
    assert [level for level, _ in placement.finer] == keys


@pytest.mark.parametrize("key", ["rack", "topology.rook.io/rack", "topology.kubernetes.io/rack"])
def test_on_prem_racks_lie_below_the_zone(key: str) -> None:
    assert read({**WHERE, key: "r1"}) == located("eu", "eu-a", ("rack", "r1"))


def test_two_names_of_one_level_that_disagree_are_reported() -> None:
    labels = {**WHERE, "rack": "r1", "topology.kubernetes.io/rack": "r2"}
    placement, problems = read_labels(N, labels)
    assert placement == located("eu", "eu-a", ("rack", "r1"))
    assert len(problems) == 1
    configured = located(None, None, ("rack", "r3"))
    placement, problems = read_labels(N, {**WHERE, "topology.rook.io/rack": "r2"}, configured=configured)
    assert placement == located("eu", "eu-a", ("rack", "r3"))
    assert len(problems) == 1


def test_name_of_a_level_that_is_configured_is_a_level_of_its_own() -> None:
    labels = {**WHERE, "topology.kubernetes.io/rack": "r2", "rack": "r1"}
    levels = ("topology.kubernetes.io/rack", "rack")
    placement, problems = read_labels(N, labels, finer_levels=levels)
    assert placement.finer == (("topology.kubernetes.io/rack", "r2"), ("rack", "r1"))
    assert problems == ()


def test_rook_levels_nest_from_datacenter_to_chassis() -> None:
    keys = [f"topology.rook.io/{level}" for level in ("datacenter", "room", "row", "rack", "chassis")]
    placement = read({**dict.fromkeys(reversed(keys), "x"), **WHERE})
    levels = [
        "datacenter",
        "topology.rook.io/room",
        "topology.rook.io/row",
        "rack",
        "topology.rook.io/chassis",
    ]
    assert [level for level, _ in placement.finer] == levels


def test_azure_zone_is_a_zone() -> None:
    assert read({**AZURE, ZONE_LABEL: "westeurope-1"}) == located("westeurope", "westeurope-1")


@pytest.mark.parametrize("key", [ZONE_LABEL, OLD_ZONE])
@pytest.mark.parametrize("domain", ["0", "1", "12"])
def test_bare_digit_on_azure_is_a_fault_domain_and_no_zone(domain: str, key: str) -> None:
    placement, _ = read_labels(N, {**AZURE, key: domain})
    assert placement == located("westeurope", None, ("fault-domain", domain))


def test_bare_digit_elsewhere_is_a_zone() -> None:
    assert read({REGION_LABEL: "eu", ZONE_LABEL: "1"}).zone == "1"


def test_digit_that_was_configured_as_zone_is_one_on_azure_too() -> None:
    assert read(AZURE, configured=located(None, "1")).zone == "1"


def test_configured_levels_win_and_a_label_that_says_otherwise_is_told() -> None:
    configured = located("eu", "eu-b", (RACK, "7"))
    assert read({}, configured) == configured
    assert read_labels(N, WHERE, configured=configured)[0] == configured
    (problem,) = problems_of(WHERE, configured)
    assert "eu-a" in problem.problem
    assert "eu-b" in problem.problem


def test_order_of_finer_levels_can_be_configured() -> None:
    labels = {**WHERE, "a": "1", "b": "2", "c": "3", RACK: "4"}
    placement, problems = read_labels(N, labels, finer_levels=("c", "a"))
    assert placement.finer == (("c", "3"), ("a", "1"))
    assert problems == ()


def test_rack_that_was_told_counts_even_if_no_such_level_is_configured() -> None:
    placement, _ = read_labels(N, WHERE, configured=located(None, None, (RACK, "7")), finer_levels=())
    assert placement.finer == ((RACK, "7"),)


def test_any_depth_is_read() -> None:
    levels = tuple(f"level-{number}" for number in range(100))
    placement, _ = read_labels(N, {**WHERE, **dict.fromkeys(levels, "x")}, finer_levels=levels)
    assert tuple(level for level, _ in placement.finer) == levels
    assert relation(placement.path, placement.path) == (Tier.RACK, 102)


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_empty_value_is_as_if_the_label_were_not_there(value: str) -> None:
    placement, _ = read_labels(N, {REGION_LABEL: "eu", ZONE_LABEL: value})
    assert placement == located("eu")


def test_empty_label_does_not_hide_the_deprecated_one() -> None:
    assert read_labels(N, {ZONE_LABEL: "", OLD_ZONE: "eu-a"})[0].zone == "eu-a"


@pytest.mark.parametrize(
    "value", ["a\nb", "a\x00b", "\x1b[31mred", "\u202egnp", "a\u2028b", "\ud800", "x" * 10_000, " eu-a "]
)
def test_odd_value_is_made_plain_and_told(value: str) -> None:
    placement, problems = read_labels(N, {REGION_LABEL: "eu", ZONE_LABEL: value})
    assert placement.zone
    assert placement.zone.isprintable()
    assert len(placement.zone) <= 253
    assert [each.node for each in problems] == [N]
    assert problems[0].problem.isprintable()


@pytest.mark.parametrize("value", ['a"b', "a'b", "zürich", "東京", "a/b", "{x}", "a b"])
def test_printable_value_is_taken_as_it_is(value: str) -> None:
    assert read({ZONE_LABEL: value}).zone == value


@given(value=st.text(st.characters(), max_size=600))
def test_any_value_is_made_printable_bounded_and_without_outer_blanks(value: str) -> None:
    clean = clean_value(value)
    assert clean.isprintable()
    assert len(clean) <= 253
    clean.encode()


def test_value_that_is_cut_at_a_blank_has_no_outer_blanks() -> None:
    clean = clean_value("a" * 252 + " b")
    assert clean == clean.strip()
    assert clean == clean_value(clean), "a peer that cleans it again must find the same zone"


def test_problem_with_a_long_value_is_no_longer_than_a_screen() -> None:
    (problem,) = problems_of({ZONE_LABEL: "x" * 10_000})
    assert len(problem.problem) < 2000


@given(
    labels=st.dictionaries(
        st.sampled_from((REGION_LABEL, ZONE_LABEL, OLD_ZONE, "kubernetes.azure.com/x", *FINER_LEVELS)),
        st.text(st.characters(), max_size=300) | st.sampled_from(("1", "a")),
    )
)
def test_no_labels_are_fatal_and_every_placement_can_be_compared(labels: dict[str, str]) -> None:
    placement, problems = read_labels(N, labels)
    relation(placement.path, placement.path)
    assert all(value for _, value in placement.path)
    assert len(dict(placement.path)) == len(placement.path)
    complete({N: placement})
    assert all(each.problem.isprintable() for each in problems)


# Completing from other nodes


def test_node_with_a_zone_but_no_region_gets_the_region_of_that_zone() -> None:
    completed, problems = complete({node("a"): located("eu", "eu-a"), node("b"): located(None, "eu-a")})
    assert completed[node("b")] == located("eu", "eu-a")
    assert [(each.node, "eu" in each.problem) for each in problems] == [("b", True)]


def test_node_with_a_rack_but_no_zone_gets_the_zone_of_that_rack() -> None:
    rack = ("topology.k8s.aws/network-node-layer-3", "nn-1")
    completed, problems = complete(
        {node("a"): located("eu", "eu-a", rack), node("b"): located(None, None, rack)}
    )
    assert completed[node("b")] == located("eu", "eu-a", rack)
    assert [each.node for each in problems] == ["b"]


def test_region_is_not_guessed_where_the_zones_name_is_in_two_regions() -> None:
    completed, _ = complete(
        {node("a"): located("eu", "1"), node("b"): located("us", "1"), node("c"): located(None, "1")}
    )
    assert completed[node("c")].region is None


def test_implied_zone_never_contradicts_the_nodes_own_region() -> None:
    rack = (RACK, "1")
    completed, _ = complete({node("a"): located("eu", "eu-a", rack), node("b"): located("us", None, rack)})
    assert completed[node("b")] == located("us", None, rack)


def test_rack_number_that_two_zones_have_implies_neither() -> None:
    rack = (RACK, "1")
    completed, _ = complete(
        {
            node("a"): located("eu", "eu-a", rack),
            node("b"): located("eu", "eu-b", rack),
            node("c"): located("eu", None, rack),
        }
    )
    assert completed[node("c")].zone is None


def test_missing_zone_is_told_only_where_others_have_one() -> None:
    assert complete({node("a"): located(), node("b"): located()})[1] == ()
    (problem,) = complete({node("a"): located("eu", "eu-a"), node("b"): located("eu")})[1]
    assert problem.node == "b"
    assert ZONE_LABEL in problem.hint


def test_node_whose_zone_is_in_another_region_than_for_the_others_is_told_and_left_there() -> None:
    placements = {node(f"n{number}"): located("eu", "eu-a") for number in range(5)}
    placements[node("odd")] = located("us", "eu-a")
    completed, problems = complete(placements)
    assert completed == placements
    assert [each.node for each in problems] == ["odd"]


def test_network_layer_in_another_zone_than_for_the_others_is_told() -> None:
    layer = ("topology.k8s.aws/network-node-layer-1", "nn-1")
    placements = {node(f"n{number}"): located("eu", "eu-a", layer) for number in range(5)}
    placements[node("odd")] = located("eu", "eu-b", layer)
    assert [each.node for each in complete(placements)[1]] == ["odd"]


def test_names_that_repeat_within_different_parents_are_no_problem() -> None:
    placements = {
        node(f"{region}-{number}"): located(region, "1", (RACK, "1"))
        for region in ("eu", "us")
        for number in range(5)
    }
    assert complete(placements)[1] == ()


# The downward API


def test_labels_file_of_the_downward_api_is_read() -> None:
    text = f'{REGION_LABEL}="eu"\n{ZONE_LABEL}="eu-a"\nempty=""\n'
    assert parse_downward_api(text) == {REGION_LABEL: "eu", ZONE_LABEL: "eu-a", "empty": ""}


def test_escaped_value_of_the_downward_api_is_unescaped() -> None:
    assert parse_downward_api('a="say \\"hi\\"\\n\\\\"') == {"a": 'say "hi"\n\\'}


@pytest.mark.parametrize("line", ["", "a", "a=", "a=b", 'a="b', "=", '="x"', "a=1", "a=[]", "a=null", "# x"])
def test_line_that_is_none_of_the_downward_api_is_left_out(line: str) -> None:
    assert parse_downward_api(f'x="1"\n{line}\ny="2"') == {"x": "1", "y": "2"}


def test_deeply_nested_line_in_the_labels_file_is_left_out_like_any_other() -> None:
    assert parse_downward_api("a=" + "[" * 200_000 + '\nb="1"') == {"b": "1"}


@given(text=st.text(string.printable + "\u2028\x00é"))
def test_no_labels_file_is_fatal(text: str) -> None:
    parse_downward_api(text)


def test_levels_that_occur_are_listed_coarsest_first() -> None:
    paths = [located("r", "z", ("zzz", "1"), (RACK, "1")).path, located(None, "z", ("aaa", "1")).path]
    assert path_levels(paths) == ("region", "zone", "aaa", "zzz", RACK)


def test_level_that_is_not_known_yet_is_no_problem_and_is_completed() -> None:
    whole = located("eu", "eu-a")
    partial = replace(located(None, "eu-a"), partial=True)
    lacking = located(None, "eu-a")
    completed, problems = complete({node("whole"): whole, node("partial"): partial, node("lacking"): lacking})
    assert completed[node("partial")].path == whole.path
    assert [problem.node for problem in problems] == ["lacking"]

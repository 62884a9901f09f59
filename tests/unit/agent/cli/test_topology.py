"""``shorthaul topology``: what a user sees, and what programs get."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.admin.views import topology_view
from agent.cli import main
from agent.cli.adminclient import read_topology
from agent.cli.drawing import print_matrix, print_tree
from agent.cli.picture import dot_source
from agent.documents.codec import encode
from agent.documents.times import Moment
from agent.members.roster import Roster
from agent.pull.regard import Regard
from tests.unit.agent.cli.admin import (
    ODD,
    SHOWN_ODD,
    Json,
    admin,
    labels,
    large,
    node,
    own,
    small,
    topology,
)
from tests.unit.twins import REPOSITORY_ROOT, located, peer, peers, zone_key
from topology.placement import NodeName
from topology.zones import Report

MOMENT = Moment(now_s=101.0, unix_s=0.0)
Captured = pytest.CaptureFixture[str]


def shown(capsys: Captured, answer: Json, *arguments: str) -> str:
    with admin(answer) as twin:
        status = main(["topology", *arguments, "--url", twin.url])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def line_with(text: str, out: str) -> str:
    (found,) = [line for line in out.splitlines() if text in line]
    return found


def rows(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line[0] == "│"]


def drawn(source: str, kind: str = "svg") -> str:
    """Graphviz's output for this source. Fails if Graphviz warns."""
    done = subprocess.run(["dot", f"-T{kind}"], input=source.encode(), capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode()


def boxes_and_lines(source: str) -> Json:
    """The picture as Graphviz understood it."""
    parsed: Json = json.loads(drawn(source, "dot_json"))
    return parsed


def test_tree_nests_the_levels_and_counts_nodes(capsys: Captured) -> None:
    lines = shown(capsys, small()).splitlines()
    assert lines[0] == "as node a1 sees it, 1 s ago: 9 nodes in 3 zones"
    assert lines[1:5] == [
        "├── region r1  6 nodes",
        "│   ├── zone a  3 nodes",
        "│   │   ├── network-node-layer-3 n-7  2 nodes",
        "│   │   │   ├── a1  this node",
    ]


def test_node_that_does_not_answer_is_marked_and_its_reason_is_listed(capsys: Captured) -> None:
    view = small()
    silent = next(node for node in view["nodes"] if node["name"] == "a3")
    silent["silent"] = "connection refused, 3 s ago"
    out = shown(capsys, view)
    assert "does not answer" in line_with("── a3", out)
    assert "does not answer" not in line_with("── a2", out)
    assert "Do not answer: 1\n  a3: connection refused, 3 s ago\n      hint: " in out


def test_node_line_tells_cost_and_how_it_is_known(capsys: Captured) -> None:
    out = shown(capsys, small())
    assert line_with("── a2", out).endswith("0.21 ms  ±0.02, 12 samples, 2 s ago")
    assert line_with("── a3", out).endswith("2 s ago  cooling")
    assert line_with("── b2", out).endswith("0.91 ms  ~ zone pair  *inferred*")
    assert line_with("── b3", out).endswith("*suspect* 7.40 ms to it, 0.91 ms to its zone")
    assert line_with("── c1", out).endswith("23.40 ms  ~ prior")
    assert line_with("── c2", out).endswith("46.80 ms  ~ says slower")
    assert line_with("── odd", out).endswith("1.00 ms  ~ path")


def test_only_the_guesses_that_occur_are_explained(capsys: Captured) -> None:
    assert {line.partition(":")[0] for line in shown(capsys, small()).splitlines() if line[0:2] == "~ "} == {
        "~ zone pair",
        "~ says slower",
        "~ path",
        "~ prior",
    }
    assert "~" not in shown(capsys, topology([own("a", labels("r", "z"))]))


def test_node_that_says_that_it_is_slower_is_told_from_what_others_measured(capsys: Captured) -> None:
    out = shown(capsys, small())
    assert "\n~ says slower: the node itself says that it is slower than its zone\n" in out
    assert "told" not in out


def test_label_problems_and_suspects_are_below_the_tree_with_hints(capsys: Captured) -> None:
    below = shown(capsys, small()).partition("Problems: 1\n")[2]
    assert below.startswith("  odd: no zone label\n      hint: kubectl label node odd zone=ZONE\n")
    assert "Suspects: 1\n  b3: 7.40 ms to it" in below


def test_node_without_labels_has_a_place_of_its_own(capsys: Captured) -> None:
    out = shown(capsys, topology([own("a", []), node("b", [["zone", "z"]])]))
    assert "without labels  1 node" in out
    assert "zone z  1 node\n" in out


def test_one_zone_with_one_node_is_shown(capsys: Captured) -> None:
    assert shown(capsys, topology([own("a", labels("r", "z"))])).splitlines() == [
        "as node a sees it, 1 s ago: 1 node in 1 zone",
        "└── region r  1 node",
        "    └── zone z  1 node",
        "        └── a  this node",
    ]


def test_no_nodes_at_all_are_no_crash(capsys: Captured) -> None:
    assert "0 nodes" in shown(capsys, topology([]))
    assert "knows no zones" in shown(capsys, topology([]), "matrix")
    drawn(shown(capsys, topology([]), "--dot"))


def test_odd_characters_are_shown_as_they_are_and_control_characters_are_not_obeyed(capsys: Captured) -> None:
    answer = topology(
        [own("a", labels(ODD, ODD, ODD)), node(ODD, labels(ODD, ODD, ODD), suspect=ODD)],
        problems=[{"node": ODD, "problem": ODD, "hint": ODD}],
    )
    out = shown(capsys, answer)
    assert out.count(SHOWN_ODD) == 10
    assert "\x1b" not in out
    assert SHOWN_ODD in shown(capsys, answer, "matrix")


def test_output_into_a_pipe_has_neither_colours_nor_cut_lines(capsys: Captured) -> None:
    reason = "slow " * 100
    out = shown(capsys, topology([own("a", []), node("b" * 200, [], suspect=reason)]))
    assert reason.strip() in line_with("*suspect*", out)
    assert "\x1b" not in out


def test_large_groups_show_their_nearest_nodes_only(capsys: Captured) -> None:
    nodes = [
        own("n0", labels("r", "z")),
        *(node(f"n{i}", labels("r", "z"), 900.0 - i) for i in range(1, 500)),
    ]
    out = shown(capsys, topology(nodes))
    assert "… and 480 more (--all)" in out
    assert re.findall(r"── (n\d+)", out) == ["n0", *(f"n{i}" for i in range(499, 480, -1))]


def test_all_shows_every_node(capsys: Captured) -> None:
    out = shown(capsys, large(5000, 6, racks=50), "--all")
    assert len(re.findall(r"── n\d+ ", out)) == 5000
    assert "--all" not in out


def test_racks_of_a_zone_share_its_allowance(capsys: Captured) -> None:
    out = shown(capsys, large(5000, 7, racks=50))
    assert len(re.findall(r"── n\d+ ", out)) == 7 * 20
    assert len(out.splitlines()) < 400


def test_many_small_places_are_bounded_too(capsys: Captured) -> None:
    nodes = [node(f"n{i}", labels(f"r{i}", "z"), 300.0 + i) for i in range(5000)]
    out = shown(capsys, topology(nodes, zones=[], matrix_us=[], matrix_source=[]))
    assert len(out.splitlines()) < 80
    assert "… and 4980 more with 4980 nodes (--all)" in out


def test_many_problems_are_bounded_and_a_hint_they_share_is_told_once(capsys: Captured) -> None:
    problems = [{"node": f"n{i}", "problem": "no zone label", "hint": "label it"} for i in range(100)]
    out = shown(capsys, topology([own("a", [])], problems=problems))
    assert out.count("no zone label") == 20
    assert out.count("hint: label it") == 1
    assert "… and 80 more (--all)" in out


def test_json_is_the_agents_answer_for_both_views(capsys: Captured) -> None:
    answer = {**small(), "new": ODD}
    assert json.loads(shown(capsys, answer, "--json")) == answer
    assert json.loads(shown(capsys, answer, "matrix", "--json")) == answer


def test_url_and_json_may_stand_before_the_view(capsys: Captured) -> None:
    with admin(small()) as twin:
        assert main(["topology", "--url", twin.url, "--json", "matrix"]) == 0
        assert json.loads(capsys.readouterr().out) == small()


def test_matrix_has_ms_and_marks_what_is_not_measured_and_the_own_zone(capsys: Captured) -> None:
    out = shown(capsys, small(), "matrix")
    assert rows(out) == [
        ["r1/a *", "0.26", "0.91", "23.40"],
        ["r1/b", "°0.91", "°0.28", "~21.00"],
        ["r2/c", "23.40", "~~20.00", "–"],
    ]
    for mark in ("*  this node's zone", "° told: ", "~ path: ", "~~ prior: ", "–  nothing is known"):
        assert f"\n{mark}" in out


def real_roster() -> Roster:
    """Zones of each kind: measured, told, over another zone, unknown. And a peer that says it is slow."""
    made = Roster(own=NodeName("own"), placement=located("r", "a"), clock=lambda: 100.0)
    made.update(
        peers(
            peer("a1", located("r", "a", ("rack", "1"))),
            *(peer(f"b{number}", located("r", "b")) for number in range(3)),
            peer("c1", located("s", "c")),
            peer("d1", located("t", "d")),
            peer("lost", located()),
        )
    )
    for _ in range(8):
        for name, rtt_us in (("a1", 300.0), ("b0", 900.0), ("b1", 900.0)):
            made.sample(NodeName(name), rtt_us)
    made.receive_report(
        NodeName("b2"), Report(zones={zone_key("r/a"): 9000.0}, nodes={}), address="192.0.2.1"
    )
    made.receive_report(
        NodeName("c1"), Report(zones={zone_key("r/b"): 5000.0}, nodes={}), address="192.0.2.1"
    )
    made.refresh()
    return made


def real_regard() -> Regard:
    """One peer failed a second ago."""
    made = Regard(cooloff_s=5.0)
    made.members_changed([NodeName("d1")])
    made.failed(NodeName("d1"), 100.0)
    return made


async def test_what_the_agent_really_answers_is_read_and_shown(capsys: Captured) -> None:
    answer = json.loads(encode(await topology_view(real_roster(), real_regard(), MOMENT)))
    view = read_topology(answer)
    print_tree(view, show_all=False)
    tree = capsys.readouterr().out
    assert {node.name for node in view.nodes} == {"own", "a1", "b0", "b1", "b2", "c1", "d1", "lost"}
    assert all(f"── {node.name} " in tree for node in view.nodes)
    assert {node.source for node in view.nodes} == {"self", "measured", "says_slower", "path", "prior"}
    assert {line.partition(":")[0] for line in tree.splitlines() if line.startswith("~ ")} == {
        "~ says slower",
        "~ path",
        "~ prior",
    }
    print_matrix(view)
    matrix = capsys.readouterr().out
    assert [cells[0] for cells in rows(matrix)] == ["r/a *", "r/b", "s/c", "t/d"]
    assert {source for row in view.matrix_source for source in row} == {"measured", "told", "path", "prior"}
    assert all(f"\n{mark}: " in matrix for mark in ("° told", "~ path", "~~ prior"))
    drawn(dot_source(view))


async def test_zone_that_goes_while_the_agent_answers_is_unknown_in_the_matrix(capsys: Captured) -> None:
    roster = real_roster()
    answering = asyncio.create_task(topology_view(roster, real_regard(), MOMENT))
    await asyncio.sleep(0)
    roster.update({name: peer for name, peer in roster.peers.items() if name != "d1"})
    print_matrix(read_topology(json.loads(encode(await answering))))
    matrix = capsys.readouterr().out
    assert [cells[4] for cells in rows(matrix)] == rows(matrix)[3][1:] == ["–"] * 4
    assert "\n–  nothing is known\n" in matrix


def test_matrix_of_one_zone_without_a_region_is_shown(capsys: Captured) -> None:
    out = shown(capsys, topology([own("a", labels(None, "z"))]), "matrix")
    assert "│ z *  │ 0.90 │" in out


def test_zones_of_one_name_in_two_regions_are_two_zones(capsys: Captured) -> None:
    out = shown(capsys, topology([own("a", labels("r2", "z")), node("b", labels("r1", "z"))]), "matrix")
    assert "r2/z *" in out
    assert "r1/z *" not in out


def test_matrix_of_many_zones_has_every_cell(capsys: Captured) -> None:
    out = shown(capsys, large(120, 60), "matrix")
    assert out.count("0.90") == 60 * 60


@pytest.mark.parametrize("option", [["--dot"], ["--png", "x.png"], ["--all"]])
def test_matrix_refuses_what_is_for_the_tree(option: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["topology", *option, "matrix"])
    assert caught.value.code == 2


def test_agent_that_is_not_there_is_one_line_a_hint_and_status_1(capsys: Captured) -> None:
    with admin({}) as twin:
        pass
    assert main(["topology", "--url", twin.url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"shorthaul: no agent answers at {twin.url}")
    assert "\n      hint: is it running?" in err


def test_wrong_url_is_status_2(capsys: Captured) -> None:
    assert main(["topology", "--url", "localhost:9090"]) == 2
    assert "hint: write http://HOST:PORT" in capsys.readouterr().err


def test_picture_has_the_nodes_in_their_zones_and_a_line_to_each_measured_peer(capsys: Captured) -> None:
    picture = boxes_and_lines(shown(capsys, small(), "--dot"))
    things = picture["objects"]
    name_of = {thing["_gvid"]: thing.get("label", "").partition("\\n")[0] for thing in things}
    inside = {
        thing["label"]: {name_of[member] for member in thing["nodes"]}
        for thing in things
        if thing["name"].startswith("cluster_zone")
    }
    assert inside == {
        "zone a": {"a1", "a2", "a3", "a"},
        "zone b": {"b1", "b2", "b3", "b"},
        "zone c": {"c1", "c2", "c"},
    }
    lines = {name_of[edge["head"]]: edge["label"] for edge in picture["edges"] if edge.get("label")}
    assert lines == {"a2": "0.21 ms", "a3": "0.31 ms", "b1": "0.91 ms", "b3": "7.40 ms"}


def test_lines_between_zones_are_dashed_where_nobody_measured(capsys: Captured) -> None:
    picture = boxes_and_lines(shown(capsys, small(), "--dot"))
    label_of = {thing["_gvid"]: thing.get("label", "") for thing in picture["objects"]}
    lines = {
        (label_of[edge["tail"]][0], label_of[edge["head"]], edge["style"])
        for edge in picture["edges"]
        if edge.get("arrowhead") == "none"
    }
    assert lines == {
        ("a", "0.91 ms", "solid"),
        ("b", "0.91 ms", "solid"),
        ("a", "23.40 ms", "solid"),
        ("c", "23.40 ms", "solid"),
        ("b", "20.00 ms", "dashed"),
        ("c", "20.00 ms", "dashed"),
    }


@pytest.mark.parametrize(
    "name", [ODD, "<b>x</b>", "<>", "a:b:n", "node", "\\", 'x\\"', "%3", "&amp;", "\\G\\N"]
)
def test_odd_names_are_drawn_as_they_are(capsys: Captured, name: str) -> None:
    answer = topology([own("own", labels(name, name)), node(name, labels(name, name)), node(name, [])])
    source = shown(capsys, answer, "--dot")
    texts = re.findall(r"<text[^>]*>(.*?)</text>", drawn(source))
    unescaped = [
        text.replace("&#160;", " ").replace("&#45;", "-").replace("&quot;", '"').replace("&#39;", "'")
        .replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        for text in texts
    ]  # fmt: skip
    seen = SHOWN_ODD if name == ODD else name
    assert unescaped.count(seen) == 3  # two nodes, and the zone's own words
    assert f"zone {seen}" in unescaped
    assert f"region {seen}" in unescaped


def test_picture_of_many_nodes_has_a_box_a_zone(capsys: Captured) -> None:
    picture = boxes_and_lines(shown(capsys, large(5000, 30), "--dot"))
    boxes = [thing for thing in picture["objects"] if thing["name"].startswith("z")]
    assert len(boxes) == 30
    assert all("\\n166 nodes\\n" in box["label"] or "\\n167 nodes\\n" in box["label"] for box in boxes)
    assert len(picture["edges"]) == 29


def test_picture_of_few_zones_with_many_nodes_joins_every_two(capsys: Captured) -> None:
    picture = boxes_and_lines(shown(capsys, large(500, 3), "--dot"))
    assert len(picture["edges"]) == 2 + 2  # from the own zone, and by way of a label between the others


def test_picture_of_very_many_zones_has_the_nearest(capsys: Captured) -> None:
    source = shown(capsys, large(5000, 1000), "--dot")
    assert "the 100 nearest of 1000 zones" in source
    assert sum(thing["name"].startswith("z") for thing in boxes_and_lines(source)["objects"]) == 100


@pytest.mark.parametrize("nodes", [1, 60, 1000])
def test_png_is_a_png_and_replaces_what_was_there(capsys: Captured, tmp_path: Path, nodes: int) -> None:
    path = tmp_path / "it.png"
    path.write_text("old")
    assert shown(capsys, large(nodes, min(nodes, 3)), "--png", str(path)) == ""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize("name", ["no/such/directory.png", "."])
def test_file_that_cant_be_written_is_an_error_with_a_hint(
    capsys: Captured, tmp_path: Path, name: str
) -> None:
    with admin(small()) as twin:
        assert main(["topology", "--url", twin.url, "--png", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match(r"shorthaul: .* can't be written: .*\n      hint: ", err)


def run_elsewhere(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY_ROOT,
        env={"PYTHONPATH": os.pathsep.join(["", *sys.path]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def command(*arguments: Any) -> str:
    return f"import sys; from agent.cli import main; sys.exit(main({[str(a) for a in arguments]!r}))"


def test_png_without_graphviz_names_the_package(tmp_path: Path) -> None:
    with admin(small()) as twin:
        call = command("topology", "--url", twin.url, "--png", tmp_path / "x.png")
        done = run_elsewhere(call, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "hint: apt-get install graphviz" in done.stderr


def test_terminal_without_unicode_gets_question_marks_and_no_traceback() -> None:
    with admin(topology([own("日本", labels("r", "z")), node("b", [])])) as twin:
        done = run_elsewhere(command("topology", "--url", twin.url), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "?? " in done.stdout


def test_command_line_loads_nothing_to_draw_with_until_it_draws() -> None:
    code = (
        "import sys, agent.cli\n"
        "print(sorted({'rich', 'graphviz', 'agent.cli.drawing', 'agent.cli.picture', 'agent.cli.adminclient'}"
        " & set(sys.modules)))"
    )
    done = run_elsewhere(code)
    assert (done.stdout, done.stderr) == ("[]\n", "")

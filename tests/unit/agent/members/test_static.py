"""The membership file: its members, all its mistakes at once, and its changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.members.checks import OwnAgent
from agent.members.member import Peer, Peers
from agent.members.problems import Problems
from agent.members.static import MembersInvalid, NoMembership, StaticMembership, read_members
from agent.observe.reloads import Reloads
from tests.unit.twins import node, run_in_virtual_time
from topology.placement import Placement, Region, Zone

OWN = OwnAgent(name=node("own"), addresses=("10.9.9.9",), port=30020)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "members.yaml"


def entry(called: object, **changes: object) -> dict[str, object]:
    address = f"10.0.0.{sum(map(ord, str(called))) % 250 + 1}"  # one for each name
    return {"name": called, "address": address, "port": 30020, **changes}


def read(path: Path, document: object) -> Peers:
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return read_members(path, own=OWN).peers


def mistakes(path: Path, document: object) -> list[str]:
    """The mistakes, each without the file's name at its beginning."""
    with pytest.raises(MembersInvalid) as caught:
        read(path, document)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return [line.removeprefix(str(path)) for line in lines]


def test_peer_has_its_address_and_placement(path: Path) -> None:
    members = read(path, [entry("a", address="10.0.0.1", region="eu", zone="eu-a", rack=7)])
    assert members == {
        "a": Peer(
            name=node("a"),
            address="10.0.0.1",
            port=30020,
            placement=Placement(region=Region("eu"), zone=Zone("eu-a"), finer=(("rack", "7"),)),
        )
    }


def test_level_that_is_left_out_or_empty_is_unknown(path: Path) -> None:
    members = read(path, [entry("a", zone="", rack=None)])
    assert members[node("a")].placement == Placement()


def test_own_entry_is_left_out(path: Path) -> None:
    assert list(read(path, [entry("a"), entry("own"), entry("b")])) == ["a", "b"]


@pytest.mark.parametrize("document", ["", "# nothing\n", "[]"])
def test_empty_list_is_no_mistake(path: Path, document: str) -> None:
    assert read(path, document) == {}


def test_ipv4_address_in_an_ipv6_one_is_the_ipv4_address(path: Path) -> None:
    (peer,) = read(path, [entry("a", address="::FFFF:10.0.0.1")]).values()
    assert (peer.address, peer.base_url) == ("10.0.0.1", "http://10.0.0.1:30020")
    listed = [entry("a", address="10.0.0.1"), entry("b", address="::ffff:10.0.0.1")]
    assert list(read(path, listed)) == ["a"], "they are one agent"


def test_ipv6_address_is_normalised_and_has_brackets_in_urls(path: Path) -> None:
    (peer,) = read(path, [entry("a", address="FD00:0::1")]).values()
    assert (peer.address, peer.base_url) == ("fd00::1", "http://[fd00::1]:30020")


def test_ipv4_url_has_no_brackets(path: Path) -> None:
    (peer,) = read(path, [entry("a", address="10.0.0.1")]).values()
    assert peer.base_url == "http://10.0.0.1:30020"


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ("text", "[0]:"),
        ({}, "[0].name:"),
        (entry(""), "[0].name:"),
        (entry("a/b"), "[0].name:"),
        (entry("a", address="a.example"), "[0].address:"),
        (entry("a", address=None), "[0].address:"),
        (entry("a", address="10.0.0.1:30020"), "[0].address:"),
        (entry("a", address="0.0.0.0"), "[0].address:"),
        (entry("a", address="::ffff:0.0.0.0"), "[0].address:"),
        (entry("a", address="255.255.255.255"), "[0].address:"),
        (entry("a", address="ff02::1"), "[0].address:"),
        (entry("a", port=0), "[0].port:"),
        (entry("a", port=65536), "[0].port:"),
        (entry("a", port="30020"), "[0].port:"),
        (entry("a", port=True), "[0].port:"),
        (entry("a", zone=True), "[0].zone:"),
        (entry("a", rack=[1]), "[0].rack:"),
        (entry("a", zoen="eu-a"), "[0].zoen:"),
    ],
)
def test_mistake_in_an_entry_is_named_by_its_place(path: Path, broken: Any, where: str) -> None:
    assert mistakes(path, [broken])[0].startswith(where)


def test_every_mistake_of_every_entry_is_reported_at_once(path: Path) -> None:
    found = mistakes(path, [entry("a", port=0, address="x"), entry("b"), entry("", zone=[])])
    assert [line.partition(":")[0] for line in found] == ["[0].address", "[0].port", "[2].name", "[2].zone"]


def test_name_that_is_there_twice_is_a_mistake(path: Path) -> None:
    assert [line.partition(":")[0] for line in mistakes(path, [entry("a"), entry("a")])] == ["[1].name"]


def test_name_that_is_there_twice_is_reported_beside_other_mistakes(path: Path) -> None:
    found = mistakes(path, [entry("x", port=0), entry("a"), entry("a")])
    assert [line.partition(":")[0] for line in found] == ["[0].port", "[2].name"]


@pytest.mark.parametrize("document", ["a: b", "text", "- [", "\t- a"])
def test_file_that_is_no_list_is_one_mistake(path: Path, document: str) -> None:
    assert len(mistakes(path, document)) == 1


def test_file_that_is_no_text_is_a_mistake(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(MembersInvalid, match="not YAML"):
        read_members(path, own=OWN)


def test_value_that_yaml_takes_for_an_impossible_date_is_a_mistake_and_no_crash(path: Path) -> None:
    mistakes(path, "- {name: a, address: 10.0.0.1, port: 1, rack: 2024-13-45}")


def test_missing_file_is_a_mistake_that_names_the_setting(path: Path) -> None:
    with pytest.raises(MembersInvalid, match=r"membership\.static"):
        read_members(path, own=OWN)


def test_node_without_membership_has_no_peers() -> None:
    told: list[Peers] = []
    run_in_virtual_time(NoMembership().run(told.append))
    assert told == [{}]


def test_key_that_is_there_twice_is_a_mistake_with_its_line(path: Path) -> None:
    (mistake,) = mistakes(path, "- name: a\n  address: 10.0.0.1\n  port: 1\n  address: 10.0.0.2")
    assert "line 4" in mistake
    assert "'address' is there twice" in mistake


def test_what_is_wrong_with_the_list_is_told_beside_it(path: Path) -> None:
    path.write_text(yaml.safe_dump([entry("own", address="10.0.0.1"), entry("a", address="10.9.9.9")]))
    listing = read_members(path, own=OWN)
    assert listing.peers == {}
    assert len(listing.problems) == 2


class Following:
    """A membership that follows its file. Time jumps; each change is followed by two seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[list[str]] = []
        self.counted: list[tuple[str, str]] = []
        self.problems = Problems()
        self.membership = StaticMembership(
            path,
            own=OWN,
            problems=self.problems,
            reloads=Reloads(lambda what, result: self.counted.append((what, result))),
        )

    def write(self, document: object) -> None:
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        self.path.write_text(text, encoding="utf-8")

    def through(self, *changes: Callable[[], object]) -> None:
        """Follow the file through these changes."""

        async def main() -> None:
            following = asyncio.create_task(
                self.membership.run(lambda members: self.told.append(list(members)))
            )
            await asyncio.sleep(2)
            for change in changes:
                change()
                await asyncio.sleep(2)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

        run_in_virtual_time(main())

    def said(self) -> list[str]:
        """What is wrong now."""
        return [problem.problem for problem in self.problems.all]


@pytest.fixture
def following(path: Path) -> Following:
    made = Following(path)
    made.write([entry("own", address="10.9.9.9"), entry("a")])
    return made


def test_changes_of_the_file_are_followed_and_a_bad_file_keeps_the_last_good_list(
    following: Following,
) -> None:
    write, own = following.write, entry("own", address="10.9.9.9")
    following.through(
        lambda: write([own, entry("a"), entry("b")]),
        lambda: write("no list at all"),
        following.path.unlink,
        lambda: write([own, entry("c")]),
    )
    assert following.told == [["a"], ["a", "b"], ["c"]]
    assert following.counted == [("peers", each) for each in ("changed", "failed", "failed", "changed")]
    assert following.said() == []


def test_file_that_can_not_be_used_is_a_problem_until_it_is_good_again(following: Following) -> None:
    following.through(lambda: following.write("- {name: a}"))
    (problem,) = following.said()
    assert "last good one stays" in problem


def test_emptied_file_keeps_the_last_list_because_it_may_be_half_written(following: Following) -> None:
    following.through(lambda: following.write(""), lambda: following.write("# soon\n"))
    assert following.told == [["a"]]
    assert following.counted == [("peers", "failed"), ("peers", "failed")]
    assert "write []" in following.said()[0]


def test_empty_list_is_meant_and_told(following: Following) -> None:
    following.through(lambda: following.write("[]"))
    assert following.told == [["a"], []]
    assert "no peers" in following.said()[0]


def test_file_without_a_list_at_the_start_is_a_node_without_peers_and_told(path: Path) -> None:
    following = Following(path)
    following.write("")
    following.through()
    assert following.told == [[]]
    assert "no peers" in following.said()[0]


def test_list_that_is_read_again_and_is_the_same_changes_nothing(following: Following) -> None:
    following.through(following.membership.reread, following.path.touch)
    assert following.told == [["a"]]
    assert following.counted == [("peers", "unchanged"), ("peers", "unchanged")]


def test_each_change_is_logged_with_who_came_left_and_moved(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "shorthaul")
    many = [entry(f"n{number}", address=f"10.1.0.{number}") for number in range(7)]
    following.through(
        lambda: following.write([entry("a", address="10.7.7.7"), *many]), lambda: following.write(many[:2])
    )
    changes = [record.__dict__["fields"] for record in caplog.records if record.message == "peers changed"]
    assert changes == [
        {
            "peers": 8,
            "came": 7,
            "came_names": "n0, n1, n2, n3, n4 and 2 more",
            "moved": 1,
            "moved_names": "a",
        },
        {"peers": 2, "left": 6, "left_names": "a, n2, n3, n4, n5 and 1 more"},
    ]


def test_same_file_is_said_once_and_when_it_is_over(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "shorthaul")
    following.write([entry("a")])
    following.through(
        following.membership.reread,
        following.membership.reread,
        lambda: following.write([entry("a"), entry("own", address="10.9.9.9")]),
    )
    said = [record.message for record in caplog.records if "not listed" in record.message]
    assert len(said) == 2
    assert said[1].startswith("peers file: over: ")

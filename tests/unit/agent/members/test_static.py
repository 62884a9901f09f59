"""The membership file: its members, all its mistakes at once, and its changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.members.member import Peer, Peers
from agent.members.static import MembersInvalid, NoMembership, StaticMembership, read_members
from tests.unit.twins import node, run_in_virtual_time
from topology.placement import Placement, Region, Zone

OWN = node("own")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "members.yaml"


def entry(called: object, **changes: object) -> dict[str, object]:
    return {"name": called, "address": "10.0.0.1", "port": 30020, **changes}


def read(path: Path, document: object) -> Peers:
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return read_members(path, own=OWN)


def mistakes(path: Path, document: object) -> list[str]:
    """The mistakes, each without the file's name at its beginning."""
    with pytest.raises(MembersInvalid) as caught:
        read(path, document)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return [line.removeprefix(str(path)) for line in lines]


def test_peer_has_its_address_and_placement(path: Path) -> None:
    members = read(path, [entry("a", region="eu", zone="eu-a", rack=7)])
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


def test_ipv6_address_is_normalised_and_has_brackets_in_urls(path: Path) -> None:
    (peer,) = read(path, [entry("a", address="FD00:0::1")]).values()
    assert (peer.address, peer.base_url) == ("fd00::1", "http://[fd00::1]:30020")


def test_ipv4_url_has_no_brackets(path: Path) -> None:
    (peer,) = read(path, [entry("a")]).values()
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


def test_changes_of_the_file_are_followed_and_a_bad_file_keeps_the_last_good_list(path: Path) -> None:
    told: list[list[str]] = []

    def write(document: object) -> None:
        path.write_text(yaml.safe_dump(document), encoding="utf-8")

    async def after(change: Callable[[], object]) -> list[list[str]]:
        change()
        await asyncio.sleep(2)
        return told

    async def main() -> None:
        following = asyncio.create_task(
            StaticMembership(path, own=OWN).run(lambda members: told.append(list(members)))
        )
        assert await after(lambda: write([entry("a")])) == [["a"]]
        assert await after(lambda: write([entry("a"), entry("b")])) == [["a"], ["a", "b"]]
        assert await after(lambda: write("no list at all")) == [["a"], ["a", "b"]]
        assert await after(path.unlink) == [["a"], ["a", "b"]]
        assert await after(lambda: write([entry("c")])) == [["a"], ["a", "b"], ["c"]]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    run_in_virtual_time(main())

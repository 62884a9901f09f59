"""What containerd is told, as findings."""

from pathlib import Path

import pytest

from agent.hosts.advice import Advice
from agent.hosts.hostsfile import Host, HostsFile, read_hosts_file
from agent.preflight.check import Check, Status
from agent.preflight.gather import Unknown
from agent.preflight.registries import CONFIG_PATH, FILES, LAYERS, ORDER, RESTART, ToldContainerd, told

OURS = Host(url="http://127.0.0.1:30020", ours=True)
NODE_PORT = Host(url="http://10.0.0.1:30021", ours=True)
OTHER = Host(url="http://127.0.0.1:5555")
READ = Advice(used=True, why="containerd reads /etc/containerd/certs.d")


def name_of(host: Host) -> str:
    return {OURS.url: "hostport", NODE_PORT.url: "nodeport"}.get(host.url, "")


def judged(files: dict[str, HostsFile], *, shares_arriving: bool = True, **more: object) -> dict[str, Check]:
    values: dict[str, object] = {"certs_d": Path("/etc/containerd/certs.d"), "advice": READ, "files": files}
    containerd = ToldContainerd(**(values | more))  # type: ignore[arg-type]
    found = told(containerd, name_of, shares_arriving=shares_arriving)
    return {check.name: check for check in reversed(found)}


def test_files_that_name_the_agent_first_are_good() -> None:
    checks = judged({"_default": HostsFile(hosts=(OURS, NODE_PORT))})
    assert {check.status for check in checks.values()} == {Status.GOOD}
    assert ORDER not in checks
    by_hand = judged({"_default": HostsFile(hosts=(Host(url=OURS.url),))})[FILES]
    assert by_hand.status is Status.GOOD
    assert "not all of them are written by" in by_hand.detail


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ((NODE_PORT, OURS), "has the NodePort before the HostPort"),
        ((NODE_PORT,), "has the NodePort and not the HostPort"),
        ((OTHER, OURS), "has other hosts before this node's agent"),
    ],
)
def test_an_order_that_leads_elsewhere_first_is_a_warning(hosts: tuple[Host, ...], words: str) -> None:
    check = judged({"_default": HostsFile(hosts=hosts)})[ORDER]
    assert check.status is Status.WARN
    assert words in check.detail


def test_a_file_that_containerd_drops_is_bad() -> None:
    check = judged({"_default": HostsFile(hosts=(OURS,)), "x": read_hosts_file(b"[")})[FILES]
    assert check.status is Status.BAD
    assert "drops this file without a word" in check.detail


def test_what_only_old_releases_drop_is_bad_where_one_runs() -> None:
    file = HostsFile(hosts=(OURS, Host(url="http://[::1]:30021")))
    assert judged({"_default": file}, release="1.x")[FILES].status is Status.BAD
    assert judged({"_default": file}, release="2.x")[FILES].status is Status.GOOD
    assert judged({"_default": file})[FILES].status is Status.GOOD


def test_a_file_that_lost_our_part_was_overwritten() -> None:
    check = judged({"x": HostsFile(hosts=(OTHER,))}, kept=frozenset({"x"}))[FILES]
    assert check.status is Status.BAD
    assert "was overwritten by another tool" in check.detail
    assert "http://127.0.0.1:5555" in check.detail


def test_files_of_others_alone_are_bad_and_beside_ours_a_warning() -> None:
    alone = judged({"x": HostsFile(hosts=(OTHER,))})[FILES]
    assert (alone.status, "overwritten by another tool" in alone.detail) == (Status.BAD, True)
    beside = judged({"x": HostsFile(hosts=(OTHER,)), "_default": HostsFile(hosts=(OURS,))})[FILES]
    assert (beside.status, "not mirrored: x" in beside.detail) == (Status.WARN, True)


def test_no_file_and_no_directory_are_told_apart() -> None:
    assert "no REGISTRY/hosts.toml" in judged({})[FILES].detail
    assert "there is no /etc/containerd/certs.d" in judged({}, exists=False)[FILES].detail


def test_a_directory_that_containerd_does_not_read_comes_with_the_lines_to_add() -> None:
    advice = Advice(
        used=False, why="no config_path", lines=("[a]", "b = 1"), where="write into X", then="restart"
    )
    check = judged({}, advice=advice)[CONFIG_PATH]
    assert (check.status, check.hint) == (Status.BAD, "write into X:")
    assert check.lines == ("[a]", "b = 1", "", "restart")
    unclear = judged(
        {}, advice=Advice(used=None, why="X is not mounted", lines=("[a]",), where="X should have")
    )
    assert unclear[CONFIG_PATH].status is Status.UNKNOWN
    assert unclear[CONFIG_PATH].lines == ("[a]",)


def discarding(*, shares_arriving: bool) -> Check:
    """What is said of a containerd that discards layers."""
    lines = ("[x]", "  discard_unpacked_layers = false")
    checks = judged({}, shares_arriving=shares_arriving, discards=lines, config="/c.toml", restart="r")
    return checks[LAYERS]


def test_discarded_layers_are_shared_while_they_arrive_only_and_how_to_keep_them_is_said() -> None:
    check = discarding(shares_arriving=True)
    assert check.status is Status.WARN
    assert "only while it arrives here, and to none that pulls the image later" in check.detail
    assert check.hint == "if it should give them later too: write into /c.toml, and pull the images again:"
    assert check.lines[-1] == "then: r"


def test_discarded_layers_are_bad_where_nothing_is_shared_while_it_arrives() -> None:
    check = discarding(shares_arriving=False)
    assert check.status is Status.BAD
    assert "nothing to give to its peers" in check.detail
    assert check.hint == "write into /c.toml, and pull the images again:"
    assert check.lines[-1] == "then: r"


def test_a_configuration_that_is_newer_than_containerd_is_a_warning() -> None:
    check = judged(
        {}, changed_since=("/etc/containerd/config.toml",), restart="systemctl restart containerd"
    )[RESTART]
    assert check.status is Status.WARN
    assert check.hint.endswith("systemctl restart containerd")


def test_what_could_not_be_read_is_no_success() -> None:
    assert {check.status for check in told(Unknown(why="x"), name_of, shares_arriving=True)} == {
        Status.UNKNOWN
    }

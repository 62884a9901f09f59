"""What the commands say where the probe can't work: one clear answer, a hint that helps, status 1."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.lab.network import inside
from tests.server.agents import wait_for

from .places import HOST, METRICS, Place

WITHOUT_BPF = ["setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon"]
WITHOUT_NET_ADMIN = ["setpriv", "--bounding-set=-net_admin,-sys_admin"]
LEAST = ["setpriv", "--bounding-set=-all,+bpf,+net_admin"]
UNMOUNT = """
while read -r _ where kind _; do
    [ "$kind" != cgroup2 ] || umount "$where"
done </proc/mounts
exec "$@"
"""
WITHOUT_CGROUP2 = ["unshare", "--mount", "sh", "-c", UNMOUNT, "sh"]

Done = subprocess.CompletedProcess[str]


def refused(done: Done, what: str, hint: str) -> None:
    """It ended as a failure, said what is wrong and what to do, and showed no traceback."""
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    (said,) = (line for line in lines if line.startswith("shorthaul: "))
    assert what in said
    (advice,) = (line for line in lines if line.startswith("      hint: "))
    assert hint in advice
    assert "Traceback" not in done.stderr


def checks(done: Done) -> dict[str, str]:
    """What `verify --json` found of the node, by name; it must not have proved anything."""
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["proved"] is False
    assert told["canaries"] == []
    assert told["error"]["message"] in done.stderr
    assert told["error"]["hint"]
    return {check["name"]: check["status"] for check in told["preflight"]}


def without_cgroup_setting(place: Place) -> None:
    """Let the commands look for cgroup v2 themselves."""
    place.config.write_text(place.config.read_text().replace(f"cgroup: {place.cgroup}", "cgroup: null"))


@pytest.fixture
def shadow(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH in which ``bcc`` is what a test makes of it."""
    return tmp_path


@pytest.mark.parametrize("command", [("probe",), ("probe", "--watch"), ("verify",)])
@pytest.mark.parametrize("through", [WITHOUT_BPF, WITHOUT_NET_ADMIN], ids=["BPF", "NET_ADMIN"])
def test_missing_capability_is_named(place: Place, command: tuple[str, ...], through: list[str]) -> None:
    refused(
        place.run(*command, through=through), "does not let this process", "capabilities BPF and NET_ADMIN"
    )
    assert not place.attached()
    assert not place.socket.exists()


def test_verify_without_capabilities_tells_so_as_json(place: Place) -> None:
    found = checks(place.run("verify", "--json", through=WITHOUT_BPF))
    assert found["capabilities"] == "bad"
    assert found["BCC"] == "ok"


def test_machine_without_cgroup_v2_is_told_what_to_mount(place: Place) -> None:
    without_cgroup_setting(place)
    for command in ("probe", "verify"):
        done = place.run(command, through=WITHOUT_CGROUP2)
        refused(done, "cgroup v2 is not mounted", "mount -t cgroup2")
    assert checks(place.run("verify", "--json", through=WITHOUT_CGROUP2))["cgroup v2"] == "bad"


def test_cgroup_that_is_none_is_an_error_of_that_setting(place: Place) -> None:
    refused(place.run("probe", cgroup=place.folder), "not a cgroup", "probe.cgroup")


def test_cgroup_that_is_not_there_is_an_error_of_that_setting(place: Place) -> None:
    refused(place.run("probe", cgroup=place.folder / "none"), f"{place.folder}/none", "probe.cgroup")


def test_verify_finds_a_cgroup_that_is_none(place: Place) -> None:
    assert checks(place.run("verify", "--json", cgroup=place.folder))["cgroup v2"] == "bad"


@pytest.mark.parametrize("command", ["probe", "verify"])
def test_missing_bcc_names_the_package_of_debian(place: Place, shadow: Path, command: str) -> None:
    (shadow / "bcc.py").write_text('raise ImportError("no module of that name")\n')
    done = place.run(command, env={"PYTHONPATH": str(shadow)})
    refused(done, "bcc can't be imported: no module of that name", "apt-get install python3-bpfcc")


def test_pypi_s_bcc_is_told_from_the_right_one(place: Place, shadow: Path) -> None:
    (shadow / "bcc.py").write_text('"""Body-centred cubic lattices."""\n')
    done = place.run("probe", env={"PYTHONPATH": str(shadow)})
    refused(done, "another package of that name", "pip uninstall bcc")
    found = checks(place.run("verify", "--json", env={"PYTHONPATH": str(shadow)}))
    assert found["BCC"] == "bad"


def test_port_of_the_metrics_that_is_taken_names_the_setting(place: Place) -> None:
    with taken(place, METRICS):
        done = place.run("probe")
    refused(done, f"probe.metrics: {HOST}:{METRICS}", "--set probe.metrics=")
    assert not place.attached()
    assert not place.socket.exists()


def test_address_of_the_metrics_that_is_not_here_names_the_setting(place: Place) -> None:
    refused(
        place.run("probe", metrics="192.0.2.1:9091"), "probe.metrics: 192.0.2.1:9091", "--set probe.metrics="
    )


@pytest.mark.parametrize("where", ["file", "folder", "below a file", "not to be made", "too long"])
def test_socket_that_can_t_be_made_names_its_place(place: Place, where: str) -> None:
    file = place.folder / "file"
    file.write_text("precious")
    path = {
        "file": file,
        "folder": place.folder,
        "below a file": file / "probe.sock",
        "not to be made": Path("/proc/shorthaul/probe.sock"),
        "too long": place.folder / ("x" * 120),
    }[where]
    refused(place.run("probe", socket=path), str(path), "probe.socket")
    assert file.read_text() == "precious"
    assert not place.attached()


@pytest.mark.parametrize("command", ["probe", "verify"])
def test_setting_that_is_unknown_is_wrong_usage(place: Place, command: str) -> None:
    done = place.run(command, sockett="/run/x", ring_bytes=1)
    assert done.returncode == 2
    assert "probe.sockett" in done.stderr
    assert "probe.ring_bytes" in done.stderr
    assert done.stderr.count("hint:") == 2


def test_settings_that_are_not_there_are_wrong_usage(place: Place) -> None:
    place.config.unlink()
    done = place.run("verify")
    assert done.returncode == 2
    assert str(place.config) in done.stderr


def test_verify_proves_the_path_to_the_agent(place: Place) -> None:
    place.agent()
    done = place.run("verify", "--json")
    assert done.returncode == 0, done.stderr
    proved_direct(done)
    assert not place.attached()


def test_verify_without_an_agent_proves_nothing(place: Place) -> None:
    done = place.run("verify", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert [canary["verdict"] for canary in told["canaries"]] == ["FAILED", "FAILED"]
    assert told["error"] is None


def test_verify_does_not_take_just_any_server_for_an_agent(place: Place) -> None:
    worker = place.worker()
    worker("listen", HOST, 30020, ours=False)
    done = place.run("verify", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["proved"] is False


@pytest.mark.parametrize("probe_through", [[], LEAST], ids=["root", "BPF and NET_ADMIN"])
@pytest.mark.parametrize("through", [[], LEAST], ids=["root", "BPF and NET_ADMIN"])
def test_verify_beside_a_running_probe_says_direct_and_leaves_it_sure(
    place: Place, probe_through: list[str], through: list[str]
) -> None:
    """Two probes' programs rewrite nothing, and don't take each other for programs that might."""
    place.agent()
    place.probe(through=probe_through)
    listener = place.listener()
    proved_direct(place.run("verify", "--json", through=through))
    listener.wait_for_healths(1)
    assert listener.health.sure_of_intent
    assert {canary.verdict.value for canary in listener.canaries} == {"DIRECT", "FAILED"}
    assert len(place.attached()) == 4


def test_probe_needs_no_more_capabilities_than_two(place: Place) -> None:
    place.agent()
    place.probe(through=LEAST)
    listener = place.listener()
    wait_for(
        lambda: [canary.verdict.value for canary in listener.canaries] == ["DIRECT", "FAILED"],
        "both canaries, the first of which the agent took",
    )


def proved_direct(done: Done) -> None:
    """The HostPort's canary was direct, and the agent answered it."""
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["proved"] is True
    host_port, node_port = told["canaries"]
    assert (host_port["endpoint"], host_port["verdict"]) == ("hostport", "DIRECT")
    assert host_port["answered_by"] == "node-1"
    assert host_port["went"] == f"{HOST}:30020"
    assert (node_port["endpoint"], node_port["verdict"]) == ("nodeport", "FAILED")


@contextmanager
def taken(place: Place, port: int) -> Iterator[None]:
    """Somebody listens on a port of the node."""
    with inside(place.netns, lambda: socket.create_server((HOST, port))):
        yield

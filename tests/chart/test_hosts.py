"""hosts.toml is there while a pod of the node is there, and no longer.

The script is the one that the chart renders, in its own shell, with real locks. `configure` and `unconfigure`
are doubles that write a file and take it out, and log when they began and ended.
"""

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import pytest
import yaml

from agent.cli.commands import make_parser
from agent.hosts.flavours import FLAVOURS, Flavour
from agent.keyring import parse_keys
from tests.chart.rendering import CHART, containers, hook, hooks, pod
from tests.chart.samples import SAMPLES

_WAIT_S = 60.0
_KEYS = ("old-key-0123456789abcdefghijklmnopqrst\n", "new-key-ABCDEFGHIJKLMNOPQRSTUVWXYZ-9876\n")
_KEY_DIRECTORY = "/etc/shorthaul-key"
_CONFIG = """version = 2
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
"""
_COMMANDS = """#!/bin/sh
echo "$1 begins $POD" >>"$NODE/log"
[ ! -e "$NODE/slow-$1" ] || sleep 0.5
[ ! -e "$NODE/fail-$1" ] || exit 3
case $1 in
configure) echo "$POD" >"$NODE/hosts.toml" ;;
unconfigure) rm -f "$NODE/hosts.toml" ;;
esac
echo "$1 ends $POD" >>"$NODE/log"
"""


@dataclass
class Node:
    """A node of which the containers `hosts` of several pods run."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "run").mkdir()
        (self.folder / "host/etc/containerd/certs.d").mkdir(parents=True)
        (self.folder / "key").mkdir()
        self.key_file.write_text(_KEYS[0])
        command = self.folder / "bin" / "shorthaul"
        command.parent.mkdir()
        command.write_text(_COMMANDS)
        command.chmod(0o755)

    @property
    def key_file(self) -> Path:
        """The cluster's key, as it is in the mounted Secret."""
        return self.folder / "key/keys"

    @property
    def configured(self) -> str | None:
        """The pod that wrote hosts.toml last; None if there is no such file."""
        with suppress(FileNotFoundError):
            return (self.folder / "hosts.toml").read_text().strip()
        return None

    @property
    def log(self) -> list[str]:
        """What the commands did."""
        with suppress(FileNotFoundError):
            return (self.folder / "log").read_text().splitlines()
        return []

    def start(self, pod: str, *, ready: bool = True) -> subprocess.Popen[bytes]:
        """Start the container of a pod, and wait until its startup probe would pass."""
        container = containers()["hosts"]
        own = self.folder / pod
        own.mkdir(exist_ok=True)
        self.written(pod).unlink(missing_ok=True)  # of a container that ran before in this pod
        (script,) = container["args"]
        for place, stands_for in (
            ("/run/shorthaul-pod", own),
            ("/run/shorthaul", self.folder / "run"),
            (_KEY_DIRECTORY, self.folder / "key"),
        ):
            script = script.replace(place, str(stands_for))
        script = script.replace("/host/", f"{self.folder / 'host'}/").replace(
            "--root /host ", f"--root {self.folder / 'host'} "
        )
        script = script.replace("pause 10", "pause 0.1")
        process = subprocess.Popen(
            [*container["command"], script],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "NODE": str(self.folder),
                "POD": pod,
                "HOST_IP": "192.0.2.7",
            },
            start_new_session=True,
        )
        self.running.append(process)
        if ready:
            wait(self.written(pod).exists)
        return process

    def written(self, pod: str) -> Path:
        """The file that the startup probe looks for."""
        *_, name = containers()["hosts"]["startupProbe"]["exec"]["command"]
        return self.folder / pod / Path(name).name


def authorization(root: Path) -> list[str]:
    """What containerd is to show to the NodePort."""
    text = (root / "etc/containerd/certs.d/_default/hosts.toml").read_text()
    found: list[str] = tomllib.loads(text)["host"]["http://192.0.2.7:30021"]["header"]["Authorization"]
    return found


def bearer(key: str) -> list[str]:
    """The same, by the key."""
    return [f"Bearer {parse_keys(key).service_tokens[0]}"]


def wait(until: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + _WAIT_S
    while not until():
        assert time.monotonic() < deadline_s, "it does not come about"
        time.sleep(0.01)


def end(*processes: subprocess.Popen[bytes]) -> list[int]:
    """Ask the containers to end, as the kubelet does, all before any has ended. Their exit statuses."""
    for process in processes:
        process.terminate()
    return [process.wait(_WAIT_S) for process in processes]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    for process in made.running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_file_is_there_while_the_pod_is_there(node: Node) -> None:
    process = node.start("a")
    assert node.configured == "a"
    assert end(process) == [0]
    assert node.configured is None


def test_file_stays_when_another_pod_of_the_node_has_come(node: Node) -> None:
    old = node.start("old")
    new = node.start("new")
    assert end(old) == [0]
    assert node.configured == "new"
    assert not [line for line in node.log if line.startswith("unconfigure")]
    assert end(new) == [0]
    assert node.configured is None


def test_pod_that_stays_writes_again_when_the_other_leaves(node: Node) -> None:
    """A roll-back: the new pod never became ready, and what it wrote is not what the old one wants."""
    node.start("old")
    new = node.start("new")
    assert node.configured == "new"
    end(new)
    wait(lambda: node.configured == "old")


def test_file_goes_when_all_pods_leave_at_once(node: Node) -> None:
    for turn in range(5):
        processes = [node.start(f"{turn}-{pod}") for pod in range(3)]
        assert end(*processes) == [0, 0, 0]
        assert node.configured is None, f"turn {turn}"


def test_new_pod_waits_until_the_old_one_has_taken_the_file_out(node: Node) -> None:
    old = node.start("old")
    (node.folder / "slow-unconfigure").touch()
    old.terminate()
    wait(lambda: "unconfigure begins old" in node.log)
    node.start("new")
    assert old.wait(_WAIT_S) == 0
    assert node.log.index("unconfigure ends old") < node.log.index("configure begins new")
    assert node.configured == "new"


def test_pod_that_is_asked_to_end_while_it_writes_takes_the_file_out(node: Node) -> None:
    (node.folder / "slow-configure").touch()
    process = node.start("a", ready=False)
    wait(lambda: "configure begins a" in node.log)
    assert end(process) == [0]
    assert node.configured is None


def test_killed_container_leaves_the_file_to_the_next_one(node: Node) -> None:
    process = node.start("a")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert node.configured == "a", "its node goes on to the next endpoint meanwhile"
    end(node.start("a"))
    assert node.configured is None


def test_container_that_can_not_write_ends_and_leaves_nothing(node: Node) -> None:
    (node.folder / "hosts.toml").write_text("of an earlier version")
    (node.folder / "fail-configure").touch()
    process = node.start("a", ready=False)
    assert process.wait(_WAIT_S) == 1
    assert node.configured is None
    assert not node.written("a").exists(), "the pod is not ready"


def test_container_that_can_not_write_leaves_the_other_pods_file(node: Node) -> None:
    node.start("old")
    (node.folder / "fail-configure").touch()
    assert node.start("new", ready=False).wait(_WAIT_S) == 1
    assert node.configured == "old"


def test_container_that_starts_again_is_not_ready_by_what_it_wrote_before(node: Node) -> None:
    os.killpg(node.start("a").pid, signal.SIGKILL)
    (node.folder / "slow-configure").touch()
    (node.folder / "a" / "hosts.written").touch()
    node.start("a", ready=False)
    wait(lambda: node.log.count("configure begins a") == 2)
    assert not node.written("a").exists()


def test_pod_is_ready_only_when_the_file_is_written(node: Node) -> None:
    (node.folder / "slow-configure").touch()
    node.start("a", ready=False)
    wait(lambda: "configure begins a" in node.log)
    assert not node.written("a").exists()
    wait(node.written("a").exists)
    assert node.configured == "a"


class TestWithTheRealCommands:
    """On a directory that stands for a node's root, below which the pod has it at /host."""

    @pytest.fixture
    def root(self, node: Node) -> Path:
        (node.folder / "bin" / "shorthaul").unlink()
        (node.folder / "bin" / "shorthaul").symlink_to(Path(sys.executable).parent / "shorthaul")
        root = node.folder / "host"
        (root / "etc/containerd/config.toml").write_text(_CONFIG)
        return root

    def test_container_writes_what_containerd_reads_and_takes_it_out(self, node: Node, root: Path) -> None:
        process = node.start("a")
        told = tomllib.loads((root / "etc/containerd/certs.d/_default/hosts.toml").read_text())
        assert [*told["host"]] == ["http://127.0.0.1:30020", "http://192.0.2.7:30021"]
        assert told["host"]["http://127.0.0.1:30020"]["capabilities"] == ["pull", "resolve"]
        assert authorization(root) == bearer(_KEYS[0])
        assert "header" not in told["host"]["http://127.0.0.1:30020"]
        assert end(process) == [0]
        assert not list((root / "etc/containerd/certs.d").rglob("hosts.toml*"))

    def test_users_own_file_is_again_as_it_was(self, node: Node, root: Path) -> None:
        own = root / "etc/containerd/certs.d/ghcr.io/hosts.toml"
        own.parent.mkdir()
        own.write_text('# ours\nserver = "https://ghcr.io"\n[host."https://cache.example"]\n')
        before = own.read_bytes()
        process = node.start("a")
        assert own.read_bytes() != before
        end(process)
        assert own.read_bytes() == before

    def test_file_that_another_tool_removes_or_replaces_is_written_again(
        self, node: Node, root: Path
    ) -> None:
        """k3s writes hosts.toml anew at each of its starts."""
        process = node.start("a")
        ours = root / "etc/containerd/certs.d/_default/hosts.toml"
        ours.unlink()
        wait(lambda: ours.exists() and "127.0.0.1:30020" in ours.read_text())
        other = root / "etc/containerd/certs.d/docker.io/hosts.toml"
        other.parent.mkdir()
        other.write_text('server = "https://registry-1.docker.io"\n')
        wait(lambda: "127.0.0.1:30020" in other.read_text())
        end(process)
        assert other.read_text() == 'server = "https://registry-1.docker.io"\n'

    def test_key_that_changes_brings_another_token_without_a_restart(self, node: Node, root: Path) -> None:
        """As the kubelet does it: a link to a directory is replaced by one to another."""
        folder = node.key_file.parent
        for number, text in enumerate((_KEYS[0], _KEYS[0] + _KEYS[1], _KEYS[1] + _KEYS[0], _KEYS[1])):
            (folder / f"..{number}").mkdir()
            (folder / f"..{number}/keys").write_text(text)
        node.key_file.unlink()
        node.key_file.symlink_to("..data/keys")
        (folder / "..data").symlink_to("..0")
        process = node.start("a")
        assert authorization(root) == bearer(_KEYS[0])
        for number, key in ((1, _KEYS[0]), (2, _KEYS[1]), (3, _KEYS[1])):
            (folder / "..new").symlink_to(f"..{number}")
            (folder / "..new").rename(folder / "..data")
            wait(lambda key=key: authorization(root) == bearer(key))  # type: ignore[misc]
        end(process)
        assert not list((root / "etc/containerd/certs.d").rglob("hosts.toml*"))

    def test_key_that_is_no_use_leaves_the_token_until_it_is_one_again(self, node: Node, root: Path) -> None:
        process = node.start("a")
        checked = node.folder / "a/hosts.checked"
        for text in ("", "too short\n"):
            seen = checked.stat().st_mtime_ns
            node.key_file.write_text(text)
            wait(lambda seen=seen: checked.stat().st_mtime_ns > seen)  # type: ignore[misc]
        assert process.poll() is None
        assert authorization(root) == bearer(_KEYS[0])
        node.key_file.write_text(_KEYS[1])
        wait(lambda: authorization(root) == bearer(_KEYS[1]))

    def test_mode_that_lets_others_read_the_token_is_mended(self, node: Node, root: Path) -> None:
        node.start("a")
        file = root / "etc/containerd/certs.d/_default/hosts.toml"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
        wait(lambda: stat.S_IMODE(file.stat().st_mode) == 0o600)

    def test_broken_file_of_another_tool_ends_nothing(self, node: Node, root: Path) -> None:
        process = node.start("a")
        other = root / "etc/containerd/certs.d/docker.io/hosts.toml"
        other.parent.mkdir()
        other.write_text("server = ")
        checked = node.folder / "a" / "hosts.checked"
        wait(lambda: checked.stat().st_mtime_ns > other.stat().st_mtime_ns)
        assert process.poll() is None
        assert other.read_text() == "server = "

    def test_init_container_writes_nothing_and_says_what_it_would(self, node: Node, root: Path) -> None:
        container = containers()["configure"]
        (script,) = container["args"]
        told = subprocess.run(
            [
                *container["command"],
                script.replace("/host ", f"{root} ").replace(_KEY_DIRECTORY, str(node.key_file.parent)),
            ],
            env={"PATH": f"{node.folder / 'bin'}:{os.environ['PATH']}", "HOST_IP": "fd00::7"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        assert "certs.d/_default/hosts.toml (not written) is new" in told.stdout
        assert not list((root / "etc/containerd/certs.d").rglob("*"))

    def test_commands_know_the_arguments_of_every_sample(self, node: Node, root: Path) -> None:
        commands: set[str] = set()
        for values in SAMPLES.values():
            every = containers(values)
            if "hosts" in every:
                dry = every["configure"]["args"][0].removeprefix("exec ")
                (write,) = re.findall(r"shorthaul configure .*", every["hosts"]["args"][0])
                (out,) = re.findall(r"shorthaul unconfigure .*", every["hosts"]["args"][0])
                assert dry == write.replace("configure", "configure --dry-run", 1)
                commands |= {dry, f"{out} --dry-run"}
                for volume in pod(values)["volumes"]:  # as the kubelet makes them
                    if volume.get("hostPath", {}).get("type") == "DirectoryOrCreate":
                        (root / volume["hostPath"]["path"][1:]).mkdir(parents=True, exist_ok=True)
        variables = {"HOST_IP": "192.0.2.7", "SHORTHAUL_LOCAL_SERVICE_HOST": "10.96.0.9"}
        assert len(commands) > len(FLAVOURS)
        for command in commands:
            here = command.replace("/host ", f"{root} ").replace(_KEY_DIRECTORY, str(node.key_file.parent))
            _, *words = shlex.split(Template(here).substitute(variables))
            arguments = make_parser().parse_args(words)
            assert arguments.run(arguments) == 0, command


def test_containerd_asks_registries_that_decide_for_tags_itself() -> None:
    """Those alone that decide of every image: another rule before might say otherwise."""
    (script,) = containers(SAMPLES["registries that decide"])["hosts"]["args"]
    assert re.findall(r"--no-tags '([^']*)'", script) == ["registry.example.com:5000", "ghcr.io"]
    assert "--no-tags" not in str(containers()["hosts"]["args"])


def test_flavours_are_those_that_the_commands_know() -> None:
    known = yaml.safe_load((CHART / "files/flavours.yaml").read_text(encoding="utf-8"))
    assert known == {
        each.name: {
            "configDirectory": str(each.config.parent),
            "configFile": each.config.name,
            "certsDirectory": str(each.certs_d),
            "socket": str(each.socket),
            "root": str(each.root),
        }
        for each in FLAVOURS
    }


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)
def test_configuration_in_another_directory_has_the_name_that_the_flavour_gives_it(flavour: Flavour) -> None:
    values = {"containerd": {"flavour": flavour.name, "configDirectory": "/etc/other"}}
    (script,) = containers(values)["hosts"]["args"]
    assert f"--containerd-config /etc/other/{flavour.config.name} " in script


def test_script_has_nothing_that_the_kubelet_would_expand() -> None:
    """The kubelet replaces $(NAME), and makes $$ a $."""
    for name in ("configure", "hosts"):
        (script,) = containers()[name]["args"]
        assert "$(" not in script
        assert "$$" not in script


def test_no_hook_takes_part_in_an_uninstallation() -> None:
    """One that can't run keeps a release from going."""
    assert {hook(each) for values in SAMPLES.values() for each in hooks(values)} == {"test"}

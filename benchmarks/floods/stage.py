"""Two real agents on loopback: the one that is flooded, and a peer that has what the other one lacks."""

import hashlib
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from benchmarks.lab.folders import make_folder
from benchmarks.lab.process import Process

HOSTPORT, NODEPORT, PEER, ADMIN = 30020, 30022, 30023, 9090
_MIB = 1 << 20
_NETWORK = "127.77.{pid}."
_SMALL_BYTES, _LARGE_BYTES = 4096, 64 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The flooded agent (``address``), and who else is there.

    ``stranger``, ``member``: addresses of attackers; the second one's is that of a member. ``sink``: a server
    that is no agent. ``local``, ``large``: paths of contents of the flooded agent. ``at_peer``: of contents
    that only the peer has.
    """

    address: str
    stranger: str
    member: str
    sink: str
    local: str
    large: str
    at_peer: Sequence[str]
    agent: Process

    @property
    def rss_mib(self) -> float:
        """The flooded agent's resident set."""
        return float(psutil.Process(self.agent.pid).memory_info().rss) / _MIB

    @property
    def cpu_s(self) -> float:
        """The flooded agent's CPU time so far."""
        times = psutil.Process(self.agent.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return int(psutil.Process(self.agent.pid).num_fds())


@contextmanager
def raised(*, at_peer: int, is_open: bool, descriptors: int | None = None) -> Iterator[Stage]:
    """The stage. ``at_peer``: how many contents only the peer has. ``descriptors``: the agent's limit.

    ``is_open``: no agent asks for a proof, so whoever says that it is one is one, as if it had the key.
    """
    folder = make_folder("shlab", "floods-")
    first = _NETWORK.format(pid=os.getpid() % 250)
    victim, peer, member, stranger, sink = (f"{first}{last}" for last in (1, 2, 3, 4, 5))
    members = folder / "peers.yaml"
    names = {"victim": victim, "peer": peer, "member": member}
    (folder / "cluster.key").touch(0o600)
    (folder / "cluster.key").write_text(f"{secrets.token_hex(32)}\n")
    members.write_text(
        yaml.safe_dump(
            [
                {"name": name, "address": address, "port": PEER, "region": "r", "zone": "a"}
                for name, address in names.items()
            ]
        )
    )
    processes: list[Process] = []
    try:
        local, large = (_put(folder / "victim", size_bytes) for size_bytes in (_SMALL_BYTES, _LARGE_BYTES))
        held = [_put(folder / "peer", _SMALL_BYTES) for _ in range(at_peer)]
        for name in ("victim", "peer"):
            command = _command(folder, name, names[name], members, is_open=is_open)
            limit = [] if name == "peer" or descriptors is None else ["prlimit", f"--nofile={descriptors}"]
            processes.append(Process([*limit, *command], log=folder / f"{name}.log"))
        sink_command = [sys.executable, "-m", "benchmarks.floods.sink", sink, str(PEER)]
        processes.append(Process(sink_command, log=folder / "sink.log"))
        for process, name in zip(processes, ("victim", "peer"), strict=False):
            process.wait_until(lambda name=name: _ready(names[name]), f"the agent {name}")  # type: ignore[misc]
        yield Stage(
            address=victim,
            stranger=stranger,
            member=member,
            sink=sink,
            local=local,
            large=large,
            at_peer=held,
            agent=processes[0],
        )
    finally:
        for process in processes:
            process.kill()
        if os.environ.get("KEEP_LOGS"):
            subprocess.run(["tail", "-n", "5", *folder.glob("*.log")], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _command(folder: Path, name: str, address: str, members: Path, *, is_open: bool) -> list[str]:
    config = folder / f"{name}.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "node": {"name": name, "address": address},
                "placement": {"region": "r", "zone": "a"},
                "listen": {
                    "hostport": f"{address}:{HOSTPORT}",
                    "nodeport": f"{address}:{NODEPORT}",
                    "peer": f"{address}:{PEER}",
                    "admin": f"{address}:{ADMIN}",
                },
                "store": f"oci-layout://{folder / name}",
                "membership": {"static": str(members)},
                "peering": {"open": True} if is_open else {"key": str(folder / "cluster.key")},
                "scrub": {"bytes_per_s": 0},
            }
        )
    )
    shorthaul = Path(sys.executable).parent / "shorthaul"
    return [str(shorthaul), "agent", "--config", str(config), "--log-format", "json"]


def _put(layout: Path, size_bytes: int) -> str:
    blobs = layout / "blobs/sha256"
    if not blobs.exists():
        blobs.mkdir(parents=True)
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": []}))
    content = os.urandom(size_bytes)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return f"/v2/bench/blobs/sha256:{digest}"


def _ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, ADMIN, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()

"""Real servers of the index: Valkey, or Redis where there is no Valkey. Alone, replicated, watched by
Sentinels, or as a Cluster; in a namespace or on loopback; with a password, ACL users and TLS.

They keep nothing on disk, so a restarted server is an empty one.
"""

import contextlib
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.lab.process import LabError, Process, run

LOOPBACK = "127.0.0.1"
_SLOTS = 16384
_PORTS = range(20000, 30000)  # below those that connections get
_COME_UP_S = 30.0

SERVICE = "index"
"""The name that the lab's Sentinels have for the server they watch."""


def program(kind: str) -> str:
    """The path of ``server``, ``cli`` or ``sentinel``: Valkey's, or else Redis'. Raises `LabError`."""
    found = shutil.which(f"valkey-{kind}") or shutil.which(f"redis-{kind}")
    if found is None:
        raise LabError(f"there is neither valkey-{kind} nor redis-{kind}: install redis-server")
    return found


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody has now, and that the kernel gives to nobody who doesn't ask for it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise LabError(f"no port is free at {host}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a server's process has used so far. ``connected``: clients, the one that asks included."""

    cpu_s: float
    rss_bytes: int
    commands: int
    connected: int


class ValkeyServer:
    """One server. It is started at once.

    ``port``: None takes a free one. ``certificates``: a folder of `Authority.issue`; then it speaks TLS only.
    ``password``: of the user *default*. ``users``: names with their ACL rules, such as
    ``on >secret ~* +@all``. ``settings``: anything else of its configuration.
    """

    def __init__(
        self,
        folder: Path,
        *,
        address: str = LOOPBACK,
        port: int | None = None,
        netns: str | None = None,
        cgroup: Path | None = None,
        certificates: Path | None = None,
        password: str | None = None,
        users: Mapping[str, str] | None = None,
        replica_of: "ValkeyServer | None" = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address = address
        self.port = free_port(address) if port is None else port
        self._folder, self._netns, self._cgroup = folder, netns, cgroup
        self._certificates, self.password = certificates, password
        self._users, self._primary, self._settings = users, replica_of, dict(settings or {})
        self._process: Process | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        """``IP:PORT``."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def url(self, login: str = "", database: int = 0) -> str:
        """What `index` in the settings says to use it. ``login``: ``USER:PASSWORD``, or nothing."""
        scheme, path = "valkeys" if self._certificates else "valkey", f"/{database}" if database else ""
        return f"{scheme}://{login}{'@' if login else ''}{self.endpoint}{path}"

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._running.pid

    @property
    def log(self) -> str:
        """All that it has logged."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        command = [program("server"), str(self._write_configuration())]
        log = self._folder / "log"
        self._process = Process(command, log=log, netns=self._netns, cgroup=self._cgroup)
        self._process.wait_until(self.answers, "the index's server", at_most_s=_COME_UP_S)

    def answers(self) -> bool:
        """Whether it answers now, even if only that it is not ready."""
        try:
            self.cli("ping")
        except LabError as error:
            return "Could not connect" not in str(error)
        return True

    def stop(self) -> None:
        """End it and wait for its end. Nothing happens if it has ended."""
        if self._process is not None:
            self._process.stop(at_most_s=10.0)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._running.kill()

    def restart(self) -> None:
        """Kill it and start it again, which makes it empty."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): the kernel accepts connections for it."""
        self._running.signal(signal.SIGSTOP)
        self._running.wait_until(
            lambda: psutil.Process(self.pid).status() == psutil.STATUS_STOPPED, "a frozen server"
        )

    def thaw(self) -> None:
        """Let it go on."""
        self._running.signal(signal.SIGCONT)

    def cli(self, *words: str) -> str:
        """Ask the server by its own command line. Raises `LabError` with an error that it answers."""
        login = [] if self.password is None else ["--user", "default", "--pass", self.password]
        tls = ["--tls", "--insecure"] if self._certificates else []
        command = [program("cli"), "-e", "--no-auth-warning", "-h", self.address, "-p", str(self.port)]
        said = run([*command, *tls, *login, *words], netns=self._netns, at_most_s=20.0).strip()
        if said.startswith(("(error)", "Could not connect", "Error:")):
            raise LabError(said)
        return said

    def info(self) -> dict[str, str]:
        """All that INFO says."""
        lines = [line.split(":", 1) for line in self.cli("info", "everything").splitlines() if ":" in line]
        return {name: value.strip() for name, value in lines}

    def configure(self, **settings: str) -> None:
        """Change settings while it runs: ``maxmemory="2mb"``. An underscore is a hyphen."""
        for name, value in settings.items():
            self.cli("config", "set", name.replace("_", "-"), value)

    def fill(self) -> None:
        """Make it full: it may use no more memory than it does, and evicts nothing."""
        self.configure(maxmemory_policy="noeviction", maxmemory="1")

    def usage(self) -> Usage:
        """What it has used so far."""
        process, info = psutil.Process(self.pid), self.info()
        times = process.cpu_times()
        return Usage(
            cpu_s=times.user + times.system,
            rss_bytes=process.memory_info().rss,
            commands=int(info["total_commands_processed"]),
            connected=int(info["connected_clients"]),
        )

    def follow(self, primary: "ValkeyServer | None") -> None:
        """Become a replica of another server, or of nobody."""
        words = ("no", "one") if primary is None else (primary.address, str(primary.port))
        self.cli("replicaof", *words)

    @property
    def _running(self) -> Process:
        if self._process is None:
            raise LabError("the index's server was never started")
        return self._process

    def _write_configuration(self) -> Path:
        path = self._folder / "server.conf"
        lines = [
            f"bind {self.address}",
            *self._port_lines(),
            *(
                'save ""',
                "appendonly no",
                "daemonize no",
                f'dir "{self._folder}"',
                "repl-diskless-sync-delay 0",
            ),
            *self._login_lines(),
            *([f"replicaof {self._primary.address} {self._primary.port}"] if self._primary else []),
            *(f"{name} {value}" for name, value in self._settings.items()),
        ]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _port_lines(self) -> list[str]:
        if self._certificates is None:
            return [f"port {self.port}"]
        folder = self._certificates
        return [
            *("port 0", f"tls-port {self.port}", f'tls-cert-file "{folder / "tls.crt"}"'),
            *(f'tls-key-file "{folder / "tls.key"}"', f'tls-ca-cert-file "{folder / "ca.crt"}"'),
            *("tls-auth-clients optional", "tls-replication yes", "tls-cluster yes"),
        ]

    def _login_lines(self) -> list[str]:
        default = "nopass" if self.password is None else f">{self.password}"
        lines = [f"user default on {default} ~* &* +@all"]
        lines += [f"user {name} {rules}" for name, rules in (self._users or {}).items()]
        if self._primary is not None and self._primary.password is not None:
            lines += [f"masterauth {self._primary.password}"]
        return lines


class Sentinels:
    """Sentinels that watch a server with its replicas, and make one of these the primary if it fails.

    ``down_s``: how long it may be silent. They take 1 to 3 s more.
    """

    def __init__(
        self,
        folder: Path,
        primary: ValkeyServer,
        *,
        count: int = 3,
        down_s: float = 0.5,
        netns: str | None = None,
    ) -> None:
        self.ports = [free_port(primary.address) for _ in range(count)]
        self.address, self._netns = primary.address, netns
        self._processes: list[Process] = []
        try:
            for place, port in enumerate(self.ports):
                self._start(folder / f"sentinel-{place}", port, primary, count // 2 + 1, down_s)
        except BaseException:
            self.close()
            raise

    def url(self, login: str = "") -> str:
        """What `index` in the settings says to use the server that they watch."""
        hosts = ",".join(f"{self.address}:{port}" for port in self.ports)
        return f"valkey+sentinel://{login}{'@' if login else ''}{hosts}/{SERVICE}"

    def primary_port(self) -> int:
        """The port of the server that they say is the primary."""
        return int(self._cli(self.ports[0], "sentinel", "get-master-addr-by-name", SERVICE).split()[1])

    def wait_until_ready(self, replicas: int = 1) -> None:
        """Wait until they know the replicas and each other. Before, they would not fail over."""
        others = len(self.ports) - 1
        self._processes[0].wait_until(lambda: self._knows(replicas, others), "the Sentinels", at_most_s=60.0)

    def wait_for_primary(self, server: ValkeyServer) -> None:
        """Wait until this server is the primary, and knows it."""
        self._processes[0].wait_until(
            lambda: self.primary_port() == server.port and "role:master" in server.cli("info", "replication"),
            "the new primary",
            at_most_s=60.0,
        )

    def fail_over(self) -> None:
        """Have them make a replica the primary, as an operator does."""
        self._cli(self.ports[0], "sentinel", "failover", SERVICE)

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            process.stop(at_most_s=10.0)

    def _knows(self, replicas: int, others: int) -> bool:
        words = self._cli(self.ports[0], "sentinel", "master", SERVICE).split("\n")
        said = dict(zip(words[::2], words[1::2], strict=False))
        return int(said["num-slaves"]) >= replicas and int(said["num-other-sentinels"]) >= others

    def _start(self, folder: Path, port: int, primary: ValkeyServer, quorum: int, down_s: float) -> None:
        folder.mkdir(parents=True)
        lines = [
            *(f"bind {self.address}", f"port {port}", f'dir "{folder}"'),
            f"sentinel monitor {SERVICE} {primary.address} {primary.port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} {down_s * 1000:.0f}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        if primary.password is not None:
            lines.append(f"sentinel auth-pass {SERVICE} {primary.password}")
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
        command = [program("sentinel"), str(folder / "sentinel.conf")]
        process = Process(command, log=folder / "log", netns=self._netns)
        self._processes.append(process)
        process.wait_until(lambda: "Sentinel ID" in (folder / "log").read_text(), "a Sentinel")

    def _cli(self, port: int, *words: str) -> str:
        command = [program("cli"), "-e", "-h", self.address, "-p", str(port), *words]
        return run(command, netns=self._netns, at_most_s=20.0).strip()


class ValkeyCluster:
    """A Cluster, with as many primaries and ``replicas`` of each. ``settings``: for each of its servers."""

    def __init__(
        self,
        folder: Path,
        *,
        primaries: int = 3,
        replicas: int = 0,
        password: str | None = None,
        netns: str | None = None,
        address: str = LOOPBACK,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.servers: list[ValkeyServer] = []
        try:
            for place in range(primaries * (1 + replicas)):
                self.servers.append(
                    ValkeyServer(
                        folder / f"node-{place}",
                        address=address,
                        netns=netns,
                        password=password,
                        settings={
                            "cluster-enabled": "yes",
                            "cluster-config-file": f'"{folder / f"nodes-{place}.conf"}"',
                            "cluster-node-timeout": "1000",
                            "cluster-port": str(free_port(address)),
                            "cluster-replica-validity-factor": "0",
                            **({} if password is None else {"masterauth": password}),
                            **(settings or {}),
                        },
                    )
                )
            self._join(primaries)
        except BaseException:
            self.close()
            raise

    def url(self, login: str = "") -> str:
        """What `index` in the settings says to use it."""
        hosts = ",".join(server.endpoint for server in self.servers)
        return f"valkey+cluster://{login}{'@' if login else ''}{hosts}"

    def owner(self, key: str) -> ValkeyServer:
        """The primary that has a key."""
        slot = int(self.servers[0].cli("cluster", "keyslot", key))
        port = self._owner_of(slot, self.servers[0])
        return next(server for server in self.servers if server.port == port)

    @staticmethod
    def _owner_of(slot: int, asked: ValkeyServer) -> int:
        """The port of the primary that has a slot, as one server knows it."""
        for line in asked.cli("cluster", "nodes").splitlines():
            words = line.split()
            for span in words[8:]:
                first, _, last = span.partition("-")
                if first.isdigit() and int(first) <= slot <= int(last or first):
                    return int(words[1].partition("@")[0].rpartition(":")[2])
        raise LabError(f"nobody has slot {slot}")

    def move(self, slot: int, target: ValkeyServer) -> None:
        """Give an empty slot to another primary, as resharding does at its end. Waits until all know it."""
        node = target.cli("cluster", "myid")
        target.cli("cluster", "setslot", str(slot), "node", node)
        target.cli("cluster", "bumpepoch")  # or the last owner's word would count for more
        for server in self.servers:
            server.cli("cluster", "setslot", str(slot), "node", node)
        self._wait(
            "the slot has moved",
            lambda: all(self._owner_of(slot, server) == target.port for server in self.servers),
        )

    def close(self) -> None:
        """End them."""
        for server in self.servers:
            server.stop()

    def _join(self, primaries: int) -> None:
        first = self.servers[0]
        for place, server in enumerate(self.servers[:primaries]):
            start, end = place * _SLOTS // primaries, (place + 1) * _SLOTS // primaries - 1
            server.cli("cluster", "addslotsrange", str(start), str(end))
            server.cli("cluster", "set-config-epoch", str(place + 1))
        for server in self.servers[1:]:
            bus = server.cli("config", "get", "cluster-port").split()[-1]
            first.cli("cluster", "meet", server.address, str(server.port), bus)
        self._wait("every server knows the others", self._all_known)
        for place, server in enumerate(self.servers[primaries:]):
            server.cli("cluster", "replicate", self.servers[place % primaries].cli("cluster", "myid"))
        self._wait("the Cluster serves all slots", self.works)

    def works(self) -> bool:
        """Whether every server says that the Cluster serves all slots."""
        return all("cluster_state:ok" in server.cli("cluster", "info") for server in self.servers)

    def _all_known(self) -> bool:
        count = f"cluster_known_nodes:{len(self.servers)}"
        return all(count in server.cli("cluster", "info") for server in self.servers)

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        until_s = time.monotonic() + _COME_UP_S
        while not ready():
            if time.monotonic() > until_s:
                raise LabError(f"not yet after {_COME_UP_S:g} s: {what}")
            time.sleep(0.05)

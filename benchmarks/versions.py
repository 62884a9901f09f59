"""Two checkouts of this project beside each other: is the newer one as fast and as small?

    python -m benchmarks.versions OTHER_CHECKOUT [--rounds N] [--json FILE]

Both need a virtual environment (`make setup`). Each round measures both in turn, beginning with the other one
each time, so that noise meets both. Agents run on loopback addresses, with OCI layouts as stores. No root is
needed. Every figure is a ratio: this checkout's value divided by the other one's. Requests to idle agents are
measured beside requests to bare servers, too (`benchmarks.bare`), because they depend on the machine most.
"""

import argparse
import hashlib
import http.client
import os
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import yaml

from benchmarks.arguments import make_parser
from benchmarks.lab.process import Process
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run

_HERE = Path(__file__).parent.parent
_PORTS = {"hostport": 30020, "nodeport": 30022, "peer": 30023, "admin": 9090}
_KEYS_BEFORE = {"hostport": "local", "nodeport": "service", "peer": "peer", "admin": "admin"}
_SMALL_BYTES = 64 << 10
_LARGE_BYTES = 1 << 30
_BLOBS = 150
_IDLE_S = 4.0
_SETTLED_S = 7.0  # an agent arranges its memory a few seconds after its start
_ASKED_IDLE = 200
_PAUSE_S = 0.015  # between two requests to one agent, which is idle meanwhile
_IDLE_BYTES = 1 << 20

_BARE = "bare servers in a row"

Values = dict[str, float]
"""One round's figures of one checkout, by name. For each, less is better."""


class _Server(Protocol):
    """Whatever answers requests."""

    @property
    def address(self) -> str: ...

    @property
    def measured(self) -> psutil.Process: ...


class _Chain(Protocol):
    """A server that gets requests, and the one that it asks."""

    @property
    def asker(self) -> _Server: ...

    @property
    def holder(self) -> _Server: ...


class _Agent:
    """One agent of one checkout."""

    def __init__(
        self, checkout: Path, folder: Path, name: str, address: str, members: list[dict[str, object]]
    ) -> None:
        self.address = address
        self.layout = folder / name
        blobs = self.layout / "blobs/sha256"
        blobs.mkdir(parents=True)
        (self.layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
        peers = folder / "peers.yaml"
        peers.write_text(yaml.safe_dump(members))
        renamed = "hostport" in (checkout / "agent/config/settings.py").read_text()
        listen = {
            (key if renamed else _KEYS_BEFORE[key]): f"{address}:{port}" for key, port in _PORTS.items()
        }
        config = folder / f"{name}.yaml"
        settings = {
            "node": {"name": name, "address": address},
            "placement": {"region": "r", "zone": "z"},
            "listen": listen,
            "store": f"oci-layout://{self.layout}",
            "membership": {"static": str(peers)},
            "scrub": {"bytes_per_s": 0},
        }
        if (checkout / "agent/keyring.py").exists():
            key = folder / "cluster.key"
            key.write_text("the-key-of-a-benchmark-0123456789-abcdef")
            settings["peering"] = {"key": str(key)}
        config.write_text(yaml.safe_dump(settings))
        command = [
            str(checkout / ".venv/bin/shorthaul"),
            "agent",
            "--config",
            str(config),
            "--log-level",
            "error",
        ]
        self._command, self._log = command, folder / f"{name}.log"

    def start(self) -> float:
        """Start it. Returns how many seconds it took until it was ready."""
        began_s = time.monotonic()
        self._process = Process(self._command, log=self._log, env={**os.environ, "PYTHONPATH": ""})
        self._process.wait_until(self._is_ready, "an agent")
        return time.monotonic() - began_s

    def stop(self) -> None:
        self._process.stop()

    @property
    def measured(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def put(self, content: bytes) -> str:
        """Add a blob to the store. Returns its digest."""
        digest = hashlib.sha256(content).hexdigest()
        (self.layout / "blobs/sha256" / digest).write_bytes(content)
        return f"sha256:{digest}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, _PORTS["hostport"], timeout=60)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.address, _PORTS["admin"], timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class _Cluster:
    """A holder and an asker in one zone, and two agents elsewhere. ``start_s``: how long the asker took."""

    holder: _Agent
    asker: _Agent
    start_s: float


@contextmanager
def _cluster(checkout: Path, network: str = "127.77.0") -> Iterator[_Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="shversions-"))
    members = [
        {
            "name": name,
            "address": f"{network}.{number}",
            "port": _PORTS["peer"],
            "region": region,
            "zone": zone,
        }
        for number, (name, region, zone) in enumerate(_MEMBERS, start=1)
    ]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        agents: dict[str, _Agent] = {}
        for member in members:
            name = str(member["name"])
            agents[name] = _Agent(checkout, folder, name, str(member["address"]), members)
            start_s = agents[name].start()
            stack.callback(agents[name].stop)
        yield _Cluster(agents["holder"], agents["asker"], start_s)


class _BareServer:
    """A server that decides nothing. ``upstream``: what it asks."""

    def __init__(self, address: str, log: Path, upstream: "_BareServer | None" = None) -> None:
        self.address = address
        asked = [] if upstream is None else [f"{upstream.address}:{_PORTS['hostport']}"]
        command = [sys.executable, "-m", "benchmarks.bare", address, str(_PORTS["hostport"]), *asked]
        self._process = Process(command, log=log)
        self._process.wait_until(self._is_ready, "a bare server")

    def stop(self) -> None:
        self._process.stop()

    @property
    def measured(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def _is_ready(self) -> bool:
        try:
            socket.create_connection((self.address, _PORTS["hostport"]), timeout=5).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _BareChain:
    asker: _BareServer
    holder: _BareServer


@contextmanager
def _bare_chain(network: str) -> Iterator[_BareChain]:
    folder = Path(tempfile.mkdtemp(prefix="shversions-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        holder = _BareServer(f"{network}.1", folder / "holder.log")
        stack.callback(holder.stop)
        asker = _BareServer(f"{network}.2", folder / "asker.log", holder)
        stack.callback(asker.stop)
        yield _BareChain(asker, holder)


_MEMBERS = [("holder", "r", "z"), ("next", "r", "y"), ("far", "q", "x"), ("asker", "r", "z")]


def _get(connection: http.client.HTTPConnection, digest: str) -> tuple[float, int]:
    """Seconds to the first byte of the answer, and its status. The body is read to its end."""
    began_s = time.perf_counter()
    connection.request("GET", f"/v2/library/app/blobs/{digest}", headers={"User-Agent": "containerd/2.1"})
    reply = connection.getresponse()
    reply.read(1)
    took_s = time.perf_counter() - began_s
    while reply.readinto(_BUFFER):
        pass
    return took_s, reply.status


_BUFFER = bytearray(1 << 20)


def measure(checkout: Path) -> Values:
    """One round of one checkout."""
    with _cluster(checkout) as cluster:
        holder, asker = cluster.holder, cluster.asker
        values: Values = {"start-up, s": cluster.start_s}
        time.sleep(_IDLE_S)
        values["RSS of an idle agent, MiB"] = asker.measured.memory_info().rss / (1 << 20)
        own = asker.put(os.urandom(_SMALL_BYTES))
        theirs = [holder.put(os.urandom(_SMALL_BYTES)) for _ in range(_BLOBS)]
        nobodys = [f"sha256:{os.urandom(32).hex()}" for _ in range(_BLOBS)]
        time.sleep(1.0)  # the stores look for new files twice a second
        for what, digests, expected in (
            ("a local blob", [own] * _BLOBS, 200),
            ("a blob of a peer", theirs, 200),
            ("a 404 that nobody has", nobodys, 404),
        ):
            connection, times_s = asker.connect(), []
            for digest in digests:
                took_s, status = _get(connection, digest)
                assert status == expected, f"{what}: {status}"
                times_s.append(took_s)
            connection.close()
            values[f"first byte of {what}, p50 ms"] = 1000 * statistics.median(times_s)
            values[f"first byte of {what}, p95 ms"] = 1000 * sorted(times_s)[len(times_s) * 95 // 100]
        values.update(_relay(holder, asker))
        values["RSS after all of this, MiB"] = asker.measured.memory_info().rss / (1 << 20)
        return values


def _relay(holder: _Agent, asker: _Agent) -> Values:
    """One large blob through the asker."""
    piece = os.urandom(1 << 20)
    digest = holder.put(piece * (_LARGE_BYTES >> 20))
    time.sleep(1.0)
    connection, before = asker.connect(), asker.measured.cpu_times()
    began_s = time.perf_counter()
    _, status = _get(connection, digest)
    took_s, after = time.perf_counter() - began_s, asker.measured.cpu_times()
    connection.close()
    assert status == 200
    cpu_s = after.user + after.system - before.user - before.system
    return {"relay of 1 GiB, s": took_s, "relay of 1 GiB, CPU-s of the relaying agent": cpu_s}


def measure_idle(checkouts: Mapping[str, Path]) -> dict[str, Values]:
    """One round of requests to idle agents, each over a connection of its own.

    The agents of all checkouts run, and get one request each in turn. So do bare servers, which ask each
    other as often as the agents do. So all meet the same noise.
    """
    with ExitStack() as stack:
        clusters = {
            name: stack.enter_context(_cluster(checkout, f"127.{80 + number}.0"))
            for number, (name, checkout) in enumerate(checkouts.items())
        }
        theirs = {name: cluster.holder.put(os.urandom(_IDLE_BYTES)) for name, cluster in clusters.items()}
        own = {name: cluster.asker.put(os.urandom(_IDLE_BYTES)) for name, cluster in clusters.items()}
        chains: dict[str, _Chain] = {**clusters, _BARE: stack.enter_context(_bare_chain("127.79.0"))}
        time.sleep(_SETTLED_S)
        values: dict[str, Values] = {name: {} for name in chains}
        # The first request for a blob needs a question to the holder, and then a fetch.
        firsts = {**theirs, _BARE: _asking(2)}
        for name in random.sample([*chains], k=len(chains)):
            took_s = _first_byte_s(chains[name].asker, firsts[name], 200)
            values[name]["very first of a peer, ms"] = 1000 * took_s
        for what, digest_of, status, asks in (
            ("a blob of a peer", theirs.__getitem__, 200, 1),
            ("a 404 that nobody has", lambda _: f"sha256:{os.urandom(32).hex()}", 404, 1),
            ("a local blob", own.__getitem__, 200, 0),
        ):
            for name, found in _ask_in_turn(chains, digest_of, status, asks).items():
                values[name].update({f"{what}, {figure}": value for figure, value in found.items()})
    return values


def _asking(times: int) -> str:
    """The end of a path for which a bare server asks the other one so often."""
    return str(times)


def _ask_in_turn(
    chains: Mapping[str, _Chain], digest_of: Callable[[str], str], status: int, asks: int
) -> dict[str, Values]:
    times_s: dict[str, list[float]] = {name: [] for name in chains}
    before = {name: _spent(chain) for name, chain in chains.items()}
    for number in range(_ASKED_IDLE):
        for name in sorted(chains, reverse=bool(number % 2)):
            time.sleep(_PAUSE_S / len(chains))
            wanted, expected = (_asking(asks), 200) if name == _BARE else (digest_of(name), status)
            times_s[name].append(_first_byte_s(chains[name].asker, wanted, expected))
    values: dict[str, Values] = {}
    for name, chain in chains.items():
        cpu_s, wakes = (after - start for after, start in zip(_spent(chain), before[name], strict=True))
        ordered_s = sorted(times_s[name])
        values[name] = {
            "p50 ms": 1000 * statistics.median(ordered_s),
            "p99 ms": 1000 * ordered_s[len(ordered_s) * 99 // 100],
            "CPU ms of asker and holder": 1000 * cpu_s / _ASKED_IDLE,
            "wake-ups of asker and holder": wakes / _ASKED_IDLE,
        }
    return values


def _spent(chain: _Chain) -> tuple[float, int]:
    """The CPU seconds and the wake-ups of the asker and the holder so far."""
    agents = (chain.asker.measured, chain.holder.measured)
    cpu_s = sum(sum(agent.cpu_times()[:2]) for agent in agents)
    return cpu_s, sum(agent.num_ctx_switches().voluntary for agent in agents)


def _first_byte_s(asker: _Server, digest: str, status: int) -> float:
    """Seconds from connecting to the first byte of the body, on a plain socket: the client costs little."""
    request = (
        f"GET /v2/library/app/blobs/{digest} HTTP/1.1\r\nHost: {asker.address}\r\n"
        "User-Agent: containerd/2.1\r\nConnection: close\r\n\r\n"
    ).encode()
    began_s = time.perf_counter()
    with socket.create_connection((asker.address, _PORTS["hostport"]), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request)
        received = b""
        while not received.partition(b"\r\n\r\n")[2]:
            piece = sock.recv(1 << 16)
            assert piece, "no body"
            received += piece
        took_s = time.perf_counter() - began_s
        assert int(received[9:12]) == status, received[:200]
        while sock.recv_into(_BUFFER):
            pass
    return took_s


def main() -> int:
    """Measure both, and report the ratios."""
    parser = make_parser("benchmarks.versions", __doc__)
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    parser.add_argument("--only-idle", action="store_true", help="only the requests to idle agents")
    return run(parser, _measure)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    checkouts = {"this": _HERE, "other": arguments.other.resolve()}
    rounds: dict[str, list[Values]] = {name: [] for name in (*checkouts, _BARE)}
    for number in range(arguments.rounds):
        found = {
            name: {f"idle, fresh connection: {what}": value for what, value in values.items()}
            for name, values in measure_idle(checkouts).items()
        }
        for name in sorted(checkouts, reverse=bool(number % 2)):
            more = {} if arguments.only_idle else measure(checkouts[name])
            rounds[name].append(found[name] | more)
        rounds[_BARE].append(found[_BARE])
    for name, of_rounds in rounds.items():
        report.begin(name)
        for what in of_rounds[0]:
            report.spread(what, "", [values[what] for values in of_rounds])
    for other in ("other", _BARE):
        report.begin(f"this / {other}, round by round")
        for what in rounds[other][0]:
            pairs = zip(rounds["this"], rounds[other], strict=True)
            report.spread(what, "x", [mine[what] / max(theirs[what], 1e-9) for mine, theirs in pairs])


if __name__ == "__main__":
    sys.exit(main())

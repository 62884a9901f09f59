"""Two checkouts of this project beside each other: is the newer one as fast and as small?

    python -m benchmarks.versions OTHER_CHECKOUT [--rounds N] [--json FILE]

Both need a virtual environment (`make setup`). Each round measures both in turn, beginning with the other one
each time, so that noise meets both. Agents run on loopback addresses, with OCI layouts as stores. No root is
needed. Every figure is a ratio: this checkout's value divided by the other one's.
"""

import hashlib
import http.client
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from benchmarks.arguments import finish, make_console, make_parser, parse
from benchmarks.lab.process import Process
from benchmarks.report import Report

_HERE = Path(__file__).parent.parent
_PORTS = {"hostport": 30020, "nodeport": 30022, "peer": 30023, "admin": 9090}
_KEYS_BEFORE = {"hostport": "local", "nodeport": "service", "peer": "peer", "admin": "admin"}
_SMALL_BYTES = 64 << 10
_LARGE_BYTES = 1 << 30
_BLOBS = 150
_IDLE_S = 4.0

Values = dict[str, float]
"""One round's figures of one checkout, by name. For each, less is better."""


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


@contextmanager
def _pair(checkout: Path) -> Iterator[tuple[_Agent, _Agent, float]]:
    """A holder and an asker, and the seconds that the asker took to start."""
    folder = Path(tempfile.mkdtemp(prefix="shversions-"))
    addresses = {"holder": "127.77.0.1", "asker": "127.77.0.2"}
    members = [
        {"name": name, "address": address, "port": _PORTS["peer"], "region": "r", "zone": "z"}
        for name, address in addresses.items()
    ]
    agents = {name: _Agent(checkout, folder, name, address, members) for name, address in addresses.items()}
    try:
        agents["holder"].start()
        try:
            took_s = agents["asker"].start()
            try:
                yield agents["holder"], agents["asker"], took_s
            finally:
                agents["asker"].stop()
        finally:
            agents["holder"].stop()
    finally:
        shutil.rmtree(folder)


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
    with _pair(checkout) as (holder, asker, start_s):
        values: Values = {"start-up, s": start_s}
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


def main() -> int:
    """Measure both, and report the ratios."""
    parser = make_parser("benchmarks.versions", __doc__)
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (default 7)")
    arguments = parse(parser)
    checkouts = {"this": _HERE, "other": arguments.other.resolve()}
    rounds: dict[str, list[Values]] = {name: [] for name in checkouts}
    report = Report(make_console())
    for number in range(arguments.rounds):
        for name in sorted(checkouts, reverse=bool(number % 2)):
            rounds[name].append(measure(checkouts[name]))
    for name, found in rounds.items():
        report.begin(name)
        for what in found[0]:
            report.spread(what, "", [values[what] for values in found])
    report.begin("this / other, round by round")
    for what in rounds["this"][0]:
        pairs = zip(rounds["this"], rounds["other"], strict=True)
        report.spread(what, "x", [mine[what] / max(other[what], 1e-9) for mine, other in pairs])
    return finish(report, arguments)


if __name__ == "__main__":
    sys.exit(main())

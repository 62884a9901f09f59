"""One flood: what a well-behaved client sees before, during and after it."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks.floods.kinds import Flood
from benchmarks.floods.stage import ADMIN, HOSTPORT, NODEPORT, PEER, Stage
from benchmarks.reporting.quantiles import at

_LOOK_S = 0.25
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the client saw in one phase. Milliseconds; ``failed``: of all its requests.

    ``peer_ok``: how many of ``peer_asked`` contents that a peer has were had.
    """

    local_p50_ms: float
    local_p99_ms: float
    local_most_ms: float
    livez_p99_ms: float
    peer_p50_ms: float
    peer_asked: int
    peer_ok: int
    failed: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One flood. ``beside``: what the client saw while the same flood went to a server that is no agent.

    ``cpu``: the share of a core that the agent took during the flood. ``rss_*_mib``: at rest, the most during
    the flood, and at the end.
    """

    flood: str
    who: str
    before: Seen
    beside: Seen
    during: Seen
    after: Seen
    rss_before_mib: float
    rss_most_mib: float
    rss_after_mib: float
    descriptors_most: int
    cpu: float
    attacker: dict[str, int]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Sample:
    what: str
    began_s: float
    took_s: float
    status: int


class _Client:
    """The well-behaved client, and its samples so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._samples: list[_Sample] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._samples.append(_Sample(*json.loads(line)))

    def seen(self, start_s: float, stop_s: float) -> Seen:
        """What began in this time. What has not ended yet took as long as it has so far, at least."""
        samples = [each for each in [*self._samples] if start_s <= each.began_s < stop_s]
        local, livez, peer = (
            sorted(each.took_s * 1e3 for each in samples if each.what == what)
            for what in ("local", "livez", "peer")
        )
        asked = [each for each in samples if each.what == "peer"]
        return Seen(
            local_p50_ms=at(local, 0.5),
            local_p99_ms=at(local, 0.99),
            local_most_ms=at(local, 1.0),
            livez_p99_ms=at(livez, 0.99),
            peer_p50_ms=statistics.median(peer) if peer else float("nan"),
            peer_asked=len(asked),
            peer_ok=sum(each.status == 200 for each in asked),
            failed=sum(each.status != 200 for each in samples if each.what != "peer"),
            count=len(samples),
        )


def measure(stage: Stage, flood: Flood, *, member: bool, phase_s: float, at_peer: Sequence[str]) -> Outcome:
    """Measure one flood. Takes four times ``phase_s``, and some seconds."""
    with _client(stage, at_peer) as client:
        time.sleep(_SETTLE_S)
        before, rss_before = _phase(client, phase_s), stage.rss_mib
        with _attacker(stage, flood, stage.sink, member=member):
            time.sleep(_SETTLE_S)
            beside = _phase(client, phase_s)
        time.sleep(_SETTLE_S)
        cpu_s, began_s = stage.cpu_s, time.monotonic()
        with _attacker(stage, flood, stage.address, member=member) as (attacker, watch):
            time.sleep(_SETTLE_S)
            start_s = time.monotonic()
            time.sleep(phase_s)
            stop_s = time.monotonic()
            cpu = (stage.cpu_s - cpu_s) / (stop_s - began_s)
            rss_most, descriptors_most = watch.rss_mib, watch.descriptors
        time.sleep(_SETTLE_S)
        after = _phase(client, phase_s)
        during = client.seen(start_s, stop_s)
        return Outcome(
            flood=flood.name,
            who="member" if member else "stranger",
            before=before,
            beside=beside,
            during=during,
            after=after,
            rss_before_mib=rss_before,
            rss_most_mib=rss_most,
            rss_after_mib=stage.rss_mib,
            descriptors_most=descriptors_most,
            cpu=cpu,
            attacker=attacker,
        )


def _phase(client: _Client, phase_s: float) -> Seen:
    start_s = time.monotonic()
    time.sleep(phase_s)
    stop_s = time.monotonic()
    time.sleep(_LOOK_S)
    return client.seen(start_s, stop_s)


@contextmanager
def _client(stage: Stage, at_peer: Sequence[str]) -> Iterator[_Client]:
    told = {
        "address": stage.address,
        "hostport": HOSTPORT,
        "admin": ADMIN,
        "local": stage.local,
        "at_peer": [*at_peer],
    }
    command = [sys.executable, "-m", "benchmarks.floods.client", json.dumps(told)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield _Client(process)
    finally:
        process.kill()
        process.wait()


class _Watch:
    """The most memory and descriptors that the agent had."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.rss_mib, self.descriptors = 0.0, 0
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.rss_mib = max(self.rss_mib, self._stage.rss_mib)
            self.descriptors = max(self.descriptors, self._stage.descriptors)

    def end(self) -> None:
        self._ended.set()


@contextmanager
def _attacker(
    stage: Stage, flood: Flood, address: str, *, member: bool
) -> Iterator[tuple[dict[str, int], _Watch]]:
    is_agent = address == stage.address
    told = {
        "flood": flood.name,
        "address": address,
        "port": NODEPORT if is_agent and flood.listener == "nodeport" else PEER,
        "source": stage.member if member else stage.stranger,
        "member": member,
        "large": stage.large,
    }
    command = [sys.executable, "-m", "benchmarks.floods.attacker", json.dumps(told)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    watch, done = _Watch(stage), dict[str, int]()
    try:
        yield done, watch
    finally:
        watch.end()
        process.terminate()
        try:
            done.update(json.loads(process.communicate(timeout=30)[0] or "{}"))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""First bytes of a blob that a peer has, in plain and signed, in alternation and in one run."""

import hashlib
import http.client
import time
from random import Random

from benchmarks.lab.cluster import LOCAL_PORT
from benchmarks.lab.network import inside
from benchmarks.reporting.recorder import Recorder
from benchmarks.tls.ways import PLAIN, SIGNED, Pair, pairs

_SIZE_BYTES = 1 << 20
_AT_A_TIME = 25


def report_first_bytes(report: Recorder, *, rounds: int) -> None:
    """Each round asks in each way, and begins with another way."""
    content = Random(7).randbytes(_SIZE_BYTES)
    digest = hashlib.sha256(content).hexdigest()
    with pairs() as (_, made):
        chosen = [pair for pair in made if pair.way in (PLAIN, SIGNED)]
        for pair in chosen:
            (pair.holder.layout / "blobs/sha256" / digest).write_bytes(content)
        for pair in chosen:
            _until_there(pair, digest)
        seconds: dict[str, list[float]] = {pair.way: [] for pair in chosen}
        for first in range(rounds):
            for number in range(len(chosen)):
                pair = chosen[(first + number) % len(chosen)]
                seconds[pair.way] += _measure(pair, digest)
        report.begin("first byte of a blob that a peer has, over a fresh connection of the client")
        for way, values in seconds.items():
            report.spread(way, "ms", values, scale=1000)


def _measure(pair: Pair, digest: str) -> list[float]:
    return inside(pair.asker.netns, lambda: [_first_byte_s(pair, digest) for _ in range(_AT_A_TIME)])


def _first_byte_s(pair: Pair, digest: str) -> float:
    connection = http.client.HTTPConnection(pair.asker.loopback, LOCAL_PORT, timeout=20)
    try:
        started_s = time.monotonic()
        connection.request("GET", f"/v2/library/app/blobs/sha256:{digest}")
        reply = connection.getresponse()
        reply.read(1)
        took_s = time.monotonic() - started_s
        if reply.status != 200 or len(reply.read()) != _SIZE_BYTES - 1:
            raise RuntimeError(f"{pair.way}: status {reply.status}")
        return took_s
    finally:
        connection.close()


def _until_there(pair: Pair, digest: str) -> None:
    until_s = time.monotonic() + 30
    while pair.asker.get(f"/v2/library/app/blobs/sha256:{digest}", method="HEAD").status != 200:
        if time.monotonic() > until_s:
            raise RuntimeError(f"{pair.way}: the blob is not found")
        time.sleep(0.2)

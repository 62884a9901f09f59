"""What membership in a Kubernetes cluster costs: an agent's memory and time, and the API server's bytes.

    python -m benchmarks.membership [--agents 5000]

A real agent follows the double of the API server. Sizes on the wire are those of the double, whose objects
have the fields of the recorded ones (`tests/unit/benchmarks/lab/test_apiserver.py`).
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from agent.keyring import new_key
from agent.members.kubernetes.slices import SliceTable, Source
from agent.members.member import Peer
from agent.members.roster import Roster
from benchmarks.arguments import make_parser
from benchmarks.lab.apiserver import NODES, SLICES, Asked, Pod, ThreadedApiServer, node_object, slice_object
from benchmarks.lab.process import Process
from benchmarks.reporting.recorder import Recorder
from benchmarks.running import run
from topology.placement import NodeName, Placement, Region, Zone

_EACH = 100  # endpoints of a slice, as Kubernetes makes them
_CHANGES = 40
_SETTLED_S = 8.0


def pods(number: int) -> list[Pod]:
    """Agents of three zones, with names as long as clouds make them.

    They are at addresses that refuse at once.
    """
    return [
        Pod(
            node=f"ip-10-{each // 250}-{each % 250}-1.eu-west-1.compute.internal",
            address=f"127.{1 + each // 250}.{each % 250}.9",
            zone=f"eu-west-1{'abc'[each % 3]}",
        )
        for each in range(number)
    ]


def measured_ms(work: Callable[[], object], times: int = _CHANGES) -> list[float]:
    """So many runs, in milliseconds."""
    took: list[float] = []
    for _ in range(times):
        started_s = time.perf_counter()
        work()
        took.append((time.perf_counter() - started_s) * 1000)
    return took


def costs_of_one_change(report: Recorder, agents: list[Pod]) -> None:
    """What one event costs an agent, and one change of its peers."""
    text = [
        json.dumps(slice_object(f"s{at}", agents[at : at + _EACH])) for at in range(0, len(agents), _EACH)
    ]
    table = SliceTable(Source(service="shorthaul-peers", namespace="shorthaul", port_name="peer", family=4))
    started_s = time.perf_counter()
    table.replace(json.loads(each) for each in text)
    first_ms = (time.perf_counter() - started_s) * 1000
    again_ms = measured_ms(lambda: table.replace(json.loads(each) for each in text), 3)
    turn = iter(range(10**6))

    def event() -> None:
        document = json.loads(text[0])
        document["endpoints"][5]["conditions"]["ready"] = bool(next(turn) % 2)
        table.apply(document, deleted=False)

    peers = {
        listed.node: Peer(
            name=listed.node,
            address=listed.address,
            port=listed.port,
            placement=Placement(zone=listed.zone, partial=True),
        )
        for listed in table.agents.values()
    }
    roster = Roster(own=NodeName("own"), placement=Placement(region=Region("eu"), zone=Zone("eu-west-1a")))
    roster.update(peers)
    fewer = {name: peer for name, peer in peers.items() if name != agents[7].node}

    def change() -> None:
        roster.update(fewer if next(turn) % 2 else peers)

    line = json.dumps(json.loads(text[0]), separators=(",", ":"))
    whole = json.dumps([json.loads(each) for each in text], separators=(",", ":")).encode()
    report.single("an event of one slice", "bytes", len(line))
    report.single("the whole list", "bytes", len(whole))
    report.single("the same with gzip, as API servers send it", "bytes", len(gzip.compress(whole, 1)))
    report.single("reading the first list", "ms", first_ms)
    report.spread("reading the same list again", "ms", again_ms)
    report.spread("reading an event", "ms", measured_ms(event))
    report.spread("using one agent more or less (topology and rings)", "ms", measured_ms(change))


def agent(folder: Path, membership: dict[str, Any] | None, number: int) -> tuple[Process, Path]:
    """An agent with this membership, at addresses of its own."""
    layout = folder / f"layout-{number}"
    (layout / "blobs" / "sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    config, host = folder / f"agent-{number}.yaml", f"127.200.0.{number}"
    key = folder / "cluster.key"
    key.write_text(new_key())
    settings = {
        "node": {"name": f"own-{number}", "address": host},
        "listen": {
            name: f"{host}:{30020 + at}" for at, name in enumerate(("hostport", "peer", "nodeport", "admin"))
        },
        "store": f"oci-layout://{layout}",
        **({} if membership is None else {"membership": membership, "peering": {"key": str(key)}}),
    }
    config.write_text(yaml.safe_dump(settings))
    command = [str(Path(sys.executable).parent / "shorthaul"), "agent", "--config", str(config)]
    return Process(command, log=folder / f"agent-{number}.log"), config


def rss_mib(process: Process) -> float:
    """The resident memory of a process."""
    return float(psutil.Process(process.pid).memory_info().rss) / 2**20


def memory(report: Recorder, api: ThreadedApiServer, numbers: list[int]) -> None:
    """The memory of idle agents without peers, with a few and with many."""
    with tempfile.TemporaryDirectory() as folder:
        for at, number in enumerate(numbers, start=1):
            everybody = pods(number)

            def prepare(server: Any, at: int = at, everybody: list[Pod] = everybody) -> None:
                server.put_slices([*everybody, Pod(node=f"own-{at}", address=f"127.200.0.{at}")])
                server.put(NODES, node_object(f"own-{at}", {"topology.kubernetes.io/zone": "eu-west-1a"}))
                server.asked = Asked()

            api.do(prepare)
            membership = {"kubernetes": {"api": api.url}} if number else None
            process, _ = agent(Path(folder), membership, at)
            time.sleep(_SETTLED_S)
            what = (
                f"an idle agent, {number} others"
                if number
                else "an idle agent without peers, without kubernetes"
            )
            report.single(f"{what}: RSS", "MiB", rss_mib(process))
            asked = api.asked
            if number:
                report.single(f"{what}: lists or reads in {_SETTLED_S:g} s", "", sum(asked.lists.values()))
                report.single(f"{what}: watches in {_SETTLED_S:g} s", "", sum(asked.watches.values()))
                report.single(f"{what}: at the start", "bytes", asked.sent_bytes)
                before_bytes = asked.sent_bytes
                api.do(
                    lambda server, everybody=everybody: server.put(
                        SLICES,
                        slice_object(  # type: ignore[misc]
                            "shorthaul-peers-000", everybody[1:_EACH]
                        ),
                    )
                )
                time.sleep(2.0)
                report.single(f"{what}: of a change", "bytes", api.asked.sent_bytes - before_bytes)
            process.kill()


def main() -> int:
    """Measure, print, and write the report: see `benchmarks.running`."""
    parser = make_parser("benchmarks.membership", __doc__)
    parser.add_argument("--agents", type=int, default=5000)
    return run(parser, _measure)


def _measure(report: Recorder, arguments: argparse.Namespace) -> None:
    report.begin("one change", question="What does a change of the members cost an agent?")
    costs_of_one_change(report, pods(arguments.agents))
    report.begin("an idle agent", question="What does an agent take, and ask, in a cluster of so many?")
    with ThreadedApiServer() as api:
        memory(report, api, [0, 10, 200, arguments.agents])


if __name__ == "__main__":
    sys.exit(main())

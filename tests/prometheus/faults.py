"""Real agents, and faults that are made and mended: what alerts are about."""

import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Self

from agent.keyring import new_key
from benchmarks.lab.apiserver import Pod, ThreadedApiServer
from benchmarks.lab.certificates import Authority
from benchmarks.lab.valkey import ValkeyServer
from tests.prometheus.standins import AGENT, PROBE, Standins
from tests.server.agents import ADMIN, LOCAL, PEER, SERVICE, Node, Site, fresh_address, wait_for
from tests.server.ingesting import CONTAINERD, Fetcher, path_of
from tests.server.secured import tls_settings

_SOMEBODY = 65534
_ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
_QUICK: dict[str, Any] = {
    "pull": {
        "patience_s": 0.3,
        "stall_s": 0.5,
        "deadline_s": 3.0,
        "connect_s": 0.5,
        "cooloff_s": 0.5,
        "cooloff_max_s": 0.5,
    },
    "lookup": {"timeout_s": 1.0, "patience_s": 0.3},
    "latency": {"report_s": 0.5, "rotate_s": 5.0, "interval_s": 0.5, "window_s": 5.0},
    "cold_start": {"claim_wait_s": 2.0, "claim_start_s": 1.0},
}
_CONFIG = (
    'version = 3\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
)
_KEYS_CHANGED = "the cluster's keys changed"
_FROZEN_S, _AWAKE_S = 0.35, 0.1
_SOON, _LATER = timedelta(days=1), timedelta(days=60)
_numbers = itertools.count()


def fresh(size_bytes: int = 5_000) -> bytes:
    """Content that nobody else has."""
    return Random(f"prometheus-{next(_numbers)}").randbytes(size_bytes)


class Lab:
    """Zone a: ``a1``, ``a2``, ``a3``. Zone b: ``b1``; ``odd``, with a key file and an index of its own.

    ``alone``, of zone b too, knows an API server, and no other agent: its store, certificate and containerd
    can be spoiled. All of them are well at first, but for their probes: there are none.
    """

    def __init__(self, authority: Authority, folder: Path) -> None:
        self._stack = ExitStack()
        self._authority, self._folder = authority, folder
        self._ended, self._mended = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._clients = ThreadPoolExecutor(16)
        self.nodes: dict[str, Node] = {}

    def __enter__(self) -> Self:
        stack, folder = self._stack, self._folder
        self._index, self._own_index = (
            ValkeyServer(folder / name, settings={"maxmemory": "64mb"}) for name in ("index", "own-index")
        )
        stack.callback(self._index.stop)
        stack.callback(self._own_index.stop)
        self._site, self._apart = stack.enter_context(Site()), stack.enter_context(Site())
        self._api = stack.enter_context(ThreadedApiServer(bookmark_s=0.5))
        indexed = {**_QUICK, "index": self._index.url(), "valkey": {"timeout_s": 1.0}}
        for name, zone in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")):
            slow = {"transfer": {"upload_bytes_per_s": 20_000_000}} if name == "a3" else {}
            self._add(self._site, name, zone, {**indexed, **slow})
        self._key = folder / "odd.key"
        shutil.copy(self._site.key, self._key)
        self._add(
            self._site,
            "odd",
            "b",
            {**indexed, "index": self._own_index.url(), "peering": {"key": str(self._key)}},
        )
        self._add_alone()
        self._taker = Fetcher(
            self._site, "taker", **_QUICK, probe={"socket": str(self._probe_socket("taker"))}
        )
        self._near, self._far, self._both = fresh(), fresh(), fresh(30_000_000)
        self._rotten = fresh()
        self.nodes["a3"].put(self._near, self._both)
        self.nodes["b1"].put(self._far, self._both)
        self.nodes["alone"].put(self._rotten)
        sockets = {name: self._probe_socket(name) for name in self.nodes}
        self._standins_at = fresh_address()
        self.standins = stack.enter_context(Standins(sockets, self._standins_at))
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for name in ("a3", "b1"):
            with suppress(AssertionError, ProcessLookupError):
                self.nodes[name].process.signal(signal.SIGCONT)
        for thread in self._threads:
            thread.join()
        self._clients.shutdown(cancel_futures=True)
        self._stack.close()

    @property
    def targets(self) -> dict[str, str]:
        """What Prometheus scrapes. ``taker``, whose containerd is a folder, is never ready, until it goes."""
        taker = {} if self._mended.is_set() else {"taker": self._taker.node}
        return {
            **{name: f"{node.address}:{ADMIN}" for name, node in {**self.nodes, **taker}.items()},
            "standin-probe": f"{self._standins_at}:{PROBE}",
            "standin-agent": f"{self._standins_at}:{AGENT}",
        }

    def start(self) -> None:
        """Start all agents side by side."""
        self._taker.node.launch()
        self._site.start([node for name, node in self.nodes.items() if name != "alone"])
        self._apart.start()
        self._taker.wait()

    def serve(self) -> None:
        """Clients that are served: near, far, and what nobody has."""
        a1, a2 = self.nodes["a1"], self.nodes["a2"]
        self._keep(lambda: a1.blob(self._near))
        self._keep(lambda: a2.blob(self._near, port=SERVICE))
        for _ in range(3):
            self._keep(lambda: a2.blob(self._far), until=self._mended)
        self._keep(self._ask_in_vain, until=self._mended, pause_s=0.5)

    def make(self) -> None:
        """Faults that can be made while all agents run."""
        self.standins.start()
        self.standins.report(proved=False)
        self._lost = itertools.count(1)
        self._keep(self._report_astray, until=self._mended, pause_s=0.5)
        self.standins.stuck(True)
        self._own_index.stop()
        self._key.write_text(new_key())
        odd = self.nodes["odd"]
        odd.process.signal(signal.SIGHUP)
        self._keep(lambda: odd.ask("/api/reach", port=ADMIN))  # it tries whether its peers accept it
        self._spoil_alone()
        self._keep(lambda: self._index.cli("flushall"), until=self._mended, pause_s=1.0)

    def make_gross(self) -> None:
        """Faults after which others would not come any more: nodes freeze, and the index's server is away."""
        a1, a3, b1 = (self.nodes[name] for name in ("a1", "a3", "b1"))
        self._clients.submit(a1.blob, self._both)
        time.sleep(0.5)
        a3.process.signal(signal.SIGSTOP)
        self._index.stop()
        self._api.stop()
        (self.nodes["odd"].layout / "index.json").rename(self.nodes["odd"].layout / "away")
        for port in (LOCAL, SERVICE):
            for _ in range(3):
                self._keep(lambda port=port: a1.blob(self._near, port=port), until=self._mended)  # type: ignore[misc]
        self._keep(lambda: self._stutter(b1), until=self._mended, pause_s=0.0)

    def mend(self) -> None:
        """Mend all."""
        self._mended.set()
        self.standins.stuck(False)
        for name in ("a3", "b1"):
            self.nodes[name].process.signal(signal.SIGCONT)
        odd = self.nodes["odd"]
        (odd.layout / "away").rename(odd.layout / "index.json")
        shutil.copy(self._site.key, self._key)
        odd.process.signal(signal.SIGHUP)
        # With the other key it would take the empty server for another cluster.
        wait_for(lambda: odd.log.read_text().count(_KEYS_CHANGED) == 2, "the key is the cluster's again")
        self._index.start()
        self._own_index.start()
        self._mend_alone()
        self._keep(lambda: self.standins.report(proved=True), pause_s=0.5)

    def _add(self, site: Site, name: str, zone: str, settings: dict[str, Any]) -> Node:
        """An agent whose probe's socket is its own. Nobody disproves its path for longer than seconds."""
        probe = {"socket": str(self._probe_socket(name)), "canary_interval_s": 1.0}
        made = self.nodes[name] = site.add(name, zone=zone, **{**settings, "probe": probe})
        return made

    def _add_alone(self) -> None:
        self._certificates = self._authority.issue(
            self._folder / "certificates", "DNS:alone", valid=(timedelta(hours=-1), _LATER)
        )
        node = self._add(
            self._apart,
            "alone",
            "b",
            {
                **_QUICK,
                "membership": {"kubernetes": {"api": self._api.url}},
                "peering": {"tls": tls_settings(self._certificates)},
                "doctor": {"interval_s": 1.0},
                "scrub": {"round_s": 1.0},
            },
        )
        root = self._folder / "root"
        self._hosts = root / "etc/containerd/certs.d/_default/hosts.toml"
        self._hosts.parent.mkdir(parents=True)
        (root / "etc/containerd/config.toml").write_text(_CONFIG)
        self._write_hosts(node.address)
        node.before = ("env", f"SHORTHAUL_ROOT={root}", *_ORDINARY)
        self._list(Pod(node="alone", address=node.address, zone="b"))

    def _write_hosts(self, address: str) -> None:
        self._hosts.write_text(f'[host."http://{address}:{LOCAL}"]\ncapabilities = ["pull", "resolve"]\n')

    def _list(self, *pods: Pod) -> None:
        self._api.do(lambda server: server.put_slices([*pods], each=10, port=PEER))

    def _spoil_alone(self) -> None:
        alone = self.nodes["alone"]
        own = Pod(node="alone", address=alone.address, zone="b")
        self._dead = [Pod(node=f"dead-{at}", address=fresh_address(), zone="b") for at in range(3)]
        self._list(own, *self._dead)
        self._write_hosts("127.0.0.99")
        self._authority.issue(self._certificates, "DNS:alone", valid=(timedelta(hours=-1), _SOON))
        alone.process.signal(signal.SIGHUP)
        path = alone.path_of(self._rotten)
        path.write_bytes(bytes(len(self._rotten)))
        self._closed = fresh()
        alone.put(self._closed)
        closed = alone.path_of(self._closed)
        os.chown(closed, _SOMEBODY, _SOMEBODY)
        closed.chmod(0o600)

    def _mend_alone(self) -> None:
        alone = self.nodes["alone"]
        self._api.start()
        stopped = [replace(pod, ready=False, serving=False, terminating=True) for pod in self._dead]
        self._list(Pod(node="alone", address=alone.address, zone="b"), *stopped)
        self._write_hosts(alone.address)
        self._authority.issue(self._certificates, "DNS:alone", valid=(timedelta(hours=-1), _LATER))
        alone.process.signal(signal.SIGHUP)
        alone.path_of(self._rotten).unlink(missing_ok=True)
        closed = alone.path_of(self._closed)
        os.chown(closed, 0, 0)
        closed.chmod(0o644)

    def _report_astray(self) -> None:
        number = next(self._lost)
        self.standins.report(proved=False, lost=number, contradictions=number)
        self.standins.astray()

    def _ask_in_vain(self) -> None:
        """The taker is told to fetch what nobody has, and gets no byte of it; another node waits for it."""
        content = fresh()
        ingest = self._taker.begin(content)
        self._taker.node.ask(path_of(content), headers=CONTAINERD)
        self.nodes["a1"].ask(path_of(content), headers=CONTAINERD)
        ingest.give_up()

    def _stutter(self, node: Node) -> None:
        node.process.signal(signal.SIGSTOP)
        time.sleep(_FROZEN_S)
        node.process.signal(signal.SIGCONT)
        time.sleep(_AWAKE_S)

    def _probe_socket(self, name: str) -> Path:
        return self._folder / "probes" / f"{name}.sock"

    def _keep(
        self, work: Callable[[], object], *, pause_s: float = 0.1, until: threading.Event | None = None
    ) -> None:
        """Do this again and again, at most until the lab ends. What it raises is a part of a fault."""

        def run() -> None:
            while not self._ended.wait(pause_s) and not (until is not None and until.is_set()):
                with suppress(Exception):
                    work()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

"""Agents as subprocesses on loopback addresses of their own, with OCI layouts as their stores.

No root and no daemon is needed. Each agent is one `Node`; a `Site` is the nodes that know each other.
"""

import hashlib
import http.client
import json
import os
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from agent.config.settings import PullSettings
from agent.keyring import parse_keys
from agent.oci.manifest import OCI_MANIFEST
from agent.oci.origin import MARK
from benchmarks.lab.cluster import metric_total
from benchmarks.lab.folders import make_folder
from benchmarks.lab.process import Process

from . import secured
from .proofs import KEY

LOCAL, SERVICE, PEER, ADMIN = 30020, 30022, 30023, 9090

AT_MOST_S = 20.0
"""How long a test waits for something to happen: far longer than it takes on a slow machine.

It is shorter than the times after which an agent would bring the same about for another reason:
``stop.drain_s`` (25 s), the store's scan, ``http.idle_s`` and the age of reported loads (30 s each).
"""

KEY_FILE = "cluster.key"
"""The file with a site's key, beside its list of peers."""

REPLY_S = 60.0
"""How long a client waits for bytes. No claim is about it."""

# A peer that answers late is not a peer that is missing: so long a loaded machine may take for an answer.
PATIENT: dict[str, dict[str, float]] = {"lookup": {"patience_s": 1.0, "timeout_s": 2.0}}

_PULL_WAITS = ("connect_s", "patience_s", "stall_s", "deadline_s")

_START_S = 1.5
"""An agent comes up within this time while other tests run beside it, on two cores."""

_SLOWEST = 3.0

_NETWORKS = 100 * 250  # of 250 addresses each


def _claimed_addresses() -> Iterator[str]:
    """Loopback addresses in networks that no other process of this machine has claimed.

    A bound abstract Unix socket is the claim. The kernel drops it with the process, even if it is killed.
    """
    first = os.getpid() * 251  # processes start their search in different places
    for number in range(first, first + _NETWORKS):
        high, middle = divmod(number % _NETWORKS, 250)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0shorthaul-tests-127.{100 + high}.{middle}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        for low in range(1, 251):
            yield f"127.{100 + high}.{middle}.{low}"


_claims: list[socket.socket] = []
_addresses = _claimed_addresses()


def fresh_address() -> str:
    """A loopback address that nobody else in this or in another run of the tests uses."""
    return next(_addresses)


def wait_for(condition: Callable[[], bool], what: str, *, at_most_s: float = AT_MOST_S) -> None:
    """Return as soon as the condition holds; fail the test if it never does."""
    until_s = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < until_s, f"not within {at_most_s} s: {what}"
        time.sleep(0.02)


class _Slowness:
    """How many times as long as usual all takes on this machine now, by how long agents took to come up.

    Whoever is silent for so long as a test says is given up. A holder that gets no processor is silent, too.
    """

    def __init__(self) -> None:
        self._lately: deque[float] = deque(maxlen=3)

    def took(self, seconds: float, agents: int) -> None:
        """So long it took to start so many agents side by side."""
        self._lately.append(seconds / agents / _START_S)

    @property
    def factor(self) -> float:
        """1 on a machine that is fast enough."""
        return min(max((1.0, *self._lately)), _SLOWEST)

    def stretched(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """These settings, with times to match for one agent that waits for others."""
        pull, factor = settings.get("pull", {}), self.factor
        lookup = {**PATIENT["lookup"], **settings.get("lookup", {})}
        waits = {key: min(lookup[key] * factor, max(lookup[key], AT_MOST_S / 2)) for key in PATIENT["lookup"]}
        made = {**settings, "lookup": {**lookup, **waits}}
        if factor > 1:
            times = {key: float(pull.get(key, getattr(PullSettings(), key))) for key in _PULL_WAITS}
            stretched = {key: seconds * factor for key, seconds in times.items()}
            # Whatever ends by the deadline ends within `AT_MOST_S`.
            stretched["deadline_s"] = max(times["deadline_s"], min(stretched["deadline_s"], AT_MOST_S / 2))
            made["pull"] = {**pull, **stretched}
        return made


SLOWNESS = _Slowness()


def log_lines(log: Path) -> list[str]:
    """The lines that a process wrote so far. It may be in the middle of one more, which does not count."""
    return log.read_text().split("\n")[:-1]


def digest_of(content: bytes) -> str:
    """The sha256 digest, by the standard library alone."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP reply; header names in any case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def oci_code(self) -> str:
        """The code of the OCI error that the body must be; fails if it is none."""
        assert self.headers["Content-Type"] == "application/json"
        (error,) = self.json()["errors"]
        assert isinstance(error["message"], str)
        assert error["message"]
        return str(error["code"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A manifest, its config and its layers, as bytes."""

    manifest: bytes
    config: bytes
    layers: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """The manifest's."""
        return digest_of(self.manifest)


def service_proof() -> dict[str, str]:
    """What another node's containerd sends to the NodePort."""
    return {"Authorization": f"Bearer {parse_keys(KEY).service_tokens[0]}"}


def make_image(*layers: bytes, note: str = "") -> Image:
    """An image of these layers; ``note`` makes otherwise equal ones differ."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "author": note}).encode()

    def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
    }
    return Image(manifest=json.dumps(document).encode(), config=config, layers=layers)


class Node:
    """One agent and its layout."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        zone: str,
        members: Path,
        settings: Mapping[str, Any],
    ) -> None:
        self.name, self.zone = name, zone
        self.address = fresh_address()
        self.layout = folder / name
        (self.layout / "blobs/sha256").mkdir(parents=True)
        (self.layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self._entries: list[dict[str, Any]] = []
        self._write_index()
        self.log = folder / f"{name}.log"
        self.config = folder / f"{name}.yaml"
        base = {
            "node": {"name": name, "address": self.address},
            "placement": {"region": "r", "zone": zone},
            "listen": {
                "hostport": f"{self.address}:{LOCAL}",
                "peer": f"{self.address}:{PEER}",
                "nodeport": f"{self.address}:{SERVICE}",
                "admin": f"{self.address}:{ADMIN}",
            },
            "store": f"oci-layout://{self.layout}",
            "membership": {"static": str(members)},
            "doctor": {"interval_s": 0},  # it asks the agent and its peers, and tests count requests
        }
        if secured.EVERYWHERE and "tls" not in settings.get("peering", {}):
            settings = {
                **settings,
                "peering": {**settings.get("peering", {}), "tls": secured.shared_settings()},
            }
        peering = {"key": str(members.parent / KEY_FILE), **settings.get("peering", {})}
        self.slowness = SLOWNESS.factor
        """By how much it waits longer for others than its test says."""
        self.config.write_text(yaml.safe_dump({**base, **SLOWNESS.stretched(settings), "peering": peering}))
        self._process: Process | None = None
        self.before: tuple[str, ...] = ()  # words before the command, such as setpriv's

    @property
    def command(self) -> list[str]:
        """The command that runs this agent."""
        shorthaul = Path(sys.executable).parent / "shorthaul"
        return [*self.before, str(shorthaul), "agent", "--config", str(self.config), "--log-format", "json"]

    @property
    def process(self) -> Process:
        """The running agent."""
        assert self._process is not None, "not started"
        return self._process

    def launch(self) -> None:
        """Start the agent; `wait` for it before using it."""
        self._process = Process(self.command, log=self.log)

    def wait(self) -> None:
        """Wait until it is ready."""
        self.process.wait_until(self.is_ready, f"the agent {self.name}")

    def is_ready(self) -> bool:
        """What /readyz says; False when nobody answers."""
        try:
            return self.ask("/readyz", port=ADMIN).status == 200
        except OSError:
            return False

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        port: int = LOCAL,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REPLY_S,
    ) -> Reply:
        """One request on a connection of its own, with its whole reply."""
        with self.connection(port=port, timeout_s=timeout_s) as connection:
            proof = service_proof() if port == SERVICE else {}
            connection.request(method, path, body=body, headers={**proof, **(headers or {})})
            reply = connection.getresponse()
            return Reply(status=reply.status, headers=reply.headers, body=reply.read())

    @contextmanager
    def connection(
        self, *, port: int = LOCAL, timeout_s: float = REPLY_S
    ) -> Iterator[http.client.HTTPConnection]:
        """A keep-alive connection."""
        connection: http.client.HTTPConnection
        if port == PEER and secured.EVERYWHERE:
            context = secured.client_context()
            connection = http.client.HTTPSConnection(self.address, port, timeout=timeout_s, context=context)
        else:
            connection = http.client.HTTPConnection(self.address, port, timeout=timeout_s)
        try:
            yield connection
        finally:
            connection.close()

    def blob(self, content: bytes, **arguments: Any) -> Reply:
        """GET the blob that these bytes are."""
        return self.ask(f"/v2/library/app/blobs/{digest_of(content)}", **arguments)

    def explain(self, digest: str) -> dict[str, Any]:
        """What the agent says of a digest."""
        explained: dict[str, Any] = self.ask(f"/api/explain?digest={digest}", port=ADMIN).json()
        return explained

    def wait_for_holders(self, content: bytes, names: set[str]) -> None:
        """Wait until it knows that these have it: an answer that is late counts for the next request."""

        def found() -> set[str]:
            return {holder["node"] for holder in self.explain(digest_of(content))["holders"]}

        wait_for(lambda: names <= found(), f"{names} are found")

    def put(self, *contents: bytes, notice: bool = True) -> None:
        """Rename blobs into place, as a layout's writers do; wait until a running agent noticed."""
        for content in contents:
            path = self.layout / "blobs/sha256" / digest_of(content).removeprefix("sha256:")
            new = self.layout / f"{path.name}.new"
            new.write_bytes(content)
            new.rename(path)
        if self._process is not None and notice:
            for content in contents:
                digest = digest_of(content)
                wait_for(lambda digest=digest: self.explain(digest)["local"], "the blob is noticed")  # type: ignore[misc]

    def put_image(self, image: Image, *names: str, origin: str | None = "") -> None:
        """An image under some names, each ``REGISTRY/REPOSITORY:TAG``, from the registry that each name says.

        ``origin``: from this ``REGISTRY/REPOSITORY`` instead. None: from nowhere, as an import is.
        """
        self.put(image.config, *image.layers, image.manifest)
        for name in names:
            annotations = {"org.opencontainers.image.ref.name": name}
            if origin is not None:
                host, _, repository = (origin or name.rpartition(":")[0]).partition("/")
                annotations[f"{MARK}{host.partition(':')[0]}"] = repository
            self._entries.append(
                {
                    "mediaType": OCI_MANIFEST,
                    "digest": image.digest,
                    "size": len(image.manifest),
                    "annotations": annotations,
                }
            )
        self._write_index()

    def remove_names(self) -> None:
        """Take all names out of the layout. The content stays."""
        self._entries.clear()
        self._write_index()

    def path_of(self, content: bytes) -> Path:
        """Where the layout keeps these bytes."""
        return self.layout / "blobs/sha256" / digest_of(content).removeprefix("sha256:")

    def requests(self) -> list[dict[str, Any]]:
        """The agent's own record of what it answered, newest first."""
        records: list[dict[str, Any]] = self.ask("/api/requests", port=ADMIN).json()
        return records

    def newest(self, content: bytes) -> dict[str, Any]:
        """The newest record of a request for these bytes; its result is None if there is none.

        A request is recorded a moment after its last byte: this waits until no body moves.
        """
        digest = digest_of(content)
        wait_for(self.is_idle, "no body moves")
        return next((each for each in self.requests() if each["digest"] == digest), {"result": None})

    def transfers(self) -> dict[str, Any]:
        """What the agent says of the bodies that move now, and of sources that it passes over."""
        transfers: dict[str, Any] = self.ask("/api/transfers", port=ADMIN).json()
        return transfers

    def is_idle(self) -> bool:
        """Whether no body moves."""
        transfers = self.transfers()
        return not transfers["uploads"] and not transfers["downloads"]

    def logged_errors(self) -> list[str]:
        """The lines of the log that are errors or have a traceback."""
        lines = log_lines(self.log)
        return [line for line in lines if not line.startswith("{") or _is_error(json.loads(line))]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels. A name that is not exposed fails."""
        exposed = self.ask("/metrics", port=ADMIN).body
        assert f"# HELP {name} ".encode() in exposed, f"no such metric: {name}"
        return metric_total(exposed, name, labels)

    def waits(self) -> int:
        """How many attempts at peers ended because no byte, or too few, had come for ``pull.stall_s``."""
        return int(
            sum(self.metric("shorthaul_peer_attempts_total", result=result) for result in ("silent", "slow"))
        )

    def stop(self) -> None:
        """End the agent, at once: what is left of it is of no interest."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _write_index(self) -> None:
        new = self.layout / "index.json.new"
        new.write_text(json.dumps({"schemaVersion": 2, "manifests": self._entries}))
        new.rename(self.layout / "index.json")


def _is_error(event: dict[str, Any]) -> bool:
    return "traceback" in event or event["level"] in ("error", "critical")


class Site:
    """Nodes that know each other. Use as a context manager: leaving ends and removes everything.

    ``peering``: that of each node, beside the site's key.
    """

    def __init__(self, peering: Mapping[str, Any] | None = None) -> None:
        self._peering = dict(peering or {})
        self.folder = make_folder("shlab", "server-")
        self.members = self.folder / "peers.yaml"
        self._entries: list[dict[str, Any]] = []
        self.members.write_text("[]")
        self.key = self.folder / KEY_FILE
        self.key.write_text(KEY)
        self._nodes: list[Node] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            node.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, name: str, *, zone: str = "a", **settings: Any) -> Node:
        """A node, not started yet. ``settings`` are top-level settings."""
        settings["peering"] = {**self._peering, **settings.get("peering", {})}
        node = Node(self.folder, name, zone=zone, members=self.members, settings=settings)
        self._nodes.append(node)
        self.add_member(name, node.address, zone=zone)
        return node

    def add_member(self, name: str, address: str, *, zone: str = "a", **more: Any) -> None:
        """A member of the cluster that need not be an agent."""
        entry = {"name": name, "address": address, "port": PEER, "region": "r", "zone": zone, **more}
        self._entries.append(entry)
        new = self.members.with_suffix(".new")
        new.write_text(yaml.safe_dump(self._entries))
        new.rename(self.members)

    def start(self, nodes: Sequence[Node] | None = None) -> None:
        """Start these agents (all) side by side; returns when all are ready."""
        chosen = self._nodes if nodes is None else nodes
        began_s = time.monotonic()
        for node in chosen:
            node.launch()
        for node in chosen:
            node.wait()
        if chosen:
            SLOWNESS.took(time.monotonic() - began_s, len(chosen))

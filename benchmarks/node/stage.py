"""Real agents that know each other, nginx beside them, and the ways on which bytes move."""

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lab.certificates import Authority
from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Node, Place
from benchmarks.lab.network import inside
from benchmarks.lab.nginx import Nginx
from benchmarks.lab.process import LabError
from benchmarks.tls.ways import TLS, start_pair
from benchmarks.transfer.relays import Way
from benchmarks.transfer.testbed import QUIET, Streams, client_of, layout_blobs, new_cgroup

LOCAL, SPLICE, COPY, ENCRYPTED = "sendfile", "splice", "copy", "TLS between agents"
NGINX_LOCAL, NGINX_RELAY = "nginx, file server", "nginx, reverse proxy"
_FILES_PORT, _PROXY_PORT = 8080, 8081
_MANY = {"uploads_max": 1000}  # so that no request is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """``nodes``: whose agents know each other, by name; the first has all blobs. ``ways``: how bytes move.

    ``folders``: every store that has to have a blob before it is asked for. ``problems``: what is missing.
    """

    nodes: Mapping[str, Node]
    ways: tuple[Way, ...]
    folders: tuple[Path, ...]
    problems: tuple[str, ...]


@contextmanager
def stage() -> Iterator[Stage]:
    """All agents, started and ready. Everything is removed at its end. Raises `LabError`."""
    known = ("holder", "splice", "copy")
    places = [Place(name=name, region="r", zone="z") for name in (*known, "tls-holder", "tls")]
    with Cluster(places, containerd=False) as cluster, ExitStack() as stack:
        cluster.write_members(known)
        settings: dict[str, Any] = {"transfer": _MANY, **QUIET}
        cluster.start_agents(("holder", "splice"), **settings)
        cluster.nodes["copy"].start_agent(**{**settings, "transfer": {**_MANY, "zero_copy": False}})
        start_pair(TLS, cluster.nodes["tls"], cluster.nodes["tls-holder"], Authority(cluster.folder))
        ways = [*_agents_ways(stack, cluster)]
        problems = []
        try:
            ways += _nginx_ways(stack, cluster)
        except (LabError, OSError) as error:
            problems.append(f"there is nothing to compare with, because nginx does not run: {error}")
        yield Stage(
            nodes={name: cluster.nodes[name] for name in known},
            ways=tuple(ways),
            folders=tuple(layout_blobs(cluster.nodes[name]) for name in ("holder", "tls-holder")),
            problems=tuple(problems),
        )


def _agents_ways(stack: ExitStack, cluster: Cluster) -> Iterator[Way]:
    for name, asker, holder in (
        (LOCAL, "holder", "holder"),
        (SPLICE, "splice", "holder"),
        (COPY, "copy", "holder"),
        (ENCRYPTED, "tls", "tls-holder"),
    ):
        asking, holding = cluster.nodes[asker], cluster.nodes[holder]
        yield Way(
            name=name,
            client=stack.enter_context(client_of(cluster, asking)),
            relays=None if asker == holder else asking.cgroup,
            serves=holding.cgroup,
            agents={asker: asking.agent.pid, holder: holding.agent.pid},
        )


def _nginx_ways(stack: ExitStack, cluster: Cluster) -> Iterator[Way]:
    holder, asker = cluster.nodes["holder"], cluster.nodes["splice"]
    files, proxy = new_cgroup(cluster, "nginx-files"), new_cgroup(cluster, "nginx-proxy")
    address, listen = (holder.address, _FILES_PORT), (asker.loopback, _PROXY_PORT)
    serving = Nginx.of_files(
        cluster.folder / "nginx-files", layout_blobs(holder), address, netns=holder.netns, cgroup=files
    )
    stack.callback(serving.stop)
    relaying = Nginx.proxy(cluster.folder / "nginx-proxy", address, listen, netns=asker.netns, cgroup=proxy)
    stack.callback(relaying.stop)
    local = Streams(cluster, holder.netns, *address)
    stack.callback(local.close)
    yield Way(name=NGINX_LOCAL, client=local, serves=files)
    yield Way(
        name=NGINX_RELAY,
        client=stack.enter_context(client_of(cluster, asker, port=_PROXY_PORT)),
        relays=proxy,
        serves=files,
    )


class Tab:
    """A dashboard's tab: it reads all events of an agent and forgets them. ``events``: how many there were.

    A context manager. Raises `LabError` if the agent does not serve them.
    """

    def __init__(self, netns: str | None, host: str, port: int = ADMIN_PORT) -> None:
        self.events = 0
        self._connection = inside(netns, lambda: _connected(host, port))
        self._socket = self._connection.sock  # the connection forgets it with the answer
        self._connection.request("GET", "/api/events", headers={"Accept": "text/event-stream"})
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            self._connection.close()
            raise LabError(f"/api/events answered {self._answer.status}")
        self._thread = threading.Thread(target=self._read, name="a tab", daemon=True)

    def __enter__(self) -> "Tab":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()

    def _read(self) -> None:
        with suppress(OSError, http.client.HTTPException, ValueError):
            for line in self._answer:
                self.events += line.startswith(b"event:")


def _connected(host: str, port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.connect()
    return connection

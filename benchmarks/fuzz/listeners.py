"""Every listener of a node, as something to attack."""

import http.client
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from agent.holders.wire import PATH as HOLDERS
from agent.latency.wire import PATH as LATENCY
from agent.observe.scraping import AT_ONCE_MAX
from agent.peering.reach import PATH as REACH
from benchmarks.fuzz.client import to_tcp, to_unix
from benchmarks.fuzz.grammar import Corpus, Prove, make_case, make_lines
from benchmarks.fuzz.health import LogReader
from benchmarks.fuzz.judging import judge_http, judge_silent
from benchmarks.fuzz.proofs import Signed, service_token
from benchmarks.fuzz.run import Attacked
from benchmarks.fuzz.site import IDLE_S, IMAGE, NODE, OTHER, PORTS, Site, probe_metrics
from benchmarks.fuzz.words import Field

ENDS_S = IDLE_S + 30.0  # far more than a connection may take, for a busy machine
PROBE_PORT = 30024
NAMES = ("hostport", "nodeport", "peer", "admin", "health", "handover", "probe-metrics")

_PAGES = (
    "/livez",
    "/readyz",
    "/readyz?verbose",
    "/metrics",
    "/api/overview",
    "/api/map",
    "/api/history?step=60",
    "/api/cluster",
    "/api/events",
    "/api/pulls?limit=3",
    "/api/topology",
    "/api/latency",
    "/api/reach",
    "/api/transfers",
    "/api/costs",
    "/api/requests?limit=3",
    "/api/flows?limit=3",
    "/api/scrub",
    "/api/scrub/start",
    "/api/scrub/pause",
    "/api/scrub/resume",
    f"/api/explain?image=registry.test/{IMAGE}:v0",
    "/api/explain?digest=sha256:" + "0" * 64,
)


def _pull_targets(site: Site) -> tuple[str, ...]:
    ns = "?ns=registry.test"
    others = (
        f"/v2/{IMAGE}/manifests/v0{ns}",
        f"/v2/{IMAGE}/tags/list{ns}",
        f"/v2/{IMAGE}/manifests/nobody{ns}",
        "/v2/",
    )
    return (*site.mine, *site.theirs, *others)


def _ask(
    connection: http.client.HTTPConnection, path: str, want: bytes | None, headers: dict[str, str]
) -> None:
    """One request; raises if it is not answered with a 200 and the right bytes."""
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200 or (want is not None and body != want):
        raise AssertionError(f"{path}: {answer.status}, {len(body)} bytes")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


@contextmanager
def listener(name: str, site: Site) -> Iterator[Attacked]:
    """The listener of this name."""
    log, pid = LogReader(path=site.log), site.process.pid
    layer = site.mine[0]
    want = site.content[layer.partition("?")[0].rpartition("/")[2]]

    def at(port: int) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(site.address, port, timeout=60, source_address=(site.other, 0))

    def pull(port: str) -> Callable[[], None]:
        def honest() -> None:
            headers = {
                key.decode(): value.decode() for key, value in _PROOFS.get(port, _nothing)("GET", layer, ())
            }
            connection = at(PORTS[port])
            _ask(connection, layer, want, {"User-Agent": "containerd/2.1.9", **headers})

        return honest

    def page(connection: Callable[[], http.client.HTTPConnection], path: str) -> Callable[[], None]:
        return lambda: _ask(connection(), path, None, {})

    if name in ("hostport", "nodeport", "peer"):
        channels = (HOLDERS, LATENCY) if name == "peer" else ()
        targets = (*_pull_targets(site), *((REACH,) if name == "peer" else ()))
        corpus = Corpus(targets=targets, channels=channels, prove=_PROOFS.get(name, _nothing))
        yield Attacked(
            name=name,
            connect=to_tcp(site.address, PORTS[name]),
            make=partial(make_case, corpus=corpus),
            judge=judge_http,
            honest=pull(name),
            ends_s=ENDS_S,
            pid=pid,
            log=log,
        )
    elif name in ("admin", "health"):
        corpus = Corpus(targets=_PAGES, prove=_PROOFS.get(name, _nothing))
        at_tcp = partial(at, PORTS["admin"])
        over = partial(_UnixConnection, site.health) if name == "health" else at_tcp
        yield Attacked(
            name=name,
            connect=to_unix(site.health) if name == "health" else to_tcp(site.address, PORTS["admin"]),
            make=partial(make_case, corpus=corpus),
            judge=judge_http,
            honest=page(over, "/livez"),
            ends_s=ENDS_S,
            pid=pid,
            log=log,
        )
    elif name == "handover":
        yield Attacked(
            name=name,
            connect=to_unix(site.handover),
            make=partial(make_lines, node=NODE),
            judge=judge_silent,
            honest=pull("hostport"),
            ends_s=ENDS_S,
            pid=pid,
            log=log,
        )
    else:
        path = site.folder / "probe.log"
        with probe_metrics(site.address, PROBE_PORT, path) as process:
            at_probe = partial(at, PROBE_PORT)
            yield Attacked(
                name=name,
                connect=to_tcp(site.address, PROBE_PORT),
                make=partial(make_case, corpus=Corpus(targets=("/metrics", "/"))),
                judge=judge_http,
                honest=page(at_probe, "/metrics"),
                ends_s=60.0,
                pid=process.pid,
                log=LogReader(path=path),
                at_once=AT_ONCE_MAX // 2,
            )


def _nothing(method: str, target: str, fields: Sequence[Field]) -> Sequence[Field]:
    return ()


def _with_token(method: str, target: str, fields: Sequence[Field]) -> Sequence[Field]:
    return [(b"Authorization", f"Bearer {service_token()}".encode())]


def _signed(method: str, target: str, fields: Sequence[Field]) -> Sequence[Field]:
    byte_range = next((value.decode("latin-1") for name, value in fields if name.lower() == b"range"), "")
    signed = Signed(sender=OTHER, receiver=NODE, method=method, target=target, byte_range=byte_range)
    return [(b"Authorization", signed.header().encode("latin-1", "replace"))]


_PROOFS: dict[str, Prove] = {"nodeport": _with_token, "peer": _signed}

"""Latencies on the pod's node: which blobs are near, by the agent's own word, and how long each takes.

The requests go where containerd's go, as it makes them, at a fixed rate (`benchmarks.latency`).
"""

import contextlib
import http.client
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.hosts.hostsfile import read_hosts_file
from benchmarks.cluster.plan import SMALL_BYTES
from benchmarks.cluster.wire import Blob, Latencies, Latency
from benchmarks.latency.openloop import Ask, Limits, Outcome, Server, run_open_loop
from benchmarks.latency.schedule import starts
from benchmarks.reporting.histogram import to_text

NOBODY = "none"
"""The tier of what no node has."""

_EACH = 16
_SORTING_SHARE = 0.2
_HEAD_S = 10.0
_LARGEST_BYTES = 4 << 20
_FILES_MAX, _FILE_MAX_BYTES = 200, 64 << 10


class Unanswered(Exception):
    """The agent answers nothing that can be measured. ``hint``: what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where containerd asks on this node. ``token``: what it shows; empty: nothing."""

    host: str
    port: int
    token: str = field(default="", repr=False)

    @property
    def server(self) -> Server:
        """The same for the generator."""
        return Server(host=self.host, port=self.port, headers=self._lines)

    @property
    def _lines(self) -> tuple[str, ...]:
        return (f"Authorization: {self.token}",) if self.token else ()

    def head(self, target: str) -> tuple[int, str]:
        """The status of a HEAD, and where the agent says that it has the content. Raises OSError."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_HEAD_S)
        try:
            connection.request("HEAD", target, headers={"Authorization": self.token} if self.token else {})
            reply = connection.getresponse()
            return reply.status, reply.getheader("Shorthaul-Source", "")
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP answer: {type(error).__name__}") from error
        finally:
            connection.close()


def opened(place: Place, hosts_dir: Path) -> Place:
    """The place, with containerd's own token if the agent wants one. Raises `Unanswered`."""
    try:
        status, _ = place.head("/v2/")
        if status in (401, 403):
            place = Place(host=place.host, port=place.port, token=containerds_token(hosts_dir))
            status, _ = place.head("/v2/")
    except OSError as error:
        raise Unanswered(
            f"nothing answers at {place.host}:{place.port}, where containerd asks: {error.strerror or error}",
            "is the agent of that node up? `shorthaul doctor` in its pod says more",
        ) from error
    if status != 200:
        raise Unanswered(
            f"the agent refuses this pod at {place.host}:{place.port} (status {status})",
            "listen.localCallers may be containerd alone, and hosts.toml has no token; pulls are measured",
        )
    return place


def containerds_token(hosts_dir: Path) -> str:
    """What containerd sends to prove that it may ask. Empty: it sends nothing."""
    with contextlib.suppress(OSError):
        for file in sorted(hosts_dir.glob("*/hosts.toml"))[:_FILES_MAX]:
            with file.open("rb") as opened_file:
                found = read_hosts_file(opened_file.read(_FILE_MAX_BYTES))
            for host in found.hosts:
                if host.ours and host.authorization:
                    return host.authorization
    return ""


def tier_of(source: str) -> str:
    """The tier in a ``Shorthaul-Source`` header: how near the holder is. Empty: it names none."""
    for part in source.split(";"):
        name, _, value = part.strip().partition("=")
        if name == "tier":
            return value
    return ""


def sort_out(place: Place, blobs: Iterable[Blob], *, until_s: float) -> dict[str, list[Ask]]:
    """What to ask for, by tier: up to 16 small blobs of each, or one larger one if there is no small one.

    Until a time on the monotonic clock.

    The agent is asked for each head, and so has looked it up once before anything is measured.
    """
    found: dict[str, list[Ask]] = defaultdict(list)
    for blob in sorted(blobs, key=lambda blob: blob.size_bytes):
        if time.monotonic() > until_s or blob.size_bytes > _LARGEST_BYTES:
            break
        target = _target(blob.repository, blob.digest, blob.registry)
        with contextlib.suppress(OSError):
            status, source = place.head(target)
            tier = tier_of(source)
            few = _EACH if blob.size_bytes <= SMALL_BYTES else 1
            if status == 200 and tier and len(found[tier]) < few:
                found[tier].append(Ask(target=target))
    return {tier: asks for tier, asks in found.items() if asks}


def nobodys(blobs: Sequence[Blob], count: int) -> list[Ask]:
    """What no node and no registry has."""
    repository, registry = (blobs[0].repository, blobs[0].registry) if blobs else ("none", "none.invalid")
    return [
        Ask(target=_target(repository, f"sha256:{secrets.token_hex(32)}", registry), status=404)
        for _ in range(count)
    ]


def measure(
    place: Place,
    blobs: Sequence[Blob],
    *,
    seconds: float,
    bytes_max: int,
    rate_per_s: float,
    step: Callable[[float, str], None] = lambda _share, _what: None,
    go_on: Callable[[], bool] = lambda: True,
) -> Latencies:
    """Measure each tier, on open connections and on new ones. Blocks. ``go_on``: False ends it.

    ``bytes_max``: of all bodies. Tiers are shared out evenly over the time and the bytes.
    """
    began_s = time.monotonic()
    found = sort_out(place, blobs, until_s=began_s + seconds * _SORTING_SHARE)
    kinds = [(tier, warm) for tier in [*found, NOBODY] for warm in (True, False)]
    measured, moved = [], 0
    for at, (tier, warm) in enumerate(kinds):
        left = len(kinds) - at
        slice_s = (seconds - (time.monotonic() - began_s)) / left
        if slice_s < 0.2 or not go_on():
            break
        words = "open" if warm else "new"
        step(at / len(kinds), f"{tier}, {words} connections")
        times = starts(rate_per_s, slice_s * 0.9, seed=at)
        asks = nobodys(blobs, len(times)) if tier == NOBODY else found[tier]
        outcome = run_open_loop(
            place.server,
            [asks[each % len(asks)] for each in range(len(times))],
            times,
            warm=warm,
            limits=Limits(
                deadline_s=max(1.0, slice_s), connections=64, bytes=max(0, bytes_max - moved) // left
            ),
        )
        moved += outcome.bytes
        measured.append(_latency(tier, outcome, warm=warm))
    return Latencies(measured=tuple(measured), bytes=moved)


def _latency(tier: str, outcome: Outcome, *, warm: bool) -> Latency:
    words = [f"{number} × {problem}" for problem, number in outcome.failed.most_common(5)]
    if outcome.gone:
        words.append("nothing answered any more, so the rest was left out")
    return Latency(
        tier=tier,
        connection="warm" if warm else "cold",
        requests=outcome.due - outcome.skipped,
        failed=sum(outcome.failed.values()),
        late=outcome.late,
        first_byte=to_text(outcome.first),
        whole=to_text(outcome.whole),
        failures=tuple(words),
    )


def _target(repository: str, digest: str, registry: str) -> str:
    return f"/v2/{repository}/blobs/{digest}?ns={registry}"

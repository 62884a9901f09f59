"""Nodes whose containerds pull one content at once: what each does with its agent. A registry that counts."""

import http.client
import threading
import time
from dataclasses import dataclass, field

from .agents import REPLY_S, digest_of
from .ingesting import CONTAINERD, Fetcher, Ingest, path_of

_PART_BYTES = 64 << 10


@dataclass
class Registry:
    """Gives a content at a rate. ``fetches``: who asked for it, and from which byte on.

    ``pause_s``: between two parts. ``kills_at``: the first node that asks dies when it has so many bytes.
    ``killed``: nodes that are dead.
    """

    pause_s: float = 0.0
    kills_at: int | None = None
    fetches: list[tuple[str, int]] = field(default_factory=list)
    killed: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def asked(self, node: str, offset: int) -> None:
        """A containerd asks."""
        with self._lock:
            self.fetches.append((node, offset))


class Pulls:
    """The pulls of one content by several nodes. Use `all_at_once`."""

    def __init__(self, registry: Registry, content: bytes, *, kind: str = "layer") -> None:
        self._registry = registry
        self._content = content
        self._kind = kind
        self.whole: set[str] = set()

    def all_at_once(self, fetchers: list[Fetcher], *, at_most_s: float = 60.0) -> None:
        """Every node pulls; returns when all have it, or are dead."""
        threads = [threading.Thread(target=self._pull, args=(fetcher,), daemon=True) for fetcher in fetchers]
        for thread in threads:
            thread.start()
        until_s = time.monotonic() + at_most_s
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        alive = {fetcher.node.name for fetcher in fetchers} - self._registry.killed
        assert alive <= self.whole, f"without it: {sorted(alive - self.whole)}"

    def _pull(self, fetcher: Fetcher) -> None:
        """containerd opens the ingest, asks its agent, and then the registry."""
        name = fetcher.node.name
        ingest = fetcher.open(self._content, kind=self._kind)
        while ingest.written_bytes < len(self._content) and name not in self._registry.killed:
            if not self._from_the_agent(fetcher, ingest):
                self._from_the_registry(fetcher, ingest)
        if name in self._registry.killed:
            ingest.give_up()
        else:
            assert digest_of(self._content) == digest_of(ingest.read())
            ingest.commit()
            self.whole.add(name)

    def _from_the_agent(self, fetcher: Fetcher, ingest: Ingest) -> bool:
        """Whether the agent gave anything."""
        start = ingest.written_bytes
        headers = CONTAINERD | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with fetcher.node.connection(timeout_s=REPLY_S) as connection:
                connection.request("GET", path_of(self._content, self._kind), headers=headers)
                reply = connection.getresponse()
                if reply.status not in (200, 206):
                    return False
                while part := reply.read1(_PART_BYTES):
                    ingest.append(part)
        except (OSError, http.client.HTTPException):
            pass  # it goes on where it is
        return ingest.written_bytes > start

    def _from_the_registry(self, fetcher: Fetcher, ingest: Ingest) -> None:
        registry, name = self._registry, fetcher.node.name
        registry.asked(name, ingest.written_bytes)
        while ingest.written_bytes < len(self._content):
            ingest.write(min(ingest.written_bytes + _PART_BYTES, len(self._content)))
            if registry.kills_at is not None and ingest.written_bytes >= registry.kills_at:
                registry.kills_at = None
                registry.killed.add(name)
                fetcher.node.process.kill()
                return
            time.sleep(registry.pause_s)

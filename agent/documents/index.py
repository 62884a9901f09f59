"""The index, which knows the nodes that have a digest, as one node sees it: ``/api/index``."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class IndexSource(Enum):
    """Who said which nodes have a digest. The value is a label in metrics, and the word in documents."""

    CACHE = "cache"
    """This agent knew it from a moment ago."""
    SERVER = "server"
    """The index's server."""
    FALLBACK = "fallback"
    """Near peers, because the server could not be asked, or may not know everything yet."""


class IndexState(Enum):
    """Who is asked which nodes have a digest. The value is the word in documents."""

    PEERS = "peers"
    """The peers. There is no server: `index: scatter`."""
    SERVER = "server"
    """The server, which was told everything that this node has, as far as is known."""
    WARMING = "warming"
    """The server, and near peers for what it does not know: it was reset a moment ago."""
    FULL = "full"
    """The server, which takes no announcements now: it is full, or read-only."""
    DOWN = "down"
    """Near peers in place of the server."""

    @property
    def words(self) -> str:
        """The state as a sentence."""
        return _WORDS[self]


_WORDS = {
    IndexState.PEERS: "the peers are asked who has what; there is no server",
    IndexState.SERVER: "the server is asked who has what",
    IndexState.WARMING: "the server is asked, and near peers for what it does not know, as it was reset",
    IndexState.FULL: "the server is asked, and takes no announcements; pulls work",
    IndexState.DOWN: "near peers are asked in place of the server; pulls work",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexWarningEntry:
    """Something about the server that works, and that a person should know. ``hint``: what to do."""

    problem: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDocument:
    """The index. Only ``time``, ``node``, ``index`` and ``state`` say something where there is no server.

    ``index``: the setting, without passwords. ``state``: one of `IndexState`. ``problem``: why the server is
    not used, or not in full; null: it is. ``hint``: what to do about it; may be empty.
    ``server``: its name and version. ``cluster``: by which id this cluster's keys are told from another's.
    ``number``: this node's bit in all bitmaps; null: it has none yet. ``announced``: how many digests the
    server was told of. ``pending``: how many changes it was not told of yet. ``resets``: how often it lost
    what it was told, or may have. ``reset_at``, ``reset_reason``: the last time, UTC, and why that was
    thought. ``silent_count``, ``silent``: how many nodes of this zone tell the server nothing, and some of
    them: they are asked themselves about what the server does not know. ``latency_us``: how long its last
    answer took, there and back. ``used_bytes``, ``most_bytes``: its memory, and `maxmemory`; 0: no limit.
    ``policy``: its `maxmemory-policy`. null: not known.
    """

    PATH: ClassVar[str] = "/api/index"

    time: str
    node: str
    index: str
    state: str
    problem: str | None = None
    hint: str = ""
    warnings: tuple[IndexWarningEntry, ...] = ()
    server: str | None = None
    cluster: str | None = None
    number: int | None = None
    announced: int = 0
    pending: int = 0
    resets: int = 0
    reset_at: str | None = None
    reset_reason: str | None = None
    silent_count: int = 0
    silent: tuple[str, ...] = ()
    latency_us: float | None = None
    used_bytes: int | None = None
    most_bytes: int | None = None
    policy: str | None = None

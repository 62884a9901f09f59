"""What is looked at before pulls ask the server: is it this cluster's, may it be written, which rights are
there, and what does it say of itself.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.holders.valkey.connecting import Link
from agent.holders.valkey.deadline import in_time
from agent.holders.valkey.facts import Facts, facts_of, together
from agent.holders.valkey.layout import PROBE_TTL_MS, Layout
from agent.holders.valkey.marker import MARKER_LIFE_S, Marker, read_marker
from agent.holders.valkey.trouble import IndexDown, Refused, of_garbage
from agent.holders.valkey.wire import Command, Reply
from agent.observe.index_metrics import IndexTrouble

_SCRIPT = "return 1"
_SCRIPT_ID = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``marker``: whose keys there are. ``made_s``: since when, by this node's monotonic clock. ``full``: why
    it takes no writes; None: it does.
    """

    marker: Marker
    made_s: float
    full: IndexDown | None = None


def needed(key: str) -> tuple[Command, ...]:
    """A command of each name that the index uses, on a key that nobody reads."""
    return (
        ("SET", key, "x", "PX", PROBE_TTL_MS),
        ("GET", key),
        ("MGET", key),
        ("SETBIT", key, 7, 0),
        ("GETRANGE", key, 0, 0),
        ("SETRANGE", key, 0, "x"),
        ("STRLEN", key),
        ("EXPIRE", key, 60),
        ("PEXPIRE", key, PROBE_TTL_MS),
        ("EXPIREAT", key, 4_102_444_800),
        ("TTL", key),
        ("EVAL", _SCRIPT, 1, key),
        ("EVALSHA", _SCRIPT_ID, 1, key),
        ("DEL", key),
        ("TIME",),
    )


class Checks:
    """``clusters``: the ids of this cluster, the one to write first. ``number``: a new random one."""

    def __init__(
        self,
        *,
        prefix: str,
        clusters: Callable[[], tuple[str, ...]],
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        number: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._prefix = prefix
        layout = Layout(prefix)
        self.marker_key, self._probe_key = layout.marker, layout.probe
        self._clusters = clusters
        self._timeout_s = timeout_s
        self._clock = clock
        self._number = number

    async def look(self, link: Link) -> Seen:
        """Is it this cluster's, and may it be written? Makes the marker if there is none.

        Raises `IndexDown`.
        """
        now_s, value, full = await self._read(link)
        if value is None:
            if full is not None:
                raise full
            value = await self._make_marker(link, now_s)
        marker = read_marker(value, self._clusters(), self._prefix)
        made_s = self._clock() - max(0, now_s - marker.made_s)
        return Seen(marker=marker, made_s=made_s, full=full)

    async def peek(self, link: Link) -> tuple[Marker | None, IndexDown | None]:
        """The same for a look that leaves no marker. Returns it, if there is one, and why it takes no writes.

        Raises `IndexDown`.
        """
        _, value, full = await self._read(link)
        return None if value is None else read_marker(value, self._clusters(), self._prefix), full

    async def rights(self, link: Link) -> None:
        """Try every command that the index needs. Raises `IndexDown`, which names those that fail."""
        tried = [(command, link.send([command])) for command in needed(self._probe_key)]
        denied, unknown = [], []
        for command, told in tried:
            name = str(command[0])
            try:
                (reply,) = await in_time(told, self._timeout_s)
            except IndexDown as error:
                if error.kind is IndexTrouble.DENIED:
                    denied.append(name)
                elif not error.leaves_reads:
                    raise
                continue
            if isinstance(reply, Refused) and "unknown command" in reply.words:
                unknown.append(name)
        _require(denied, unknown, self._prefix)

    async def facts(self, link: Link) -> Facts:
        """What it says of itself, as far as this user may ask. Renews the marker's life."""
        asked = [lane.send([("INFO",)]) for lane in link.lanes]
        renewed = link.send([("EXPIRE", self.marker_key, MARKER_LIFE_S)])
        found = []
        for told in asked:
            try:
                (reply,) = await in_time(told, self._timeout_s)
            except IndexDown as error:
                if error.kind is not IndexTrouble.DENIED:
                    raise
                reply = None
            found.append(facts_of(reply))
        await self._is_full(renewed)
        return together(found)

    async def renamed(self, link: Link, marker: Marker) -> None:
        """The marker has the id of a key that signs no more: write the one that does."""
        signs = self._clusters()[0]
        if marker.cluster != signs:
            new = Marker(cluster=signs, number=marker.number, made_s=marker.made_s)
            await self._is_full(link.send([("SET", self.marker_key, bytes(new), "XX", "EX", MARKER_LIFE_S)]))

    async def _read(self, link: Link) -> tuple[int, Reply, IndexDown | None]:
        """The server's time, the marker's value, and why it takes no writes."""
        asked = link.send([("TIME",), ("GET", self.marker_key)])
        written = link.send([("SET", self._probe_key, "x", "PX", PROBE_TTL_MS)])
        now, value = await in_time(asked, self._timeout_s)
        return _seconds(now), value, await self._is_full(written)

    async def _make_marker(self, link: Link, now_s: int) -> Reply:
        ids = self._clusters()
        new = Marker(cluster=ids[0] if ids else "", number=self._number(), made_s=now_s)
        make = ("SET", self.marker_key, bytes(new), "NX", "EX", MARKER_LIFE_S)
        _, value = await in_time(link.send([make, ("GET", self.marker_key)]), self._timeout_s)
        return value

    async def _is_full(self, written: "asyncio.Future[list[Reply]]") -> IndexDown | None:
        try:
            await in_time(written, self._timeout_s)
        except IndexDown as error:
            if not error.leaves_reads:
                raise
            return error
        return None


def _seconds(reply: Reply) -> int:
    try:
        return int(reply[0])
    except (ValueError, TypeError, IndexError):
        raise of_garbage("its answer to TIME makes no sense") from None


def _require(denied: list[str], unknown: list[str], prefix: str) -> None:
    if denied:
        raise IndexDown(
            IndexTrouble.DENIED,
            f"the server's user may not use {', '.join(denied)} on the keys {prefix}:*",
            "see docs/large-clusters.md for the rules (ACL) that its user needs",
        )
    if unknown:
        raise IndexDown(
            IndexTrouble.OTHER,
            f"the server does not know {', '.join(unknown)}",
            "let it have the commands (rename-command takes them away), or use another server",
        )

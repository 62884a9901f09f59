"""Reads bitmaps: one MGET for all digests that are wanted at a moment.

A value that no agent can have written, of another type or far too long, says nothing. A server has to send a
long one whole before its length is known, and the connection ends at a bound. So after an answer that was no
answer, only so much of each value is asked for as can be right, and what is too long is removed.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agent.holders.bitmap import BITMAP_BYTES_MAX, bits_of
from agent.holders.valkey.asked import Command, IndexServer
from agent.holders.valkey.layout import PROBE_TTL_MS, Layout, slot_of
from agent.holders.valkey.trouble import IndexDown
from agent.observe.index_metrics import IndexTrouble
from agent.oci.digest import Digest

_CAREFUL_S = 60.0
_TRIED_S = 1.0
_KEYS = 3  # of each digest: this epoch, the last one, in flight

Bits = tuple[int, int]
"""Who has all of a digest, and who is fetching it."""


class Reader:
    """Asks for bitmaps. ``clock``: seconds of the monotonic clock."""

    def __init__(
        self, server: IndexServer, layout: Layout, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._layout = layout
        self._clock = clock
        self._careful_until_s = 0.0
        self._tried_s = -_TRIED_S

    async def read(self, digests: Sequence[Digest], epoch: int, *, watch: bool = False) -> dict[Digest, Bits]:
        """The bitmaps of these digests. Raises `IndexDown`. ``watch``: be told when one changes."""
        if self._clock() < self._careful_until_s:
            return await self._read_carefully(digests, epoch)
        groups = self._groups(digests)
        try:
            replies = await self._server.call(
                *(("MGET", *self._keys(group, epoch)) for group in groups), tracked=watch
            )
        except IndexDown as error:
            if error.kind is IndexTrouble.GARBAGE:
                self._careful_until_s = self._clock() + _CAREFUL_S
            raise
        found: dict[Digest, Bits] = {}
        for group, values in zip(groups, replies, strict=True):
            found |= _bits(group, values if isinstance(values, list) else ())
        return found

    async def alive(self, period: int) -> int:
        """The bits of the nodes that said, in this period or the last, that the server takes what they
        announce. Raises `IndexDown`.
        """
        values = await self._server.call(
            *(
                ("GETRANGE", self._layout.alive(each), 0, BITMAP_BYTES_MAX - 1)
                for each in (period, period - 1)
            )
        )
        return _read(values[0]) | _read(values[1])

    async def takes_writes(self) -> bool:
        """Whether the server takes announcements now: one that is full can't know what came since.

        It is tried at most once a second. Raises `IndexDown` unless it is that.
        """
        now_s = self._clock()
        if now_s < self._tried_s + _TRIED_S:
            return self._server.writable
        try:
            await self._server.call(("SET", self._layout.probe, b"x", "PX", PROBE_TTL_MS))
        except IndexDown as error:
            if not error.leaves_reads:
                raise
            return False
        self._tried_s = now_s
        return True

    def digest_of(self, key: bytes) -> Digest:
        """The digest that a key is about."""
        return Digest(b":".join(key.rsplit(b":", 2)[1:]).decode(errors="replace"))

    def _groups(self, digests: Sequence[Digest]) -> list[Sequence[Digest]]:
        """The digests by what one command may ask for."""
        if not self._server.clustered:
            return [digests]
        slots: dict[str, list[Digest]] = {}
        for digest in digests:
            slots.setdefault(slot_of(digest), []).append(digest)
        return [*slots.values()]

    def _keys(self, digests: Iterable[Digest], epoch: int) -> list[str]:
        layout = self._layout
        keys: list[str] = []
        for digest in digests:
            keys += (
                layout.bitmap(epoch, digest),
                layout.bitmap(epoch - 1, digest),
                layout.flight(digest),
            )
        return keys

    async def _read_carefully(self, digests: Sequence[Digest], epoch: int) -> dict[Digest, Bits]:
        keys = self._keys(digests, epoch)
        values = await self._server.call(*(("GETRANGE", key, 0, BITMAP_BYTES_MAX) for key in keys))
        wrong: list[Command] = [
            ("DEL", key)
            for key, value in zip(keys, values, strict=True)
            if not isinstance(value, bytes) or len(value) > BITMAP_BYTES_MAX
        ]
        if wrong:
            await self._server.call(*wrong)
        return _bits(digests, values)


def _bits(digests: Sequence[Digest], values: Sequence[Any]) -> dict[Digest, Bits]:
    found: dict[Digest, Bits] = {}
    whole = len(values) == _KEYS * len(digests)
    for place, digest in enumerate(digests):
        now, before, flights = values[_KEYS * place : _KEYS * (place + 1)] if whole else (None, None, None)
        found[digest] = _read(now) | _read(before), _read(flights)
    return found


def _read(value: object) -> int:
    if not value or not isinstance(value, bytes) or len(value) > BITMAP_BYTES_MAX:
        return 0
    return bits_of(value)

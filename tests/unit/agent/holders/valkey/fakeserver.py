"""A server of the index in memory, whose clock a test sets. It has the commands that the index uses."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agent.documents.index import IndexWarningEntry
from agent.holders.bitmap import bits_of, numbers_of, value_of
from agent.holders.valkey.asked import Command
from agent.holders.valkey.facts import Facts
from agent.holders.valkey.layout import EPOCH_S, Layout
from agent.holders.valkey.trouble import IndexDown, Refused
from agent.observe.index_metrics import IndexTrouble
from agent.oci.digest import Digest
from tests.unit.twins import loop_clock

_WRONG = Refused("WRONGTYPE Operation against a key holding the wrong kind of value")
BEGIN_S = 1000.0 * EPOCH_S
LAYOUT = Layout("shorthaul")


class FakeServer:
    """Behaves as `agent.holders.valkey.server.Server` does. ``ahead_s``: what its clock is ahead by.

    ``young_s``, ``healthy``, ``writable``, ``caught_up``, ``as_seen``: as the test says. ``down``: what calls
    raise. ``lifeless``: the numbers that give no sign of life; all others do.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.ends_s: dict[str, float] = {}
        self.ahead_s = 0.0
        self.healthy = self.writable = self.tracking = self.caught_up = True
        self.as_seen = True
        self.clustered = False
        self.young_s: float | None = None
        self.problem: str | None = None
        self.hint = ""
        self.warnings: tuple[IndexWarningEntry, ...] = ()
        self.facts = Facts()
        self.cluster: str | None = None
        self.latency_us: float | None = None
        self.down: IndexDown | None = None
        self.before: Callable[[Sequence[Command]], None] | None = None
        self.calls: list[tuple[Command, ...]] = []
        self.counted: Counter[str] = Counter()
        self.watched: set[str] = set()
        self.lifeless: set[int] = set()
        self._resets: list[Callable[[], None]] = []
        self._invalids: list[Callable[[Sequence[bytes] | None], None]] = []

    @property
    def now_s(self) -> float:
        """The time by its clock."""
        return BEGIN_S + loop_clock() + self.ahead_s

    @property
    def epoch(self) -> int:
        """The epoch by its clock."""
        return int(self.now_s // EPOCH_S)

    def on_reset(self, callback: Callable[[], None]) -> None:
        """See `Server`."""
        self._resets.append(callback)

    def on_invalid(self, callback: Callable[[Sequence[bytes] | None], None]) -> None:
        """See `Server`."""
        self._invalids.append(callback)

    async def call(
        self, *commands: Command, tracked: bool = False, timeout_s: float | None = None
    ) -> Sequence[Any]:
        """See `Server`."""
        if self.before is not None:
            self.before(commands)
        if self.down is not None or not self.healthy:
            raise self.down or IndexDown(IndexTrouble.UNREACHABLE, "it is away", "")
        self.calls.append(commands)
        if tracked and commands:
            self.watched |= {str(key) for key in commands[0][1:]}
        return [self._do(*command) for command in commands]

    async def is_as_seen(self) -> bool:
        """See `Server`."""
        return self.as_seen

    async def run(self) -> None:
        """See `Server`."""

    def empty(self) -> None:
        """FLUSHALL."""
        self.values.clear()
        self.ends_s.clear()
        self._invalidate(None)

    def reset(self) -> None:
        """Tell that what was told may be gone."""
        for callback in self._resets:
            callback()

    def holders(self, digest: Digest, epoch: int | None = None) -> set[int]:
        """Whose bits are set for a digest."""
        key = LAYOUT.bitmap(self.epoch if epoch is None else epoch, digest)
        return {*numbers_of(bits_of(self._get(key) or b""))}

    def fetching(self, digest: Digest) -> set[int]:
        """Whose bits are set for a digest in flight."""
        return {*numbers_of(bits_of(self._get(LAYOUT.flight(digest)) or b""))}

    def without_end(self) -> set[str]:
        """The keys that have no time to live."""
        return self.values.keys() - self.ends_s.keys()

    def _get(self, key: str) -> Any:  # and GET
        if self.ends_s.get(key, self.now_s + 1) <= self.now_s:
            self.values.pop(key, None)
            self.ends_s.pop(key, None)
        return self.values.get(key)

    def _do(self, name: str | bytes | int, *arguments: str | bytes | int) -> Any:
        self.counted["ALIVE" if ":a:" in str(arguments[:1]) else str(name)] += 1
        return getattr(self, f"_{str(name).lower()}")(*arguments)

    def _time(self) -> Any:
        seconds, fraction = divmod(self.now_s, 1)
        return [str(int(seconds)).encode(), str(int(fraction * 1e6)).encode()]

    def _mget(self, *keys: str) -> Any:
        if self.clustered:
            slots = {key.partition("{")[2].partition("}")[0] for key in keys}
            assert len(slots) == 1, "CROSSSLOT"
        return [value if isinstance(value := self._get(key), bytes) else None for key in keys]

    def _set(self, key: str, value: bytes, *options: Any) -> Any:
        exists = self._get(key) is not None
        if ("NX" in options and exists) or ("XX" in options and not exists):
            return None
        self.values[key] = value
        self.ends_s.pop(key, None)
        for unit, seconds in (("EX", 1.0), ("PX", 0.001)):
            if unit in options:
                self.ends_s[key] = self.now_s + options[options.index(unit) + 1] * seconds
        self._invalidate([key])
        return b"OK"

    def _setbit(self, key: str, place: int, bit: int) -> Any:
        value = self._get(key)
        if value is not None and not isinstance(value, bytes):
            return _WRONG
        array = bytearray((value or b"").ljust(place // 8 + 1, b"\0"))
        array[place // 8] = array[place // 8] & ~(0x80 >> place % 8) | (0x80 >> place % 8) * bit
        self.values[key] = bytes(array)
        self._invalidate([key])
        return 0

    def _getrange(self, key: str, start: int, last: int) -> Any:
        if ":a:" in key:
            return value_of({*range(3000)} - self.lifeless)
        value = self._get(key)
        return _WRONG if not isinstance(value, bytes | None) else (value or b"")[start : last + 1]

    def _setrange(self, key: str, start: int, part: bytes) -> Any:
        value = self._get(key)
        if not isinstance(value, bytes | None):
            return _WRONG
        array = bytearray((value or b"").ljust(start + len(part), b"\0"))
        array[start : start + len(part)] = part
        self.values[key] = bytes(array)
        return len(array)

    def _expire(self, key: str, seconds: int) -> Any:
        if self._get(key) is None:
            return 0
        self.ends_s[key] = self.now_s + seconds
        return 1

    def _del(self, *keys: str) -> Any:
        for key in keys:
            self.values.pop(key, None)
            self.ends_s.pop(key, None)
        self._invalidate(keys)
        return len(keys)

    def _invalidate(self, keys: Sequence[str] | None) -> None:
        changed = self.watched if keys is None else self.watched & {*keys}
        if changed:
            self.watched = self.watched - changed
            for callback in self._invalids:
                callback(None if keys is None else [key.encode() for key in changed])

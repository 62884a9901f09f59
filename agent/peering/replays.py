"""Remembers the signatures that came, so that none counts twice. Pure: milliseconds of one clock.

Only valid signatures get here, each for as long as it would be valid. They are kept in slices of time, which
are forgotten as a whole. One address may have so many, and all together so many: a member whose key was
stolen can't fill the memory of a node, and hardly the share of the others.
"""

from collections import Counter

_SLICE_MS = 10_000
_OF_ADDRESS_MOST = 32_768  # in about a minute: 500 requests a second, all the time
_MOST = 131_072  # some 10 MiB


class Replays:
    """The signatures of a while. ``window_ms``: for how long one is valid, before and after its time."""

    def __init__(self, *, window_ms: int, of_address_most: int = _OF_ADDRESS_MOST, most: int = _MOST) -> None:
        self._window_ms = window_ms
        self._of_address_most = of_address_most
        self._most = most
        self._slices: dict[int, set[int]] = {}
        self._addresses: dict[int, Counter[str]] = {}
        self._of_address: Counter[str] = Counter()
        self._count = 0

    def __len__(self) -> int:
        """How many are remembered."""
        return self._count

    def is_known(self, mac: str, time_ms: int) -> bool:
        """Whether it came before."""
        return int(mac[:16], 16) in self._slices.get(time_ms // _SLICE_MS, ())

    def add(self, mac: str, time_ms: int, address: str, now_ms: int) -> bool:
        """Remember a signature of this time that came from an address. False: there is no room for it."""
        first = (now_ms - self._window_ms) // _SLICE_MS
        if any(number < first for number in self._slices):
            self._forget(first)
        if self._count >= self._most or self._of_address[address] >= self._of_address_most:
            return False
        number = time_ms // _SLICE_MS
        if number not in self._slices:
            self._slices[number], self._addresses[number] = set(), Counter()
        self._slices[number].add(int(mac[:16], 16))
        self._addresses[number][address] += 1
        self._of_address[address] += 1
        self._count += 1
        return True

    def _forget(self, first: int) -> None:
        """Forget the slices before this one."""
        for number in [number for number in self._slices if number < first]:
            self._count -= len(self._slices.pop(number))
            self._of_address -= self._addresses.pop(number)  # drops what is not above zero

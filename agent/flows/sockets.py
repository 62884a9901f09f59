"""The sockets that the agent accepted, by their cookies (SO_COOKIE). Pure.

The agent tells them to a probe that starts after them. What the agent accepts later is marked by the kernel.
"""

from collections import OrderedDict
from collections.abc import Sequence

_GONE_MAX = 1024  # closed a moment ago; the probe may still judge them
_CLAIMED_MAX = 16_384  # 320 kB in one message


class AcceptedSockets:
    """Is told of each connection of the agent's listeners."""

    def __init__(self) -> None:
        self._open: dict[int, None] = {}
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._inherited: tuple[int, ...] = ()
        self._every = True

    def accepted(self, cookie: int) -> None:
        """A client connected."""
        self._open[cookie] = None

    def closed(self, cookie: int) -> None:
        """The connection ended."""
        self._open.pop(cookie, None)
        self._gone[cookie] = None
        if len(self._gone) > _GONE_MAX:
            self._gone.popitem(last=False)

    def inherit(self, cookies: Sequence[int], *, every: bool) -> None:
        """An older agent of this node accepted these, on the very same listening sockets. ``every``: that is
        all it accepted.
        """
        self._inherited, self._every = tuple(cookies), every

    def cookies(self) -> tuple[tuple[int, ...], bool]:
        """The cookies of open and of recently closed connections, and whether these are all."""
        every = (*self._inherited, *self._gone, *self._open)
        return every[-_CLAIMED_MAX:], self._every and len(every) <= _CLAIMED_MAX

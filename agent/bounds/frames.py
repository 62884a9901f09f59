"""What an agent's WebSocket may send: whole binary messages, each in one masked frame.

The guard reads the heads of frames before aiohttp sees them, and counts the bytes of the message that has
begun. aiohttp accepts fragments, of which no number is too large if they are empty; control frames; and
messages that never end. No agent sends any of these. A few control frames are for debugging tools.
Source: RFC 6455, section 5. Pure.
"""

from dataclasses import dataclass

_BINARY, _CONTROL, _LONGEST_CONTROL = 0x2, frozenset({0x8, 0x9, 0xA}), 125
_CONTROL_MAX, _CONTROL_WINDOW_S = 32, 10.0
_OVERHEAD_BYTES = 128  # what a waiting message takes besides its bytes

PROTOCOL_ERROR, TOO_BIG, POLICY_VIOLATION = 1002, 1009, 1008


class FrameRefused(Exception):
    """A frame that breaks the rules. ``code``: for the closing frame."""

    def __init__(self, why: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(why)
        self.code = code


@dataclass(slots=True, kw_only=True)
class FrameGuard:
    """The frames of one connection. ``message_max_bytes``: messages are shorter.

    ``unfinished_bytes``: what came of a message that is not whole. ``waiting_bytes``: whole messages that
    nobody took yet, see `take`.
    """

    message_max_bytes: int
    unfinished_bytes: int = 0
    waiting_bytes: int = 0
    _missing_bytes: int = 0
    _counts: bool = False
    _head: bytes = b""
    _control_frames: int = 0
    _window_started_s: float = float("-inf")

    def feed(self, data: bytes, now_s: float) -> None:
        """The next bytes of the connection. Raises `FrameRefused`; nothing may be fed after that."""
        if self._head:
            data, self._head = self._head + data, b""
        at, end = 0, len(data)
        while True:
            taken = min(self._missing_bytes, end - at)
            at += taken
            self._missing_bytes -= taken
            if self._counts:
                self.unfinished_bytes += taken
                if not self._missing_bytes:
                    self._counts = False
                    self.waiting_bytes += self.unfinished_bytes + _OVERHEAD_BYTES
                    self.unfinished_bytes = 0
            if at == end:
                return
            head_bytes = self._begin(data, at, now_s)
            if not head_bytes:
                self._head = data[at:]
                return
            at += head_bytes

    def take(self, message_bytes: int) -> None:
        """A message was taken."""
        self.waiting_bytes = max(0, self.waiting_bytes - message_bytes - _OVERHEAD_BYTES)

    def _begin(self, data: bytes, at: int, now_s: float) -> int:
        """Read the head of a frame. Returns its length, 0 if it is not whole."""
        if len(data) - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        opcode, length = first & 0x0F, second & 0x7F
        self._check_kind(first, second, opcode)
        if length == 126:
            head_bytes, length = 8, int.from_bytes(data[at + 2 : at + 4], "big")
        elif length == 127:
            head_bytes, length = 14, int.from_bytes(data[at + 2 : at + 10], "big")
        else:
            head_bytes = 6
        if len(data) - at < head_bytes:
            return 0
        if opcode == _BINARY:
            if length >= self.message_max_bytes:  # as aiohttp does
                raise FrameRefused("the message is too long", TOO_BIG)
            self._counts = True
        else:
            self._count_control(length, now_s)
        self._missing_bytes = length
        return head_bytes

    @staticmethod
    def _check_kind(first: int, second: int, opcode: int) -> None:
        if first & 0x70:
            raise FrameRefused("a compressed frame, or one of another extension")
        if opcode == 0 or not first & 0x80:
            raise FrameRefused("a message in fragments", POLICY_VIOLATION)
        if not second & 0x80:
            raise FrameRefused("a frame without a mask")
        if opcode != _BINARY and opcode not in _CONTROL:
            raise FrameRefused("a message that is not binary", 1003)

    def _count_control(self, length: int, now_s: float) -> None:
        if length > _LONGEST_CONTROL:
            raise FrameRefused("a control frame that is too long")
        if now_s - self._window_started_s > _CONTROL_WINDOW_S:
            self._window_started_s, self._control_frames = now_s, 0
        self._control_frames += 1
        if self._control_frames > _CONTROL_MAX:
            raise FrameRefused("too many pings", POLICY_VIOLATION)

"""Reads one HTTP answer as it comes, and knows when its first byte and its last one are there. Pure."""

from dataclasses import dataclass, field

_HEAD_MAX_BYTES = 64 * 1024


class AnswerInvalid(Exception):
    """What came is no HTTP answer that this reader knows."""


@dataclass(slots=True)
class Answer:
    """One answer. ``status``: 0 before the head is there. ``body_bytes``: so many came."""

    status: int = 0
    body_bytes: int = 0
    keeps: bool = True
    _length: int = 0
    _head: bytearray = field(default_factory=bytearray)

    def take(self, part: memoryview) -> None:
        """Take what came. Raises `AnswerInvalid`."""
        if self.status:
            self.body_bytes += len(part)
        else:
            self._take_head(part)
        if self.status and self.body_bytes > self._length:
            raise AnswerInvalid("more bytes than the answer's length")

    @property
    def began(self) -> bool:
        """Whether the first byte of the body is there, or all of an answer that has none."""
        return bool(self.status) and (self.body_bytes > 0 or self._length == 0)

    @property
    def complete(self) -> bool:
        """Whether all is there."""
        return bool(self.status) and self.body_bytes == self._length

    def _take_head(self, part: memoryview) -> None:
        self._head += part
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > _HEAD_MAX_BYTES:
                raise AnswerInvalid("a head without end")
            return
        self._read_head(bytes(self._head[:end]))
        self.body_bytes = len(self._head) - end - 4
        self._head.clear()

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        words = first.split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise AnswerInvalid("no HTTP/1 answer")
        self.status = int(words[1])
        fields = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        length = fields.get(b"content-length", b"0" if self.status in (204, 304) else b"")
        if not length.isdigit():
            raise AnswerInvalid("an answer without Content-Length")
        self._length = int(length)
        self.keeps = fields.get(b"connection") != b"close"

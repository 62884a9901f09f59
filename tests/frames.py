"""WebSocket frames and the server's half of the handshake by hand (RFC 6455)."""

import base64
import hashlib
import struct
from collections.abc import Mapping

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10


def accept_head(key: str, more: Mapping[str, str] | None = None) -> bytes:
    """The server's half of the handshake. ``more``: further headers."""
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
    fields = [f"{name}: {value}" for name, value in (more or {}).items()]
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    return ("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", *fields]) + "\r\n\r\n").encode()


def frame(payload: bytes, *, opcode: int = BINARY, masked: bool = False, final: bool = True) -> bytes:
    """One frame; clients mask theirs."""
    first = opcode | (0x80 if final else 0)
    length = len(payload)
    bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack(">BB", first, bit | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", first, bit | 126, length)
    else:
        head = struct.pack(">BBQ", first, bit | 127, length)
    # A mask of zeros is a valid one and leaves the payload as it is.
    return head + (bytes(4) if masked else b"") + payload

"""A Unix socket at a path: made so that whoever sees the path can connect, and only this user."""

import contextlib
import os
import secrets
import socket
from pathlib import Path

_LONGEST = 98  # sun_path has 108 bytes with a zero (unix(7)), and the path gets a suffix of 9 for a moment


class UnixListener:
    """A listening Unix socket. It takes the place of whatever socket was at the path.

    Raises OSError if it can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_socket():
            raise FileExistsError("it is there, and is no socket")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.setblocking(False)
            self._inode = _bind(self.socket, path)
        except BaseException:
            self.socket.close()
            raise

    @property
    def is_gone(self) -> bool:
        """Whether nothing is at the path any more, so that nobody can connect."""
        return not os.path.lexists(self._path)  # Path.exists raises if it can't be looked at

    def close(self) -> None:
        """Stop listening. The path goes, unless another process has put its own socket there."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


def _bind(listener: socket.socket, path: Path) -> int:
    """Bind beside the path, listen, and move it there: nobody meets a socket that nobody serves."""
    if len(os.fsencode(path)) > _LONGEST:
        raise OSError(f"the path is too long for a Unix socket: {_LONGEST} bytes at most")
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")  # processes of two pods may have one pid
    mask = os.umask(0o177)
    try:
        listener.bind(str(new))
    finally:
        os.umask(mask)
    try:
        listener.listen()
        inode = new.stat().st_ino
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return inode

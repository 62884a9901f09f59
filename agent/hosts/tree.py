"""The node's file system, mounted at a directory: a path of the node, and where this process finds it.

A symbolic link on the node means a path of the node, so it is followed below the mount and not from ``/``.
"""

import errno
import os
from pathlib import Path, PurePosixPath

_LINKS_MAX = 40


class NodeTree:
    """The node's files below ``root``. Root ``/`` is the node itself."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, path: Path) -> Path:
        """Where this process finds the node's file, with all links followed. The last name may not exist.

        Raises OSError if links run in a circle.
        """
        found, waiting = self._root, list(reversed(PurePosixPath(path).parts[1:]))
        links = 0
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                found = found if found == self._root else found.parent
                continue
            step = found / name
            try:
                target = PurePosixPath(os.readlink(step))  # noqa: PTH115 - a pure path has no readlink
            except OSError:  # no link, or nothing there
                found = step
                continue
            links += 1
            if links > _LINKS_MAX:
                raise OSError(errno.ELOOP, "too many symbolic links", str(path))
            if target.is_absolute():
                found = self._root
            waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        return found

    def exists(self, path: Path) -> bool:
        """Whether the node has this path."""
        try:
            return self.find(path).exists()
        except OSError:
            return False

    def same(self, one: Path, other: Path) -> bool:
        """Whether two paths of the node lead to the same place."""
        try:
            return self.find(one) == self.find(other)
        except OSError:
            return one == other

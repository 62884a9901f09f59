"""Tells a store from one that was made anew in its place, as when a node is set up again under its old name.

The directory of the blobs keeps its inode and the time of its last change for as long as the store is there:
blobs come and go below it, in the directory of their algorithm. The words are compared. They mean nothing.
"""

from pathlib import Path

from agent.config import ContainerdStore, OciLayoutStore

_CONTAINERD = "io.containerd.content.v1.content"


def store_identity(store: ContainerdStore | OciLayoutStore) -> str:
    """A word for this store as it is now. Empty: it has no blobs yet, or can't be looked at."""
    root = store.root / _CONTAINERD if isinstance(store, ContainerdStore) else store.directory
    return _identity(root / "blobs")


def _identity(directory: Path) -> str:
    try:
        status = directory.stat()
    except OSError:
        return ""
    return f"{status.st_ino:x}.{status.st_mtime_ns:x}"

"""What containerd is writing now: its ingests, one directory for each blob that is not committed yet.

containerd opens the ingest before it requests the blob, and removes it when it commits or gives up. The
directory's name is the sha256 of ``NAMESPACE/1/KIND-DIGEST``, so it can be computed. ``data`` in it is always
a true prefix of the content, written in order. The commit renames it to the blob's file. Sources:
containerd's remotes.MakeRefKey, metadata.createKey and content/local; measured on 1.6, 1.7 and 2.1.
"""

import hashlib
import os
import time
from pathlib import Path

from agent.content.fileblob import OPENED
from agent.content.growing import GrowingFile, GrowthWatcher
from agent.content.store import ContentMissing, Growing
from agent.oci.digest import Digest

_KINDS = ("layer", "config", "manifest", "index", "unknown")  # the most frequent first
_TOTAL_MAX_BYTES = 32  # the number in ``total`` has at most 19 digits


class Ingests:
    """The ingests below one ``ingest`` directory, of one containerd namespace."""

    def __init__(self, root: Path, namespace: str) -> None:
        self._root = str(root)
        self._namespace = namespace
        self._watcher = GrowthWatcher()

    def has(self, digest: Digest) -> bool | None:
        """Whether containerd is writing this blob. None if the directory can't be read or is not there."""
        try:
            if self._directory(digest) is not None:
                return True
            os.stat(self._root)  # noqa: PTH116 - a path object would take longer than the system call
        except OSError:
            return None
        return False

    def growing(self, digest: Digest) -> Growing | None:
        """See `ContentStore.growing`."""
        try:
            directory = self._directory(digest)
            if directory is None:
                return None
            size_bytes = _total(directory)
            data = os.stat(f"{directory}/data")  # noqa: PTH116
        except OSError:  # it is gone by now, or this agent may not look at it
            return None
        if size_bytes is None or data.st_size > size_bytes or not _can_be_read(f"{directory}/data"):
            return None
        return Growing(
            size_bytes=size_bytes,
            available_bytes=data.st_size,
            quiet_s=max(0.0, time.time() - data.st_mtime),
        )

    def open(self, digest: Digest) -> GrowingFile:
        """See `ContentStore.open_growing`."""
        try:
            directory = self._directory(digest)
            size_bytes = None if directory is None else _total(directory)
        except OSError as error:
            raise ContentMissing(f"no ingest that can be read: {digest}: {error.strerror}") from error
        if size_bytes is None:
            raise ContentMissing(f"containerd is not writing it: {digest}")
        blob = GrowingFile(f"{directory}/data", size_bytes=size_bytes, watcher=self._watcher)
        if blob.outgrown:
            blob.close()
            raise ContentMissing(
                f"containerd will not commit it: {digest}: it is larger than {size_bytes} bytes"
            )
        return blob

    def _directory(self, digest: Digest) -> str | None:
        """The directory of the blob's ingest. None: there is none. Raises OSError if that can't be seen."""
        for kind in _KINDS:
            name = hashlib.sha256(f"{self._namespace}/1/{kind}-{digest}".encode()).hexdigest()
            path = f"{self._root}/{name}"
            try:
                os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                continue
            return path
        return None


def _can_be_read(path: str) -> bool:
    """Whether this agent may read a file. A filter of system calls may refuse the cheaper question."""
    if os.access(path, os.R_OK, effective_ids=True):
        return True
    try:
        os.close(os.open(path, OPENED))
    except OSError:
        return False
    return True


def _total(directory: str) -> int | None:
    """The size of the whole content. None: not written yet; and a content of 0 bytes never has one."""
    try:
        descriptor = os.open(f"{directory}/total", OPENED)
    except FileNotFoundError:
        return None
    try:
        text = os.read(descriptor, _TOTAL_MAX_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    return int(text) if text.isascii() and text.isdecimal() and int(text) > 0 else None

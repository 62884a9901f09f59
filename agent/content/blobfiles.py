"""Single files of a store: which are blobs, how large they are, and whether they can be read.

A scan asks the kernel by faccessat, which costs less than to open each file. A blob that fails all the same
is found when it is opened. docs/decisions/0002 has the reasons.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.content.fileblob import LINK, NO_FILE, FileBlob, reason_of
from agent.content.store import ContentMissing, ContentUnavailable, ContentUnreadable
from agent.oci.digest import HEX_LENGTH, Digest, parse_digest
from agent.oci.errors import DigestInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a scan found: the sizes of the blobs that can be read, and why others can't."""

    sizes: dict[Digest, int] = field(default_factory=dict)
    unreadable: dict[Digest, str] = field(default_factory=dict)


def scan(root: Path) -> Found:
    """All blobs below a ``blobs`` directory. Raises OSError if it can't be listed. Blocks."""
    found = Found()
    for algorithm in HEX_LENGTH:
        with suppress(FileNotFoundError), os.scandir(root / algorithm) as entries:
            for entry in entries:
                digest = digest_of(Path(entry.path))
                if digest is None:
                    continue
                match look(entry):
                    case int() as size_bytes:
                        found.sizes[digest] = size_bytes
                    case str() as reason:
                        found.unreadable[digest] = reason
    return found


def look(file: "Path | os.DirEntry[str]") -> int | str | None:
    """The size of a blob's file, or why it can't be read. None: it is gone, and an event follows.

    Opens nothing if the file can be read, and tells nothing of a file whose disk is broken.
    """
    try:
        status = file.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            return LINK if stat.S_ISLNK(status.st_mode) else NO_FILE
        if os.access(file, os.R_OK, effective_ids=True):
            return status.st_size
        # It does not say why, and a filter of system calls may refuse the question itself.
        FileBlob(Path(file)).close()
    except (FileNotFoundError, ContentMissing):
        return None
    except OSError as error:
        return reason_of(error)
    except ContentUnreadable as error:
        return error.reason
    except ContentUnavailable:  # the machine has no descriptors left, for example
        pass
    return status.st_size


def try_to_open(paths: Sequence[Path]) -> list[int | str | None]:
    """For each file as `look`, but each file is opened, because that is what failed before."""
    results: list[int | str | None] = []
    for path in paths:
        try:
            blob = FileBlob(path)
        except ContentMissing:
            results.append(None)
        except ContentUnavailable as error:
            results.append(error.reason if isinstance(error, ContentUnreadable) else str(error))
        else:
            results.append(blob.size_bytes)
            blob.close()
    return results


def digest_of(path: Path) -> Digest | None:
    """The digest of ``ALGORITHM/HEX``. None: the file is no blob."""
    try:
        return parse_digest(f"{path.parent.name}:{path.name}")
    except DigestInvalid:
        return None


def is_complete(path: Path) -> bool:
    """Whether a file that was just created is a blob. One that is still being written has one name."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return status.st_nlink > 1 or not stat.S_ISREG(status.st_mode)

"""Writes files whole or not at all: first to a temporary name beside the file, then in its place."""

import os
from contextlib import suppress
from pathlib import Path


class WriteFailed(Exception):
    """A file could not be written; an older one of that name is as it was. ``hint``: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file. Raises `WriteFailed`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise WriteFailed(
            f"cannot write {path}: {error.strerror or error}",
            "make room there, or name another place with --json and --html",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

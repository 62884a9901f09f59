"""containerd's directory of registries on this node: read, locked against another run, changed.

The lock is on the directory itself, so it leaves nothing behind.
"""

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from agent.files import read_regular
from agent.hosts.part import Made, has_marks
from agent.hosts.plan import Change, Entry, Tree
from agent.hosts.replace import LEFTOVER, Owner, owner_of, remove_file, replace_file, sync_directory
from agent.hosts.toml import BYTES_MAX, decode, parse
from agent.hosts.tree import NodeTree

FILE = "hosts.toml"
BACKUP = "hosts.toml.before-shorthaul"
_CERTIFICATES = (".crt", ".cert", ".key")
_MODE = 0o755
_LOCK_S, _AGAIN_S = 30.0, 0.05


class Busy(OSError):
    """Another run has the lock."""


class Changed(OSError):
    """The file is no longer what the change was planned for."""


class RegistryDirectory:
    """One directory of registries, such as /etc/containerd/certs.d. ``path``: as the node names it."""

    def __init__(self, node: NodeTree, path: Path) -> None:
        self._node = node
        self.path = path

    def read(self) -> Tree:
        """What is in it. Raises OSError if that can't be read."""
        found = self._node.find(self.path)
        try:
            names = sorted(each.name for each in found.iterdir())
        except FileNotFoundError:
            return Tree(exists=False)
        entries = {}
        for name in names:
            folder = self._node.find(self.path / name)
            if name.endswith(LEFTOVER):  # of a run that was killed
                continue
            if folder.is_dir():
                entries[name] = self._entry(folder, name)
        return Tree(entries=entries)

    @contextmanager
    def locked(self, *, create: bool, at_most_s: float = _LOCK_S) -> Iterator[bool]:
        """The directory for this run alone. Yields whether it had to be made; raises OSError, `Busy`.

        ``create``: make it if it is not there (its parent must be).
        """
        made = False
        until_s = time.monotonic() + at_most_s
        while True:
            found = self._node.find(self.path)
            if create:
                with suppress(FileExistsError):
                    found.mkdir(_MODE)
                    found.chmod(_MODE)  # whatever the umask is
                    sync_directory(found.parent)
                    made = True
            descriptor = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _lock(descriptor, until_s)
                if not _is(descriptor, found):  # another run removed it while this one waited
                    continue
                yield made
                return
            finally:
                os.close(descriptor)

    def apply(self, change: Change) -> tuple[str, ...]:
        """Make one change. Returns what a person should know. Raises OSError; then the old file is there."""
        folder = self._node.find(self.path / change.name)
        file, backup = self._node.find(self.path / change.name / FILE), folder / BACKUP
        now = _content(file)
        if now not in (change.before, change.after):
            raise Changed(errno.EAGAIN, "somebody changed it just now")
        if change.after is None:
            return self._remove(change, folder) if folder.exists() else ()
        taken_out = not has_marks(change.after)
        if now == change.after:  # by another name of the same file, or its mode alone is to change
            if change.mode is not None:
                file.chmod(change.mode)
            return self._drop_backup(change, backup) if taken_out else ()
        like = self._node.find(self.path / change.like / FILE) if change.like else file
        owner = owner_of(like) or owner_of(file)
        new_owner = _with_mode(owner, change.mode)
        if not folder.exists():
            _make_folder(folder, change.after, new_owner)
            return ()
        if not taken_out and change.owned and not has_marks(change.before or b"") and not backup.exists():
            replace_file(backup, change.before or b"", like=owner)
        replace_file(file, change.after, like=new_owner, check=_check)
        return self._drop_backup(change, backup) if taken_out else ()

    def sweep(self) -> None:
        """Remove what a run that was killed left behind. Raises OSError."""
        found = self._node.find(self.path)
        for folder in list(found.glob(f".*{LEFTOVER}")):
            shutil.rmtree(folder)
        for file in list(found.glob(f"*/.*{LEFTOVER}")):
            file.unlink()

    def remove(self) -> None:
        """Remove the directory if it is empty."""
        found = self._node.find(self.path)
        with suppress(OSError):
            found.rmdir()
            sync_directory(found.parent)

    def _entry(self, folder: Path, name: str) -> Entry:
        certificates: tuple[str, ...] = ()
        try:
            certificates = tuple(
                sorted(each.name for each in folder.iterdir() if each.suffix in _CERTIFICATES)
            )
            file = self._node.find(self.path / name / FILE)
            hosts = read_regular(file, most_bytes=BYTES_MAX + 1)
            mode = stat.S_IMODE(file.stat().st_mode)
        except FileNotFoundError:
            return Entry(certificates=certificates)
        except OSError as error:
            return Entry(certificates=certificates, hosts=b"", problem=error.strerror or str(error))
        return Entry(hosts=hosts, certificates=certificates, mode=mode)

    def _remove(self, change: Change, folder: Path) -> tuple[str, ...]:
        if Made.DIRECTORY not in change.made:
            remove_file(self._node.find(self.path / change.name / FILE))
            return ()
        if {each.name for each in folder.iterdir()} - {FILE}:
            remove_file(folder / FILE)
            return (f"{change.name} stays: somebody put other files into it",)
        # The two go together, as they came: an empty directory hides the default.
        old = folder.with_name(f".{folder.name}{LEFTOVER}")
        folder.rename(old)
        shutil.rmtree(old)
        sync_directory(folder.parent)
        return ()

    def _drop_backup(self, change: Change, backup: Path) -> tuple[str, ...]:
        """Remove the copy if the file is again what it was. Otherwise somebody changed the file meanwhile."""
        kept = _content(backup)
        if kept == change.after:
            remove_file(backup)
        if kept in (None, change.after):
            return ()
        return (f"somebody changed it since: {BACKUP} beside it is what it was before shorthaul",)


def _make_folder(folder: Path, data: bytes, owner: Owner | None) -> None:
    """Make a registry's directory with its file in it.

    The two appear together: for a registry with an empty directory containerd reads no ``_default``.
    """
    new = folder.with_name(f".{folder.name}{LEFTOVER}")
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    try:
        new.mkdir(_MODE)
        new.chmod(_MODE)  # whatever the umask is
        replace_file(new / FILE, data, like=owner, check=_check)
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_directory(folder.parent)


def _with_mode(owner: Owner | None, mode: int | None) -> Owner | None:
    """The owner of a file with this mode, if there is one to be set. None: whoever writes it."""
    if mode is None:
        return owner
    return (
        Owner(uid=os.geteuid(), gid=os.getegid(), mode=mode) if owner is None else replace(owner, mode=mode)
    )


def _content(file: Path) -> bytes | None:
    try:
        return read_regular(file, most_bytes=BYTES_MAX + 1)
    except FileNotFoundError:
        return None


def _check(data: bytes) -> None:
    parse(decode(data))


def _lock(descriptor: int, until_s: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise Busy(errno.EBUSY, "another run of shorthaul holds the directory") from None
            time.sleep(_AGAIN_S)
        else:
            return


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

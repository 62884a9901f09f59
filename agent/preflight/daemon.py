"""Is containerd there: its socket, what is mounted over it, and its version.

A socket *file* that is mounted into a pod is for ever the one of the containerd that ran then. After a
restart the directory has another one, and connecting to the mounted one is refused. The kernel tells both in
``/proc/self/mountinfo`` (proc(5)): a mount whose mount point is the socket itself, and ``//deleted`` at the
end of a root that is gone.
"""

import asyncio
import errno
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from agent.content.containerd.client import Client
from agent.content.store import ContentError
from agent.preflight.check import Check, bad, good, shown, warn
from agent.preflight.gather import Unknown
from agent.preflight.reading import read_file

NAME, VERSION = "containerd's socket", "containerd"
_CONNECT_S = 2.0
_OLDEST = (1, 6)
_DIRECTORY = "in a pod, mount the directory {folder} and not the socket file"


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketFacts:
    """What was found at the socket's path. ``error``: the number of the error of connecting; 0: none.

    ``mounted``: the socket file itself is a mount. ``replaced``: its file is not in any directory any more.
    ``version``: what the daemon says; ``silence``: why it does not. ``started_s``: when it made the socket,
    in seconds since the epoch; None: not known.
    """

    path: Path
    error: int = 0
    mounted: bool = False
    replaced: bool = False
    version: str = ""
    silence: str = ""
    started_s: float | None = None

    @property
    def release(self) -> str:
        """``1.x`` or ``2.x``; empty if it is not known."""
        major = self.version.partition(".")[0]
        return f"{major}.x" if major in ("1", "2") else ""


def look_at_socket(path: Path, namespace: str, *, proc: Path = Path("/proc")) -> SocketFacts:
    """Connect to containerd and ask for its version. Blocks for some seconds at most."""
    mounted, replaced = mount_of(read_file(proc / "self/mountinfo").text, path.resolve())
    facts = {"path": path, "mounted": mounted, "replaced": replaced}
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_CONNECT_S)
            connection.connect(str(path))
    except TimeoutError:
        return SocketFacts(**facts, error=errno.ETIMEDOUT)  # type: ignore[arg-type]
    except OSError as error:
        return SocketFacts(**facts, error=error.errno or errno.EIO)  # type: ignore[arg-type]
    try:
        version = asyncio.run(_version(path, namespace))
    except ContentError as error:
        return SocketFacts(**facts, silence=str(error))  # type: ignore[arg-type]
    started_s = None if mounted else path.stat().st_mtime
    return SocketFacts(**facts, version=version.removeprefix("v"), started_s=started_s)  # type: ignore[arg-type]


async def _version(path: Path, namespace: str) -> str:
    client = Client(path, namespace)
    try:
        return await client.version()
    finally:
        client.close()


def mount_of(mountinfo: str, path: Path) -> tuple[bool, bool]:
    """Whether a file is a mount of its own, and whether the mounted file was removed since."""
    mounted = replaced = False
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if len(words) > 4 and _plain(words[4]) == str(path):
            mounted, replaced = True, _plain(words[3]).endswith("//deleted")
    return mounted, replaced


def _plain(text: str) -> str:
    """A path of mountinfo, where blanks are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def daemon(facts: SocketFacts | Unknown) -> tuple[Check, ...]:
    """Whether containerd can be asked, and which version it is."""
    if isinstance(facts, Unknown):
        return (bad(NAME, facts.why, hint="does containerd run? systemctl status containerd"),)
    socket_check = _socket(facts)
    if facts.error:
        return (socket_check,)
    if not facts.version:
        hint = "containerd accepts connections and does not answer: systemctl status containerd"
        return (socket_check, bad(VERSION, shown(facts.silence, 200), hint=hint))
    return (socket_check, _known(facts.version))


def _socket(facts: SocketFacts) -> Check:
    path, folder = shown(str(facts.path)), facts.path.parent
    directory = _DIRECTORY.format(folder=shown(str(folder)))
    if facts.replaced or (facts.mounted and facts.error == errno.ECONNREFUSED):
        return bad(
            NAME,
            f"{path} is a stale mount: the mounted file is an old containerd's socket, and containerd made a "
            "new one when it started again",
            hint=f"{directory}; restarting the pod helps until the next restart of containerd",
        )
    if facts.error == errno.ECONNREFUSED:
        hint = "start containerd: systemctl start containerd; its own log says why it ended"
        return bad(NAME, f"{path} is dead: the socket is there, and nobody listens on it", hint=hint)
    if facts.error in (errno.ENOENT, errno.ENOTDIR):
        hint = f"does containerd run, and is this its socket (`store` in the settings)? {directory}"
        return bad(NAME, f"there is no {path}", hint=hint)
    if facts.error in (errno.EACCES, errno.EPERM):
        return bad(NAME, f"{path} is closed to this user", hint="the agent has to be root (runAsUser: 0)")
    if facts.error:
        hint = "systemctl status containerd"
        return bad(NAME, f"{path}: {errno.errorcode.get(facts.error, 'unknown error')}", hint=hint)
    if facts.mounted:
        return warn(
            NAME, f"{path} is mounted as a file: it is stale once containerd restarts", hint=directory
        )
    return good(NAME, path)


def _known(version: str) -> Check:
    match = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    if match is None:
        return warn(VERSION, f"{shown(version, 60)!r} is no version", hint="1.6 to 2.3 are known to work")
    if (int(match[1]), int(match[2])) < _OLDEST:
        return warn(
            VERSION, f"{shown(version, 60)} is older than 1.6, the oldest that was tried", hint="update it"
        )
    return good(VERSION, shown(version, 60))

"""An agent's side of a hand-over, in memory, and users that nobody trusts."""

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.handover.giving import Giver
from agent.handover.messages import Claims, Offer, Yielded

NOBODY = 65534


class MemoryDesk:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.accepted = (1, 2)
        self.fails = False  # half-way, when it is to yield

    def claims(self) -> Claims:
        return Claims(cookies=self.accepted, every=True)

    def offer(self) -> Offer:
        return Offer(agent="1", proved=True, programs=(5,))

    async def yield_to(self, places: Sequence[tuple[str, int]]) -> Yielded:
        if self.fails:
            raise OSError("no")
        self.told.append(tuple(places))
        return Yielded(cookies=(*self.accepted, 3), every=True, ages={"a": 1})

    async def resume(self) -> None:
        self.told.append("resume")


@contextmanager
def listeners(number: int = 4) -> Iterator[list[socket.socket]]:
    """Listening sockets."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def giver(path: Path, sockets: Sequence[socket.socket], desk: MemoryDesk, *, node: str = "n") -> Giver:
    """An agent of the node that gives these sockets."""
    return Giver(path, node=node, sockets=lambda: sockets, desk=desk, keep_s=0.05)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user may write."""
    folder = Path(tempfile.mkdtemp(prefix="shorthaul-test-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def nobody_runs(script: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of another user, which prints a line when it is under way."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], user=NOBODY, cwd="/", stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()

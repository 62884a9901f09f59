"""Starts a child process that compiles and loads the programs, and keeps only their file descriptors."""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bpf.errors import BpfError, BpfForbidden, BpfMissing, BpfRefused

_COMPILE_S = 60.0  # 0.3 s on an idle machine; much more on a node that starts a hundred pods at once
_FDS_MAX = 32
_CLOSE_ON_EXEC = (
    0x40000000  # MSG_CMSG_CLOEXEC is missing in Python's socket module. Programs must not outlive us.
)
_LOG_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramConfig:
    """How to compile the programs. ``ports``: the watched ports. ``netns``: the cookie of the only network
    namespace whose connections are reported; 0 for all. ``ring_pages``: size of the ring buffer in pages, a
    power of two. ``own_ips``: how many addresses the node may have. ``source``: a C file to use instead of
    bpf/programs/flows.c.
    """

    ports: tuple[int, ...]
    netns: int = 0
    ring_pages: int = 512
    own_ips: int = 4096  # 64 kB; a node with kube-proxy's IPVS mode has an address for each Service
    source: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPrograms:
    """File descriptors of programs and maps, by name. ``bcc``: its version.

    ``netns_of_packets``: the kernel tells a packet's network namespace, so flows older than the probe can be
    judged.
    """

    fds: Mapping[str, int]
    bcc: str
    netns_of_packets: bool

    def close(self) -> None:
        """Close all descriptors. A program that is attached by a link stays attached."""
        for fd in self.fds.values():
            os.close(fd)


def load(config: ProgramConfig) -> LoadedPrograms:
    """Compile and load the programs. Blocks for about half a second. Raises `BpfError` with the end of the
    verifier's log.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs, _hangups_blocked():
            child = subprocess.Popen(
                [sys.executable, "-m", "bpf.loader", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        try:
            request = {
                "ports": config.ports,
                "netns": config.netns,
                "ring_pages": config.ring_pages,
                "own_ips": config.own_ips,
            }
            if config.source is not None:
                request["source"] = str(config.source)
            ours.send(json.dumps(request).encode())
            _, stderr = child.communicate(timeout=_COMPILE_S)
            answer, fds, _, _ = socket.recv_fds(ours, 65536, _FDS_MAX, _CLOSE_ON_EXEC)
        except subprocess.TimeoutExpired as error:
            child.kill()
            child.communicate()
            raise BpfError(
                f"compiling took more than {_COMPILE_S:.0f} s", hint="give the probe more CPU"
            ) from error
        except OSError as error:
            child.kill()
            _, stderr = child.communicate()
            raise BpfError(
                f"the compiling process failed: {error}",
                hint="report this log",
                log=_shorten(stderr.decode("utf-8", "replace")),
            ) from error
    log = stderr.decode("utf-8", "replace")
    if not answer:
        raise BpfError(
            f"the compiling process ended with status {child.returncode}",
            hint="it needs about 130 MiB for a second: raise the memory limit"
            if child.returncode < 0
            else "report this log",
            log=_shorten(log),
        )
    reply = json.loads(answer)
    if not fds:
        raise _failure(reply["failed"], reply["message"], log)
    return LoadedPrograms(
        fds=dict(zip(reply["names"], fds, strict=True)),
        bcc=reply["bcc"],
        netns_of_packets="NETNS_OF_PACKETS" in reply["options"],
    )


@contextmanager
def _hangups_blocked() -> Iterator[None]:
    """A child that is started here never takes SIGHUP. A terminal sends it to the whole process group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _failure(kind: str, message: str, log: str) -> BpfError:
    if kind == "no-bcc":
        return BpfMissing(
            f"bcc can't be imported: {message}",
            hint="apt-get install python3-bpfcc, and run with Debian's own python3 "
            "(or a virtual environment of it with --system-site-packages)",
        )
    if kind == "other-bcc":
        return BpfMissing(
            message, hint="pip uninstall bcc (PyPI's is another package); apt-get install python3-bpfcc"
        )
    # If the kernel refuses a map, bcc says so on standard error only.
    if kind == "forbidden" or (kind == "source" and "Operation not permitted" in log):
        return BpfForbidden(
            "the kernel does not let this process load eBPF programs",
            hint="run as root with the capabilities BPF and NET_ADMIN "
            "(securityContext.capabilities.add: [BPF, NET_ADMIN])",
            log=_shorten(log),
        )
    if kind == "other":
        return BpfError(f"loading failed: {message}", hint="report this log", log=_shorten(log))
    release = platform.release()
    if kind == "source":
        return BpfRefused(
            f"the compiler refused the programs: {message}", hint="report this log", log=_shorten(log)
        )
    return BpfRefused(
        f"the verifier of Linux {release} refused a program: {message}",
        hint=f"report this log with the kernel's version, {release}",
        log=_shorten(log),
    )


def _shorten(log: str) -> str:
    """The last lines, which give the reason. The verifier may write a million lines before them."""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith("Traceback")]
    cut = len(lines) - _LOG_LINES
    return "\n".join(lines if cut <= 0 else [f"({cut} lines before)", *lines[-_LOG_LINES:]])

"""A network for the lab with delays, which the kernel's own TCP round-trip times include.

Every host's interface is a TAP device. One process of ours (``python -m benchmarks.lab.switch``) passes the
frames between them, each when it is due. Unlike netem this only needs /dev/net/tun from the kernel.
"""

import ctypes
import errno
import fcntl
import gc
import heapq
import json
import os
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.lab.network import inside, token_bucket
from benchmarks.lab.process import LabError, die_with_parent, held_back, run

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_OFFLOADS = 0x01 | 0x02 | 0x04 | 0x08  # TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN
_VNET_BYTES = 10  # struct virtio_net_hdr before each frame, passed on unchanged
_ARP = b"\x08\x06"
_FRAME_BYTES = 66_000  # a segment before it is split, with its headers
_QUEUE_BYTES = 64 * 2**20
_BATCH = 8  # frames that are read from one host before due frames are written
_SPIN_NS = 80_000  # about the time of a wake-up; shorter waits spin
_RECENT = 512
_PR_SET_TIMERSLACK = 29
_MESSAGE_BYTES = 4096
_ANSWER_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """The delay between a pair of hosts. Raises `LabError` for impossible values."""

    rtt_us: float = 0.0
    jitter_us: float = 0.0
    spike_share: float = 0.0
    spike_us: float = 0.0

    def __post_init__(self) -> None:
        if min(self.rtt_us, self.jitter_us, self.spike_share, self.spike_us) < 0 or self.spike_share > 1:
            raise LabError(f"{self}: times are not negative, a share is between 0 and 1")


class DelayNetwork:
    """Like `Network`, but with a round-trip time between any two hosts. Its methods are thread-safe.

    Delays can be set while traffic runs. An unknown host, or a switch that ended, raises `LabError`.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._hosts: dict[str, str] = {}
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_ANSWER_S)
        with theirs, held_back():
            self._switch = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.lab.switch", str(theirs.fileno())],
                cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def switch_pid(self) -> int:
        """The process id of the switch."""
        return self._switch.pid

    def add_host(self, name: str, address: str) -> str:
        """A namespace with a loopback and an interface ``eth0`` of this address; returns its name."""
        netns = f"{self._prefix}-{name}"
        run(["ip", "netns", "add", netns])
        self._hosts[name] = netns
        mac = bytes([2, 0, 0, 0, *len(self._hosts).to_bytes(2, "big")])
        run(["ip", "-n", netns, "link", "set", "lo", "up"])
        tap = inside(netns, _open_tap)
        try:
            run(["ip", "-n", netns, "link", "set", "eth0", "address", mac.hex(":")])
            run(["ip", "-n", netns, "addr", "add", f"{address}/16", "dev", "eth0"])
            self._ask("add", tap=tap, name=name, mac=mac.hex())
            run(["ip", "-n", netns, "link", "set", "eth0", "up"])
        finally:
            # Only the switch keeps a copy, because an open descriptor keeps device and namespace alive.
            os.close(tap)
        return netns

    def set_delay(
        self,
        one: str,
        other: str,
        rtt_us: float,
        *,
        jitter_us: float = 0.0,
        spike_share: float = 0.0,
        spike_us: float = 0.0,
    ) -> None:
        """Set what the network adds to the round-trip time between two hosts, half of it in each direction.

        Each frame has a further exponential delay with the mean ``jitter_us``. A share of frames has up to
        ``spike_us`` more. Frames never overtake each other. The delay is in force when this returns, and wins
        over `set_delay_all`. Frames that are on their way keep their old delay.
        """
        self._check(one, other)
        delay = Delay(rtt_us=rtt_us, jitter_us=jitter_us, spike_share=spike_share, spike_us=spike_us)
        self._ask("pair", one=one, other=other, delay=asdict(delay))

    def set_delay_all(
        self, rtt_us: float, *, jitter_us: float = 0.0, spike_share: float = 0.0, spike_us: float = 0.0
    ) -> None:
        """The same for every pair without its own `set_delay`, including hosts that are added later."""
        delay = Delay(rtt_us=rtt_us, jitter_us=jitter_us, spike_share=spike_share, spike_us=spike_us)
        self._ask("all", delay=asdict(delay))

    def set_host_delay(self, name: str, rtt_us: float) -> None:
        """Add this to the round-trip time of every pair that includes this host."""
        self._check(name)
        self._ask("host", name=name, rtt_us=Delay(rtt_us=rtt_us).rtt_us)

    def limit(self, name: str, mbit_s: float) -> None:
        """Limit what a host sends, in megabits (10**6) per second. Headers count."""
        if name not in self._hosts:
            raise LabError(f"no host: {name} (known: {', '.join(self._hosts)})")
        bucket = token_bucket(mbit_s)
        run(["tc", "-n", self._hosts[name], "qdisc", "replace", "dev", "eth0", "root", *bucket])

    def actual_rtt_us(self, one: str, other: str) -> float:
        """What the switch really added recently, since the last change: the medians of both directions
        together.

        It is measured from reading a frame to writing it. The kernel's own time and the wake-up of the switch
        are not included. Raises `LabError` if there was no frame in one of the directions.
        """
        self._check(one, other)
        rtt_us = self._ask("actual", one=one, other=other)
        if rtt_us is None:
            raise LabError(f"no frames from {one} to {other} and back since their delay was set")
        return float(rtt_us)

    def close(self) -> None:
        """Stop the switch, and remove every namespace. A second call does nothing."""
        self._control.close()
        try:
            self._switch.wait(2)
        except subprocess.TimeoutExpired:
            self._switch.kill()
            self._switch.wait(10)
        while self._hosts:
            run(["ip", "netns", "del", self._hosts.popitem()[1]])

    def _check(self, *names: str) -> None:
        unknown = [name for name in names if name not in self._hosts]
        if unknown or len(set(names)) < len(names):
            raise LabError(f"no pair of hosts: {', '.join(names)} (known: {', '.join(self._hosts)})")

    def _ask(self, do: str, *, tap: int | None = None, **what: Any) -> Any:
        message = json.dumps({"do": do, **what}).encode()
        try:
            with self._lock:
                socket.send_fds(self._control, [message], [] if tap is None else [tap])
                answer = self._control.recv(_MESSAGE_BYTES)
        except OSError as error:
            self._control.close()  # a late answer must not be mixed up with another question's
            raise LabError(f"the switch does not answer: {error}") from error
        if not answer:
            raise LabError(f"the switch ended with status {self._switch.wait(10)}")
        return json.loads(answer)


def _open_tap() -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"eth0", flags))
        # Frames are whole segments of up to 64 KiB, because a frame costs the switch the same at any size.
        fcntl.ioctl(tap, _TUNSETOFFLOAD, _OFFLOADS)
    except BaseException:
        os.close(tap)
        raise
    return tap


@dataclass(slots=True, eq=False)
class _Path:
    """The path from one host to another."""

    tap: int
    delay: Delay = field(default_factory=Delay)
    base_ns: int = 0
    last_due_ns: int = 0
    since_ns: int = 0
    actual_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def due_ns(self, now_ns: int) -> int:
        """When to write a frame that is read now. Never before frames that were read earlier."""
        due_ns = now_ns + self.base_ns
        delay = self.delay
        if delay.jitter_us:
            due_ns += int(random.expovariate(1.0) * delay.jitter_us * 1000)
        if delay.spike_share and random.random() < delay.spike_share:
            due_ns += int(random.random() * delay.spike_us * 1000)
        self.last_due_ns = max(due_ns, self.last_due_ns)
        return self.last_due_ns


@dataclass(slots=True, eq=False)
class _Port:
    """A host's TAP device, and the paths from it by the destination's MAC address."""

    name: str
    mac: bytes
    tap: int
    paths: dict[bytes, _Path] = field(default_factory=dict)


class _Switch:
    """The process that passes the frames on."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ports: dict[str, _Port] = {}
        self._by_tap: dict[int, _Port] = {}
        self._watched: list[int] = [control.fileno()]
        # (due, number, read, path, frame); the number keeps frames with equal due times in order.
        self._queue: list[tuple[int, int, int, _Path, bytes]] = []
        self._queued_bytes = 0
        self._number = 0
        self._default = Delay()
        self._pairs: dict[frozenset[str], Delay] = {}
        self._host_us: dict[str, float] = {}

    def run(self) -> None:
        """Run until the parent closes the socket."""
        control = self._control.fileno()
        while True:
            self._write_due()
            timeout_s = None
            if self._queue:
                timeout_s = max(0, self._queue[0][0] - _SPIN_NS - time.monotonic_ns()) / 1e9
            # select, because epoll and poll have a resolution of milliseconds.
            for ready in select.select(self._watched, (), (), timeout_s)[0]:
                if ready != control:
                    self._read(self._by_tap[ready])
                elif not self._obey():
                    return

    def _write_due(self) -> None:
        queue = self._queue
        while queue and queue[0][0] <= time.monotonic_ns():
            _, _, read_ns, path, frame = heapq.heappop(queue)
            self._queued_bytes -= len(frame)
            try:
                os.write(path.tap, frame)
            except OSError:
                continue  # the interface is down, gone or full: the frame is lost, as on any network
            if read_ns >= path.since_ns:
                path.actual_ns.append(time.monotonic_ns() - read_ns)

    def _read(self, port: _Port) -> None:
        for _ in range(_BATCH):
            try:
                frame = os.read(port.tap, _FRAME_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in (errno.EINTR, errno.ENOBUFS, errno.ENOMEM):
                    self._forget(port)
                return
            target = frame[_VNET_BYTES : _VNET_BYTES + 6]
            path = port.paths.get(target)
            if path is not None:
                self._enqueue(path, frame)
            elif target and target[0] & 1:
                for path in port.paths.values():
                    self._enqueue(path, frame)

    def _enqueue(self, path: _Path, frame: bytes) -> None:
        if self._queued_bytes + len(frame) > _QUEUE_BYTES:
            return
        self._queued_bytes += len(frame)
        self._number += 1
        due_ns = read_ns = time.monotonic_ns()
        if frame[_VNET_BYTES + 12 : _VNET_BYTES + 14] == _ARP:
            # ARP is not delayed and not counted. Between far hosts there would be a router, and the first
            # connection's handshake must not take two round trips.
            read_ns = 0
        else:
            due_ns = path.due_ns(read_ns)
        heapq.heappush(self._queue, (due_ns, self._number, read_ns, path, frame))

    def _forget(self, port: _Port) -> None:
        """The interface is gone, so pass nothing more to it."""
        self._watched.remove(port.tap)
        del self._ports[port.name], self._by_tap[port.tap]
        for other in self._ports.values():
            del other.paths[port.mac]
        # Frames for it must not go to another file that gets the same descriptor.
        self._queue = [entry for entry in self._queue if entry[3].tap != port.tap]
        heapq.heapify(self._queue)
        self._queued_bytes = sum(len(entry[4]) for entry in self._queue)
        os.close(port.tap)

    def _obey(self) -> bool:
        """Execute one command of the parent and answer it. False if the parent closed the socket."""
        try:
            message, taps, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
            if not message:
                return False
            what = json.loads(message)
            answer = self._do(what, taps)
            self._control.send(json.dumps(answer).encode())
        except ConnectionError:
            return False
        return True

    def _do(self, what: dict[str, Any], taps: list[int]) -> float | None:
        match what["do"]:
            case "add":
                self._add(_Port(what["name"], bytes.fromhex(what["mac"]), taps[0]))
            case "pair":
                self._pairs[frozenset((what["one"], what["other"]))] = Delay(**what["delay"])
            case "all":
                self._default = Delay(**what["delay"])
            case "host":
                self._host_us[what["name"]] = what["rtt_us"]
            case "actual":
                return self._actual_rtt_us(what["one"], what["other"])
        self._settle()
        return None

    def _add(self, port: _Port) -> None:
        for other in self._ports.values():
            other.paths[port.mac] = _Path(port.tap)
            port.paths[other.mac] = _Path(other.tap)
        self._ports[port.name] = self._by_tap[port.tap] = port
        self._watched.append(port.tap)

    def _settle(self) -> None:
        """Apply the delays that were set to every path."""
        now_ns = time.monotonic_ns()
        names = {port.mac: name for name, port in self._ports.items()}
        for name, port in self._ports.items():
            for mac, path in port.paths.items():
                delay = self._pairs.get(frozenset((name, names[mac])), self._default)
                extra_us = self._host_us.get(name, 0.0) + self._host_us.get(names[mac], 0.0)
                delay = replace(delay, rtt_us=delay.rtt_us + extra_us)
                if delay != path.delay:
                    path.delay, path.since_ns = delay, now_ns
                    path.base_ns = int(delay.rtt_us * 500)
                    path.actual_ns.clear()

    def _actual_rtt_us(self, one: str, other: str) -> float | None:
        if one not in self._ports or other not in self._ports:
            return None
        there = self._ports[one].paths[self._ports[other].mac].actual_ns
        back = self._ports[other].paths[self._ports[one].mac].actual_ns
        if not there or not back:
            return None
        return (statistics.median(there) + statistics.median(back)) / 1000


def _be_punctual() -> None:
    """Ask for timely wake-ups on a busy machine, as far as this process may."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1000))
    gc.disable()  # there is no cyclic garbage here
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)


def main() -> None:
    """The switch's process. Its one argument is the descriptor of the socket to its parent."""
    _be_punctual()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _Switch(control).run()


if __name__ == "__main__":
    main()

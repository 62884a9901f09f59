"""Checks who listens on the HostPort and on the NodePort, and where rules may lead 127.0.0.1.

The command line tells whether a process is the agent. That finds mistakes but not forgery. Only the flows'
own evidence proves the path.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from agent.preflight.check import Check, PreflightTarget, bad, good, listed, shown, warn
from agent.preflight.reading import read_file

_UNSEEN_HINT = "as root: ss -ltnp; in the agent's own pod: shareProcessNamespace: true"
_procfs = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A listening TCP socket. ``pid``: None if its process can't be seen from here.

    ``owner``: who it is in words, as far as the kernel tells, if the process can't be seen.
    """

    address: str
    pid: int | None
    name: str = ""
    is_agent: bool = False
    owner: str = ""

    def __str__(self) -> str:
        unseen = self.owner or "a process that can't be seen from here"
        return f"{f'{self.name} (pid {self.pid})' if self.pid else unseen} at {self.address}"


def find_listeners(
    proc: Path, port: int, *, unseen: Callable[[], Mapping[str, str]] = dict
) -> tuple[Listener, ...] | None:
    """Every listener on a port in this network namespace. None if they can't be read.

    ``unseen``: who has the port at each address, in words, for those whose process can't be seen.
    """
    found = []
    try:
        with _psutil(proc) as psutil:
            for connection in psutil.net_connections(kind="tcp"):
                place = connection.laddr
                if place and place.port == port and connection.status == psutil.CONN_LISTEN:
                    found.append(_listener(psutil, place.ip.removeprefix("::ffff:"), connection.pid))
    except _UnreadableProc:
        return None
    if any(one.pid is None for one in found):
        with suppress(OSError):
            words = unseen()
            found = [
                replace(one, owner=words.get(one.address, "")) if one.pid is None else one for one in found
            ]
    return tuple(dict.fromkeys(found))


def process_named(proc: Path, name: str) -> bool | None:
    """Whether a process of that name can be seen in this network namespace.

    None if there is one, but which namespace it is in can't be read.
    """
    unsure = False
    try:
        with _psutil(proc) as psutil:
            # Not process_iter, because it caches processes, and this may be another /proc than before.
            for pid in psutil.pids():
                try:
                    if psutil.Process(pid).name() != name:
                        continue
                except psutil.Error:
                    continue
                here = process_is_here(proc, pid)
                if here:
                    return True
                unsure = unsure or here is None
    except _UnreadableProc:
        return False
    return None if unsure else False


def process_is_here(proc: Path, pid: int) -> bool | None:
    """Whether a process is in this network namespace. None if that can't be read (another user's process)."""
    try:
        return (proc / str(pid) / "ns/net").readlink() == (proc / "self/ns/net").readlink()
    except FileNotFoundError:  # it ended
        return False
    except OSError:
        return None


class _UnreadableProc(Exception):
    """This /proc can't be read, or makes no sense."""


@contextmanager
def _psutil(proc: Path) -> Iterator[Any]:
    """psutil, set to read this /proc. psutil has one such setting per process, so there is a lock. It is
    imported late, because it takes 3 MB.

    Raises `_UnreadableProc` if psutil can't read this /proc.
    """
    import psutil

    with _procfs:
        before = psutil.PROCFS_PATH
        psutil.PROCFS_PATH = str(proc)
        try:
            yield psutil
        except (psutil.Error, OSError, RuntimeError, ValueError, LookupError, AssertionError) as error:
            raise _UnreadableProc from error
        finally:
            psutil.PROCFS_PATH = before


def _listener(psutil: Any, address: str, pid: int | None) -> Listener:
    if pid is None:
        return Listener(address=address, pid=None)
    try:
        process = psutil.Process(pid)
        name, command = process.name(), process.cmdline()
    except psutil.Error:  # the process ended meanwhile
        return Listener(address=address, pid=None)
    return Listener(address=address, pid=pid, name=shown(name, 40), is_agent=is_agent_command(command))


def is_agent_command(command: Sequence[str]) -> bool:
    """Whether a command line is ``shorthaul agent``, with or without an interpreter in front."""
    pairs = pairwise(command[:4])
    return any(PurePath(first).name == "shorthaul" and second == "agent" for first, second in pairs)


def host_port(
    target: PreflightTarget, listeners: tuple[Listener, ...] | None, port_maps: Sequence[str] = ()
) -> Check:
    """Check who answers containerd on the HostPort. ``port_maps``: where the CNI's port map sends it."""
    name, port, address = "HostPort", target.host_port, target.host_address
    where = f"{_bracketed(address)}:{port}"
    if listeners is None:
        return warn(name, f"who listens on {where} can't be read", hint=_UNSEEN_HINT)
    answering = [one for one in listeners if one.address == address] or [
        one for one in listeners if _takes(one.address, address)
    ]
    others = [one for one in listeners if one not in answering]
    beside = f"; also {listed(map(str, others))}" if others else ""
    if port_maps:
        return warn(
            name,
            f"the CNI's port map sends {port} to {listed(port_maps)}: its flows are HOSTPORT_NAT, not "
            f"DIRECT{beside}",
            hint="with hostNetwork: true the agent itself listens there",
        )
    if not answering:
        return bad(
            name,
            f"no agent listens on {where}{beside}",
            hint=f"start the agent, with listen.hostport: {where}; its log says why it can't listen",
        )
    strangers = [one for one in answering if one.pid is not None and not one.is_agent]
    if strangers:
        return bad(
            name,
            f"{where} is taken by {listed(map(str, strangers))}, which is not a shorthaul agent{beside}",
            hint="stop that process: it gets containerd's pulls; or give listen.hostport another port",
        )
    if any(one.pid is None for one in answering):
        return warn(
            name,
            f"{where} is taken by a process that can't be seen from here; it may be the agent or not{beside}",
            hint=_UNSEEN_HINT,
        )
    said = f"the agent, {listed(map(str, answering))}{beside}"
    foreign = [one for one in others if one.pid is not None and not one.is_agent]
    if foreign:
        return warn(
            name,
            said,
            hint=f"not the agent's: {listed(map(str, foreign))}. If that is this node's address, peers "
            "reach that process instead of the agent",
        )
    return good(name, said)


def node_port_squatter(target: PreflightTarget, listeners: tuple[Listener, ...] | None) -> Check:
    """Check that no process listens on the NodePort's number, where only rules should handle connections."""
    name, port = "NodePort's socket", target.node_port
    if listeners is None:
        return warn(name, f"who listens on {port} can't be read", hint=_UNSEEN_HINT)
    # Until 1.26, kube-proxy opened a socket for each NodePort to reserve it.
    squatters = [one for one in listeners if one.name != "kube-proxy"]
    if not squatters:
        held = ", except kube-proxy, as its old versions do" if listeners else ""
        return good(name, f"no process listens on {port}{held}")
    who = listed(map(str, squatters))
    if any(one.pid is not None and not one.is_agent for one in squatters):
        return bad(
            name,
            f"{who} listens on {port}: it gets what no rule translates (127.0.0.1 in nftables mode)",
            hint="stop that process, or give the Service another nodePort",
        )
    if all(one.is_agent for one in squatters):
        return warn(
            name,
            f"the agent itself listens on the NodePort's number: {who}",
            hint=f"give listen.nodeport another port than {port}, so that both paths can be told apart",
        )
    return warn(name, f"{who} listens on {port}", hint=_UNSEEN_HINT)


def _takes(listening: str, address: str) -> bool:
    """Whether a wildcard address accepts connections to this address. ``::`` accepts IPv4 too, by default."""
    return listening == "::" or (listening == "0.0.0.0" and ":" not in address)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def route_localnet(target: PreflightTarget, *, iptables_proxy: bool, port_mapped: bool) -> Check:
    """Check whether 127.0.0.1 may be routed, and who set that.

    ``iptables_proxy``: kube-proxy runs in iptables mode. ``port_mapped``: the CNI's port map has rules.
    """
    name = "route_localnet"
    folder = target.proc / "sys/net/ipv4/conf"
    try:
        interfaces = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        interfaces = []
    if "all" not in interfaces:
        return warn(
            name,
            "net.ipv4.conf can't be read",
            hint="sysctl -a -r route_localnet",
        )
    on = [one for one in interfaces if read_file(folder / one / "route_localnet").text.strip() == "1"]
    if not on:
        return good(name, "0 everywhere: iptables rules lead 127.0.0.1 to addresses of this node only")
    where = listed(on)
    leads = ": iptables rules may lead 127.0.0.1 anywhere" if "all" in on else ""
    meaning = f"1 for {where}{leads}"
    if iptables_proxy and "all" in on:
        return good(name, f"{meaning}; kube-proxy's iptables mode sets it")
    if port_mapped and "all" not in on:
        return good(name, f"{meaning}; the CNI's port map sets it")
    keys = " ".join(f"net.ipv4.conf.{shown(one, 40).replace('.', '/')}.route_localnet=0" for one in on[:3])
    return warn(
        name,
        f"{meaning}; left behind by kube-proxy or by the CNI's port map",
        hint=f"if nobody needs it: sysctl -w {keys}",
    )

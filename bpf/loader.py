"""Compiles and loads the programs, passes their file descriptors on, and ends. The only importer of bcc.

Run as ``python -m bpf.loader FD``, where FD is one end of a Unix socket. It reads a `bpf.child.ProgramConfig`
as JSON from the socket, and answers with the descriptors or with the error. It is a process of its own,
because LLVM takes over 100 MB that nobody needs once the programs are loaded (docs/decisions/0011).
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_HEADERS = _HERE / "headers"
_PROGRAMS = _HERE / "programs"

# Name, as bpftool shows it: (name of the program type in bcc, enum bpf_attach_type).
_FUNCTIONS = {
    "shorthaul_con4": ("CGROUP_SOCK_ADDR", 10),
    "shorthaul_con6": ("CGROUP_SOCK_ADDR", 11),
    "shorthaul_near4": ("CGROUP_SOCK_ADDR", 10),
    "shorthaul_near6": ("CGROUP_SOCK_ADDR", 11),
    "shorthaul_out": ("CGROUP_SKB", 1),
    "shorthaul_ops": ("SOCK_OPS", 3),
}
# Options that not every kernel or set of capabilities allows. The verifier refuses a program that uses them,
# so the loader tries with all options first. NETNS_OF_PACKETS, a packet's network namespace, needs Linux
# 6.15. COMM, the process's name in connect(), needs CAP_PERFMON.
_OPTIONS = (("NETNS_OF_PACKETS", "COMM"), ("NETNS_OF_PACKETS",), ("COMM",), ())
_MAPS = ("events", "others", "counters", "flows", "own_ips")


class _Failed(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def main(fd: int) -> int:
    """Read the configuration, load, answer. Returns the exit status."""
    with socket.socket(fileno=fd) as parent:
        config = json.loads(parent.recv(65536))
        try:
            module, answer, fds = _load(config)
        except _Failed as error:
            answer, fds, module = {"failed": error.kind, "message": str(error)}, [], None
        except Exception as error:  # noqa: BLE001 - the parent reports it
            message = f"{type(error).__name__}: {error}"
            answer, fds, module = {"failed": "other", "message": message}, [], None
        socket.send_fds(parent, [json.dumps(answer).encode()], fds)
        del module  # this closes its descriptors; the parent has its own by now
    return 0 if fds else 1


def _load(config: dict[str, Any]) -> tuple[Any, dict[str, Any], list[int]]:
    os.environ["BCC_KERNEL_SOURCE"] = str(_HEADERS)
    try:
        import bcc
    except (ImportError, OSError) as error:  # OSError: its C library is missing
        raise _Failed("no-bcc", str(error)) from error
    if not hasattr(bcc, "BPF"):
        raise _Failed("other-bcc", f"{bcc.__file__} is another package of that name")
    source = Path(config.get("source") or _PROGRAMS / "flows.c").read_bytes()
    for options in _OPTIONS:
        try:
            return _compile(bcc, source, config, options)
        except _Failed as error:
            if error.kind != "refused" or options == _OPTIONS[-1]:
                raise
    raise AssertionError("the last of the options either loads or raises")


def _compile(
    bcc: Any, source: bytes, config: dict[str, Any], options: tuple[str, ...]
) -> tuple[Any, dict[str, Any], list[int]]:
    watched = "||".join(f"(port)=={int(port)}" for port in config["ports"])
    flags = [
        f"-I{_PROGRAMS}",
        f"-DWATCHED(port)=({watched})",
        f"-DRING_PAGES={int(config['ring_pages'])}",
        f"-DNODE_NETNS={int(config['netns'])}ULL",
        f"-DOWN_IPS={int(config['own_ips'])}",
        f"-DPROBE_UID={os.getuid()}",
        f"-DPAGE_SIZE={os.sysconf('SC_PAGE_SIZE')}",
        *(f"-D{option}" for option in options),
    ]
    try:
        module = bcc.BPF(text=source, cflags=flags)
    except Exception as error:
        raise _Failed("source", str(error)) from error
    names, fds = [], []
    for name, (kind, attach_type) in _FUNCTIONS.items():
        try:
            function = module.load_func(name.encode(), getattr(bcc.BPF, kind), attach_type=attach_type)
        except Exception as error:
            raise _Failed("forbidden" if _is_forbidden(error) else "refused", str(error)) from error
        names.append(name)
        fds.append(function.fd)
    for name in _MAPS:
        # Not module[name]: bcc has no class for socket storage.
        fd = bcc.lib.bpf_table_fd(module.module, name.encode())
        if fd < 0:
            raise _Failed("source", f"the programs have no map {name}")
        fds.append(fd)
        names.append(name)
    return module, {"names": names, "bcc": bcc.__version__, "options": options}, fds


def _is_forbidden(error: Exception) -> bool:
    # bcc 0.26 reports EPERM as "super-user". Newer versions may pass the error on.
    text = str(error)
    return "super-user" in text or "Operation not permitted" in text


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

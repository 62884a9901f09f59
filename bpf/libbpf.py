"""The few libbpf functions that are needed once the programs are loaded, through ctypes.

libbpf takes a megabyte. bcc brings LLVM and takes over a hundred. So the long-lived process uses libbpf.
Debian installs libbpf with bcc. Source: libbpf's bpf.h and libbpf.h, version 1.
"""

import ctypes as ct
import errno
import os
from enum import IntEnum
from typing import Any

from bpf.errors import BpfError, BpfForbidden, BpfMissing, BpfUnsupported

PREORDER = 1 << 6  # BPF_F_PREORDER, Linux 6.15: run before the programs of every other cgroup


class Hook(IntEnum):
    """enum bpf_attach_type."""

    EGRESS = 1
    SOCK_OPS = 3
    CONNECT4 = 10
    CONNECT6 = 11


class _LinkOptions(ct.Structure):
    _fields_ = [("size", ct.c_size_t), ("flags", ct.c_uint32), ("padding", ct.c_uint8 * 60)]


class _ProgramInfo(ct.Structure):
    # The beginning of struct bpf_prog_info. The kernel fills in as much as the caller asks for.
    _fields_ = [("type", ct.c_uint32), ("id", ct.c_uint32), ("tag", ct.c_uint8 * 8)]


class _MapInfo(ct.Structure):
    # The beginning of struct bpf_map_info.
    _fields_ = [
        ("type", ct.c_uint32),
        ("id", ct.c_uint32),
        ("key_size", ct.c_uint32),
        ("value_size", ct.c_uint32),
    ]


_ARGUMENTS: dict[str, list[Any]] = {
    "bpf_link_create": [ct.c_int, ct.c_int, ct.c_int, ct.c_void_p],
    "bpf_prog_query": [ct.c_int, ct.c_int, ct.c_uint32, ct.c_void_p, ct.c_void_p, ct.c_void_p],
    "bpf_prog_get_fd_by_id": [ct.c_uint32],
    "bpf_obj_get_info_by_fd": [ct.c_int, ct.c_void_p, ct.c_void_p],
    "bpf_map_lookup_elem": [ct.c_int, ct.c_void_p, ct.c_void_p],
    "bpf_map_update_elem": [ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_uint64],
    "bpf_map_delete_elem": [ct.c_int, ct.c_void_p],
}
_SAMPLE = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t)
_LOOK = "`shorthaul verify` shows what this kernel lacks"
_EFFECTIVE = 1  # BPF_F_QUERY_EFFECTIVE
_PROGRAMS_MAX = 64  # BPF_CGROUP_MAX_PROGS
_STOP = -errno.ECANCELED


class LibBpf:
    """The loaded library. Raises `BpfMissing` if it is not installed."""

    def __init__(self) -> None:
        try:
            lib = ct.CDLL("libbpf.so.1", use_errno=True)
        except OSError as error:
            raise BpfMissing("libbpf.so.1 is missing", hint="apt-get install libbpf1") from error
        lib.libbpf_set_print(None)
        lib.ring_buffer__new.restype = ct.c_void_p
        lib.ring_buffer__new.argtypes = [ct.c_int, _SAMPLE, ct.c_void_p, ct.c_void_p]
        lib.ring_buffer__consume.argtypes = [ct.c_void_p]
        lib.ring_buffer__free.argtypes = [ct.c_void_p]
        lib.ring_buffer__free.restype = None
        for name, arguments in _ARGUMENTS.items():
            getattr(lib, name).argtypes = arguments
        self.lib = lib
        self._processors = max(1, lib.libbpf_num_possible_cpus())

    def link(self, program: int, cgroup: int, hook: Hook, flags: int = 0) -> int:
        """Attach a program to a cgroup for as long as the returned descriptor is open. Raises `BpfError`."""
        options = _LinkOptions(size=ct.sizeof(_LinkOptions), flags=flags)
        fd: int = self.lib.bpf_link_create(program, cgroup, int(hook), ct.byref(options))
        if fd < 0:
            raise _failed(f"attaching {hook.name.lower()} to the cgroup", -fd)
        os.set_inheritable(fd, False)
        return fd

    def programs(self, cgroup: int, hook: Hook, *, effective: bool = True) -> list[int]:
        """The ids of the programs that run for a cgroup, in the order in which they run. Raises `BpfError`.

        With ``effective=False``: only the programs that are attached to this very cgroup.
        """
        ids, number = (ct.c_uint32 * _PROGRAMS_MAX)(), ct.c_uint32(_PROGRAMS_MAX)
        flags = _EFFECTIVE if effective else 0
        result = self.lib.bpf_prog_query(cgroup, int(hook), flags, None, ids, ct.byref(number))
        if result < 0:
            raise _failed("asking for a cgroup's programs", -result)
        return list(ids[: number.value])

    def tag(self, fd: int) -> bytes | None:
        """The hash of a program's instructions, by its file descriptor. None if the kernel refuses."""
        info, size = _ProgramInfo(), ct.c_uint32(ct.sizeof(_ProgramInfo))
        result = self.lib.bpf_obj_get_info_by_fd(fd, ct.byref(info), ct.byref(size))
        return None if result < 0 else bytes(info.tag)

    def tag_of(self, program: int) -> bytes | None:
        """The hash of a program's instructions, by its id. None if it is gone, or without CAP_SYS_ADMIN."""
        fd = self.lib.bpf_prog_get_fd_by_id(program)
        if fd < 0:
            return None
        try:
            return self.tag(fd)
        finally:
            os.close(fd)

    def store(self, storage: int, sock: int, value: bytes) -> None:
        """Write a socket's entry in a socket storage; the rest of the entry is zero. Raises `BpfError`."""
        info, size = _MapInfo(), ct.c_uint32(ct.sizeof(_MapInfo))
        result = self.lib.bpf_obj_get_info_by_fd(storage, ct.byref(info), ct.byref(size))
        if result >= 0:
            entry = ct.create_string_buffer(value, info.value_size)
            result = self.lib.bpf_map_update_elem(storage, ct.byref(ct.c_int(sock)), entry, 0)
        if result < 0:
            raise _failed("marking a socket", -result)

    def add(self, table: int, key: bytes) -> None:
        """Add a key, whose value is a byte, to a hash table. Raises `BpfError`, also when it is full."""
        result = self.lib.bpf_map_update_elem(table, key, ct.byref(ct.c_uint8(1)), 0)
        if result < 0:
            raise _failed("writing a table", -result)

    def remove(self, table: int, key: bytes) -> None:
        """Remove a key from a hash table, if it is there."""
        self.lib.bpf_map_delete_elem(table, key)

    def sums(self, array: int, entries: int) -> list[int]:
        """Each 64-bit entry of a per-CPU array, summed over all processors. Raises `BpfError`."""
        values = (ct.c_uint64 * self._processors)()
        sums = []
        for key in range(entries):
            result = self.lib.bpf_map_lookup_elem(array, ct.byref(ct.c_uint32(key)), values)
            if result < 0:
                raise _failed("reading a counter", -result)
            sums.append(sum(values))
        return sums


class RingBuffer:
    """Reads the records of a ring buffer. It maps twice the buffer's size; only pages in use take memory."""

    def __init__(self, libbpf: LibBpf, map_fd: int) -> None:
        self._lib = libbpf.lib
        self._records: list[bytes] = []
        self._at_most = 0
        self._callback = _SAMPLE(self._on_record)  # a reference of our own: ctypes keeps none
        self._ring = self._lib.ring_buffer__new(map_fd, self._callback, None, None)
        if not self._ring:
            raise _failed("mapping the ring buffer", ct.get_errno())

    def read(self, at_most: int) -> list[bytes]:
        """The next records, in order, at most ``at_most``. Does not wait."""
        self._records, self._at_most = [], at_most
        if self._ring:
            result = self._lib.ring_buffer__consume(self._ring)
            if result < 0 and result != _STOP:
                raise _failed("reading the ring buffer", -result)
        return self._records

    def close(self) -> None:
        """Unmap the buffer."""
        ring, self._ring = self._ring, None
        if ring:
            self._lib.ring_buffer__free(ring)

    def _on_record(self, _context: object, data: int, size: int) -> int:
        self._records.append(ct.string_at(data, size))
        return _STOP if len(self._records) >= self._at_most else 0


def _failed(what: str, number: int) -> BpfError:
    message = f"{what} failed: {os.strerror(number)}"
    if number == errno.EINVAL:
        return BpfUnsupported(message, hint=_LOOK)
    if number == errno.EBADF:
        return BpfError(
            f"{what} failed: this is not a cgroup v2 directory",
            hint="set probe.cgroup to a cgroup v2 directory",
        )
    if number in (errno.EPERM, errno.EACCES):
        return BpfForbidden(
            message,
            hint="run as root with the capabilities BPF and NET_ADMIN. If it has these, another tool "
            "attached a program there exclusively (`bpftool cgroup show` lists it): it must use "
            "BPF_F_ALLOW_MULTI",
        )
    return BpfError(message, hint=_LOOK)

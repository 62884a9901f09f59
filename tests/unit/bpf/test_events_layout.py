"""bpf/programs/event.h, as a C compiler lays it out, against what decodes it."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from bpf.events import LAYOUT, VERSION, Address, Event, Flag, Kind, Owner, Tuple, decode
from bpf.source import LossCounts

PROGRAMS = Path(__file__).parents[3] / "bpf" / "programs"

# As C names them.
_ENDPOINT = ("address", "port", "unused")
FIELDS = [
    *("version", "size", "kind", "flags", "state", "owner"),
    *("time_ns", "connect_ns", "cookie", "netns", "cgroup", "bytes_received", "bytes_acked"),
    *("pid", "mark", "rtt_us", "comm"),
    *(f"intent.{part}" for part in _ENDPOINT),
    *(
        f"{addresses}.{end}.{part}"
        for addresses in ("socket", "wire")
        for end in ("source", "destination")
        for part in _ENDPOINT
    ),
]
KINDS = ["EVENT_FLOW", "EVENT_CLOSED", "EVENT_RTT"]
FLAGS = [
    *("FLOW_INTENT", "FLOW_ESTABLISHED", "FLOW_WIRE", "FLOW_TRANSLATED", "FLOW_CLIENT"),
    *("FLOW_FIRST", "FLOW_BEGUN", "FLOW_TOLD"),
]
OWNERS = ["OWNER_ROOT", "OWNER_AGENT", "OWNER_PROBE"]
COUNTERS = ["LOST_EVENTS", "LOST_FLOWS", "LOST_PACKETS", "LOST_ENDS", "EVENTS", "FOREIGN", "HELD_BACK"]
CONSTANTS = ["EVENT_VERSION", *KINDS, *FLAGS, *OWNERS, *COUNTERS, "COUNTERS"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the compiler says: offset and size of each field, values of constants, size of the record."""

    fields: dict[str, tuple[int, int]]
    constants: dict[str, int]
    size: int


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    assert shutil.which("gcc"), "gcc is needed: apt-get install gcc libc6-dev"
    folder = tmp_path_factory.mktemp("layout")
    lines = [
        f'printf("%s %zu %zu\\n", "{field}", offsetof(struct event, {field}), sizeof(nothing.{field}));'
        for field in FIELDS
    ]
    lines += [f'printf("%s %d 0\\n", "{name}", {name});' for name in CONSTANTS]
    lines += ['printf("size %zu 0\\n", sizeof(nothing));']
    source = folder / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        '#include "event.h"\n'
        "static struct event nothing;\n"
        f"int main(void)\n{{\n{chr(10).join(lines)}\nreturn 0;\n}}\n"
    )
    built = folder / "layout"
    subprocess.run(["gcc", "-Wall", "-Werror", f"-I{PROGRAMS}", "-o", built, source], check=True)
    said = subprocess.run([built], check=True, capture_output=True, text=True).stdout.splitlines()
    read = [(name, int(offset), int(size)) for name, offset, size in (line.split() for line in said)]
    return Layout(
        fields={name: (offset, size) for name, offset, size in read[: len(FIELDS)]},
        constants={name: value for name, value, _ in read[len(FIELDS) : -1]},
        size=read[-1][1],
    )


def record(layout: Layout, **values: bytes | int) -> bytes:
    """A record as a program writes it; in C's names, with ``__`` for a dot."""
    raw = bytearray(layout.size)
    known: dict[str, bytes | int] = {"version": VERSION, "size": layout.size, "kind": 1}
    for name, value in (known | values).items():
        offset, size = layout.fields[name.replace("__", ".")]
        packed = value if isinstance(value, bytes) else value.to_bytes(size, "little")
        assert len(packed) == size
        raw[offset : offset + size] = packed
    return bytes(raw)


def test_decoder_knows_every_byte(layout: Layout) -> None:
    assert layout.size == LAYOUT.size
    assert sum(size for _, size in layout.fields.values()) == layout.size  # no padding, nothing left out


def test_fields_are_where_and_in_the_order_that_the_decoder_expects(layout: Layout) -> None:
    offset = 0
    for name, code in zip(FIELDS, _codes(), strict=True):
        assert layout.fields[name] == (offset, _size(code)), name
        offset += _size(code)


def _codes() -> list[str]:
    """The format's items, one each."""
    codes, count = [], ""
    for letter in LAYOUT.format.lstrip("="):
        if letter.isdigit():
            count += letter
        elif letter == "s":
            codes.append(count + letter)
            count = ""
        else:
            codes += [letter] * int(count or 1)
            count = ""
    return codes


def _size(code: str) -> int:
    return int(code[:-1]) if code.endswith("s") else {"B": 1, "H": 2, "I": 4, "Q": 8}[code]


def test_each_field_comes_back_from_where_c_puts_it(layout: Layout) -> None:
    """Each with a value that no other has."""
    raw = record(
        layout,
        kind=2,
        flags=0x2B,
        state=7,
        owner=0xEE,
        time_ns=1 << 60 | 1,
        connect_ns=1 << 60 | 2,
        cookie=1 << 60 | 3,
        netns=1 << 60 | 4,
        cgroup=1 << 60 | 11,
        bytes_received=1 << 60 | 5,
        bytes_acked=1 << 60 | 6,
        pid=1 << 30 | 7,
        mark=1 << 30 | 8,
        rtt_us=1 << 30 | 9,
        comm=b"containerd-shim\0",
        intent__address=b"A" * 16,
        intent__port=101,
        intent__unused=0xEEEE,
        socket__source__address=b"B" * 16,
        socket__source__port=102,
        socket__destination__address=b"C" * 16,
        socket__destination__port=103,
        wire__source__address=b"D" * 16,
        wire__source__port=104,
        wire__destination__address=b"E" * 16,
        wire__destination__port=105,
    )
    assert decode(raw) == Event(
        kind=Kind.CLOSED,
        flags=0x2B,
        state=7,
        time_ns=1 << 60 | 1,
        connect_ns=1 << 60 | 2,
        cookie=1 << 60 | 3,
        netns=1 << 60 | 4,
        cgroup=1 << 60 | 11,
        bytes_received=1 << 60 | 5,
        bytes_acked=1 << 60 | 6,
        pid=1 << 30 | 7,
        mark=1 << 30 | 8,
        rtt_us=1 << 30 | 9,
        comm="containerd-shim",
        intent=Address(b"A" * 16, 101),
        socket=Tuple(Address(b"B" * 16, 102), Address(b"C" * 16, 103)),
        wire=Tuple(Address(b"D" * 16, 104), Address(b"E" * 16, 105)),
        owner=0xEE,
    )


@pytest.mark.parametrize("field", [name for name in FIELDS[3:] if "address" not in name and name != "comm"])
def test_greatest_value_of_a_field_changes_no_other(layout: Layout, field: str) -> None:
    plain = decode(record(layout))
    offset, size = layout.fields[field]
    raw = bytearray(record(layout))
    raw[offset : offset + size] = b"\xff" * size
    other = decode(bytes(raw))
    differing = [name for name in Event._fields if getattr(plain, name) != getattr(other, name)]
    silent = field.endswith("unused")
    assert differing == ([] if silent else [field.partition(".")[0]])


def test_version_is_the_same_on_both_sides(layout: Layout) -> None:
    assert layout.constants["EVENT_VERSION"] == VERSION


def test_kinds_and_flags_are_the_same_on_both_sides(layout: Layout) -> None:
    kinds = {name.removeprefix("EVENT_"): layout.constants[name] for name in KINDS}
    assert kinds == {kind.name: kind.value for kind in Kind}
    flags = {name.removeprefix("FLOW_"): layout.constants[name] for name in FLAGS}
    assert flags == {flag.name: flag.value for flag in Flag}
    owners = {name.removeprefix("OWNER_"): layout.constants[name] for name in OWNERS}
    assert owners == {owner.name: owner.value for owner in Owner}


def test_header_has_no_constant_that_is_not_compared() -> None:
    text = (PROGRAMS / "event.h").read_text()
    told = {line.split()[0] for line in text.splitlines() if line.startswith("\t") and " = " in line}
    assert told | {"EVENT_VERSION"} == set(CONSTANTS)


def test_counters_are_read_in_the_order_of_their_indexes(layout: Layout) -> None:
    """`LiveSource.lost` unpacks them by position."""
    assert [layout.constants[name] for name in COUNTERS] == list(range(7))
    assert layout.constants["COUNTERS"] == len(COUNTERS)
    assert [field.name for field in dataclasses.fields(LossCounts)] == [
        "events",
        "flows",
        "packets",
        "ends",
        "delivered",
        "foreign",
        "held_back",
    ]

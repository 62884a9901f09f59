"""The compiling child: what it hands over, and what every way of failing is called. Needs root and bcc.

Each case runs in a process of its own, which shows its memory, its descriptors and its children.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bpf.loader import _FUNCTIONS

_REPOSITORY = Path(__file__).parents[3]
_RELEASE = os.uname().release
_CONTEXTS = {"CGROUP_SOCK_ADDR": "bpf_sock_addr", "CGROUP_SKB": "__sk_buff", "SOCK_OPS": "bpf_sock_ops"}
_MAPS = "BPF_RINGBUF_OUTPUT(events, RING_PAGES);\nBPF_PERCPU_ARRAY(counters, u64, 4);\n" + (
    "BPF_ARRAY(flows, u64, 1);\nBPF_ARRAY(own_ips, u64, 1);\nBPF_ARRAY(others, u64, 1);\n"
)

_SCRIPT = """
import dataclasses, json, os, pathlib, sys
from bpf.child import ProgramConfig, load
from bpf.errors import BpfError

source, times, ring_pages = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = pathlib.Path(source) if source else None
wanted = ProgramConfig(ports=(30020, 30021), ring_pages=ring_pages, source=source)
told = {}
fds = set(os.listdir("/proc/self/fd"))
for _ in range(times):
    try:
        loaded = load(wanted)
    except BpfError as error:
        told |= {"error": type(error).__name__, "message": str(error), "hint": error.hint, "log": error.log}
    else:
        told["fds"] = {name: os.readlink(f"/proc/self/fd/{fd}") for name, fd in loaded.fds.items()}
        told |= {"bcc": loaded.bcc, "netns_of_packets": loaded.netns_of_packets}
        loaded.close()
told["left_open"] = len(set(os.listdir("/proc/self/fd")) - fds)
try:
    os.waitpid(-1, os.WNOHANG)
    told["children"] = True
except ChildProcessError:
    told["children"] = False
told["bcc_imported"] = "bcc" in sys.modules
status = pathlib.Path("/proc/self/status").read_text().splitlines()
told["rss_kib"] = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
json.dump(told, sys.stdout)
"""


def loading(
    source: Path | None = None,
    *,
    times: int = 1,
    ring_pages: int = 512,
    through: tuple[str, ...] = (),
    python_path: Path | None = None,
) -> dict[str, Any]:
    """What came of `load` in a new process; ``through``: a command that starts it."""
    assert os.geteuid() == 0, "these tests load eBPF programs: run them as root"
    path = f"{python_path}:{_REPOSITORY}" if python_path else str(_REPOSITORY)
    done = subprocess.run(
        [*through, sys.executable, "-c", _SCRIPT, str(source or ""), str(times), str(ring_pages)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    # Whatever happened:
    assert not told["children"]
    assert told["left_open"] == 0
    assert not told["bcc_imported"]
    return told


def programs(**bodies: str) -> str:
    """A source with every function that the loader asks for; ``bodies``: of some program types."""
    functions = [
        f"int {name}(struct {_CONTEXTS[kind]} *ctx)\n{{\n{bodies.get(kind, 'return 1;')}\n}}\n"
        for name, (kind, _) in _FUNCTIONS.items()
    ]
    return f"#include <uapi/linux/bpf.h>\n{_MAPS}{''.join(functions)}"


def fake_bcc(folder: Path, text: str) -> Path:
    """A package that is found before the right one; the folder for PYTHONPATH."""
    (folder / "bcc").mkdir()
    (folder / "bcc" / "__init__.py").write_text(text)
    return folder


_HANGING_UP = """
import os, signal, threading, time
from bpf.child import ProgramConfig, load

os.setpgid(0, 0)
signal.signal(signal.SIGHUP, lambda *_: None)
over = threading.Event()

def hang_up():
    while not over.wait(0.002):
        os.killpg(0, signal.SIGHUP)

thread = threading.Thread(target=hang_up)
thread.start()
try:
    load(ProgramConfig(ports=(30020,))).close()
finally:
    over.set()
    thread.join()
print("loaded", signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_sighup_to_the_whole_process_group_does_not_end_the_child() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HANGING_UP],
        env={**os.environ, "PYTHONPATH": str(_REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["loaded", "False"]), done.stderr


# What is handed over


def test_all_programs_and_maps_are_handed_over_and_closed_again() -> None:
    told = loading(times=2)
    assert "error" not in told
    kinds = {name: target.removeprefix("anon_inode:") for name, target in told["fds"].items()}
    assert kinds == dict.fromkeys(_FUNCTIONS, "bpf-prog") | dict.fromkeys(
        ("events", "others", "counters", "flows", "own_ips"), "bpf-map"
    )
    assert told["bcc"]


def test_parent_stays_small() -> None:
    """LLVM's hundred megabytes were the child's."""
    assert loading()["rss_kib"] < 40 * 1024


def test_another_source_is_compiled_in_its_place(tmp_path: Path) -> None:
    source = tmp_path / "own.c"
    source.write_text(programs())
    assert set(loading(source)["fds"]) == {*_FUNCTIONS, "events", "others", "counters", "flows", "own_ips"}


def test_without_the_helper_for_packets_namespaces_the_programs_are_loaded_all_the_same(
    tmp_path: Path,
) -> None:
    """As kernels refuse it that don't have it; then flows older than the probe stay unknown."""
    source = tmp_path / "old-kernel.c"
    refused = "#ifdef NETNS_OF_PACKETS\nreturn *(int *)((char *)ctx + 4096);\n#endif\nreturn 1;"
    source.write_text(programs(CGROUP_SKB=refused))
    told = loading(source)
    assert "error" not in told
    assert told["netns_of_packets"] is False
    source.write_text(programs())
    assert loading(source)["netns_of_packets"] is True


# What is refused


def test_source_that_does_not_compile_is_refused_with_the_compilers_words(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text(programs(SOCK_OPS="return no_such_thing;"))
    told = loading(source, times=2)
    assert told["error"] == "BpfRefused"
    assert told["message"].startswith("the compiler refused")
    assert "no_such_thing" in told["log"]


def test_program_the_verifier_refuses_is_told_with_the_kernels_version_and_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "refused.c"
    source.write_text(programs(CGROUP_SKB="return *(int *)((char *)ctx + 4096);"))
    told = loading(source, times=2)
    assert told["error"] == "BpfRefused"
    assert f"the verifier of Linux {_RELEASE} refused" in told["message"]
    assert _RELEASE in told["hint"]
    assert "invalid bpf_context access" in told["log"]


def test_verifiers_long_log_is_shortened_to_its_end(tmp_path: Path) -> None:
    source = tmp_path / "long.c"
    steps = "\n".join(f"sink = {number};" for number in range(500))
    source.write_text(
        programs(CGROUP_SKB=f"volatile int sink;\n{steps}\nreturn *(int *)((char *)ctx + 4096);")
    )
    lines = loading(source)["log"].splitlines()
    assert len(lines) <= 13
    assert lines[0].endswith("lines before)")
    assert int(lines[0].strip("(").split()[0]) > 400
    assert any("invalid bpf_context access" in line for line in lines)


def test_ring_buffer_of_an_impossible_size_is_refused_with_the_reason() -> None:
    told = loading(ring_pages=3)
    assert told["error"] == "BpfRefused"
    assert "Invalid argument" in told["log"]


@pytest.mark.parametrize("lacking", [None, "maps"])
def test_what_is_not_there_is_an_error_that_names_it_and_blames_no_memory_limit(
    tmp_path: Path, lacking: str | None
) -> None:
    source = tmp_path / "incomplete.c"
    if lacking:
        source.write_text(programs().replace(_MAPS, ""))
    told = loading(source)
    assert told["error"].startswith("Bpf")
    assert "memory" not in told["hint"]
    assert ("events" if lacking else "incomplete.c") in told["message"] + told["log"]


# What is not allowed


@pytest.mark.parametrize("dropped", ["-all", "-bpf,-sys_admin", "-net_admin,-sys_admin"])
def test_missing_capability_is_named(dropped: str) -> None:
    told = loading(through=("setpriv", f"--bounding-set={dropped}", "--inh-caps=-all"))
    assert told["error"] == "BpfForbidden"
    assert "BPF" in told["hint"]
    assert "NET_ADMIN" in told["hint"]
    assert "Operation not permitted" in told["log"]


def test_capabilities_that_the_hint_names_are_enough() -> None:
    hint = loading(through=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))["hint"]
    named = re.search(r"capabilities\.add: \[([A-Z_, ]+)\]", hint)
    assert named, hint
    kept = "".join(f",+{name.strip().lower()}" for name in named[1].split(","))
    told = loading(through=("setpriv", f"--bounding-set=-all{kept}", "--inh-caps=-all"))
    assert "error" not in told, told["log"]


# bcc itself


@pytest.mark.parametrize(
    "text",
    [
        "raise ImportError('No module named bcc')",
        "raise ModuleNotFoundError('No module named bcc')",
        "import ctypes\nctypes.CDLL('libbcc.so.that-is-not-there')",
    ],
    ids=["missing", "missing module", "broken library"],
)
def test_bcc_that_can_not_be_imported_is_missing_and_the_hint_says_what_to_install(
    tmp_path: Path, text: str
) -> None:
    told = loading(python_path=fake_bcc(tmp_path, text))
    assert told["error"] == "BpfMissing"
    assert "bcc can't be imported" in told["message"]
    assert "python3-bpfcc" in told["hint"]
    assert "pip uninstall" not in told["hint"]


def test_other_package_of_bccs_name_is_told_with_where_it_is(tmp_path: Path) -> None:
    told = loading(python_path=fake_bcc(tmp_path, "class Lattice: ...\n"))
    assert told["error"] == "BpfMissing"
    assert str(tmp_path) in told["message"]
    assert "pip uninstall bcc" in told["hint"]


def test_child_that_is_killed_is_told_with_its_need_of_memory(tmp_path: Path) -> None:
    told = loading(python_path=fake_bcc(tmp_path, "import os\nos.kill(os.getpid(), 9)\n"), times=2)
    assert told["error"] == "BpfError"
    assert "-9" in told["message"]
    assert "memory limit" in told["hint"]


def test_child_that_says_very_much_is_not_waited_for_forever_and_cut_short(tmp_path: Path) -> None:
    text = "import os\nos.write(2, b'very much\\n' * 300_000)\nos.write(2, b'the reason')\nos._exit(1)\n"
    told = loading(python_path=fake_bcc(tmp_path, text))
    assert told["error"] == "BpfError"
    assert told["log"].splitlines()[-1] == "the reason"
    assert len(told["log"]) < 1000


def test_bytes_that_are_no_text_are_shown_all_the_same(tmp_path: Path) -> None:
    text = "import os\nos.write(2, b'\\xff\\xfe odd')\nos._exit(3)\n"
    told = loading(python_path=fake_bcc(tmp_path, text))
    assert "status 3" in told["message"]
    assert told["log"].endswith("odd")
    assert "raise the memory" not in told["hint"]

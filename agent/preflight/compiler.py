"""Checks for BCC, which compiles the programs, and for libbpf, which attaches them.

A child process imports bcc, because the import costs 70 MB that this process would keep.
"""

import json
import re
import sys

from agent.preflight.check import Check, bad, good, shown, warn
from agent.preflight.reading import Reading, run_command

_LEAST = (0, 26)
_INSTALL_BCC = (
    "apt-get install python3-bpfcc (PyPI's bcc is another package), "
    "and run shorthaul with Debian's own python3"
)
# Both parts report separately, so that a wrong bcc does not hide libbpf.
_QUESTION = """
import ctypes, json
said = {}
try:
    ctypes.CDLL("libbpf.so.1")
    said["libbpf"] = ""
except OSError as error:
    said["libbpf"] = str(error)
try:
    import bcc
    said["file"] = str(getattr(bcc, "__file__", ""))
    said["version"] = str(getattr(bcc, "__version__", ""))
    said["bpf"] = hasattr(bcc, "BPF")
except Exception as error:
    said["error"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


def compiler(command: tuple[str, ...] = (sys.executable, "-c", _QUESTION)) -> tuple[Check, Check]:
    """Check BCC's version, and whether libbpf can be loaded. ``command`` prints the answer."""
    return judge_compiler(run_command(command, most_bytes=1 << 16))


def judge_compiler(answer: Reading) -> tuple[Check, Check]:
    """The findings from the child's answer."""
    said: object = None
    if not answer.problem:
        try:
            # bcc itself may print lines before the answer.
            said = json.loads(answer.text.strip().rpartition("\n")[2])
        except ValueError:
            said = None
    if not isinstance(said, dict):
        detail = f"the child process that checks it failed: {answer.problem or 'its answer makes no sense'}"
        hint = "try: python3 -c 'import bcc; print(bcc.__version__)'"
        return (
            warn("BCC", detail, hint=hint),
            warn("libbpf", detail, hint=hint),
        )
    return _bcc(said), _libbpf(said)


def _bcc(said: dict[str, object]) -> Check:
    name = "BCC"
    if "error" in said:
        detail = f"bcc can't be imported: {shown(str(said['error']))}"
        return bad(name, detail, hint=_INSTALL_BCC)
    file, version = shown(str(said.get("file"))), shown(str(said.get("version")), 30)
    if said.get("bpf") is not True:
        return bad(
            name,
            f"{file} is another package of that name: it has no BPF class",
            hint=f"pip uninstall bcc; {_INSTALL_BCC}",
        )
    match = re.match(r"v?(\d{1,4})\.(\d{1,4})", version)
    if match is None:
        detail = f"{file} has no version that can be read"
        return warn(name, detail, hint="0.26 and 0.31 are known to work")
    if (int(match[1]), int(match[2])) < _LEAST:
        detail = f"{version} is older than 0.26, the oldest that is known to work"
        return warn(name, detail, hint="use Debian 12 or newer as the base")
    return good(name, f"{version} ({file})")


def _libbpf(said: dict[str, object]) -> Check:
    problem = said.get("libbpf")
    if problem == "":
        return good("libbpf", "libbpf.so.1")
    return bad(
        "libbpf",
        f"libbpf.so.1 can't be loaded: {shown(str(problem))}",
        hint="apt-get install libbpf1",
    )

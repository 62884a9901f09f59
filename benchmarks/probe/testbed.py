"""Where the load runs: its own network namespace and cgroup, with C programs that are compiled here."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from benchmarks.lab.cgroups import make_cgroup, remove_cgroup, sweep_cgroups
from benchmarks.lab.network import Network, sweep
from benchmarks.lab.process import LabError, _prepare, enter, run, undisturbed

WATCHED, NODE_PORT, OTHER = 30020, 30021, 8080
PORTS = (WATCHED, NODE_PORT, 30022)  # what the probe watches by default
NODE = "bench"
ADDRESS = "10.9.0.1"
_PREFIX = "shprobebench"
_HERE = Path(__file__).parent
_SYSCTLS = {
    "net.ipv4.tcp_max_tw_buckets": 1000,  # otherwise a minute of connections waits in TIME_WAIT
    "net.ipv4.ip_local_port_range": "10000 29999",
}


class Load:
    """One running C program. It answers each line with a line."""

    def __init__(self, command: Sequence[str], cgroup: Path) -> None:
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: _prepare(cgroup),
            text=True,
        )
        self._command = command
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The pid of the program, because nsenter replaces itself by it."""
        return self._child.pid

    def ask(self, line: str) -> str:
        """Send a command and return the answer. Raises `LabError` if the program ended."""
        self.tell(line)
        return self._read()

    def tell(self, line: str) -> None:
        """Send a command. `answer` reads the answer later."""
        assert self._child.stdin is not None
        self._child.stdin.write(line + "\n")
        self._child.stdin.flush()

    def answer(self) -> str:
        """The answer to the last command."""
        return self._read()

    def close(self) -> None:
        """Stop the program."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.communicate()

    def _read(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise LabError(f"{' '.join(self._command)} ended with status {self._child.wait(10)}")
        return line.strip()


class Testbed:
    """The whole testbed. A context manager that removes everything at its end."""

    __test__ = False  # pytest must not collect it

    def __init__(self) -> None:
        sweep(_PREFIX)
        sweep_cgroups(_PREFIX)
        self._stack = ExitStack()
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{_PREFIX}-")))
            name = f"{_PREFIX}-{os.getpid()}"
            self.cgroup = make_cgroup(name)
            self._stack.callback(remove_cgroup, self.cgroup)
            network = Network(name)
            self._stack.callback(network.close)
            self.netns = network.add_host("node", ADDRESS)
            for key, value in _SYSCTLS.items():
                run(["sysctl", "-qw", f"{key}={value}"], netns=self.netns)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            self._stack.close()

    def load(self, name: str, *ports: int) -> Load:
        """Compile a C program, and start it in the namespace and the cgroup."""
        binary = self.folder / name
        if not binary.exists():
            run(["gcc", "-O2", "-pthread", "-o", str(binary), str(_HERE / f"{name}.c")])
        load = Load([*enter(self.netns), str(binary), *map(str, ports)], self.cgroup)
        self._stack.callback(load.close)
        return load

    @contextmanager
    def translation(self) -> Iterator[None]:
        """A context in which the NodePort is translated to the watched port, as kube-proxy does."""
        rule = f"OUTPUT -p tcp -d 127.0.0.1 --dport {NODE_PORT} -j DNAT --to-destination 127.0.0.1:{WATCHED}"
        run(["iptables", "-t", "nat", "-A", *rule.split()], netns=self.netns)
        try:
            yield
        finally:
            run(["iptables", "-t", "nat", "-D", *rule.split()], netns=self.netns)

    def settings(self) -> Path:
        """Write the probe's settings to a file."""
        path = self.folder / "probe.yaml"
        settings = {
            "node": {"name": NODE, "address": ADDRESS},
            "listen": {
                "hostport": f"127.0.0.1:{WATCHED}",
                "peer": f"{ADDRESS}:{WATCHED}",
                "nodeport": f"{ADDRESS}:30022",
            },
            "probe": {
                "socket": str(self.socket),
                "cgroup": str(self.cgroup),
                "endpoints": [
                    f"127.0.0.1:{NODE_PORT}"
                ],  # canaries are refused, because the load's listener serves none
            },
        }
        path.write_text(json.dumps(settings))  # JSON is YAML
        return path

    @property
    def socket(self) -> Path:
        """The path of the probe's socket."""
        return self.folder / "probe.sock"

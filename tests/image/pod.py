"""Runs the containers of a rendered pod, as a kubelet has containerd and runc do it.

Everything comes from the manifest: command, arguments, environment, mounts, user, capabilities, seccomp and
whether the root is read-only. Only where the node's directories are is the lab's: a host path below one of
``host`` is taken from there.
"""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.lab.containerd import NAMESPACE, Containerd
from benchmarks.lab.makers import is_left_behind
from benchmarks.lab.process import Process, run
from tests.chart.rendering import Manifest, environment, expanded

# What containerd gives every container: github.com/opencontainers/runtime-spec's default of `ctr run`.
_GIVEN = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)  # fmt: skip


_RUNC = Path("/run/containerd/runc") / NAMESPACE  # one for all containerds of the machine


def sweep_pods(prefix: str = "shlab") -> None:
    """Remove the containers of tests that were killed: they outlive them."""
    for left in _RUNC.glob(f"{prefix}-*"):
        if is_left_behind(left, prefix):
            run(["runc", "--root", str(_RUNC), "delete", "--force", left.name])


class Pod:
    """One pod on one node.

    ``name``: begins with the lab's prefix and the maker's pid. ``files``: the contents of ConfigMaps and
    projected volumes by volume and path.
    """

    def __init__(
        self,
        name: str,
        spec: Manifest,
        *,
        containerd: Containerd,
        netns: str | None,
        image: str,
        folder: Path,
        fields: Mapping[str, str],
        files: Mapping[str, Mapping[str, bytes]],
        host: Mapping[str, Path],
        cgroup: Path,
        more_environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.folder = folder
        self._spec = spec
        self._containerd = containerd
        self._netns = netns
        self._image = image
        self._fields = fields
        self._host = host
        self._cgroup = cgroup
        self._more = more_environment
        self._processes: dict[str, Process] = {}
        self._execs = 0
        self._volumes = {each["name"]: self._volume(each, files) for each in spec["volumes"]}

    def container(self, name: str) -> Manifest:
        """A container of the manifest."""
        every = [*self._spec.get("initContainers", []), *self._spec["containers"]]
        return next(each for each in every if each["name"] == name)

    def replace(self, volume: str, path: str, content: bytes) -> None:
        """Change a file of a volume that is no host path, as a kubelet does: by a rename."""
        file = self.folder / "volumes" / volume / path
        new = file.with_name(f".{path}")
        new.write_bytes(content)
        new.chmod(file.stat().st_mode & 0o777)
        new.rename(file)

    def log(self, name: str) -> str:
        """What a container printed so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def run(self, name: str, *, at_most_s: float = 120.0) -> str:
        """Run a container to its end. Returns what it printed. Raises `LabError` if it fails."""
        return run(self._command(name), netns=self._netns, at_most_s=at_most_s)

    def start(self, name: str) -> Process:
        """Start a container."""
        process = Process(self._command(name), log=self.folder / f"{name}.log", netns=self._netns)
        self._processes[name] = process
        return process

    def execute(self, name: str, command: list[str], *, at_most_s: float = 120.0) -> str:
        """Run a command in a started container, as exec probes and ``kubectl exec`` do."""
        self._execs += 1
        arguments = ["tasks", "exec", "--exec-id", f"x{self._execs}", self._id(name), *command]
        return run(self._ctr(*arguments), netns=self._netns, at_most_s=at_most_s)

    def stop(self, name: str) -> None:
        """End a container by SIGTERM, as a kubelet does."""
        process = self._processes.pop(name)
        if process.running:
            run(self._ctr("tasks", "kill", "--signal", "SIGTERM", self._id(name)), netns=self._netns)
            process.wait(60.0)

    def close(self) -> None:
        """End all containers."""
        for name, process in reversed(self._processes.items()):
            if process.running:
                run([*self._ctr("tasks", "kill", "--signal", "SIGKILL", self._id(name))], netns=self._netns)
                process.wait(60.0)
        self._processes.clear()

    def _id(self, name: str) -> str:
        return f"{self.name}-{name}"

    def _ctr(self, *arguments: str) -> list[str]:
        ctr = self._containerd.binary.parent / "ctr"
        return [str(ctr), "--address", str(self._containerd.socket), "-n", NAMESPACE, *arguments]

    def _command(self, name: str) -> list[str]:
        container = self.container(name)
        variables = {**self._more, **environment(container, self._fields)}
        security = {**self._spec.get("securityContext", {}), **container.get("securityContext", {})}
        capabilities = security.get("capabilities", {})
        assert capabilities.get("drop") == ["ALL"], "the chart drops all"
        options = ["--rm", "--user", f"{security['runAsUser']}:{security['runAsGroup']}"]
        options += ["--net-host"] if self._spec["hostNetwork"] else []
        options += ["--read-only"] if security["readOnlyRootFilesystem"] else []
        assert security["allowPrivilegeEscalation"] is False
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        options += ["--seccomp", "--cgroup", f"/{self._cgroup.name}/{self._id(name)}"]
        added = [f"CAP_{each}" for each in capabilities.get("add", [])]
        for each in _GIVEN:
            options += [] if each in added else ["--cap-drop", each]
        for each in added:
            options += [] if each in _GIVEN else ["--cap-add", each]
        for key, value in variables.items():
            options += ["--env", f"{key}={value}"]
        for mount in container["volumeMounts"]:
            options += ["--mount", self._mount(mount)]
        words = [*container.get("command", ["shorthaul"]), *container.get("args", [])]
        return self._ctr(
            "run", *options, self._image, self._id(name), *(expanded(w, variables) for w in words)
        )

    def _mount(self, mount: Manifest) -> str:
        source = self._volumes[mount["name"]]
        flags = "rbind:ro" if mount.get("readOnly") else "rbind:rw"
        return f"type=bind,src={source},dst={mount['mountPath']},options={flags}"

    def _volume(self, volume: Manifest, files: Mapping[str, Mapping[str, bytes]]) -> Path:
        name: str = volume["name"]
        if "hostPath" in volume:
            return self._on_host(volume["hostPath"])
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True)
        source = volume.get("secret") or volume.get("projected") or {}
        for path, content in files.get(name, {}).items():
            (folder / path).write_bytes(content)
            (folder / path).chmod(source.get("defaultMode", 0o644))
        return folder

    def _on_host(self, path: Manifest) -> Path:
        found = Path(path["path"])
        for prefix, instead in self._host.items():
            if found == Path(prefix) or found.is_relative_to(prefix):
                found = instead / found.relative_to(prefix)
        if path.get("type") == "DirectoryOrCreate":
            found.mkdir(parents=True, exist_ok=True)
        assert found.is_dir(), f"{found} is no directory of the node"
        return found

"""A real containerd daemon with its own root, state and sockets. It pulls over CRI, as a kubelet does."""

import asyncio
import hashlib
import shutil
import signal
import subprocess
from pathlib import Path

from grpclib import GRPCError
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import StreamTerminatedError

from benchmarks.cluster import containerd_pb2 as cri
from benchmarks.lab.accounts import Account
from benchmarks.lab.process import LabError, Process, run

_CACHE = Path(__file__).resolve().parents[2] / ".cache"
VERSIONS: dict[str, Path] = {
    "1.6": Path("/usr/bin/containerd"),
    "1.7": _CACHE / "containerd-trixie/usr/bin/containerd",
    "2.1": _CACHE / "containerd-sid/usr/bin/containerd",
}
"""Debian 12's containerd, and Debian 13's and sid's as tools/setup unpacks them."""

NAMESPACE = "k8s.io"

_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper",
]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[debug]
  address = "{socket}.debug"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_selinux = false
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{state}/cni-bin"
    conf_dir = "{state}/cni-conf"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{certs}"
"""

_CHUNKS = """\
[plugins."io.containerd.transfer.v1.local"]
  max_concurrent_downloads = {at_once}
  concurrent_layer_fetch_buffer = {chunk_bytes}
"""
"""2.1's CRI pulls through its transfer service, and so do its settings: in CRI's own table they would make
it fall back to the older way of pulling."""


def discarding(version: str) -> str:
    """The configuration of a containerd that throws each layer away once it is unpacked."""
    owner = 'io.containerd.cri.v1.images"' if version == "2.1" else 'io.containerd.grpc.v1.cri".containerd'
    return f'[plugins."{owner}]\n  discard_unpacked_layers = true\n'


class PullFailed(LabError):
    """containerd reports that a pull failed."""


class Containerd:
    """One daemon in one namespace. ``config``: TOML behind the usual configuration. ``group``: its
    process's group id. ``debug``: it logs all that it can. ``binary``: where it is; its ctr is beside it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        netns: str | None,
        version: str = "1.6",
        cgroup: Path | None = None,
        config: str = "",
        group: int | None = None,
        debug: bool = False,
    ) -> None:
        binary = VERSIONS[version]
        if not binary.exists():
            raise LabError(f"containerd {version} is not at {binary}: run `make setup`")
        self.version = version
        self.folder = folder
        self.root = folder / "root"
        self.socket = folder / "containerd.sock"
        self.certs = folder / "certs.d"
        self.certs.mkdir(parents=True)
        self._config = folder / "config.toml"
        self._config_text = _CONFIG.format(
            root=self.root, state=folder / "state", socket=self.socket, certs=self.certs
        )
        self._config_text += config
        self._config.write_text(self._config_text)
        self.binary = binary
        self._netns = netns
        self._cgroup = cgroup
        self._debug = ["--log-level", "debug"] if debug else []
        self._through = [] if group is None else ["setpriv", f"--regid={group}", "--clear-groups"]
        self.start()

    @property
    def blobs(self) -> Path:
        """The directory of committed blobs in its content store."""
        return self.root / "io.containerd.content.v1.content/blobs/sha256"

    @property
    def ingests(self) -> Path:
        """The directory of unfinished blobs in its content store."""
        return self.root / "io.containerd.content.v1.content/ingest"

    @property
    def running(self) -> bool:
        """Whether the daemon has not ended."""
        return self._process.running

    def written_bytes(self, digest: str) -> int:
        """How much of a layer it has written, while the layer is not complete. 0: it is not writing it."""
        name = hashlib.sha256(f"{NAMESPACE}/1/layer-{digest}".encode()).hexdigest()
        try:
            return (self.ingests / name / "data").stat().st_size
        except FileNotFoundError:
            return 0

    def start(self) -> None:
        """Start the daemon, and wait until it answers over CRI."""
        command = [*self._through, str(self.binary), "--config", str(self._config), *self._debug]
        self._process = Process(command, log=self.folder / "log", netns=self._netns, cgroup=self._cgroup)
        self._process.wait_until(self._answers, f"containerd {self.version}")

    def kill(self) -> None:
        """Kill the daemon, as the kernel does when memory runs out. Its mounts stay."""
        self._process.kill()

    def stop(self) -> None:
        """Stop the daemon, and remove its mounts."""
        self._process.stop()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            mount_point = line.split()[1]
            if mount_point.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", mount_point], check=False)

    def freeze(self) -> None:
        """Stop the daemon in its tracks. It reads nothing more, and can only be killed."""
        self._process.signal(signal.SIGSTOP)

    def fetch_in_chunks(self, chunk_bytes: int, *, at_once: int) -> None:
        """Restart the daemon so that it fetches layers in parallel chunks of this size, ``at_once`` in total.

        Every GET then has an open-ended range, and containerd closes it after its chunk. Needs 2.1.
        """
        if self.version != "2.1":
            raise LabError(f"containerd {self.version} fetches each layer in one piece")
        self._restart_with(_CHUNKS.format(at_once=at_once, chunk_bytes=chunk_bytes))

    def discard_layers(self) -> None:
        """Restart the daemon so that it throws each layer away once it is unpacked."""
        self._restart_with(discarding(self.version))

    def collect_garbage(self) -> None:
        """Remove what nothing needs, now."""
        self.ctr("leases", "create", "--id", "collect")
        self.ctr("leases", "delete", "--sync", "collect")

    def _restart_with(self, config: str) -> None:
        self.stop()
        self._config.write_text(self._config_text + config)
        self.start()

    def use_mirrors(self, registry: str, server: str, mirrors: list[str], *, resolve: bool = True) -> None:
        """Write a registry's hosts.toml: the mirrors in this order, then the registry itself.

        ``resolve``: whether the mirrors are asked for tags.
        """
        folder = self.certs / registry
        folder.mkdir(exist_ok=True)
        lines = [f'server = "http://{server}"', ""]
        for mirror in mirrors:
            capabilities = '["pull", "resolve"]' if resolve else '["pull"]'
            lines += [f'[host."http://{mirror}"]', f"  capabilities = {capabilities}", ""]
        lines += [f'[host."http://{server}"]', '  capabilities = ["pull", "resolve"]', ""]
        (folder / "hosts.toml").write_text("\n".join(lines))

    def pull(self, reference: str, account: Account | None = None, *, at_most_s: float = 120.0) -> None:
        """Pull an image through CRI. ``account``: the pod's pull secret. Raises `PullFailed`."""
        auth = None if account is None else cri.AuthConfig(username=account.user, password=account.password)
        request = cri.PullImageRequest(image=cri.ImageSpec(image=reference), auth=auth)
        self._call("PullImage", request, at_most_s)

    def remove(self, reference: str) -> None:
        """Remove an image through CRI. Garbage collection removes its blobs."""
        self._call("RemoveImage", cri.RemoveImageRequest(image=cri.ImageSpec(image=reference)), 30.0)

    def ctr(self, *arguments: str) -> str:
        """Run ``ctr`` on this daemon, in the kubelet's containerd namespace. Returns its output."""
        ctr = self.binary.parent / "ctr"
        return run([str(ctr), "--address", str(self.socket), "-n", NAMESPACE, *arguments], netns=self._netns)

    def forget_everything(self) -> None:
        """Stop, remove all content, and start again, like a new node."""
        self.stop()
        shutil.rmtree(self.root)
        self.start()

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            self._call(
                "RemoveImage", cri.RemoveImageRequest(image=cri.ImageSpec(image="none.example/none:0")), 2.0
            )
        except LabError:
            return False
        return True

    def _call(self, name: str, request: object, at_most_s: float) -> None:
        async def call() -> None:
            channel = Channel(path=str(self.socket))
            replies = {"PullImage": cri.PullImageResponse, "RemoveImage": cri.RemoveImageResponse}
            method: UnaryUnaryMethod[object, object] = UnaryUnaryMethod(
                channel, f"/runtime.v1.ImageService/{name}", type(request), replies[name]
            )
            try:
                await method(request, timeout=at_most_s)
            except GRPCError as error:
                raise PullFailed(f"{name}: {error.message}") from error
            except (OSError, TimeoutError, StreamTerminatedError) as error:
                raise LabError(f"{name}: {error!r}") from error
            finally:
                channel.close()

        asyncio.run(call())

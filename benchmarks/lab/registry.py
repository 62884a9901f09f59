"""A real registry: Debian's docker-registry on a directory, with an access log in JSON."""

import json
import socket
from pathlib import Path

import yaml

from benchmarks.lab.image import Image
from benchmarks.lab.network import inside, sent_bytes
from benchmarks.lab.process import Process, run


class Registry:
    """One docker-registry. ``name``: its name in image references. ``address``: where it listens."""

    def __init__(self, folder: Path, *, name: str, address: str, port: int, netns: str | None) -> None:
        self.name = name
        self.endpoint = f"{address}:{port}"
        self._netns = netns
        self._folder = folder
        folder.mkdir(parents=True)
        self._config = folder / "config.yml"
        settings = {
            "version": "0.1",
            "log": {"formatter": "json", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(folder / "data")},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.endpoint},
        }
        self._config.write_text(yaml.safe_dump(settings))
        self.start()

    def start(self) -> None:
        """Start the registry, and wait until it answers."""
        command = ["docker-registry", "serve", str(self._config)]
        self._process = Process(command, log=self._folder / "log", netns=self._netns)
        self._process.wait_until(self._answers, "the registry")

    def stop(self) -> None:
        """Stop the registry."""
        self._process.stop()

    def push(self, image: Image, repository: str, tag: str) -> str:
        """Push an image byte for byte. Returns its full reference."""
        run(
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "--all",
                "--preserve-digests",
                "--dest-tls-verify=false",
                f"oci:{image.layout}:{image.tag}",
                f"docker://{self.endpoint}/{repository}:{tag}",
            ],
            netns=self._netns,
        )
        return f"{self.name}/{repository}:{tag}"

    def served(self) -> list[tuple[str, str, str, int]]:
        """(client address, method, URI, body bytes) of each answered request, from the registry's log."""
        found: list[tuple[str, str, str, int]] = []
        for line in (self._folder / "log").read_text(errors="replace").splitlines():
            if '"http.response.written"' not in line:
                continue
            entry = json.loads(line)
            client = str(entry["http.request.remoteaddr"]).rpartition(":")[0]
            uri = str(entry["http.request.uri"])
            found.append((client, entry["http.request.method"], uri, entry["http.response.written"]))
        return found

    def sent_bytes(self) -> int:
        """How many bytes it has sent so far, see `benchmarks.lab.network.sent_bytes`."""
        return sent_bytes(self._netns)

    def _answers(self) -> bool:
        host, _, port = self.endpoint.rpartition(":")

        def knock() -> bool:
            try:
                with socket.create_connection((host, int(port)), timeout=0.5):
                    return True
            except OSError:
                return False

        return inside(self._netns, knock)

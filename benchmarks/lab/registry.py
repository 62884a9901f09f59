"""A real registry: Debian's docker-registry on a directory, with an access log in JSON.

It serves everyone, or asks for a password: itself (Basic), or by the tokens of a token server (Bearer).
"""

import hashlib
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lab.accounts import Account, htpasswd
from benchmarks.lab.image import Image
from benchmarks.lab.network import inside, sent_bytes
from benchmarks.lab.process import Process, run
from benchmarks.lab.tokens import ISSUER, SERVICE, TokenServer

_TOKEN_PORT = 5001
_UNAUTHORIZED = "error authorizing context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of a registry, from its log. ``body_bytes``: without the head."""

    client: str
    method: str
    uri: str
    status: int
    body_bytes: int


class Registry:
    """One docker-registry. ``name``: its name in image references. ``address``: where it listens.

    ``accounts``: who may use it; none given, everyone. ``tokens``: by a token server beside it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        address: str,
        port: int,
        netns: str | None,
        accounts: Sequence[Account] = (),
        tokens: bool = False,
    ) -> None:
        self.name = name
        self.endpoint = f"{address}:{port}"
        self.netns = netns
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
        self._tokens: TokenServer | None = None
        if tokens:
            self._tokens = TokenServer(
                folder / "tokens", address=address, port=_TOKEN_PORT, netns=netns, accounts=accounts
            )
        if accounts:
            settings["auth"] = self._auth(accounts)
        self._config.write_text(yaml.safe_dump(settings))
        self.start()

    def start(self) -> None:
        """Start the registry, and wait until it answers."""
        command = ["docker-registry", "serve", str(self._config)]
        self._process = Process(command, log=self._folder / "log", netns=self.netns)
        self._process.wait_until(self._answers, "the registry")

    @property
    def pid(self) -> int:
        """The pid of its process."""
        return self._process.pid

    def stop(self) -> None:
        """Stop the registry. Its token server goes on."""
        self._process.stop()

    def close(self) -> None:
        """Stop the registry and its token server for good."""
        self._process.stop()
        if self._tokens is not None:
            self._tokens.stop()

    def push(self, image: Image, repository: str, tag: str, account: Account | None = None) -> str:
        """Push an image byte for byte. Returns its full reference."""
        credentials = [] if account is None else ["--dest-creds", account.pair]
        run(
            [
                "skopeo",
                "--insecure-policy",
                "copy",
                "--all",
                "--preserve-digests",
                "--dest-tls-verify=false",
                *credentials,
                f"oci:{image.layout}:{image.tag}",
                f"docker://{self.endpoint}/{repository}:{tag}",
            ],
            netns=self.netns,
        )
        return f"{self.name}/{repository}:{tag}"

    def plant(self, content: bytes, repository: str, tag: str) -> str:
        """Put a manifest or an index into its storage, past its checks. Returns its full reference.

        docker-registry refuses an index of manifests that the repository does not have. Not every registry
        does, least of all an attacker's own.
        """
        digest = hashlib.sha256(content).hexdigest()
        storage = self._folder / "data/docker/registry/v2"
        manifests = storage / "repositories" / repository / "_manifests"
        links = (f"revisions/sha256/{digest}", f"tags/{tag}/current", f"tags/{tag}/index/sha256/{digest}")
        for path in (manifests / link / "link" for link in links):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"sha256:{digest}")
        blob = storage / "blobs/sha256" / digest[:2] / digest / "data"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        return f"{self.name}/{repository}:{tag}"

    def served(self) -> list[tuple[str, str, str, int]]:
        """(client address, method, URI, body bytes) of each answered request, from the registry's log."""
        return [(each.client, each.method, each.uri, each.body_bytes) for each in self.answers()]

    def answers(self) -> list[Answer]:
        """Each answered request, from the registry's log. It does not log the sizes of its 401s."""
        found: list[Answer] = []
        written = (self._folder / "log").read_text(errors="replace").rpartition("\n")[0]
        for line in written.splitlines():  # the last line may be half written
            unauthorized = _UNAUTHORIZED in line
            if not unauthorized and '"http.response.written"' not in line:
                continue
            entry = json.loads(line)
            answer = Answer(
                client=str(entry["http.request.remoteaddr"]).rpartition(":")[0],
                method=entry["http.request.method"],
                uri=str(entry["http.request.uri"]),
                status=401 if unauthorized else entry["http.response.status"],
                body_bytes=0 if unauthorized else entry["http.response.written"],
            )
            found.append(answer)
        return found

    def sent_bytes(self) -> int:
        """How many bytes it has sent so far, see `benchmarks.lab.network.sent_bytes`."""
        return sent_bytes(self.netns)

    def _auth(self, accounts: Sequence[Account]) -> dict[str, Any]:
        if self._tokens is not None:
            return {
                "token": {
                    "realm": self._tokens.realm,
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(self._tokens.certificate),
                }
            }
        path = self._folder / "htpasswd"
        path.write_text(htpasswd(tuple(accounts)))
        return {"htpasswd": {"realm": "the lab's registry", "path": str(path)}}

    def _answers(self) -> bool:
        host, _, port = self.endpoint.rpartition(":")

        def knock() -> bool:
            try:
                with socket.create_connection((host, int(port)), timeout=0.5):
                    return True
            except OSError:
                return False

        return inside(self.netns, knock)

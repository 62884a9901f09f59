"""How somebody without the right to a private image asks for it, and what an answer tells him of it."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from agent.oci.manifest import OCI_INDEX, OCI_MANIFEST
from benchmarks.lab.cluster import LOCAL_PORT, REGISTRY, Node, Reply
from benchmarks.lab.network import inside
from benchmarks.private.stage import Private

NOBODYS = f"sha256:{'5ead' * 16}"
"""The digest of nothing that anybody has."""

OPEN = f"ns={REGISTRY}"
"""The query that names the open registry."""


def ask(
    node: Node,
    path: str,
    *,
    method: str = "GET",
    host: str = "127.0.0.1",
    port: int = LOCAL_PORT,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request from inside a node's namespace, as root."""

    def request() -> Reply:
        with closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
            connection.request(method, path, headers=dict(headers or {}))
            reply = connection.getresponse()
            return Reply(status=reply.status, headers=dict(reply.getheaders()), body=reply.read())

    return inside(node.netns, request)


def told(reply: Reply, private: Private, asked: str) -> list[str]:
    """What an answer tells of a private image beyond what was asked: bytes, digests, that it exists."""
    found = []
    text = reply.body + json.dumps(reply.headers).encode()
    for digest in private.image.blobs:
        if digest not in asked and digest.encode() in text:
            found.append(f"{digest} by name")
        content = private.content(digest)
        if reply.body and (reply.body in content or content[:200] in reply.body):
            found.append(f"bytes of {digest}")
    if reply.status < 400:
        found.append(f"status {reply.status}")
    if "Docker-Content-Digest" in reply.headers or "ETag" in reply.headers:
        found.append("a digest in the head")
    if "WWW-Authenticate" in reply.headers:
        found.append("a challenge: containerd would answer with the pod's password")
    return found


_OWN = ("Date", "Shorthaul-Request", "Shorthaul-Source")  # what differs between any two answers


def shape(reply: Reply, digest: str) -> tuple[object, ...]:
    """An answer without what differs between any two, or names the digest that was asked for."""
    heads = {key: value for key, value in reply.headers.items() if key not in _OWN}
    body = reply.body.decode(errors="replace").replace(digest, "DIGEST")
    return reply.status, tuple(sorted(heads.items())), re.sub(r"\d+(\.\d+)? m?s", "TIME", body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A request for a private image. ``path`` has the image's digests and names in braces.

    ``like_nobodys``: the answer must be the one for a digest that nobody has: no oracle.
    """

    path: str
    headers: Mapping[str, str]
    like_nobodys: bool = True
    methods: tuple[str, ...] = ("GET", "HEAD")


def _attack(path: str, *, like_nobodys: bool = True, methods: str = "GET HEAD", **headers: str) -> Attack:
    heads = {name.replace("_", "-"): value for name, value in headers.items()}
    return Attack(path=path, headers=heads, like_nobodys=like_nobodys, methods=tuple(methods.split()))


ATTACKS = {
    # Under a name that is not the image's own, whoever asks gets nothing, by GET or HEAD.
    "manifest, another registry's name": _attack("/v2/any/thing/manifests/{top}?ns=docker.io"),
    "manifest, another registry, the same repository": _attack("/v2/{repository}/manifests/{top}?" + OPEN),
    "manifest, no registry": _attack("/v2/{repository}/manifests/{top}"),
    "manifest, an empty registry": _attack("/v2/{repository}/manifests/{top}?ns="),
    "manifest, the mirror as registry": _attack("/v2/{repository}/manifests/{top}?ns=127.0.0.1:30020"),
    "manifest, localhost as registry": _attack("/v2/{repository}/manifests/{top}?ns=localhost:30020"),
    "manifest, ::1 as registry": _attack("/v2/{repository}/manifests/{top}?ns=[::1]:30020"),
    "manifest, another repository of the registry": _attack(
        "/v2/globex/thing/manifests/{top}?ns={registry}", like_nobodys=False
    ),
    "manifest as a blob, another registry's name": _attack("/v2/any/thing/blobs/{top}?ns=docker.io"),
    "manifest as a blob, no registry": _attack("/v2/{repository}/blobs/{top}"),
    "manifest as a blob, a range": _attack("/v2/any/thing/blobs/{top}?ns=docker.io", Range="bytes=0-99"),
    "manifest, a range": _attack("/v2/any/thing/manifests/{top}?" + OPEN, Range="bytes=0-9"),
    "manifest, conditional": _attack("/v2/any/thing/manifests/{top}?" + OPEN, If_None_Match='"{top}"'),
    "manifest, conditional on anything": _attack("/v2/any/thing/manifests/{top}?" + OPEN, If_None_Match="*"),
    "manifest, Accept of an index": _attack("/v2/any/thing/manifests/{top}?" + OPEN, Accept=OCI_INDEX),
    "manifest, Accept of nothing": _attack("/v2/any/thing/manifests/{top}?" + OPEN, Accept="text/html"),
    "manifest, with the header of agents": _attack(
        "/v2/any/thing/manifests/{top}?" + OPEN, Shorthaul_Authorize="registry"
    ),
    "config, another registry's name": _attack("/v2/any/thing/blobs/{config}?ns=docker.io"),
    "config as a manifest": _attack("/v2/any/thing/manifests/{config}?ns=docker.io"),
    "config, no registry": _attack("/v2/{repository}/blobs/{config}"),
    "layer, another registry's name": _attack("/v2/any/thing/blobs/{layer}?ns=docker.io"),
    "layer, no registry": _attack("/v2/{repository}/blobs/{layer}"),
    "layer, a range": _attack("/v2/any/thing/blobs/{layer}?ns=docker.io", Range="bytes=0-99"),
    "layer, the end of a range": _attack("/v2/any/thing/blobs/{layer}?ns=docker.io", Range="bytes=-99"),
    # Two registries, or one that is spelt otherwise.
    "two registries, the open one first": _attack(
        "/v2/{repository}/manifests/{top}?" + OPEN + "&ns={registry}", like_nobodys=False
    ),
    "two registries, the open one last, HEAD": _attack(
        "/v2/{repository}/manifests/{top}?ns={registry}&" + OPEN, like_nobodys=False, methods="HEAD"
    ),
    "another port of the registry": _attack("/v2/{repository}/manifests/{top}?ns={registry}:5000"),
    "a space before the registry": _attack(
        "/v2/{repository}/manifests/{top}?ns=%20{registry}", like_nobodys=False
    ),
    "a NUL behind the registry": _attack(
        "/v2/{repository}/manifests/{top}?ns={registry}%00", like_nobodys=False
    ),
    # Under its own name, every HEAD goes to the registry, and so does every tag.
    "own name, HEAD": _attack("/v2/{repository}/manifests/{top}?ns={registry}", methods="HEAD"),
    "own name, HEAD as a blob": _attack("/v2/{repository}/blobs/{top}?ns={registry}", methods="HEAD"),
    "own name, HEAD of the config": _attack("/v2/{repository}/blobs/{config}?ns={registry}", methods="HEAD"),
    "own name, HEAD of a layer": _attack("/v2/{repository}/blobs/{layer}?ns={registry}", methods="HEAD"),
    "own name, HEAD, conditional": _attack(
        "/v2/{repository}/manifests/{top}?ns={registry}", methods="HEAD", If_None_Match='"{top}"'
    ),
    "own name, HEAD, Accept of nothing": _attack(
        "/v2/{repository}/manifests/{top}?ns={registry}", methods="HEAD", Accept="text/html"
    ),
    "own name, HEAD, a range": _attack(
        "/v2/{repository}/manifests/{top}?ns={registry}", methods="HEAD", Range="bytes=0-9"
    ),
    "own name in capitals, HEAD": _attack("/v2/{repository}/manifests/{top}?ns={REGISTRY}", methods="HEAD"),
    "own name with a dot behind, HEAD": _attack(
        "/v2/{repository}/manifests/{top}?ns={registry}.", methods="HEAD"
    ),
    "own name, encoded, HEAD": _attack("/v2/{repository}/manifests/{top}?ns={encoded}", methods="HEAD"),
    "own name, a letter encoded": _attack(
        "/v2/acme%2F{image}/manifests/{top}?ns={registry}", like_nobodys=False, methods="HEAD"
    ),
    "own name, dots in the path": _attack(
        "/v2/any/../{repository}/manifests/{top}?ns={registry}", like_nobodys=False, methods="HEAD"
    ),
    "own name, dots encoded": _attack(
        "/v2/any/%2e%2e/{repository}/manifests/{top}?ns={registry}", like_nobodys=False, methods="HEAD"
    ),
    "own name, two slashes": _attack(
        "/v2//{repository}/manifests/{top}?ns={registry}", like_nobodys=False, methods="HEAD"
    ),
    "own name with its port, HEAD": _attack(
        "/v2/{repository}/manifests/{top}?ns={registry}:443", methods="HEAD"
    ),
    "tag": _attack("/v2/{repository}/manifests/v1?ns={registry}", like_nobodys=False),
    "tag, conditional": _attack(
        "/v2/{repository}/manifests/v1?ns={registry}", like_nobodys=False, If_None_Match='"{top}"'
    ),
    "tag, no registry": _attack("/v2/{repository}/manifests/v1", like_nobodys=False),
    "tag, another registry": _attack("/v2/{repository}/manifests/v1?" + OPEN, like_nobodys=False),
    "tag, the mirror as registry": _attack(
        "/v2/{repository}/manifests/v1?ns=127.0.0.1:30020", like_nobodys=False
    ),
    "list of tags": _attack("/v2/{repository}/tags/list?ns={registry}", like_nobodys=False),
    "list of tags, no registry": _attack("/v2/{repository}/tags/list", like_nobodys=False),
    "catalog": _attack("/v2/_catalog", like_nobodys=False),
}


def make_attack(
    node: Node, attack: Attack, method: str, private: Private, digests: Mapping[str, str]
) -> tuple[str, Reply]:
    """Send the request with these digests. Returns its path, and the answer."""
    names = {
        "repository": private.repository,
        "image": private.repository.partition("/")[2],
        "registry": private.registry,
        "REGISTRY": private.registry.upper(),
        "encoded": private.registry.replace(".", "%2E"),
    }
    path = attack.path.format(**names, **digests)
    headers = {key: value.format(**digests) for key, value in attack.headers.items()}
    return path, ask(node, path, method=method, headers=headers)


def is_no_oracle(
    node: Node, attack: Attack, method: str, private: Private, digests: Mapping[str, str]
) -> bool:
    """Whether the answer is the same for the private image as for one that nobody has."""
    path, reply = make_attack(node, attack, method, private, digests)
    _, nobodys = make_attack(node, attack, method, private, dict.fromkeys(digests, NOBODYS))
    (digest,) = (each for each in digests.values() if each in path)
    return shape(reply, digest) == shape(nobodys, NOBODYS)


def index_of(private: Private) -> bytes:
    """An index of an attacker's that lists somebody else's manifest for this platform."""
    digest = private.child or private.top
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": digest,
        "size": len(private.content(digest)),
        "platform": {"architecture": "amd64", "os": "linux"},
    }
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()


def manifest_of(private: Private) -> bytes:
    """A manifest of an attacker's that lists somebody else's config and layers."""
    document = json.loads(private.content(private.child or private.top))
    return json.dumps({**document, "annotations": {"by": "an attacker"}}).encode()


BORROWED = {"index": index_of, "manifest": manifest_of}


@contextmanager
def fake_mirror(node: Node, port: int, challenge: str | None) -> Iterator[list[str]]:
    """A mirror that refuses everything, and keeps the heads of the requests that it got."""
    heads: list[str] = []
    listener = inside(node.netns, lambda: socket.create_server(("127.0.0.1", port)))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                heads.append(connection.recv(65536).decode())
                status = "404 Not Found" if challenge is None else f"401 No\r\nWWW-Authenticate: {challenge}"
                connection.sendall(
                    f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
                )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()

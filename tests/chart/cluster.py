"""A double of an API server, as far as Helm needs one: discovery, and objects by their paths.

It keeps what it is given, fills nothing in and refuses nothing.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Manifest = dict[str, Any]

_KUBECONFIG = """apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: t}}}}]
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
"""
_KINDS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "namespaces": ("Namespace", False),
        "secrets": ("Secret", True),
        "services": ("Service", True),
        "configmaps": ("ConfigMap", True),
        "serviceaccounts": ("ServiceAccount", True),
        "pods": ("Pod", True),
    },
    "apps/v1": {"daemonsets": ("DaemonSet", True), "deployments": ("Deployment", True)},
    "rbac.authorization.k8s.io/v1": {
        "clusterroles": ("ClusterRole", False),
        "clusterrolebindings": ("ClusterRoleBinding", False),
        "roles": ("Role", True),
        "rolebindings": ("RoleBinding", True),
    },
    "networking.k8s.io/v1": {"networkpolicies": ("NetworkPolicy", True)},
}
"""What the chart is made of: each version's resources, their kinds, and whether they are in a namespace."""

_VERBS = ["get", "list", "create", "patch", "delete"]
_VALIDATED = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]


def _place(version: str) -> str:
    return f"api/{version}" if version == "v1" else f"apis/{version}"


def _resources(version: str) -> Manifest:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": [
            {"name": name, "kind": kind, "namespaced": namespaced, "verbs": _VERBS}
            for name, (kind, namespaced) in _KINDS[version].items()
        ],
    }


def _schemas(version: str) -> Manifest:
    """That this server checks fields itself, so that Helm does not."""
    group, _, number = version.rpartition("/")
    paths = {
        f"/{kind}": {
            "patch": {
                "x-kubernetes-group-version-kind": {"group": group, "version": number, "kind": kind},
                "parameters": _VALIDATED,
            }
        }
        for kind, _ in _KINDS[version].values()
    }
    return {"openapi": "3.0.0", "info": {"title": "a double", "version": "1"}, "paths": paths}


def _discovery() -> dict[str, Manifest]:
    groups = []
    for version in (each for each in _KINDS if "/" in each):
        group, number = version.split("/")
        this = {"groupVersion": version, "version": number}
        groups.append({"name": group, "versions": [this], "preferredVersion": this})
    found: dict[str, Manifest] = {
        "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        "/openapi/v3": {
            "paths": {
                _place(each): {"serverRelativeURL": f"/openapi/v3/{_place(each)}?hash=1"} for each in _KINDS
            }
        },
    }
    for version in _KINDS:
        found[f"/{_place(version)}"] = _resources(version)
        found[f"/openapi/v3/{_place(version)}"] = _schemas(version)
    return found


_DISCOVERY = _discovery()
_SYSTEM = {
    "/api/v1/namespaces/kube-system": {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "kube-system"},
    }
}


@dataclass(slots=True)
class Objects:
    """What the cluster has, by the paths of the API. ``writes``: the methods and paths of all changes."""

    all: dict[str, Manifest]
    writes: list[tuple[str, str]] = field(default_factory=list)

    def get(self, path: str) -> Manifest | None:
        """An object, a list of objects, or what discovery says."""
        if path in _DISCOVERY or path in self.all:
            return _DISCOVERY.get(path) or self.all[path]
        name = path.rpartition("/")[2]
        for version, kinds in _KINDS.items():
            if name in kinds:
                items = [each for key, each in self.all.items() if key.rpartition("/")[0] == path]
                kind = f"{kinds[name][0]}List"
                return {"kind": kind, "apiVersion": version, "metadata": {}, "items": items}
        return None

    def put(self, method: str, path: str, made: Manifest) -> Manifest:
        """Make an object, or put another one in its place."""
        path = f"{path}/{made['metadata']['name']}" if method == "POST" else path
        self.writes.append((method, path))
        made["metadata"].setdefault("uid", path)
        made["metadata"]["resourceVersion"] = str(len(self.writes))
        self.all[path] = made
        return made

    def delete(self, path: str) -> Manifest | None:
        """Remove an object."""
        self.writes.append(("DELETE", path))
        return self.all.pop(path, None)


@contextmanager
def cluster(objects: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A kubeconfig for a cluster that has these objects, by the paths of the API."""
    with changing_cluster({path: dict(each) for path, each in objects.items()}) as (kubeconfig, _):
        yield kubeconfig


@contextmanager
def changing_cluster(objects: Mapping[str, Manifest]) -> Iterator[tuple[str, Objects]]:
    """The same, with what is in it."""
    kept = Objects({**_SYSTEM, **objects})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(kept.get(self._path))

        def do_POST(self) -> None:
            self._answer(kept.put(self.command, self._path, self._body()))

        do_PATCH = do_PUT = do_POST  # noqa: N815 # their names

        def do_DELETE(self) -> None:
            self._body()
            self._answer(kept.delete(self._path))

        @property
        def _path(self) -> str:
            return self.path.partition("?")[0]

        def _body(self) -> Manifest:
            found: Manifest = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
            return found

        def _answer(self, answer: Manifest | None) -> None:
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
            body = json.dumps({**missing, "code": 404} if answer is None else answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True  # connections are kept alive by who opened them
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield _KUBECONFIG.format(port=server.server_address[1]), kept
        finally:
            server.shutdown()
            thread.join()

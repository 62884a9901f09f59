"""A double of an API server, as far as Helm's `lookup` needs one: discovery, and objects by their paths."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_KUBECONFIG = """apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: t}}}}]
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
"""


def _resources(version: str, *, kinds: Mapping[str, str]) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": [
            {"name": name, "kind": kind, "namespaced": False, "verbs": ["get", "list"]}
            for name, kind in kinds.items()
        ],
    }


_RBAC = "rbac.authorization.k8s.io"
_DISCOVERY: dict[str, dict[str, Any]] = {
    "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            {
                "name": _RBAC,
                "versions": [{"groupVersion": f"{_RBAC}/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": f"{_RBAC}/v1", "version": "v1"},
            }
        ],
    },
    "/api/v1": _resources("v1", kinds={"namespaces": "Namespace"}),
    f"/apis/{_RBAC}/v1": _resources(f"{_RBAC}/v1", kinds={"clusterroles": "ClusterRole"}),
}


@contextmanager
def cluster(objects: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A kubeconfig for a cluster that has these objects, by the paths of the API."""
    answers = {**_DISCOVERY, **objects}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            missing = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": "NotFound",
                "code": 404,
            }
            body = json.dumps(missing if answer is None else answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # its name
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield _KUBECONFIG.format(port=server.server_address[1])
        finally:
            server.shutdown()
            thread.join()

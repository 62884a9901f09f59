"""A person's way to the API server: the kubeconfig that their kubectl uses.

It knows tokens, certificates, and commands that give either (as the clusters of EKS, GKE and AKS have them).
What it does not know it says, and `kubectl proxy` stands in for it.
Source: kubernetes.io/docs/reference/config-api/kubeconfig.v1 and client-authentication.v1.
"""

import base64
import binascii
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.members.kubernetes.client import Access

_PROXY = "run `kubectl proxy` beside it, and name --api http://127.0.0.1:8001"
_COMMAND_S = 60.0
_FILE_MAX_BYTES = 4 << 20
_NOT_TAKEN = ("insecure-skip-tls-verify", "proxy-url", "tls-server-name", "auth-provider", "username", "as")


class KubeconfigInvalid(Exception):
    """A kubeconfig says no way to the API server that is taken. ``hint``: what to do."""

    def __init__(self, message: str, *, hint: str = _PROXY) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One context of a kubeconfig. ``folder``: what its relative paths begin at.

    ``cluster``, ``user``: as the file has them. ``namespace``: None if it names none.
    """

    name: str
    folder: Path
    cluster: Mapping[str, Any]
    user: Mapping[str, Any]
    namespace: str | None


def paths(environment: Mapping[str, str], named: Path | None = None) -> tuple[Path, ...]:
    """The files that kubectl would read."""
    if named is not None:
        return (named,)
    listed = [Path(each) for each in environment.get("KUBECONFIG", "").split(os.pathsep) if each]
    return tuple(listed) or (Path(environment.get("HOME", "/")) / ".kube" / "config",)


def load(files: Sequence[Path], context: str | None = None) -> Context:
    """A context, or the current one. What several files say is joined; who says it first counts.

    Raises `KubeconfigInvalid`.
    """
    read = [(file, _read(file)) for file in files if file.exists()]
    if not read:
        where = ", ".join(map(str, files))
        raise KubeconfigInvalid(
            f"no kubeconfig at {where}", hint=f"name one with --kubeconfig, or {_PROXY.removeprefix('run ')}"
        )
    current = context or next((name for _, each in read if (name := each.get("current-context"))), None)
    if not isinstance(current, str):
        raise KubeconfigInvalid(
            "the kubeconfig has no current context", hint="choose one with --context, or `kubectl config use`"
        )
    found, _ = _entry(read, "contexts", "context", current)
    cluster, folder = _entry(read, "clusters", "cluster", str(found.get("cluster")))
    user, own = _entry(read, "users", "user", str(found.get("user"))) if found.get("user") else ({}, folder)
    unknown = [key for key in _NOT_TAKEN if cluster.get(key) or user.get(key)]
    if unknown:
        raise KubeconfigInvalid(f"context {current}: {', '.join(unknown)} is not supported here")
    if not isinstance(cluster.get("server"), str):
        raise KubeconfigInvalid(f"context {current}: its cluster has no server")
    namespace = found.get("namespace")
    return Context(
        name=current,
        folder=folder,
        cluster=_absolute(cluster, folder),
        user=_absolute(user, own),
        namespace=namespace if isinstance(namespace, str) else None,
    )


@contextmanager
def opened(context: Context) -> Iterator[Access]:
    """The access that a context describes. Its keys are in files of this user alone, until the end.

    Runs the command that gives the credentials, if there is one. Raises `KubeconfigInvalid`.
    """
    user = dict(context.user)
    if "exec" in user:
        user |= _asked(context)
    with tempfile.TemporaryDirectory(prefix="shorthaul-") as name:
        folder = Path(name)
        yield Access(
            url=str(context.cluster["server"]).rstrip("/"),
            ca_file=_file(context.cluster, "certificate-authority", folder),
            token_file=_path(user.get("tokenFile")),
            token=str(user.get("token") or ""),
            certificate_file=_file(user, "client-certificate", folder),
            key_file=_file(user, "client-key", folder),
        )


def _asked(context: Context) -> dict[str, str]:
    """The credentials that the context's command prints, under the names of a kubeconfig."""
    said = context.user["exec"]
    if not isinstance(said, Mapping) or not isinstance(said.get("command"), str):
        raise KubeconfigInvalid(f"context {context.name}: exec names no command")
    spec: dict[str, Any] = {"interactive": False}
    if said.get("provideClusterInfo"):
        told = ("server", "certificate-authority-data")
        spec["cluster"] = {key: context.cluster[key] for key in told if key in context.cluster}
    asked = {"apiVersion": said.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
    more = {each["name"]: each["value"] for each in said.get("env") or () if {"name", "value"} <= set(each)}
    command = [said["command"], *map(str, said.get("args") or ())]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **more, "KUBERNETES_EXEC_INFO": json.dumps(asked)},
            stdout=subprocess.PIPE,
            timeout=_COMMAND_S,
            check=True,
        )
        status = json.loads(done.stdout)["status"]
        found = {
            "token": status.get("token") or "",
            "client-certificate-data": _encoded(status.get("clientCertificateData")),
            "client-key-data": _encoded(status.get("clientKeyData")),
        }
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError) as error:
        hint = said.get("installHint")
        raise KubeconfigInvalid(
            f"context {context.name}: {command[0]} gives no credentials: {error}",
            hint=str(hint).strip().replace("\n", " ") if hint else _PROXY,
        ) from error
    return {key: value for key, value in found.items() if value}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        with file.open("rb") as opened_file:
            document = yaml.safe_load(opened_file.read(_FILE_MAX_BYTES))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise KubeconfigInvalid(f"{file}: {error}", hint="is it the file that kubectl uses?") from error
    if not isinstance(document, Mapping):
        raise KubeconfigInvalid(f"{file}: no kubeconfig", hint="is it the file that kubectl uses?")
    return document


def _entry(
    read: Sequence[tuple[Path, Mapping[str, Any]]], section: str, kind: str, name: str
) -> tuple[Mapping[str, Any], Path]:
    """An entry of a section by its name, and the folder of its file."""
    for file, document in read:
        for each in document.get(section) or ():
            if isinstance(each, Mapping) and each.get("name") == name and isinstance(each.get(kind), Mapping):
                return each[kind], file.resolve().parent
    raise KubeconfigInvalid(f"the kubeconfig has no {kind} {name}", hint="`kubectl config view` shows all")


def _absolute(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    of_files = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
    return {key: str(folder / value) if key in of_files and value else value for key, value in entry.items()}


def _path(value: object) -> Path | None:
    return Path(value) if isinstance(value, str) and value else None


def _file(entry: Mapping[str, Any], name: str, folder: Path) -> Path | None:
    """The file of a certificate or key. What the entry has itself is written to one."""
    data = entry.get(f"{name}-data")
    if not data:
        return _path(entry.get(name))
    try:
        content = base64.b64decode(str(data), validate=True)
    except binascii.Error as error:
        raise KubeconfigInvalid(
            f"{name}-data is no base64", hint="`kubectl config view --raw` shows it"
        ) from (error)
    file = folder / name
    file.touch(mode=0o600)
    file.write_bytes(content)
    return file


def _encoded(text: object) -> str:
    return base64.b64encode(text.encode()).decode() if isinstance(text, str) and text else ""

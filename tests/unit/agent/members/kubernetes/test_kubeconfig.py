"""The kubeconfig of a person: which context counts, what proves who they are, and what is not taken."""

import base64
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.members.kubernetes.kubeconfig import KubeconfigInvalid, load, opened, paths

CA = b"-----BEGIN CERTIFICATE-----"


def config(folder: Path, user: dict[str, Any], name: str = "one", **cluster: Any) -> Path:
    """A kubeconfig with one context of this name."""
    told = {"server": "https://10.0.0.1:6443/", "certificate-authority-data": _encoded(CA), **cluster}
    document = {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u", "namespace": "images"}}],
        "clusters": [{"name": "c", "cluster": told}],
        "users": [{"name": "u", "user": user}],
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_token_and_certificates_are_used_and_their_files_are_gone_afterwards(tmp_path: Path) -> None:
    user = {"token": "t", "client-certificate-data": _encoded(b"cert"), "client-key-data": _encoded(b"key")}
    context = load([config(tmp_path, user)])
    assert context.namespace == "images"
    with opened(context) as access:
        assert (access.url, access.token) == ("https://10.0.0.1:6443", "t")
        files = [access.ca_file, access.certificate_file, access.key_file]
        assert [each.read_bytes() for each in files if each] == [CA, b"cert", b"key"]
        assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in files if each)
    assert not any(each.exists() for each in files if each)


def test_token_is_not_in_what_is_printed_of_an_access(tmp_path: Path) -> None:
    with opened(load([config(tmp_path, {"token": "very-secret"})])) as access:
        assert "very-secret" not in repr(access)


def test_relative_paths_begin_at_the_file_that_has_them(tmp_path: Path) -> None:
    user = {"client-certificate": "c.pem", "client-key": "k.pem", "tokenFile": "t"}
    with opened(load([config(tmp_path, user)])) as access:
        assert access.certificate_file == tmp_path / "c.pem"
        assert access.key_file == tmp_path / "k.pem"
        assert access.token_file == tmp_path / "t"


def test_command_gives_the_credentials_and_is_told_what_for(tmp_path: Path) -> None:
    script = tmp_path / "login"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "asked = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "token = '-'.join([os.environ['WHO'], sys.argv[1], asked['spec']['cluster']['server']])\n"
        "print(json.dumps({'apiVersion': asked['apiVersion'], 'status': {'token': token}}))\n"
    )
    script.chmod(0o755)
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(script),
        "args": ["x"],
        "env": [{"name": "WHO", "value": "ann"}],
        "provideClusterInfo": True,
    }
    with opened(load([config(tmp_path, {"exec": command})])) as access:
        assert access.token == "ann-x-https://10.0.0.1:6443/"


def test_command_that_is_not_there_is_told_with_its_own_hint(tmp_path: Path) -> None:
    command = {"command": str(tmp_path / "none"), "installHint": "install it\nfrom there"}
    with (
        pytest.raises(KubeconfigInvalid, match="gives no credentials") as raised,
        opened(load([config(tmp_path, {"exec": command})])),
    ):
        pass
    assert raised.value.hint == "install it from there"


@pytest.mark.parametrize(
    ("user", "cluster"),
    [
        ({"username": "a", "password": "b"}, {}),
        ({"auth-provider": {"name": "gcp"}}, {}),
        ({"token": "t"}, {"insecure-skip-tls-verify": True}),
        ({"token": "t"}, {"proxy-url": "http://proxy:3128"}),
        ({"token": "t"}, {"tls-server-name": "other"}),
    ],
)
def test_what_is_not_supported_is_named_and_kubectls_proxy_stands_in(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any]
) -> None:
    with pytest.raises(KubeconfigInvalid, match="is not supported here") as raised:
        load([config(tmp_path, user, **cluster)])
    assert "kubectl proxy" in raised.value.hint


def test_context_is_the_one_that_is_named_or_the_current_one_of_the_first_file(tmp_path: Path) -> None:
    files = [config(tmp_path, {"token": "1"}, "one"), config(tmp_path, {"token": "2"}, "two")]
    assert load(files).name == "one"
    assert load(files, "two").name == "two"
    with pytest.raises(KubeconfigInvalid, match="no context three"):
        load(files, "three")


def test_files_are_those_that_kubectl_reads(tmp_path: Path) -> None:
    assert paths({"HOME": "/home/ann"}) == (Path("/home/ann/.kube/config"),)
    assert paths({"KUBECONFIG": os.pathsep.join(["/a", "", "/b"])}) == (Path("/a"), Path("/b"))
    assert paths({"KUBECONFIG": "/a"}, Path("/c")) == (Path("/c"),)
    with pytest.raises(KubeconfigInvalid, match="no kubeconfig at") as raised:
        load([tmp_path / "none"])
    assert "--kubeconfig" in raised.value.hint


@pytest.mark.parametrize("text", ["[", "[]", "\x00", "current-context: 5"])
def test_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(KubeconfigInvalid):
        load([file])

"""The doctor in a rendered pod knows what that pod's own `configure` wrote: it finds no fault in it."""

import os
import shlex
from pathlib import Path
from string import Template
from typing import Any

import pytest

from agent.cli import main
from agent.config.load import make_settings
from agent.hosts.flavours import flavour
from agent.keyring import new_key
from agent.preflight.check import Status
from agent.preflight.containerdfiles import find_containerd, look_at_told
from agent.preflight.doctor import name_of, shown_tokens
from agent.preflight.keys import key_file, look_at_key
from agent.preflight.registries import told
from tests.chart.rendering import NODE, configuration, containers, environment
from tests.chart.samples import SAMPLES

CONFIGURED = {name: values for name, values in SAMPLES.items() if "configure" in containers(values)}
SERVICE = {"SHORTHAUL_LOCAL_SERVICE_HOST": "10.96.0.9"}


@pytest.mark.parametrize("name", CONFIGURED)
def test_no_fault_is_found_in_what_the_pod_itself_wrote(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values: dict[str, Any] = CONFIGURED[name]
    rendered = containers(values)
    container = rendered["configure"]
    script = Template(container["args"][0]).safe_substitute(environment(container, NODE) | SERVICE)
    words = [word for word in shlex.split(script) if word != "--dry-run"]
    words[words.index("/host")] = str(tmp_path)
    key = tmp_path / "keys"
    key.write_text(f"{new_key()}\n")
    key.chmod(0o400)
    if "--key-file" in words:
        words[words.index("/etc/shorthaul-key/keys")] = str(key)
    assert words[:3] == ["exec", "shorthaul", "configure"]
    kind = flavour(words[words.index("--flavour") + 1])
    certs_d = words[words.index("--certs-d") + 1] if "--certs-d" in words else str(kind.certs_d)
    config = tmp_path / str(kind.config).removeprefix("/")
    config.parent.mkdir(parents=True)
    table = '[plugins."io.containerd.grpc.v1.cri".registry]'
    config.write_text(f'version = 2\n{table}\n  config_path = "{certs_d}"\n')
    (tmp_path / certs_d.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
    assert main(words[2:]) == 0, capsys.readouterr()

    lines = environment(rendered["agent"], NODE)["SHORTHAUL_SET"].splitlines()
    settings = make_settings(
        configuration(values), [line.strip() for line in lines if line.strip()], base=tmp_path
    )
    hosts_dir = Path(str(settings.probe.hosts_dir).replace("/host", str(tmp_path), 1))
    node = find_containerd(tmp_path, hosts_dir=hosts_dir)
    assert str(node.certs_d) == certs_d
    containerd = look_at_told(node, "2.x")
    found = told(containerd, lambda host: name_of(host, settings), shares_arriving=True)
    assert [check for check in found if check.status is not Status.GOOD] == []
    if settings.peering.key is not None:
        found = shown_tokens(settings, containerd, key_facts := look_at_key(key))
        assert [check for check in found if check.status is not Status.GOOD] == []
        assert (found != ()) is ("--key-file" in words)
        assert [each.status for each in key_file(key_facts, is_open=False)] == [Status.GOOD]
    assert os.listdir(hosts_dir)  # noqa: PTH208

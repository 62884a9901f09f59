"""Whether containerd will use the files, and the exact lines that make it do so."""

import tomllib
from pathlib import Path

import pytest

from agent.hosts.advice import Advice, advise
from agent.hosts.flavours import flavour
from agent.hosts.registry import ConfigFile, ContainerdConfig
from agent.hosts.toml import parse
from tests.unit.agent.hosts.configs import ONE, THREE, TWO

CERTS_D, CONFIG = Path("/etc/containerd/certs.d"), Path("/etc/containerd/config.toml")


def config(text: str | None) -> ContainerdConfig:
    files = () if text is None else (ConfigFile(path=CONFIG, content=parse(text)),)
    return ContainerdConfig(path=CONFIG, files=files)


def advice(text: str | None, release: str = "") -> Advice:
    return advise(config(text), CERTS_D, flavour("containerd"), release=release)


@pytest.mark.parametrize(
    "text",
    [
        "version = 2\n" + TWO.format(CERTS_D),
        "version = 3\n" + THREE.format(CERTS_D),
        "version = 2\n" + TWO.format(f"{CERTS_D}/"),
        ONE.format(CERTS_D),
    ],
)
def test_one_directory_is_read_and_nothing_is_to_be_done(text: str) -> None:
    found = advice(text)
    assert (found.used, found.lines) == (True, ())
    assert str(CERTS_D) in found.why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "there is no /etc/containerd/config.toml"),
        ("", "no config_path"),
        ("version = 2\n", "no config_path"),
        ("version = 3\n", "no config_path"),
        ("version = 3\n" + TWO.format(CERTS_D), "no config_path"),
        (TWO.format(CERTS_D), "no `version` line"),
        ("version = 2\n" + TWO.format("/other"), "config_path is /other"),
        ("version = 3\n" + THREE.format(f"{CERTS_D}:/b"), "a list"),
        ("version = 2\n" + TWO.format(f"{CERTS_D}:/b"), "containerd 2.x: config_path is a list"),
        ("version = 2\n" + THREE.format(CERTS_D), "containerd 1.x: "),
    ],
)
def test_what_is_wrong_is_said_and_the_lines_put_it_right(text: str | None, words: str) -> None:
    found = advice(text)
    assert found.used is False
    assert words in found.why
    assert found.where == f"write into {CONFIG}"
    assert "systemctl restart containerd" in found.then
    told = tomllib.loads("\n".join(found.lines))
    lines = f"{'version = 2' if 'version' in told else (text or '').partition(chr(10))[0]}\n"
    lines += "\n".join(line for line in found.lines if not line.startswith("version"))
    assert advice(lines).used is True


def test_a_list_is_fine_for_a_containerd_that_is_known_to_be_1x() -> None:
    text = "version = 2\n" + TWO.format(f"{CERTS_D}:/b")
    assert advice(text, "1.x").used is True
    assert advice(text, "2.x").used is False


def test_a_list_is_read_by_2x_while_it_pulls_in_the_old_way() -> None:
    plugin = '[plugins."io.containerd.cri.v1.images"]\ndiscard_unpacked_layers = true\n'
    found = advice(f"version = 3\n{plugin}" + THREE.format(f"{CERTS_D}:/b"))
    assert found.used is True
    assert "only while discard_unpacked_layers is true" in found.why


def test_tables_that_exclude_config_path_have_to_go_first() -> None:
    text = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\nendpoint = ["https://m"]\n'
    assert advice(text).where.startswith("first move registry.mirrors")
    both = text + "\n" + TWO.format(CERTS_D)
    assert "exclude each other" in advice(both).why
    assert advice(both).used is False


def test_what_cannot_be_read_is_not_known_and_the_lines_are_still_said() -> None:
    broken = ContainerdConfig(path=CONFIG, files=(ConfigFile(path=CONFIG, problem="not mounted here"),))
    found = advise(broken, CERTS_D, flavour("containerd"))
    assert found.used is None
    assert "not mounted here" in found.why
    assert any("config_path" in line for line in found.lines)


def test_where_a_tool_writes_the_configuration_the_advice_is_about_its_source() -> None:
    found = advise(config(""), CERTS_D, flavour("k3s"))
    assert "config-v3.toml.tmpl" in found.where
    assert "restart k3s" in found.then


def test_another_name_of_the_directory_is_the_directory() -> None:
    text = "version = 2\n" + TWO.format("/var/snap/7/certs.d")
    found = advise(config(text), CERTS_D, flavour("containerd"), same=lambda one, other: True)
    assert found.used is True

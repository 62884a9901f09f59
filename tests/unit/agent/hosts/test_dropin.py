"""A drop-in is written only where no containerd can be harmed by it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.hosts.dropin import NAME, DropIn, is_ours, plan_drop_in
from agent.hosts.flavours import Flavour, flavour
from agent.hosts.registry import ConfigFile, ContainerdConfig
from agent.hosts.toml import parse
from tests.unit.agent.hosts.configs import CGROUP

CERTS_D, CONFIG = Path("/etc/containerd/certs.d"), Path("/etc/containerd/config.toml")
IMPORTS = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
PLAIN = flavour("containerd")


def plan(
    files: Mapping[str, str],
    release: str = "",
    kind: Flavour = PLAIN,
    first: Mapping[Path, str] | None = None,
) -> DropIn:
    found = tuple(ConfigFile(path=Path(path), content=parse(text)) for path, text in files.items())
    config = ContainerdConfig(path=Path(next(iter(files), str(CONFIG))), files=found)
    return plan_drop_in(config, CERTS_D, kind, release=release, first_lines=first or {})


@pytest.mark.parametrize("version", [2, 3, 4])
def test_it_has_the_version_of_config_toml_and_sets_the_path_only(version: int) -> None:
    made = plan({str(CONFIG): f"version = {version}\n{IMPORTS}"})
    assert made.path == Path("/etc/containerd/conf.d") / NAME
    said = tomllib.loads(made.text)
    assert said["version"] == version
    (plugin,) = said["plugins"].values()
    assert plugin == {"registry": {"config_path": str(CERTS_D)}}
    assert is_ours(made.text)
    assert not is_ours("version = 2\n")


def test_none_is_written_where_1x_would_lose_its_other_settings() -> None:
    files = {str(CONFIG): f"version = 2\n{IMPORTS}{CGROUP}"}
    assert "containerd 1.x would replace" in plan(files).why_not
    assert plan(files, "2.x").path is not None, "2.x merges"
    assert "containerd 1.x would replace" in plan(files, "1.x").why_not
    beside = {
        str(CONFIG): f"version = 2\n{IMPORTS}",
        "/etc/containerd/conf.d/nvidia.toml": f"version = 2\n{CGROUP}",
    }
    assert "nvidia.toml" in plan(beside).why_not


def test_none_is_written_where_a_later_file_has_the_last_word() -> None:
    later = '[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = ""\n'
    files = {
        str(CONFIG): f"version = 3\n{IMPORTS}",
        "/etc/containerd/conf.d/zz.toml": f"version = 3\n{later}",
    }
    assert "read after it" in plan(files).why_not


@pytest.mark.parametrize(
    "line",
    ['registry.mirrors."docker.io".endpoint = ["https://m"]', 'registry.configs."a".tls.ca_file = "x"'],
)
def test_none_is_written_beside_tables_with_which_the_plugin_would_not_start(line: str) -> None:
    files = {str(CONFIG): f'version = 3\n{IMPORTS}[plugins."io.containerd.cri.v1.images"]\n{line}\n'}
    assert "does not start" in plan(files).why_not


@pytest.mark.parametrize(
    "imports",
    [
        "",
        'imports = ["/etc/containerd/other.toml"]\n',
        'imports = ["conf.d/*.toml"]\n',  # 1.6 looks below its working directory
        'imports = ["/etc/*/conf.d/*.toml"]\n',
        'imports = ["/etc/containerd/conf.d/*.conf"]\n',
        "imports = 3\n",
    ],
)
def test_none_is_written_where_it_would_not_be_imported(imports: str) -> None:
    assert "imports no directory" in plan({str(CONFIG): f"version = 2\n{imports}"}).why_not


def test_there_has_to_be_a_config_toml() -> None:
    assert "there is no" in plan({}).why_not


def test_what_is_not_known_is_not_touched() -> None:
    config = ContainerdConfig(path=CONFIG, files=(ConfigFile(path=CONFIG, problem="not TOML"),))
    assert "not TOML" in plan_drop_in(config, CERTS_D, PLAIN, first_lines={}).why_not


def test_k0s_merges_files_itself_as_long_as_the_configuration_is_its_own() -> None:
    k0s = flavour("k0s")
    files = {str(k0s.config): f"version = 2\n{CGROUP}"}
    managed = {k0s.config: "# k0s_managed=true"}
    assert plan(files, kind=k0s, first=managed).path == Path("/etc/k0s/containerd.d") / NAME
    assert plan(files, kind=k0s).path is None


def test_ours_is_written_again_over_itself() -> None:
    first = plan({str(CONFIG): f"version = 2\n{IMPORTS}"})
    again = plan({str(CONFIG): f"version = 2\n{IMPORTS}", str(first.path): first.text})
    assert again == first

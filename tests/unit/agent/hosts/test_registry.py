"""Which directory each release of containerd reads. tests/e2e holds the same cases against the real ones."""

from pathlib import Path

import pytest

from agent.hosts.nodeconfig import read_config
from agent.hosts.registry import NEW, OLD, ConfigFile, ContainerdConfig, Reading
from agent.hosts.toml import parse
from agent.hosts.tree import NodeTree
from tests.unit.agent.hosts.configs import CASES, TWO, Case


def config(text: str) -> ContainerdConfig:
    path = Path("/etc/containerd/config.toml")
    return ContainerdConfig(path=path, files=(ConfigFile(path=path, content=parse(text)),))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_directory_is_the_one_that_the_release_reads(case: Case, tmp_path: Path) -> None:
    for name, text in {"config.toml": case.text, **case.imported}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("DIR", str(tmp_path)))
    found = read_config(NodeTree(Path("/")), tmp_path / "config.toml")
    assert found.problem == ""
    old, new = found.readings(OLD)[0], found.readings(NEW)[0]
    if case.only != "2.x":
        assert (old.config_path, old.discards) == (case.old, case.discards[0])
    assert (new.config_path, new.discards) == (case.new, case.discards[1])


@pytest.mark.parametrize(
    ("text", "releases"),
    [
        ("version = 3\n", [NEW]),
        ("version = 2\n", [OLD, NEW]),
        ("version = 1\n", [OLD]),
        ("[plugins.cri]\na = 1\n", [OLD]),
        ("", [OLD, NEW]),
    ],
)
def test_only_releases_that_can_use_the_file_are_asked(text: str, releases: list[str]) -> None:
    assert [each.release for each in config(text).readings()] == releases
    assert [each.release for each in config(text).readings(OLD)] == [OLD]


@pytest.mark.parametrize(
    ("reading", "directories"),
    [
        (Reading(release=OLD, config_path="/a:/b"), ["/a", "/b"]),
        (Reading(release=NEW, config_path="/a:/b"), ["/a:/b"]),
        (Reading(release=NEW, config_path="/a:/b", pulls_locally=True), ["/a", "/b"]),
        (Reading(release=NEW, config_path="/a"), ["/a"]),
        (Reading(release=NEW), []),
    ],
)
def test_a_list_is_one_path_for_2x_unless_it_pulls_in_the_old_way(
    reading: Reading, directories: list[str]
) -> None:
    assert list(reading.directories) == [Path(each) for each in directories]


@pytest.mark.parametrize(
    ("text", "table", "lacks"),
    [
        ("version = 3\n", '[plugins."io.containerd.cri.v1.images".registry]', False),
        ("version = 4\n", '[plugins."io.containerd.cri.v1.images".registry]', False),
        ("version = 2\n", '[plugins."io.containerd.grpc.v1.cri".registry]', False),
        ("[plugins.cri]\na = 1\n", "[plugins.cri.registry]", False),
        ("[debug]\n", '[plugins."io.containerd.grpc.v1.cri".registry]', True),
        (TWO.format("/a"), '[plugins."io.containerd.grpc.v1.cri".registry]', True),
    ],
)
def test_the_table_to_write_goes_with_the_version(text: str, table: str, lacks: bool) -> None:
    assert config(text).table == table
    assert config(text).lacks_version is lacks


@pytest.mark.parametrize(
    ("lines", "mirrors", "discards"),
    [
        ('registry.mirrors."docker.io".endpoint = ["https://m"]', True, False),
        ('registry.configs."a".tls.insecure_skip_verify = true', True, False),
        ('registry.configs."a".auth.username = "u"', False, False),
        ("containerd.discard_unpacked_layers = true", False, True),
        ('registry = "nonsense"', False, False),
    ],
)
def test_what_keeps_pulls_from_being_shared_is_seen(lines: str, mirrors: bool, discards: bool) -> None:
    text = f'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n{lines}\n'
    reading = config(text).readings(OLD)[0]
    assert (reading.mirrors, reading.discards) == (mirrors, discards)


def test_a_file_that_cannot_be_used_is_a_problem_with_its_name() -> None:
    path = Path("/etc/containerd/config.toml")
    broken = ContainerdConfig(path=path, files=(ConfigFile(path=path, problem="not TOML"),))
    assert broken.problem == "/etc/containerd/config.toml: not TOML"


@pytest.mark.parametrize(
    "text", ['version = "2"\n', "version = true\n", 'imports = "x"\n', "imports = [3]\n"]
)
def test_nonsense_counts_as_nothing(text: str) -> None:
    file = config(text).files[0]
    assert (file.version, file.imports) == (0, ())

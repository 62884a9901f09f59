"""What ``shorthaul configure`` writes and says, run as a person runs it, on a node below a directory."""

import stat
import tomllib
from pathlib import Path

import pytest

from agent.cli import main
from agent.keyring import parse_keys
from tests.unit.agent.hosts.configs import CGROUP, THREE, TWO

CERTS_D = "/etc/containerd/certs.d"
OLD, NEW = "old-key-0123456789abcdefghijklmnopqrst", "new-key-ABCDEFGHIJKLMNOPQRSTUVWXYZ-9876"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/containerd").mkdir(parents=True)
    (tmp_path / "etc/containerd/config.toml").write_text("version = 2\n" + TWO.format(CERTS_D))
    return tmp_path


def configure(root: Path, *options: str) -> int:
    return main(["configure", "--root", str(root), *options])


def hosts(root: Path, name: str = "_default") -> list[str]:
    text = (root / f"etc/containerd/certs.d/{name}/hosts.toml").read_text()
    return list(tomllib.loads(text)["host"])


def listed(root: Path, folder: str) -> list[str]:
    return sorted(each.name for each in (root / "etc/containerd" / folder).iterdir())


def write(root: Path, name: str, data: str | bytes) -> Path:
    file = root / "etc/containerd/certs.d" / name / "hosts.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return file


def test_the_hostport_comes_first_then_the_nodeport_then_the_registry(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert configure(root, "--nodeport", "192.168.60.1:30021") == 0
    assert hosts(root) == ["http://127.0.0.1:30020", "http://192.168.60.1:30021"]
    said = capsys.readouterr().out
    assert "containerd asks http://127.0.0.1:30020, then http://192.168.60.1:30021, then the registry" in said
    assert f"containerd reads {CERTS_D}" in said
    assert "from the next pull on, without a restart" in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["http://127.0.0.1:30020"]),
        (("--hostport", "127.0.0.1:1"), ["http://127.0.0.1:1"]),
        (
            ("--nodeport=10.0.0.1:2", "--clusterip=10.96.0.1:3"),
            ["127.0.0.1:30020", "10.0.0.1:2", "10.96.0.1:3"],
        ),
        (("--endpoints=hostport", "--nodeport=10.0.0.1:2"), ["http://127.0.0.1:30020"]),
        (("--endpoints=hostport,clusterip", "--clusterip=10.96.0.1:3"), ["127.0.0.1:30020", "10.96.0.1:3"]),
        (("--endpoints", "nodeport, hostport", "--nodeport=10.0.0.1:2"), ["10.0.0.1:2", "127.0.0.1:30020"]),
        (("--nodeport=[fd00::1]:2", "--containerd-version=v2.1.9"), ["127.0.0.1:30020", "[fd00::1]:2"]),
        (("--nodeport=fd00::1:2", "--containerd-version=2.1"), ["127.0.0.1:30020", "[fd00::1]:2"]),
        (("--nodeport=127.0.0.1:30020",), ["127.0.0.1:30020"]),
    ],
)
def test_endpoints_and_their_order_are_a_choice(
    root: Path, options: tuple[str, ...], expected: list[str]
) -> None:
    assert configure(root, *options) == 0
    assert hosts(root) == [each if each.startswith("http") else f"http://{each}" for each in expected]


def test_an_ipv6_address_is_left_out_where_containerd_may_drop_the_file_for_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert configure(root, "--nodeport", "[fd00::1]:30021") == 0
    assert hosts(root) == ["http://127.0.0.1:30020"]
    assert "--nodeport [fd00::1]:30021 is left out" in capsys.readouterr().err
    assert configure(root, "--hostport", "[::1]:30020") == 1
    (root / "etc/containerd/config.toml").write_text("version = 3\n" + THREE.format(CERTS_D))
    assert configure(root, "--nodeport", "[fd00::1]:30021") == 0
    assert hosts(root)[1] == "http://[fd00::1]:30021"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--endpoints", "hostport,nodeport"), "--nodeport IP:PORT"),
        (("--endpoints", "hostport,other"), "'other'"),
        (("--endpoints", ","), "is empty"),
        (("--hostport", "localhost:30020"), "not an IP address"),
        (("--hostport", "127.0.0.1"), "no port"),
        (("--capabilities", "pull,referrers"), "drop the file"),
        (("--capabilities", "push"), "'push'"),
        (("--dial-timeout", "1"), "1s or 500ms"),
        (("--registry", "docker.io/library"), "HOST or HOST:PORT"),
        (("--registry", "../.."), "HOST or HOST:PORT"),
        (("--containerd-version", "latest"), "1.7 or 2.1"),
        (("--root", "/not/there"), "mount the node"),
    ],
)
def test_wrong_usage_is_said_with_what_to_write_and_writes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert configure(root, *options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "hint: " in said
    assert not (root / "etc/containerd/certs.d").exists()


@pytest.mark.parametrize("option", ["--certs-d", "--containerd-config"])
def test_paths_of_the_node_are_absolute(root: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit) as ended:
        configure(root, option, "certs.d")
    assert ended.value.code == 2
    assert "not an absolute path" in capsys.readouterr().err


def test_registries_may_be_named_and_docker_hub_has_one_name(root: Path) -> None:
    assert configure(root, "--registry", "registry-1.docker.io,Quay.IO", "--registry", "r.test:5000") == 0
    assert listed(root, "certs.d") == ["docker.io", "quay.io", "r.test:5000"]
    assert configure(root, "--registry", "docker.io", "--registry", "_default") == 0
    assert listed(root, "certs.d") == ["_default"]


def test_capabilities_and_the_time_out_are_a_choice(root: Path) -> None:
    assert configure(root, "--capabilities", "pull", "--dial-timeout", "0") == 0
    text = (root / "etc/containerd/certs.d/_default/hosts.toml").read_text()
    assert tomllib.loads(text)["host"] == {"http://127.0.0.1:30020": {"capabilities": ["pull"]}}


def test_a_file_that_is_not_toml_is_left_alone_and_the_others_are_done(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write(root, "quay.io", b"[host\xff")
    good = write(root, "docker.io", 'server = "https://registry-1.docker.io"\n')
    assert configure(root) == 1
    assert bad.read_bytes() == b"[host\xff"
    assert hosts(root, "docker.io") == ["http://127.0.0.1:30020"]
    assert 'server = "https://registry-1.docker.io"' in good.read_text()
    said = capsys.readouterr().err
    assert f"{CERTS_D}/quay.io/hosts.toml is left as it is" in said
    assert "hint: correct it" in said


def test_a_dry_run_shows_the_change_and_writes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(root, "docker.io", '[host."http://m"]\n  [host."http://m".header]\n  a = "t0k3n"\n')
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    assert configure(root, "--dry-run") == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    said = capsys.readouterr().out
    assert f"+++ {CERTS_D}/_default/hosts.toml\n" in said
    assert '+[host."http://127.0.0.1:30020"]\n' in said
    assert "t0k3n" not in said
    assert "(not written)" in said
    assert "t0k3n" in file.read_text()


def test_the_second_run_changes_nothing_and_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(root)
    file = root / "etc/containerd/certs.d/_default/hosts.toml"
    before = (file.stat().st_ino, file.stat().st_mtime_ns)
    capsys.readouterr()
    assert configure(root) == 0
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before
    assert "hosts.toml is as it should be" in capsys.readouterr().out


def test_without_config_path_the_exact_lines_are_said_and_the_files_are_written(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "etc/containerd/config.toml").write_text("version = 3\n")
    assert configure(root) == 0
    said = capsys.readouterr().out
    assert "containerd does not use these files yet" in said
    assert '    [plugins."io.containerd.cri.v1.images".registry]\n' in said
    assert f'      config_path = "{CERTS_D}"\n' in said
    assert "Nothing here restarts containerd" in said
    assert hosts(root) == ["http://127.0.0.1:30020"]


def test_a_missing_mount_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ((), ("--dry-run",)):
        assert configure(root, "--certs-d", "/var/lib/k/certs.d", *more) == 1
        assert "mount the node's /var/lib/k" in capsys.readouterr().err


def test_a_drop_in_is_written_where_it_can_do_no_harm(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = root / "etc/containerd/config.toml"
    (root / "etc/containerd/conf.d").mkdir()
    imports = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
    config.write_text(f"version = 2\n{imports}{CGROUP}")
    assert configure(root, "--drop-in") == 1
    assert listed(root, "conf.d") == []
    assert "containerd 1.x would replace" in capsys.readouterr().err
    config.write_text(f"version = 3\n{imports}")
    assert configure(root, "--drop-in", "--dry-run") == 0
    assert listed(root, "conf.d") == []
    assert configure(root, "--drop-in") == 0
    written = tomllib.loads((root / "etc/containerd/conf.d/99-shorthaul.toml").read_text())
    assert written["version"] == 3
    said = capsys.readouterr().out
    assert "counts when containerd is restarted" in said
    assert f"containerd reads {CERTS_D}" in said
    assert config.read_text() == f"version = 3\n{imports}"
    assert configure(root, "--drop-in") == 0


def test_a_nodeport_on_loopback_and_one_that_comes_first_are_noted(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert configure(root, "--nodeport", "127.0.0.1:30021", "--endpoints", "nodeport,hostport") == 0
    said = capsys.readouterr().out
    assert "nftables mode refuses 127.0.0.1:30021" in said
    assert "nodeport comes first" in said


NODE_PORT = "http://192.168.60.1:30021"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# the second one is old\n{NEW}\n{OLD}\n")
    return path


def with_key(root: Path, key_file: Path, *options: str) -> int:
    return configure(root, "--nodeport", "192.168.60.1:30021", "--key-file", str(key_file), *options)


def tables(root: Path) -> dict[str, dict[str, object]]:
    text = (root / "etc/containerd/certs.d/_default/hosts.toml").read_text()
    found: dict[str, dict[str, object]] = tomllib.loads(text)["host"]
    return found


def secrets_in(text: str) -> list[str]:
    tokens = [token for ring in (parse_keys(NEW), parse_keys(OLD)) for token in ring.service_tokens]
    return [each for each in (NEW, OLD, *tokens) if each in text]


def test_token_of_the_first_key_is_for_the_nodeport_and_the_file_for_root(
    root: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_key(root, key_file) == 0
    (token,) = parse_keys(NEW).service_tokens
    assert tables(root)[NODE_PORT]["header"] == {"Authorization": [f"Bearer {token}"]}
    assert "header" not in tables(root)["http://127.0.0.1:30020"]
    file = root / "etc/containerd/certs.d/_default/hosts.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    said = capsys.readouterr().out
    assert f"then {NODE_PORT} (with the cluster's token), then the registry" in said
    assert secrets_in(said) == []
    assert NEW not in file.read_text()


def test_pod_on_the_pod_network_gets_the_token_at_its_hostport_too(root: Path, key_file: Path) -> None:
    assert with_key(root, key_file, "--pod-network", "--clusterip", "10.96.0.1:3") == 0
    assert all("header" in table for table in tables(root).values())
    assert len(tables(root)) == 3


def test_second_run_after_a_rotation_writes_the_new_token_and_shows_none(
    root: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file.write_text(f"{OLD}\n{NEW}\n")
    assert with_key(root, key_file) == 0
    key_file.write_text(f"{NEW}\n{OLD}\n")
    assert with_key(root, key_file, "--dry-run") == 0
    assert "only what is not shown here changes" in capsys.readouterr().out
    assert with_key(root, key_file) == 0
    assert f"Bearer {parse_keys(NEW).service_tokens[0]}" in str(tables(root)[NODE_PORT]["header"])
    key_file.write_text(f"{NEW}\n")
    capsys.readouterr()
    assert with_key(root, key_file) == 0
    assert "is as it should be" in capsys.readouterr().out, "an old key that goes changes no token"


@pytest.mark.parametrize("dry", [True, False])
def test_dry_run_and_diff_never_show_a_token_or_a_key(
    root: Path, key_file: Path, dry: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root, "docker.io", '[host."http://other".header]\nAuthorization = "Bearer their-own"\n')
    assert with_key(root, key_file, *(["--dry-run"] if dry else [])) == 0
    said = capsys.readouterr()
    assert secrets_in(said.out + said.err) == []
    assert "their-own" not in said.out + said.err
    if dry:
        assert "Authorization = (not shown)" in said.out


@pytest.mark.parametrize("text", ["", "# nothing\n", "short\n", None])
def test_key_file_that_is_no_use_changes_nothing_and_says_why(
    root: Path, key_file: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What containerd was told before may still be right: the agent keeps its last good keys, too."""
    assert with_key(root, key_file) == 0
    before = (root / "etc/containerd/certs.d/_default/hosts.toml").read_bytes()
    if text is None:
        key_file.unlink()
    else:
        key_file.write_text(text)
    capsys.readouterr()
    assert with_key(root, key_file) == 1
    assert (root / "etc/containerd/certs.d/_default/hosts.toml").read_bytes() == before
    said = capsys.readouterr().err
    assert f"--key-file {key_file}" in said
    assert "short\n" not in said


def test_without_a_key_file_an_old_token_goes_and_the_file_may_be_read_again_and_it_is_said(
    root: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(root, "docker.io", 'server = "https://a"\n')
    file.chmod(0o644)
    assert with_key(root, key_file) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "--key-file" not in capsys.readouterr().out
    assert configure(root, "--nodeport", "192.168.60.1:30021") == 0
    assert "note: 192.168.60.1:30021 gets no token without --key-file" in capsys.readouterr().out
    assert "header" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_registry_that_decides_is_named_by_an_option(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert configure(root, "--no-tags", "private.example:5000,Ghcr.io") == 0
    for name, capabilities in (
        ("private.example:5000", ["pull"]),
        ("ghcr.io", ["pull"]),
        ("_default", ["pull", "resolve"]),
    ):
        text = (root / f"etc/containerd/certs.d/{name}/hosts.toml").read_text()
        assert [each["capabilities"] for each in tomllib.loads(text)["host"].values()] == [capabilities]
    assert configure(root, "--no-tags", "not/a registry") == 2
    assert "--no-tags 'not/a registry' is not a registry" in capsys.readouterr().err

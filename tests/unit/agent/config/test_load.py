"""Reading settings: defaults, overrides, every mistake at once with key and hint, and writing them back."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.config import ContainerdStore, Endpoint, OciLayoutStore, Settings
from agent.config.load import ConfigError, Problem, describe_settings, dump_settings, load_settings
from agent.config.values import InvalidValue, parse_endpoint, parse_store
from tests.unit.twins import REPOSITORY_ROOT

LEAST: dict[str, Any] = {"node": {"name": "node-1", "address": "10.0.0.1"}}
KEYED = {**LEAST, "peering": {"key": "cluster.key"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def load(path: Path, document: object, *overrides: str) -> Settings:
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return load_settings(path, list(overrides))


def problems(path: Path, document: object, *overrides: str) -> dict[str, Problem]:
    """The mistakes by their keys; every one has a hint."""
    with pytest.raises(ConfigError) as caught:
        load(path, document, *overrides)
    found = {problem.key: problem for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems), "a mistake was reported twice"
    assert all(problem.message and problem.hint for problem in found.values())
    assert all(str(problem) in str(caught.value) for problem in found.values())
    return found


def test_name_and_address_are_all_that_is_required(path: Path) -> None:
    settings = load(path, LEAST)
    assert settings.node.name == "node-1"
    assert settings.listen.hostport == Endpoint(host="127.0.0.1", port=30020)
    assert settings.listen.peer == Endpoint(host="10.0.0.1", port=30020)
    assert settings.listen.nodeport.host == "10.0.0.1"
    assert settings.membership.static is None
    assert settings.tags.resolve is True


def test_listeners_derived_from_an_ipv6_address_have_brackets(path: Path) -> None:
    settings = load(path, {"node": {"name": "n", "address": "fd00::1"}})
    assert str(settings.listen.peer) == "[fd00::1]:30020"


def test_listener_that_is_configured_is_not_derived(path: Path) -> None:
    settings = load(path, {**LEAST, "listen": {"peer": "10.9.9.9:1"}})
    assert str(settings.listen.peer) == "10.9.9.9:1"
    assert settings.listen.nodeport.host == "10.0.0.1"


@pytest.mark.parametrize("document", ["", "# nothing\n", "{}"])
def test_empty_file_misses_what_is_required_by_its_key_path(path: Path, document: str) -> None:
    assert {"node.name", "node.address"} <= set(problems(path, document))


def test_every_mistake_is_reported_at_once(path: Path) -> None:
    document = {
        "node": {"name": "", "address": "not an address"},
        "placement": {"zone": True, "regoin": "eu"},
        "listen": {"hostport": "10.0.0.1", "peer": "10.0.0.1", "nodeport": "h:1", "admin": 9090},
        "store": "ftp:///x",
        "membership": {"static": 7},
        "index": "redis",
        "registries": {"include": "docker.io/*", "exclude": ["https://docker.io"]},
        "tags": {"resolve": "yes", "max_age_s": -1},
        "lookup": {"patience_s": float("nan"), "timeout_s": "fast"},
        "pull": {"attempts_max": 0},
        "stop": ["drain_s"],
        "colour": "blue",
    }
    assert set(problems(path, document)) == {
        "node.name",
        "node.address",
        "placement.zone",
        "placement.regoin",
        "listen.hostport",
        "listen.peer",
        "listen.nodeport",
        "listen.admin",
        "store",
        "membership.static",
        "index",
        "registries.include",
        "registries.exclude",
        "tags.resolve",
        "tags.max_age_s",
        "lookup.patience_s",
        "lookup.timeout_s",
        "pull.attempts_max",
        "stop",
        "colour",
    }


def test_mistyped_key_gets_the_one_that_was_meant(path: Path) -> None:
    assert problems(path, {**LEAST, "pull": {"stall": 3}})["pull.stall"].hint == "did you mean stall_s?"


def test_unknown_key_without_a_likeness_gets_the_known_ones(path: Path) -> None:
    assert "stall_s" in problems(path, {**LEAST, "pull": {"xyzzy": 3}})["pull.xyzzy"].hint


@pytest.mark.parametrize("key", ["listen", "pull", "placement"])
def test_group_with_nothing_below_it_is_as_if_it_were_not_there(path: Path, key: str) -> None:
    assert load(path, yaml.safe_dump(LEAST) + f"{key}:\n") == load(path, LEAST)


@pytest.mark.parametrize("value", [False, 0, "", [], "text", 1, [1]])
def test_group_that_is_no_mapping_is_a_mistake(path: Path, value: object) -> None:
    (key,) = problems(path, {**LEAST, "pull": value})
    assert key.startswith("pull")


def test_fraction_is_no_whole_number(path: Path) -> None:
    assert set(problems(path, {**LEAST, "pull": {"attempts_max": 2.5}})) == {"pull.attempts_max"}


@pytest.mark.parametrize("value", [True, None, "3", [3], float("inf"), float("nan"), 301, 0])
def test_seconds_are_a_number_within_bounds(path: Path, value: object) -> None:
    assert set(problems(path, {**LEAST, "pull": {"stall_s": value}})) == {"pull.stall_s"}


def test_number_of_a_label_is_text(path: Path) -> None:
    assert load(path, {**LEAST, "placement": {"zone": 1, "rack": ""}}).placement.zone == "1"


def test_listeners_at_one_address_are_a_mistake(path: Path) -> None:
    document = {**LEAST, "listen": {"peer": "127.0.0.1:30020", "nodeport": "127.0.0.1:9090"}}
    assert set(problems(path, document)) == {"listen.peer", "listen.admin"}


@pytest.mark.parametrize("address", ["10.0.0.1:30020", "0.0.0.0:30020", "[::]:30020"])
def test_local_listener_is_loopback_only(path: Path, address: str) -> None:
    assert set(problems(path, {**LEAST, "listen": {"hostport": address}})) == {"listen.hostport"}


def test_local_listener_of_a_pod_with_a_hostport_is_at_the_pods_address(path: Path) -> None:
    document = {"node": {**LEAST["node"], "pod_network": True}, "listen": {"hostport": "10.0.0.1:30029"}}
    assert str(load(path, document).listen.hostport) == "10.0.0.1:30029"


def test_missing_file_is_named(path: Path) -> None:
    (problem,) = problems_of(path)
    assert problem.message == "No such file or directory"
    assert "name a file that exists" in problem.hint


def problems_of(path: Path) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, [])
    return caught.value.problems


def test_directory_is_told_as_such_and_the_hint_names_a_file_in_it(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path)
    assert problem.message == "a directory, not a file"
    assert problem.hint == f"name the file in it, for example {tmp_path}/agent.yaml"
    (tmp_path / "shorthaul.yml").touch()
    (problem,) = problems_of(tmp_path)
    assert problem.hint.endswith("/shorthaul.yml")


def test_pipe_is_told_as_such(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (problem,) = problems_of(tmp_path / "pipe")
    assert problem.message == "not a regular file, but a FIFO"
    assert "a pipe can't be used" in problem.hint


def test_file_below_a_file_is_missing(path: Path) -> None:
    path.touch()
    (problem,) = problems_of(path / "below")
    assert "name a file that exists" in problem.hint


@pytest.mark.parametrize("address", ["::ffff:10.0.0.1", "::FFFF:a00:1"])
def test_ipv4_address_in_an_ipv6_one_is_the_ipv4_address_everywhere(path: Path, address: str) -> None:
    document = {
        "node": {"name": "n", "address": address},
        "listen": {"hostport": "[::ffff:127.0.0.1]:30020", "admin": f"[{address}]:9090"},
        "probe": {"services": [f"[{address}]:30022"]},
    }
    settings = load(path, document)
    assert settings.node.address == "10.0.0.1"
    assert str(settings.listen.peer) == "10.0.0.1:30020"
    assert str(settings.listen.nodeport) == "10.0.0.1:30022"
    assert str(settings.listen.hostport) == "127.0.0.1:30020"
    assert str(settings.listen.admin) == "10.0.0.1:9090"
    assert str(settings.probe.services[0]) == "10.0.0.1:30022"


@pytest.mark.parametrize("document", ["a: [", "\t- a", "a: 'b", "a: !!python/object:x.y {}", "a: \x01"])
def test_file_that_is_no_yaml_is_named(path: Path, document: str) -> None:
    assert set(problems(path, document)) == {str(path)}


def test_file_that_is_no_text_is_named(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, [])
    assert [problem.key for problem in caught.value.problems] == [str(path)]


@pytest.mark.parametrize("document", ["- a", "text", "7"])
def test_file_that_is_no_mapping_is_named(path: Path, document: str) -> None:
    assert set(problems(path, document)) == {str(path)}


def test_value_that_yaml_takes_for_an_impossible_date_is_a_mistake_and_no_crash(path: Path) -> None:
    problems(path, "node: {name: n, address: 10.0.0.1}\nplacement: {rack: 2024-13-45}\n")


def test_override_wins_over_the_file_and_makes_missing_groups(path: Path) -> None:
    settings = load(path, LEAST, "node.name=node-2", "pull.stall_s=1.5", "registries.include=[ghcr.io/*]")
    assert settings.node.name == "node-2"
    assert settings.pull.stall_s == 1.5
    assert settings.registries.include == ("ghcr.io/*",)


def test_later_override_wins(path: Path) -> None:
    assert load(path, LEAST, "pull.stall_s=1", "pull.stall_s=2").pull.stall_s == 2


def test_override_may_have_equals_signs_in_its_value(path: Path) -> None:
    settings = load(path, LEAST, "store=containerd:///c.sock?namespace=x&root=/r")
    assert settings.store == ContainerdStore(socket=Path("/c.sock"), namespace="x", root=Path("/r"))


def test_override_of_the_address_moves_the_derived_listeners(path: Path) -> None:
    assert load(path, LEAST, "node.address=10.0.0.9").listen.peer.host == "10.0.0.9"


@pytest.mark.parametrize("override", ["pull.stall_s", "=1", ".a=1", "a..b=1", "a.=1", "", "a=["])
def test_override_that_is_none_is_a_mistake_among_the_others(path: Path, override: str) -> None:
    assert set(problems(path, {**LEAST, "index": "x"}, override)) == {f"--set {override}", "index"}


def test_override_with_a_key_that_is_there_twice_is_told_as_such(path: Path) -> None:
    override = "registries={include: ['*'], include: [ghcr.io]}"
    problem = problems(path, LEAST, override)[f"--set {override}"]
    assert "the key 'include' is there twice" in problem.message
    assert problem.hint == "leave one of them, or put what belongs together below one key"


@pytest.mark.parametrize("name", ["012", "1e3", "0x10", "on", "2026-11-26", "1_0", "node-1", "123"])
def test_override_of_a_text_is_that_text_whatever_yaml_takes_it_for(path: Path, name: str) -> None:
    assert load(path, LEAST, f"node.name={name}").node.name == name


def test_override_of_a_listener_may_have_brackets_and_of_a_path_may_be_null(path: Path) -> None:
    settings = load(path, {**KEYED, "membership": {"static": "m.yaml"}}, "listen.peer=[fd00::1]:30020")
    assert str(settings.listen.peer) == "[fd00::1]:30020"
    assert settings.membership.static is not None
    assert load(path, {**LEAST, "state_dir": "x"}, "state_dir=null").state_dir is None
    assert load(path, LEAST, "placement.zone='7'").placement.zone == "7"


def test_override_of_an_unknown_key_is_reported_like_one_in_the_file(path: Path) -> None:
    found = problems(path, LEAST, "pull.stall=3", "pul.stall_s=3")
    assert found["pull.stall"].hint == "did you mean stall_s?"
    assert found["pul"].hint == "did you mean pull?"


def test_override_that_yaml_takes_for_an_impossible_date_is_a_mistake_and_no_crash(path: Path) -> None:
    problems(path, LEAST, "tags.exclude=2024-13-45")
    assert load(path, LEAST, "placement.rack=2024-13-45").placement.rack == "2024-13-45"


def test_relative_paths_are_taken_from_the_files_directory(path: Path) -> None:
    settings = load(path, {**KEYED, "membership": {"static": "m.yaml"}, "state_dir": "state"})
    assert settings.membership.static == path.parent / "m.yaml"
    assert settings.state_dir == path.parent / "state"
    assert settings.peering.key == path.parent / "cluster.key"


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("oci-layout:///srv/layout", OciLayoutStore(directory=Path("/srv/layout"))),
        (
            "containerd:///run/c.sock",
            ContainerdStore(socket=Path("/run/c.sock"), namespace="k8s.io", root=Path("/var/lib/containerd")),
        ),
    ],
)
def test_store_is_read_with_its_defaults(text: str, store: object) -> None:
    assert parse_store(text) == store


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oci-layout://relative",
        "oci-layout:x",
        "oci-layout:///x?root=/y",
        "oci-layout://[::1/x",
        "containerd://h/c.sock",
        "containerd:///c?x=1",
        "containerd://[x",
        "file:///x",
    ],
)
def test_store_that_is_none_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_store(text)
    assert caught.value.hint


@pytest.mark.parametrize("root", ["/var/lib/containerd", "/a+b", "/a b", "/a&b", "/a%20b", "/a#b"])
def test_store_that_is_written_reads_back(root: str) -> None:
    store = ContainerdStore(socket=Path("/run/c.sock"), namespace="k8s.io", root=Path(root))
    assert parse_store(str(store)) == store


@given(address=st.ip_addresses(), port=st.integers(1, 65535))
def test_endpoint_that_is_written_reads_back(address: object, port: int) -> None:
    endpoint = parse_endpoint(str(Endpoint(host=str(address), port=port)))
    mapped = getattr(address, "ipv4_mapped", None)
    assert endpoint == Endpoint(host=str(mapped or address), port=port)
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "value", ["", ":1", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "localhost:1", 1, None]
)
def test_endpoint_that_is_none_is_refused_with_a_hint(value: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_endpoint(value)
    assert caught.value.hint


LABELS = st.none() | st.sampled_from(("eu", "1", "no", "null", "1e3", "2024-01-01", "~", "a: b", "zürich"))
PATTERNS = st.lists(
    st.sampled_from(
        ("*", "docker.io/*", "*:latest", "ghcr.io/a/*:v1.*", "[a-c]*/x", "GHCR.io", "[fd00::1]:5000/*")
    ),
    max_size=3,
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "node": st.fixed_dictionaries(
            {
                "name": st.sampled_from(("n", "1", "no", "node-1.example")),
                # Not loopback: there the derived listeners would collide with the local one.
                "address": st.sampled_from(("10.0.0.1", "fd00::1", "192.0.2.255", "::ffff:10.0.0.1")),
            }
        ),
        "peering": st.sampled_from(({"key": "cluster.key"}, {"key": "/a/key", "open": True}, {"open": True})),
    },
    optional={
        "placement": st.fixed_dictionaries({"region": LABELS, "zone": LABELS, "rack": LABELS}),
        "store": st.sampled_from(("oci-layout:///x", "containerd:///c.sock?namespace=a.b")),
        "membership": st.fixed_dictionaries({"static": st.none() | st.sampled_from(("m.yaml", "/a/m.yaml"))})
        | st.fixed_dictionaries(
            {
                "kubernetes": st.none()
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "namespace": st.just("kube-system"),
                        "node_labels": st.booleans(),
                        "api": st.none() | st.just("https://10.0.0.1:6443"),
                        "ca_file": st.sampled_from(("ca.crt", "/a/ca.crt")),
                        "token_file": st.just("token"),
                    },
                )
            }
        ),
        "registries": st.fixed_dictionaries({"include": PATTERNS, "exclude": PATTERNS}),
        "tags": st.fixed_dictionaries(
            {
                "resolve": st.booleans(),
                "max_age_s": st.floats(0, 10**8),
                "exclude": st.lists(st.sampled_from(("rc-*", "*:rc", "ghcr.io/*"))),
            }
        ),
        "state_dir": st.none() | st.just("state"),
        "lookup": st.fixed_dictionaries({"patience_s": st.floats(0.001, 10)}),
        "pull": st.fixed_dictionaries({"attempts_max": st.integers(1, 100)}),
    },
)


@given(document=DOCUMENTS)
def test_settings_that_are_dumped_load_to_the_same_from_anywhere(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    settings = load(tmp_path_factory.mktemp("one") / "agent.yaml", document)
    dumped = dump_settings(settings)
    assert load(tmp_path_factory.mktemp("two") / "agent.yaml", dumped) == settings


def test_kubernetes_group_is_used_if_it_is_there_even_empty_and_not_if_it_is_null(path: Path) -> None:
    kubernetes = load(path, {**KEYED, "membership": {"kubernetes": {}}}).membership.kubernetes
    assert kubernetes is not None
    assert (kubernetes.namespace, kubernetes.service, kubernetes.port_name) == (
        "shorthaul",
        "shorthaul-peers",
        "peer",
    )
    for document in ({}, {"kubernetes": None}, {"static": None}):
        assert load(path, {**KEYED, "membership": document}).membership.kubernetes is None
    overridden = load(path, KEYED, "membership.kubernetes.node_labels=false").membership
    assert overridden.kubernetes is not None
    assert overridden.kubernetes.node_labels is False


def test_files_of_the_kubernetes_group_start_at_the_files_own_directory(path: Path) -> None:
    files = {"ca_file": "ca.crt", "token_file": "/abs/token"}
    kubernetes = load(path, {**KEYED, "membership": {"kubernetes": files}}).membership.kubernetes
    assert kubernetes is not None
    assert kubernetes.ca_file == path.parent / "ca.crt"
    assert kubernetes.token_file == Path("/abs/token")


def test_static_and_kubernetes_together_are_a_mistake(path: Path) -> None:
    document = {**KEYED, "membership": {"static": "peers.yaml", "kubernetes": {}}}
    assert "leave one of them out" in problems(path, document)["membership"].hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("service", "Peers"),
        ("service", "a/../b"),
        ("namespace", ""),
        ("namespace", 7),
        ("port_name", "-x"),
        ("api", "10.0.0.1:6443"),
        ("api", "ftp://x"),
        ("api", "https://"),
        ("api", "https://u:p@x"),
        ("api", "https://x/path"),
        ("api", "https://[x"),
        ("api", "https://x:0"),
        ("node_labels", "no"),
        ("nodes", True),
    ],
)
def test_mistake_in_the_kubernetes_group_is_told_with_its_key(path: Path, key: str, value: object) -> None:
    document = {**KEYED, "membership": {"kubernetes": {key: value}}}
    assert set(problems(path, document)) == {f"membership.kubernetes.{key}"}


@pytest.mark.parametrize("membership", [{"static": "peers.yaml"}, {"kubernetes": {}}])
def test_agent_with_peers_needs_a_key_or_says_that_everybody_may_come_in(
    path: Path, membership: dict[str, Any]
) -> None:
    document = {**LEAST, "membership": membership}
    assert "shorthaul key new FILE" in problems(path, document)["peering.key"].hint
    assert load(path, document, "peering.open=true").peering.key is None
    assert not load(path, document, "peering.key=/etc/shorthaul/key").peering.open
    assert load(path, LEAST).peering.key is None  # it has no peers


def test_every_setting_is_described_once_and_dumped(path: Path) -> None:
    tls = {"certificate": "tls.crt", "key": "tls.key", "ca": "ca.crt"}
    optional = {"membership": {"kubernetes": {}}, "peering": {"key": "k", "tls": tls}}
    dumped = yaml.safe_load(dump_settings(load(path, {**LEAST, **optional})))
    described = [key for key, _ in describe_settings()]
    assert described == list(_leaves(dumped))
    assert all(text.strip() for _, text in describe_settings())


def _leaves(document: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in document.items():
        found.extend(
            _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
        )
    return found


def test_every_setting_is_documented() -> None:
    page = (REPOSITORY_ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [key for key, _ in describe_settings() if f"`{key}`" not in page] == []


@pytest.mark.parametrize(
    ("key", "new"),
    [
        ("listen.local", "listen.hostport"),
        ("tag_max_age_s", "tags.max_age_s"),
        ("listen.service", "listen.nodeport"),
        ("latency.probe", "latency.measure"),
    ],
)
def test_key_of_an_earlier_version_is_told_its_new_name(path: Path, key: str, new: str) -> None:
    group, _, name = key.partition(".")
    for found in (problems(path, {**LEAST, group: {name: 1}}), problems(path, LEAST, f"{key}=1")):
        assert new in str(found[key])


TLS = {"certificate": "tls.crt", "key": "keys/tls.key", "ca": "/etc/ca.crt"}


def test_files_of_tls_are_relative_to_the_configuration(path: Path) -> None:
    tls = load(path, {**LEAST, "peering": {"tls": {**TLS, "name": "agents.example"}}}).peering.tls
    assert tls is not None
    assert (tls.certificate, tls.key) == (path.parent / "tls.crt", path.parent / "keys/tls.key")
    assert (tls.ca, tls.name) == (Path("/etc/ca.crt"), "agents.example")


def test_without_tls_there_is_none(path: Path) -> None:
    assert load(path, LEAST).peering.tls is None


@pytest.mark.parametrize("missing", ["certificate", "key", "ca"])
def test_tls_needs_all_three_files(path: Path, missing: str) -> None:
    tls = {name: file for name, file in TLS.items() if name != missing}
    with pytest.raises(ConfigError) as raised:
        load(path, {**LEAST, "peering": {"tls": tls}})
    (problem,) = raised.value.problems
    assert (problem.key, problem.message) == (f"peering.tls.{missing}", "missing")
    assert problem.hint


def test_containerd_can_not_be_sent_to_a_listener_with_tls(path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, {**LEAST, "peering": {"tls": TLS}, "transfer": {"mode": "redirect"}})
    (problem,) = raised.value.problems
    assert problem.key == "transfer.mode"
    assert "relay" in problem.hint


@pytest.mark.parametrize("name", ["*.example", "a.example, b.example", "", 5])
def test_the_name_of_all_certificates_is_one_name(path: Path, name: object) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, {**LEAST, "peering": {"tls": {**TLS, "name": name}}})
    (problem,) = raised.value.problems
    assert problem.key == "peering.tls.name"


def test_off_without_quotes_turns_cold_starts_off(path: Path) -> None:
    path.write_text("node: {name: a, address: 192.0.2.1}\ncold_start: {mode: off}\n", encoding="utf-8")
    assert not load_settings(path, []).cold_start.claims
    assert not load_settings(path, ["cold_start.mode=off"]).cold_start.claims
    assert load_settings(path, ["cold_start.mode=claims"]).cold_start.claims


def test_a_second_node_must_have_time_to_start_while_a_request_waits(path: Path) -> None:
    slow = {"claim_start_s": 20, "claim_wait_s": 20}
    with pytest.raises(ConfigError) as raised:
        load(path, {**LEAST, "cold_start": slow})
    (problem,) = raised.value.problems
    assert problem.key == "cold_start.claim_start_s"
    assert load(path, {**LEAST, "cold_start": {**slow, "mode": "off"}}).cold_start.claim_start_s == 20


SERVER = {**LEAST, "index": "valkeys://:hunter2@valkey.example", "valkey": {"cluster": "lab"}}


def test_files_of_the_server_are_relative_to_the_configuration(path: Path) -> None:
    files = {"password_file": "pw", "ca_file": "/etc/ca.crt", "certificate_file": "c", "key_file": "k"}
    document = {**SERVER, "index": "valkeys://h", "valkey": {"cluster": "lab", **files}}
    valkey = load(path, document).valkey
    assert (valkey.password_file, valkey.ca_file) == (path.parent / "pw", Path("/etc/ca.crt"))
    assert (valkey.certificate_file, valkey.key_file) == (path.parent / "c", path.parent / "k")


def test_settings_with_a_server_are_dumped_to_the_same_but_for_the_password(path: Path) -> None:
    settings = load(path, SERVER)
    dumped = dump_settings(settings)
    assert "hunter2" not in dumped + repr(settings)
    assert "valkeys://:***@valkey.example:6379" in dumped
    without = load(path, {**SERVER, "index": "valkey+sentinel://a,b/main"})
    assert load(path, dump_settings(without)) == without


def test_all_that_is_wrong_with_the_server_is_told_together_and_without_its_password(path: Path) -> None:
    wrong = {
        "username": "a",
        "password_file": "pw",
        "ca_file": "ca",
        "key_file": "key",
        "server_name": "x",
    }
    found = problems(path, {**LEAST, "index": "valkey://u:hunter2@h", "valkey": wrong})
    names = ("cluster", "username", "password_file", "certificate_file", "ca_file", "server_name")
    assert set(found) == {f"valkey.{name}" for name in names}
    assert "hunter2" not in str(found)


def test_open_cluster_has_to_name_itself_on_a_server_and_one_with_a_key_does_not(path: Path) -> None:
    document = {**LEAST, "index": "valkey://h"}
    assert "no other cluster" in problems(path, document)["valkey.cluster"].hint
    assert load(path, document, "peering.key=/etc/shorthaul/key").valkey.cluster == ""
    assert load(path, document, "valkey.cluster=lab").valkey.cluster == "lab"
    assert load(path, {**LEAST, "valkey": {"password_file": "pw"}}).index == "scatter"


@pytest.mark.parametrize(
    ("document", "override"),
    [
        ({"valkey": "valkey://u:hunter2@h"}, "x=1"),
        ({"index": ["valkey://u:hunter2@h"]}, "x=1"),
        ({"index": {"valkey://u:hunter2@h": 1}}, "x=1"),
        ({"valkey": {"valkey://u:hunter2@h": 1}}, "x=1"),
        ({"store": "valkey://u:hunter2@h"}, "x=1"),
        ({}, "index=valkey://u:hunter2@h/x"),
        ({}, "valkey://u:hunter2@h"),
        ({}, "indexes=valkey://u:hunter2@h"),
        ({}, "lookup={valkey://u:hunter2@h"),
    ],
)
def test_no_mistake_shows_a_password_wherever_the_url_was_written(
    path: Path, document: dict[str, Any], override: str
) -> None:
    found = problems(path, {**LEAST, **document}, override)
    assert found
    assert "hunter2" not in str(found)


def test_server_in_an_override_is_taken_as_it_is_written(path: Path) -> None:
    override = "index=valkey://[fd00::1]:6379"
    assert str(load(path, {**LEAST, "valkey": {"cluster": "a"}}, override).index) == override[6:]

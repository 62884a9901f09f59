"""The index of large clusters in the chart: a server of one's own, or the chart's small Valkey."""

import asyncio
import base64
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from agent.config import IndexUrl
from agent.config.indexurl import parse_index
from agent.config.load import make_settings
from agent.holders.claims import DONE_S, LEASE_S
from agent.holders.valkey.factory import glance
from agent.holders.valkey.layout import BITMAP_TTL_S, FLIGHT_TTL_S, NUMBER_TTL_S, Layout
from agent.holders.valkey.marker import MARKER_LIFE_S, marker_key
from agent.oci.digest import Digest
from benchmarks.lab.certificates import Authority
from benchmarks.lab.process import Process
from benchmarks.lab.valkey import free_port, program
from tests.chart.cluster import changing_cluster, cluster
from tests.chart.rendering import (
    NODE,
    Manifest,
    chart,
    configuration,
    containers,
    environment,
    kinds,
    manifests,
    merged,
    notes,
    one,
    pod,
    refusal,
)
from tests.chart.samples import SAMPLES
from tests.server.agents import wait_for
from tests.unit.twins import REPOSITORY_ROOT

OWN = SAMPLES["an index of the chart's own"]
OWN_APART = SAMPLES["an index of the chart's own, for the pod network"]
CERTIFIED_OWN = SAMPLES["an index of the chart's own, with a certificate"]
CILIUM = SAMPLES["an index of the chart's own, with Cilium"]
GIVEN = SAMPLES["an index in a server"]
CERTIFIED = SAMPLES["an index with certificates"]
_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "images"}}
_HERE: dict[str, Any] = {"/api/v1/namespaces/images": _NAMESPACE}
_SECRETS = "/api/v1/namespaces/images/secrets"


def _valkey(values: dict[str, Any] = OWN) -> Manifest:
    found: Manifest = one("Deployment", values)["spec"]["template"]["spec"]
    return found


def _container(values: dict[str, Any] = OWN) -> Manifest:
    (found,) = _valkey(values)["containers"]
    assert isinstance(found, dict)
    return found


def test_without_a_word_the_peers_are_the_index_and_there_is_no_server() -> None:
    for values in ({}, {"index": {"url": "scatter"}}):
        assert configuration(values).get("index", "scatter") == "scatter"
        assert "Deployment" not in dict(kinds(values))
        assert "index" not in [each["name"] for each in pod(values)["volumes"]]


class TestOwnServer:
    def test_is_one_pod_and_never_two_at_a_time(self) -> None:
        spec = one("Deployment", OWN)["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})

    def test_has_no_right_no_token_and_no_file_but_in_memory(self) -> None:
        spec, container = _valkey(), _container()
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] != 0
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {name for each in spec["volumes"] for name in each} == {"name", "emptyDir", "secret"}
        volumes = {each["name"]: each for each in spec["volumes"]}
        written = [each["name"] for each in container["volumeMounts"] if not each.get("readOnly")]
        assert [volumes[name]["emptyDir"]["medium"] for name in written] == ["Memory"]

    def test_reads_its_password_by_the_group_that_it_is_in(self) -> None:
        (secret,) = (each["secret"] for each in _valkey()["volumes"] if "secret" in each)
        assert secret["defaultMode"] == 0o440
        assert _valkey()["securityContext"]["fsGroup"] == _valkey()["securityContext"]["runAsGroup"]

    def test_moves_to_another_node_half_a_minute_after_its_own_was_lost(self) -> None:
        seconds = {each["key"]: each.get("tolerationSeconds") for each in _valkey()["tolerations"]}
        assert seconds == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}

    def test_image_is_pinned_by_its_digest(self) -> None:
        assert re.fullmatch(r"docker\.io/valkey/valkey:\d+\.\d+\.\d+", _container()["image"])
        assert _container(OWN_APART)["image"] == "docker.io/valkey/valkey@sha256:" + "b" * 64

    @pytest.mark.parametrize(
        ("nodes", "keeps_mb", "limit"),
        [(100, 79, "182Mi"), (1000, 214, "385Mi"), (5000, 814, "1285Mi"), (10000, 1564, "2410Mi")],
    )
    def test_memory_follows_from_the_number_of_nodes_by_the_rule_that_is_told(
        self, nodes: int, keeps_mb: int, limit: str
    ) -> None:
        values = merged(OWN, {"valkey": {"nodes": nodes}})
        assert f"\nmaxmemory {keeps_mb}mb\n" in _container(values)["args"][0]
        resources = _container(values)["resources"]
        assert resources["limits"] == {"memory": limit}
        assert resources["requests"]["memory"] == f"{keeps_mb // 2 + 64}Mi"
        assert f"| {keeps_mb} MiB |" in TestDocumentation.PAGE

    def test_memory_and_resources_can_be_said(self) -> None:
        values = merged(OWN, {"valkey": {"maxMemoryMi": 100}})
        assert "\nmaxmemory 100mb\n" in _container(values)["args"][0]
        assert _container(values)["resources"]["limits"] == {"memory": "214Mi"}
        assert _container(OWN_APART)["resources"]["limits"] == {"memory": "2Gi"}

    def test_every_agent_can_connect_while_two_of_each_node_overlap(self) -> None:
        for nodes in (1000, 5000, 20000):
            script = _container(merged(OWN, {"valkey": {"nodes": nodes}}))["args"][0]
            (most,) = re.findall(r"\nmaxclients (\d+)\n", script)
            assert int(most) >= 2 * nodes + 32

    def test_agents_are_told_its_address_by_kubernetes_as_they_know_no_name_of_the_cluster(self) -> None:
        for values, scheme in ((OWN, "valkey"), (OWN_APART, "valkey"), (CERTIFIED_OWN, "valkeys")):
            said = environment(containers(values)["agent"], NODE)["SHORTHAUL_SET"].splitlines()
            assert said[-1] == f'index="{scheme}://[10.96.0.7]:6379"'
            assert pod(values)["enableServiceLinks"] is True
            assert pod(values)["dnsPolicy"] == "Default"
        service = one("Service", OWN, name="shorthaul-valkey")["spec"]
        assert service["type"] == "ClusterIP"
        assert [each["port"] for each in service["ports"]] == [6379]

    def test_service_leads_to_it_and_no_other_service_does(self) -> None:
        labels = one("Deployment", OWN)["spec"]["template"]["metadata"]["labels"]
        leading = [
            each["metadata"]["name"]
            for each in manifests(OWN)
            if each["kind"] == "Service" and each["spec"]["selector"].items() <= labels.items()
        ]
        assert leading == ["shorthaul-valkey"]

    def test_address_follows_from_the_releases_name(self) -> None:
        values = merged(OWN, {"fullnameOverride": "my-mirror"})
        (daemonset,) = (each for each in manifests(values) if each["kind"] == "DaemonSet")
        assert "$(MY_MIRROR_VALKEY_SERVICE_HOST)" in str(daemonset)
        assert ("Service", "my-mirror-valkey") in kinds(values)

    def test_quota_for_the_priority_class_allows_its_own_too(self) -> None:
        (selector,) = one("ResourceQuota", CILIUM)["spec"]["scopeSelector"]["matchExpressions"]
        assert selector["values"] == ["system-node-critical", "system-cluster-critical"]
        assert _valkey(CILIUM)["priorityClassName"] in selector["values"]
        assert "priorityClassName" not in _valkey(OWN_APART)


class TestWhoMayConnect:
    def test_agents_of_the_pod_network_are_selected_and_nobody_else(self) -> None:
        policy = one("NetworkPolicy", OWN_APART, name="shorthaul-valkey")["spec"]
        (rule,) = policy["ingress"]
        (source,) = rule["from"]
        labels = one("DaemonSet", OWN_APART, name="shorthaul")["spec"]["template"]["metadata"]["labels"]
        assert source["podSelector"]["matchLabels"].items() <= labels.items()
        assert [each["port"] for each in rule["ports"]] == [6379]

    def test_agents_on_the_hosts_network_can_only_be_told_by_the_nodes_addresses(self) -> None:
        values = merged(OWN, {"networkPolicy": {"nodeCIDRs": ["10.0.0.0/16"]}})
        (rule,) = one("NetworkPolicy", values, name="shorthaul-valkey")["spec"]["ingress"]
        assert {"ipBlock": {"cidr": "10.0.0.0/16"}} in rule["from"]

    def test_without_these_addresses_nobody_is_shut_out_and_the_notes_say_what_protects_then(self) -> None:
        (rule,) = one("NetworkPolicy", OWN, name="shorthaul-valkey")["spec"]["ingress"]
        assert "from" not in rule, "it would shut out the agents"
        assert "any pod may connect to it, and is asked for the password" in notes(OWN)
        assert "any pod may connect to it" not in notes(OWN_APART)

    def test_it_connects_to_nobody(self) -> None:
        for values in (OWN, OWN_APART):
            policy = one("NetworkPolicy", values, name="shorthaul-valkey")["spec"]
            assert policy["policyTypes"] == ["Ingress", "Egress"]
            assert "egress" not in policy

    def test_cilium_selects_the_nodes_as_such(self) -> None:
        assert ("NetworkPolicy", "shorthaul-valkey") not in kinds(CILIUM), "it would allow more, not less"
        (rule,) = one("CiliumNetworkPolicy", CILIUM)["spec"]["ingress"]
        assert rule["fromEntities"] == ["host", "remote-node"]
        apart = merged(CILIUM, {"network": "hostPort"})
        (rule,) = one("CiliumNetworkPolicy", apart)["spec"]["ingress"]
        assert "fromEntities" not in rule

    def test_no_policy_if_none_is_wanted(self) -> None:
        values = merged(OWN, {"networkPolicy": {"enabled": False}})
        assert not [kind for kind, _ in kinds(values) if "NetworkPolicy" in kind]


class TestServerOfOnesOwn:
    def test_agents_are_told_its_url_and_where_the_secrets_are(self) -> None:
        told = configuration(GIVEN)
        assert told["index"] == "valkey://valkey.db.svc:6379/2"
        assert told["valkey"] == {
            "prefix": "east",
            "cluster": "east",
            "username": "shorthaul",
            "timeout_s": 0.3,
            "password_file": "/etc/shorthaul-index/password",
        }
        told = configuration(CERTIFIED)["valkey"]
        assert told == {
            "server_name": "valkey.example",
            "password_file": "/etc/shorthaul-index/password",
            "ca_file": "/etc/shorthaul-index/ca.crt",
            "certificate_file": "/etc/shorthaul-index/tls.crt",
            "key_file": "/etc/shorthaul-index/tls.key",
        }

    def test_secrets_are_mounted_as_a_directory_that_the_kubelet_writes_anew(self) -> None:
        (mount,) = (m for m in containers(CERTIFIED)["agent"]["volumeMounts"] if m["name"] == "index")
        assert mount["readOnly"] is True
        assert "subPath" not in mount
        (volume,) = (each for each in pod(CERTIFIED)["volumes"] if each["name"] == "index")
        found = {
            source["secret"]["name"]: {item["key"]: item["path"] for item in source["secret"]["items"]}
            for source in volume["projected"]["sources"]
        }
        assert found == {
            "index-login": {"pass": "password"},
            "index-tls": {"ca.crt": "ca.crt", "tls.crt": "tls.crt", "tls.key": "tls.key"},
        }
        assert volume["projected"]["defaultMode"] == 0o400

    def test_secret_that_is_missing_keeps_no_agent_from_starting(self) -> None:
        """It says what is missing, and asks its neighbours."""
        for values in (GIVEN, CERTIFIED, OWN, CERTIFIED_OWN):
            (volume,) = (each for each in pod(values)["volumes"] if each["name"] == "index")
            assert all(source["secret"]["optional"] for source in volume["projected"]["sources"])

    def test_ca_alone_brings_no_certificate_of_the_agents(self) -> None:
        values = {"index": {"url": "valkeys://a.example", "tls": {"secretName": "ca"}}}
        assert configuration(values)["valkey"] == {"ca_file": "/etc/shorthaul-index/ca.crt"}

    def test_server_without_secrets_needs_no_volume(self) -> None:
        values = {"index": {"url": "valkey://10.0.0.9:6379"}}
        assert "valkey" not in configuration(values)
        assert "index" not in [each["name"] for each in pod(values)["volumes"]]

    @pytest.mark.parametrize(
        ("url", "policy"),
        [
            ("valkey://valkey.db.svc:6379", "ClusterFirstWithHostNet"),
            ("valkey://valkey.db.svc", "ClusterFirstWithHostNet"),
            ("valkeys://u@valkey.db.svc.cluster.local:6380/1", "ClusterFirstWithHostNet"),
            ("valkey+cluster://a.db.svc,b.db.svc", "ClusterFirstWithHostNet"),
            ("valkey+sentinel://a.db.svc/name", "ClusterFirstWithHostNet"),
            ("valkey://valkey:6379/2", "ClusterFirstWithHostNet"),
            ("valkeys://user@valkey", "ClusterFirstWithHostNet"),
            ("valkey+cluster://a.example.com,valkey", "ClusterFirstWithHostNet"),
            ("valkey+sentinel://a.example.com/name", "Default"),
            ("valkeys://user@valkey.example.com", "Default"),
            ("valkey://[fd00::7]:6379", "Default"),
            ("valkey://valkey.example.com:6379", "Default"),
            ("valkey://my.svcs.example:6379", "Default"),
            ("valkey://10.0.0.9:6379", "Default"),
            ("", "Default"),
        ],
    )
    def test_names_of_services_are_asked_of_the_clusters_dns_and_others_of_the_nodes(
        self, url: str, policy: str
    ) -> None:
        assert pod({"index": {"url": url}})["dnsPolicy"] == policy

    def test_notes_name_the_server_and_the_command_that_shows_it(self) -> None:
        assert "valkey://valkey.db.svc:6379/2" in notes(GIVEN)
        assert "-- shorthaul index" in notes(GIVEN)
        assert "shorthaul index" not in notes()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"index": {"url": "valkey://a", "passwordSecret": {"name": ""}}} | OWN, "leave index.url empty"),
        ({"index": {"passwordSecret": {"name": "a"}}}, "for a server that index.url names"),
        ({"index": {"url": "scatter", "tls": {"secretName": "a"}}}, "for a server that index.url names"),
        ({"index": {"url": "valkey://a", "tls": {"secretName": "a"}}}, "write valkeys:// for TLS"),
        ({"index": {"url": "valkeys://a", "tls": {"clientCertificate": True}}}, "set index.tls.secretName"),
        ({"index": {"url": "valkey://u:secret@a"}}, "without a password"),
        ({"index": {"url": "valkey://:secret@a"}}, "without a password"),
        ({"index": {"url": "http://a"}}, "write the URL of a server"),
        ({"index": {"url": "valkey://a?x=1"}}, "write the URL of a server"),
        ({"config": {"index": "valkey://a"}}, "set the value `index.url`"),
        ({"config": {"valkey": {"password_file": "/a"}}}, "set the values `index.passwordSecret`"),
        ({"config": {"valkey": {"ca_file": "/a"}}}, "set the value `index.tls.secretName`"),
        (merged(OWN, {"valkey": {"existingSecret": ""}}), "kubectl --namespace images create secret generic"),
        (merged(OWN, {"valkey": {"nodes": 0}}), "from 1 to 20000"),
        (merged(OWN, {"valkey": {"tls": {"name": "a"}}}), "set valkey.tls.secretName"),
        (
            {"index": {"url": "valkey://a"}, "peering": {"open": True, "existingSecret": ""}},
            "config.valkey.cluster",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_values_that_make_no_sense_are_refused_with_what_to_write(values: dict[str, Any], said: str) -> None:
    assert said in refusal(values)


def test_open_cluster_names_itself_on_the_server() -> None:
    values = {
        "index": {"url": "valkey://a"},
        "peering": {"open": True, "existingSecret": ""},
        "config": {"valkey": {"cluster": "lab"}},
    }
    assert configuration(values)["valkey"] == {"cluster": "lab"}


@pytest.fixture(scope="module", autouse=True)
def helms_own_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Helm keeps caches where the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"HELM_{name}_HOME", str(tmp_path_factory.mktemp(name)))
        yield


def _secret(name: str, *entries: str) -> dict[str, Any]:
    data = {entry: base64.b64encode(b"x" * 40).decode() for entry in entries}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def test_password_is_made_once_and_nothing_that_helm_does_later_touches_it() -> None:
    """The Secret is a hook, as that of the cluster's key is (test_key.py). Switching off is nothing to it."""
    secret, server = f"{_SECRETS}/shorthaul-valkey", "/apis/apps/v1/namespaces/images/deployments"
    with (
        changing_cluster(_HERE) as (kubeconfig, objects),
        helm_python.Config(
            kubeconfig_content=kubeconfig, namespace="images", storage_driver="memory"
        ) as helm,
    ):
        helm.install(chart(), "shorthaul", {"valkey": {"enabled": True}}, namespace="images")
        assert len(base64.b64decode(objects.all[secret]["data"]["password"])) >= 32
        order = [path for _, path in objects.writes]
        assert order.index(secret) < order.index(f"{server}/shorthaul-valkey"), (
            "before the pods that mount it"
        )
        objects.all[secret] = mine = _secret("shorthaul-valkey", "password")
        helm.upgrade(chart(), "shorthaul", {"valkey": {"enabled": False}}, namespace="images")
        assert f"{server}/shorthaul-valkey" not in objects.all
        assert objects.all[secret] is mine


@pytest.mark.parametrize(
    ("values", "name", "entries"),
    [
        ({"valkey": {"enabled": True, "existingSecret": "s"}}, "valkey.existingSecret", ["password"]),
        (
            {"valkey": {"enabled": True, "tls": {"secretName": "s"}}},
            "valkey.tls.secretName",
            ["ca.crt", "tls.crt", "tls.key"],
        ),
        (
            {"index": {"url": "valkey://a", "passwordSecret": {"name": "s", "key": "pw"}}},
            "index.passwordSecret.name",
            ["pw"],
        ),
        (
            {"index": {"url": "valkeys://a", "tls": {"secretName": "s", "clientCertificate": True}}},
            "index.tls.secretName",
            ["ca.crt", "tls.crt", "tls.key"],
        ),
    ],
)
def test_secret_of_ones_own_is_looked_at_and_never_made(
    values: dict[str, Any], name: str, entries: list[str]
) -> None:
    def render(objects: dict[str, Any]) -> list[Manifest]:
        here = {**_HERE, f"{_SECRETS}/shorthaul-key": _secret("shorthaul-key", "keys"), **objects}
        with cluster(here) as kubeconfig, helm_python.Config(kubeconfig_content=kubeconfig) as config:
            texts = config.render(chart(), values, name="shorthaul", namespace="images")
        return [
            each
            for path, text in texts.items()
            if not path.endswith("NOTES.txt")
            for each in yaml.safe_load_all(text)
            if each is not None
        ]

    whole = render({f"{_SECRETS}/s": _secret("s", *entries)})
    assert ("Secret", "s") not in [(each["kind"], each["metadata"]["name"]) for each in whole]
    with pytest.raises(helm_python.HelmError, match=rf"{name}: the namespace images has no Secret s"):
        render({})
    for missing in entries[-1:]:
        there = [entry for entry in entries if entry != missing]
        with pytest.raises(helm_python.HelmError, match=rf"{name}: the Secret s has no entry {missing}"):
            render({f"{_SECRETS}/s": _secret("s", *there)})


class Running:
    """The chart's server, as its container starts it: the rendered command, with other paths and port."""

    def __init__(self, folder: Path, password: bytes, values: dict[str, Any] = OWN) -> None:
        self.folder, self.port = folder, free_port()
        self._password = password.partition(b"\n")[0].decode()
        tools, run_directory = folder / "bin", folder / "run"
        for each in (tools, run_directory, folder / "secret"):
            each.mkdir()
        (folder / "secret" / "password").write_bytes(password)
        for kind in ("server", "cli"):
            (tools / f"valkey-{kind}").symlink_to(program(kind))
        container = _container(values)
        script = container["args"][0].replace("$$", "$")  # as the kubelet does
        assert "$(" not in script, "the kubelet would look at it"
        script = script.replace("/etc/valkey-password", str(folder / "secret"))
        script = script.replace("/etc/valkey-tls", str(folder / "tls")).replace("sleep 10", "sleep 0.1")
        script = script.replace("/run/valkey", str(run_directory)).replace(
            "port 6379\n", f"port {self.port}\nlogfile {folder}/log\n"
        )
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        self.environment.pop("REDISCLI_AUTH", None)
        self.probe = [*container["livenessProbe"]["exec"]["command"]]
        self.probe[-1] = self.probe[-1].replace("valkey-cli", f"valkey-cli -p {self.port}")
        self.process = Process([*container["command"], script], log=folder / "output", env=self.environment)

    def is_well(self) -> bool:
        """What the kubelet asks."""
        return subprocess.run(self.probe, env=self.environment, check=False).returncode == 0

    def ask(self, *words: str, password: str | None = None) -> str:
        """A command's answer, or the error."""
        asked = ["valkey-cli", "-p", str(self.port), "--no-auth-warning", *words]
        shown = {"REDISCLI_AUTH": self._password if password is None else password}
        done = subprocess.run(
            asked, env=self.environment | shown, capture_output=True, text=True, check=False
        )
        return (done.stdout + done.stderr).strip()


@contextmanager
def _running(folder: Path, password: bytes, values: dict[str, Any] = OWN) -> Iterator[Running]:
    server = Running(folder, password, values)
    try:
        server.process.wait_until(server.is_well, "the chart's server", at_most_s=30.0)
        yield server
    finally:
        server.process.stop(at_most_s=10.0)
        with suppress(ProcessLookupError):  # what watches the Secrets ends with its container, and not before
            os.killpg(server.process.pid, signal.SIGKILL)


class TestRealServer:
    @pytest.mark.parametrize(
        "password", [b"x" * 43, b"x y'\"$(id)\\#%\n", "pässword\nsecond line\n".encode()], ids=repr
    )
    def test_takes_a_password_of_any_characters_and_no_other(self, password: bytes, tmp_path: Path) -> None:
        with _running(tmp_path, password) as server:
            assert server.ask("ping") == "PONG"
            assert "WRONGPASS" in server.ask("ping", password="wrong")
            assert "NOAUTH" in server.ask("ping", password="")
            configuration = (tmp_path / "run" / "valkey.conf").read_text()
            assert password.partition(b"\n")[0].decode() not in configuration

    def test_refuses_writes_when_it_is_full_and_evicts_nothing_and_writes_no_file(
        self, tmp_path: Path
    ) -> None:
        values = merged(OWN, {"valkey": {"maxMemoryMi": 10}})
        with _running(tmp_path, b"password", values) as server:
            answers = [server.ask("setbit", f"shorthaul:{number}", "33554431", "1") for number in range(4)]
            assert "OOM" in answers[-1]
            assert server.ask("getbit", "shorthaul:0", "0").startswith("NOPERM")
            assert server.ask("strlen", "shorthaul:0") == "4194304"
            assert "rdb_last_save_time" not in server.ask("info", "memory")
            assert "maxmemory_policy:noeviction" in server.ask("info", "memory")
            files = {each.name for each in (tmp_path / "run").iterdir()}
            assert files <= {"valkey.conf", "secrets.used", "secrets.now"}

    def test_gives_whoever_has_the_password_the_indexs_keys_and_commands_and_no_others(
        self, tmp_path: Path
    ) -> None:
        values = merged(OWN, {"config": {"valkey": {"prefix": "east"}}})
        with _running(tmp_path, b"password", values) as server:
            assert server.ask("set", "east:1:x", "1") == "OK"
            assert server.ask("eval", "return redis.call('get', KEYS[1])", "1", "east:1:x") == "1"
            for refused in (
                ("set", "shorthaul:1:x", "1"),
                ("eval", "return redis.call('get', KEYS[1])", "1", "other"),
                ("eval", "return redis.call('flushall')", "0"),
                ("flushall",),
                ("keys", "*"),
                ("config", "get", "*"),
                ("config", "set", "maxmemory", "0"),
                ("acl", "list"),
                ("save",),
                ("replicaof", "no", "one"),
                ("monitor",),
                ("client", "list"),
                ("debug", "sleep", "1"),
                ("shutdown",),
            ):
                answer = server.ask(*refused)
                assert re.search("NOPERM|No permissions|not allowed|can't", answer), (refused, answer)

    def test_gives_agents_all_that_they_try_when_they_connect(self, tmp_path: Path) -> None:
        """With the tracking of changes, and what the server says of itself."""
        with _running(tmp_path, b"password") as server:
            document = {
                "node": {"name": "n1", "address": "10.0.0.1"},
                "index": f"valkey://127.0.0.1:{server.port}",
                "valkey": {"cluster": "lab", "timeout_s": 5.0, "password_file": "secret/password"},
            }
            seen = asyncio.run(glance(make_settings(document, [], base=tmp_path), ()))
            assert seen.trouble is None
            assert seen.warnings == ()
            assert seen.facts.policy == "noeviction"
            assert server.ask("client", "tracking", "on", "optin") == "OK"

    def test_ends_when_its_password_was_replaced_so_that_the_kubelet_starts_it_with_the_new_one(
        self, tmp_path: Path
    ) -> None:
        with _running(tmp_path, b"old") as server:
            assert server.ask("ping") == "PONG"
            (tmp_path / "secret" / "password").write_bytes(b"new")
            wait_for(lambda: not server.process.running, "its end", at_most_s=30.0)

    def test_speaks_tls_alone_where_it_has_a_certificate_and_agents_check_its_name(
        self, tmp_path: Path
    ) -> None:
        name = "shorthaul-valkey.images.svc"
        Authority(tmp_path).issue(tmp_path / "tls", f"DNS:{name}")
        with _running(tmp_path, b"password", CERTIFIED_OWN) as server:
            assert "PONG" not in server.ask("ping")
            told = configuration(CERTIFIED_OWN)["valkey"]
            assert told == {
                "password_file": "/etc/shorthaul-index/password",
                "ca_file": "/etc/shorthaul-index/ca.crt",
                "server_name": name,
            }
            document = {
                "node": {"name": "n1", "address": "10.0.0.1"},
                "index": f"valkeys://127.0.0.1:{server.port}",
                "valkey": {
                    "cluster": "lab",
                    "timeout_s": 5.0,
                    "server_name": told["server_name"],
                    "ca_file": "tls/ca.crt",
                    "password_file": "secret/password",
                },
            }
            seen = asyncio.run(glance(make_settings(document, [], base=tmp_path), ()))
            assert (seen.trouble, seen.warnings) == (None, ())

    def test_frozen_server_is_not_well(self, tmp_path: Path) -> None:
        """The kubelet waits for some seconds, and then starts it anew."""
        with _running(tmp_path, b"password") as server:
            server.process.signal(signal.SIGSTOP)
            with pytest.raises(subprocess.TimeoutExpired):
                subprocess.run(server.probe, env=server.environment, check=False, timeout=1.0)
            server.process.signal(signal.SIGCONT)
            assert server.is_well()


class TestDocumentation:
    """docs/large-clusters.md says what an agent may do on a server and which keys there are."""

    PAGE = (REPOSITORY_ROOT / "docs" / "large-clusters.md").read_text(encoding="utf-8")

    def test_rights_that_the_page_has_are_those_of_the_charts_own_server(self) -> None:
        (told,) = re.findall(r"ACL SETUSER shorthaul on >PASSWORD (.*)", self.PAGE)
        (given,) = re.findall(r"user default on (.*) #'", _container()["args"][0])
        assert told == given

    def test_every_key_of_the_layout_has_its_row(self) -> None:
        digest, layout = Digest("sha256:" + "xx" + "0" * 62), Layout("shorthaul")
        keys = (
            layout.names,
            layout.number(7),
            layout.bitmap(9, digest),
            layout.flight(digest),
            layout.alive(5),
            layout.claim("SCOPE", "REALM", digest),
            marker_key("shorthaul"),
        )
        for key in keys:
            row = key.replace(digest, "DIGEST").replace(":n:7", ":n:NUMBER").replace(":b:9:", ":b:EPOCH:")
            row = row.replace(":a:5", ":a:PERIOD")
            assert f"| `{row}` |" in self.PAGE

    def test_lives_of_keys_that_the_page_tells_are_those_of_the_layout(self) -> None:
        for key, life_s, told in (
            ("names", NUMBER_TTL_S, "2 h 20 min after the last agent"),
            ("b:EPOCH:{xx}:DIGEST", BITMAP_TTL_S, "2 h 10 min"),
            ("f:{xx}:DIGEST", FLIGHT_TTL_S, "30 s"),
            ("cluster", MARKER_LIFE_S, "3 h after the last agent"),
            ("c:{xx}:SCOPE:REALM:DIGEST", LEASE_S, f"3 s; once it has all of it, {DONE_S:.0f} s"),
        ):
            (row,) = re.findall(rf"\| `{re.escape('shorthaul:1:' + key)}` \|.*\| (.*) \|", self.PAGE)
            assert row == told
            units = {"h": 3600, "min": 60, "s": 1, "day": 86400}
            said = re.findall(r"(\d+|a) (day|h|min|s)\b", row.partition(";")[0])
            assert sum((1 if count == "a" else int(count)) * units[unit] for count, unit in said) == life_s

    def test_urls_that_the_page_and_the_values_show_are_taken(self) -> None:
        text = self.PAGE + (REPOSITORY_ROOT / "helm/shorthaul/values.yaml").read_text(encoding="utf-8")
        urls = set(re.findall(r"`?((?:valkeys?|rediss?)(?:\+\w+)?://[\w.:,/@-]*\w)", text))
        assert len(urls) > 8
        for url in urls:
            assert isinstance(parse_index(url), IndexUrl), url

"""What a person sees of a run on a cluster, before anything is made."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli.commands import make_parser, run
from agent.members.kubernetes.kubeconfig import KubeconfigInvalid
from benchmarks.cluster import command
from benchmarks.cluster.command import intent, way_to_the_cluster
from benchmarks.cluster.run import prepare
from benchmarks.lab.apiserver import ThreadedApiServer
from benchmarks.lab.workloads import Workloads
from tests.chart.rendering import one
from tests.unit.benchmarks.cluster.rig import NAMESPACE, agent_pod, cluster, node, wishes


def arguments(*words: str) -> argparse.Namespace:
    return make_parser(["bench"]).parse_args(["bench", "--cluster", *words])


async def test_what_will_be_done_is_said_with_its_bounds() -> None:
    async with cluster() as made:
        text = intent(await prepare(made.kube, wishes(nodes=3, image="registry.example/x:1")))
    for words in (
        "A benchmark of images/shorthaul on 3 nodes in 3 zones:",
        "from the agents' image (localhost/shorthaul:",
        "run as root on the nodes' network",
        "pull registry.example/x:1 and remove it again",
        "at most 1 GB and measure for at most 60 s",
        "also on Ctrl-C",
    ):
        assert words in text


@pytest.mark.parametrize("answer", ["n", "", "no"])
def test_nothing_is_made_unless_a_person_says_yes(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    workloads = Workloads(_never)
    _fill(workloads)
    with ThreadedApiServer(workloads=workloads) as server:
        found = arguments("--api", server.url, "--namespace", NAMESPACE)
        assert command.run(found, ask=lambda _: answer) == 1
    assert workloads.made == []
    assert "nothing was done" in capsys.readouterr().err


def test_where_no_person_is_it_wants_to_be_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    def nobody(_: str) -> str:
        raise EOFError

    workloads = Workloads(_never)
    _fill(workloads)
    with ThreadedApiServer(workloads=workloads) as server:
        found = arguments("--api", server.url, "--namespace", NAMESPACE)
        assert command.run(found, ask=nobody) == 2
    assert workloads.made == []
    assert "say --yes" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--nodes", "0"], ["--bytes", "1MB"], ["--seconds", "3"]])
def test_bounds_that_allow_no_measurement_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--cluster", "--api", "http://127.0.0.1:1", *words]) == 2
    assert "that is too little" in capsys.readouterr().err


def test_release_that_is_not_there_is_told_with_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadedApiServer(workloads=Workloads(_never)) as server:
        assert run(["bench", "--cluster", "--yes", "--api", server.url, "--namespace", "other"]) == 1
    said = capsys.readouterr().err
    assert "no DaemonSet of agents in namespace other" in said
    assert "helm list" in said


def test_clean_says_how_many_there_were(capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadedApiServer(workloads=Workloads(_never)) as server:
        assert run(["bench", "--clean", "--api", server.url, "--namespace", NAMESPACE]) == 0
    assert "0 Jobs" in capsys.readouterr().out


def test_way_is_the_one_that_is_named_then_the_pods_own_then_kubectls(tmp_path: Path) -> None:
    pod = tmp_path / "pod"
    pod.mkdir()
    (pod / "namespace").write_text("own\n")
    with way_to_the_cluster(arguments("--api", "http://a:1/"), {}, pod) as (access, namespace):
        assert (access.url, namespace) == ("http://a:1", "default")
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with way_to_the_cluster(arguments(), inside, pod) as (access, namespace):
        assert (access.url, namespace) == ("https://10.0.0.1:443", "own")
    nowhere: dict[str, Any] = {"HOME": str(tmp_path)}
    with (
        pytest.raises(KubeconfigInvalid, match="no kubeconfig"),
        way_to_the_cluster(arguments(), nowhere, tmp_path / "none"),
    ):
        pass


async def _never(*_: object) -> int:
    raise AssertionError("nothing is to run")


def _fill(workloads: Workloads) -> None:
    """A release and its nodes."""
    daemonset = json.loads(json.dumps(one("DaemonSet", name="shorthaul")))
    workloads.put("daemonsets", daemonset)
    for name in ("n1", "n2"):
        workloads.put("nodes", node(name, "a"))
        workloads.put("pods", agent_pod(name, daemonset["spec"]["template"]["metadata"]["labels"]))

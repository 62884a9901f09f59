"""Running a command in pods, against a double that speaks the API server's protocol for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from agent.cli.commands import make_parser
from agent.fleet.execution import OUTPUT_MAX_BYTES, PROTOCOL, Fleet
from agent.fleet.pods import AgentPod
from agent.members.kubernetes.client import Access, ApiServer, Failed

Speak = Callable[[web.WebSocketResponse], Awaitable[None]]
SUCCESS = b"\x03" + json.dumps({"status": "Success"}).encode()
POD = AgentPod(name="p1", node="n1")


class Cluster:
    """The double. ``pods``: their names by node. ``speak``: what happens in a pod; by its name."""

    def __init__(self) -> None:
        self.pods: dict[str, str] = {"n1": "p1"}
        self.speak: dict[str, Speak] = {}
        self.asked: list[web.Request] = []
        self.forbidden = False
        self.desired = 2
        self.page = 500
        self.at_once = self.at_once_most = 0
        self.url = ""

    async def list_pods(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if self.forbidden:
            message = 'pods is forbidden: User "a" cannot list resource "pods"'
            return web.json_response({"kind": "Status", "message": message, "code": 403}, status=403)
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        items = [
            {"metadata": {"name": name}, "spec": {"nodeName": node}, "status": ready}
            for node, name in self.pods.items()
        ]
        first = int(request.query.get("continue", "0"))
        rest = first + self.page
        metadata = {"continue": str(rest)} if rest < len(items) else {}
        return web.json_response({"kind": "PodList", "metadata": metadata, "items": items[first:rest]})

    async def read_daemonset(self, request: web.Request) -> web.Response:
        return web.json_response({"kind": "DaemonSet", "status": {"desiredNumberScheduled": self.desired}})

    async def execute(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        speak = self.speak.get(request.match_info["pod"])
        if speak is None:
            return web.Response(status=404)
        socket = web.WebSocketResponse(protocols=[PROTOCOL])
        await socket.prepare(request)
        self.at_once += 1
        self.at_once_most = max(self.at_once_most, self.at_once)
        try:
            await speak(socket)
        finally:
            self.at_once -= 1
        await socket.close()
        return socket


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    double = Cluster()
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/images/pods", double.list_pods)
    app.router.add_get("/api/v1/namespaces/images/pods/{pod}/exec", double.execute)
    app.router.add_get("/apis/apps/v1/namespaces/images/daemonsets/mirror", double.read_daemonset)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    double.url = f"http://{host}:{port}"
    yield double
    await runner.cleanup()


@pytest.fixture
async def fleet(cluster: Cluster) -> AsyncIterator[Fleet]:
    async with ApiServer(Access(url=cluster.url, ca_file=None, token_file=None), agent="test") as api:
        yield Fleet(api=api, namespace="images", selector="a=b", container="agent", timeout_s=30)


def says(*messages: bytes) -> Speak:
    async def speak(socket: web.WebSocketResponse) -> None:
        for message in messages:
            await socket.send_bytes(message)

    return speak


async def test_pods_are_listed_by_their_labels(cluster: Cluster, fleet: Fleet) -> None:
    assert await fleet.pods() == (POD,)
    assert cluster.asked[0].query["labelSelector"] == "a=b"


async def test_pods_of_a_large_cluster_are_listed_in_parts(cluster: Cluster, fleet: Fleet) -> None:
    cluster.pods = {f"n{number}": f"p{number}" for number in range(7)}
    cluster.page = 3
    assert [pod.name for pod in await fleet.pods()] == [f"p{number}" for number in range(7)]
    assert [asked.query.get("continue") for asked in cluster.asked] == [None, "3", "6"]
    assert {asked.query["limit"] for asked in cluster.asked} == {"500"}


async def test_missing_right_to_list_says_so(cluster: Cluster, fleet: Fleet) -> None:
    cluster.forbidden = True
    with pytest.raises(Failed, match="cannot list resource"):
        await fleet.pods()


async def test_output_and_errors_are_kept_in_their_order(cluster: Cluster, fleet: Fleet) -> None:
    cluster.speak["p1"] = says(b"\x01", b"\x01one\n", b"\x02two\n", b"\x01three\n", SUCCESS)
    (said,) = await fleet.run(["shorthaul", "doctor", "--json"], [POD])
    assert (said.output, said.status, said.failure) == ("one\ntwo\nthree\n", 0, "")
    assert cluster.asked[0].query.getall("command") == ["shorthaul", "doctor", "--json"]
    assert cluster.asked[0].query["container"] == "agent"


async def test_exit_status_is_told(cluster: Cluster, fleet: Fleet) -> None:
    failure = {"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "1"}]}}
    cluster.speak["p1"] = says(b"\x01bad\n", b"\x03" + json.dumps(failure).encode())
    (said,) = await fleet.run(["x"], [POD])
    assert (said.status, said.good) == (1, False)


async def test_connection_that_breaks_off_is_a_failure(cluster: Cluster, fleet: Fleet) -> None:
    cluster.speak["p1"] = says(b"\x01half")
    (said,) = await fleet.run(["x"], [POD])
    assert (said.output, said.failure) == ("half", "the connection ended before the command did")


async def test_pod_that_has_gone_is_a_failure_of_its_own(cluster: Cluster, fleet: Fleet) -> None:
    cluster.speak["p1"] = says(SUCCESS)
    said = await fleet.run(["x"], [POD, AgentPod(name="gone", node="n2")])
    assert [each.good for each in said] == [True, False]
    assert "404" in said[1].failure


async def test_command_that_hangs_is_given_up(cluster: Cluster, fleet: Fleet) -> None:
    ended = asyncio.Event()

    async def hang(socket: web.WebSocketResponse) -> None:
        await socket.receive()  # until the other end has had enough
        ended.set()

    cluster.speak["p1"] = hang
    short = Fleet(api=fleet.api, namespace="images", selector="", container="agent", timeout_s=0.2)
    (said,) = await short.run(["x"], [POD])
    assert said.failure == "not done after 0.2 s"
    await ended.wait()


async def test_flood_of_output_is_cut(cluster: Cluster, fleet: Fleet) -> None:
    cluster.speak["p1"] = says(*[b"\x01" + b"a" * 65536] * 8, SUCCESS)
    (said,) = await fleet.run(["x"], [POD])
    assert (len(said.output), said.good) == (OUTPUT_MAX_BYTES, True)


async def test_nonsense_about_the_end_is_a_failure(cluster: Cluster, fleet: Fleet) -> None:
    cluster.speak["p1"] = says(b"\x03{")
    (said,) = await fleet.run(["x"], [POD])
    assert said.failure


async def test_many_pods_are_asked_a_few_at_once_and_told_in_their_order(
    cluster: Cluster, fleet: Fleet
) -> None:
    pods = [AgentPod(name=f"p{number}", node=f"n{number}") for number in range(100)]
    for pod in pods:
        cluster.speak[pod.name] = says(b"\x01" + pod.name.encode(), SUCCESS)
    said = await fleet.run(["x"], pods)
    assert [each.output for each in said] == [pod.name for pod in pods]
    assert cluster.at_once_most <= 64


async def _everywhere(cluster: Cluster, *words: str) -> int:
    arguments = make_parser().parse_args(
        ["everywhere", "--namespace", "images", "--api", cluster.url, *words]
    )
    status: int = await asyncio.to_thread(arguments.run, arguments)
    return status


async def test_command_is_good_only_if_it_is_on_every_node(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.pods = {"n1": "p1", "n2": "p2"}
    cluster.speak = {"p1": says(SUCCESS), "p2": says(SUCCESS)}
    assert await _everywhere(cluster, "doctor", "--json") == 0
    assert "shorthaul doctor --json: good on 2 of 2 nodes." in capsys.readouterr().out
    assert cluster.asked[-1].query.getall("command") == ["shorthaul", "doctor", "--json"]
    del cluster.speak["p2"]
    assert await _everywhere(cluster, "doctor") == 1
    assert "n2 (p2): " in capsys.readouterr().out
    cluster.pods, cluster.speak = {"n1": "p1"}, {"p1": says(SUCCESS)}
    assert await _everywhere(cluster, "doctor") == 0
    assert await _everywhere(cluster, "--daemonset", "mirror", "doctor") == 1
    assert "Nodes without a pod, which should have one: 1." in capsys.readouterr().out
    cluster.pods = {}
    assert await _everywhere(cluster, "doctor") == 1


async def test_no_command_and_no_right_are_told_with_what_to_do(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await _everywhere(cluster) == 2
    cluster.forbidden = True
    assert await _everywhere(cluster, "doctor") == 1
    told = capsys.readouterr().err
    assert "write for example: shorthaul everywhere doctor" in told
    assert "the agents can't be listed" in told
    assert "pods/exec" in told
    assert "endpointslices" not in told

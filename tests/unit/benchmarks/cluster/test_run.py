"""A whole run against the API server's double: what is made, what comes back, and that nothing stays."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from benchmarks.cluster import wire
from benchmarks.cluster.crew import Patience
from benchmarks.cluster.jobs import RUN_LABEL
from benchmarks.cluster.run import Outcome, RunFailed, Wishes, clean, measure, prepare
from tests.unit.benchmarks.cluster.rig import (
    EVERYWHERE,
    GB,
    ONLY_ON_N1,
    Cluster,
    Pod,
    cluster,
    node,
    pull,
    silent,
    until,
    wishes,
)

QUICK = Patience(look_s=0.05, pod_s=0.2)


def hurried(**more: float) -> Patience:
    """That of a test in which somebody does not answer."""
    return replace(QUICK, start_s=0.3, grace_s=0.3, over_s=0.3, least_s=0.5, **more)


async def run(one: Cluster, wanted: Wishes | None = None, patience: Patience = QUICK) -> Outcome:
    prepared = await prepare(one.kube, wanted or wishes())
    return await measure(one.kube, prepared, silent, patience=patience)


def bench_pods(one: Cluster) -> list[str]:
    pods = one.workloads.of("pods")
    return [pod["metadata"]["name"] for pod in pods if "job-name" in pod["metadata"]["labels"]]


def nothing_stays(one: Cluster) -> None:
    assert one.workloads.of("jobs") == []
    assert bench_pods(one) == []


async def test_run_looks_measures_pulls_and_leaves_nothing_behind() -> None:
    async with cluster() as one:
        outcome = await run(one)
        nothing_stays(one)
    assert outcome.problems == []
    assert set(outcome.looks) == set(outcome.latencies) == {"n1", "n2", "n3", "n4", "n5"}
    assert outcome.chosen.image == ONLY_ON_N1.name
    assert {pull.node.name for pull in outcome.pulls} == {"n2", "n3", "n4", "n5"}
    assert [pull.wave for pull in outcome.pulls] == ["first", "at once", "at once", "rolling"]
    assert outcome.removed == 4
    assert outcome.moved_bytes == 5 * 1_000_000 + 4 * 1000


async def test_logs_of_many_pods_are_followed_at_once() -> None:
    zones = {f"n{at}": "abc"[at % 3] for at in range(1, 31)}
    async with cluster(zones) as one:
        outcome = await run(one, wishes(nodes=30))
        nothing_stays(one)
    assert outcome.problems == []
    assert len(outcome.latencies) == 30
    assert len(outcome.pulls) == outcome.removed == 29


async def test_all_missing_rights_are_named_and_nothing_is_made() -> None:
    async with cluster() as one:
        one.workloads.forbidden |= {("create", "jobs"), ("get", "pods/log"), ("list", "nodes")}
        with pytest.raises(RunFailed) as raised:
            await run(one)
        assert one.workloads.made == []
    assert (
        str(raised.value)
        == "you may not, in namespace images: list nodes (in the whole cluster); get pods/log; create jobs"
    )
    assert "docs/benchmarks.md" in raised.value.hint


@pytest.mark.parametrize(
    ("refusal", "hint"),
    [
        (
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces',
            "must let pods be privileged",
        ),
        ('pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=9', "ResourceQuota"),
    ],
)
async def test_pods_that_admission_refuses_are_told_in_its_words_with_what_to_do(
    refusal: str, hint: str
) -> None:
    async with cluster({"n1": "a"}) as one:
        one.workloads.refusal = refusal
        outcome = await run(one)
        nothing_stays(one)
    (problem,) = outcome.problems
    assert refusal in problem
    assert hint in problem


async def test_image_of_the_agents_that_a_node_cannot_pull_ends_the_run_before_its_time() -> None:
    async with cluster({"n1": "a"}) as one:
        one.workloads.waiting = ("ImagePullBackOff", 'Back-off pulling image "localhost/shorthaul:0.1.0"')
        outcome = await run(one)
        nothing_stays(one)
    (problem,) = outcome.problems
    assert "ImagePullBackOff: Back-off pulling image" in problem
    assert "can't pull the agents' image" in problem


async def test_agents_image_without_the_benchmark_is_told_from_the_pods_last_words() -> None:
    async def too_old(pod: Pod) -> int:
        pod.say_bytes(b"/opt/shorthaul/bin/python3: No module named benchmarks\n")
        return 1

    async with cluster({"n1": "a"}) as one:
        one.scripts["look"] = too_old
        outcome = await run(one)
        nothing_stays(one)
    (problem,) = outcome.problems
    assert "No module named benchmarks" in problem
    assert "upgrade the release" in problem


async def test_pod_without_room_on_its_node_is_told_as_the_scheduler_says_it() -> None:
    async with cluster({"n1": "a"}) as one:
        prepared = await prepare(one.kube, wishes())
        del one.workloads.objects["nodes", "n1"]  # gone since
        outcome = await measure(one.kube, prepared, silent, patience=hurried())
        nothing_stays(one)
    (problem,) = outcome.problems
    assert "not scheduled: 0/0 nodes are available" in problem


async def test_nodes_that_cannot_take_part_are_left_out_with_the_reason() -> None:
    async with cluster() as one:
        one.workloads.put("nodes", node("n2", "a", ready=False))
        one.workloads.put("nodes", node("n3", "b", pressure=True))
        outcome = await run(one)
    assert set(outcome.looks) == {"n1", "n4", "n5"}
    assert "node n2 is left out: it is not ready" in outcome.notes
    assert "node n3 is left out: its disk is nearly full (DiskPressure)" in outcome.notes


async def test_no_peers_are_told_and_what_needs_none_is_measured() -> None:
    async with cluster({"n1": "a"}) as one:
        outcome = await run(one)
    assert set(outcome.latencies) == {"n1"}
    assert "only one node takes part" in outcome.problems[0]


async def test_node_that_is_lost_on_the_way_is_told_and_the_others_go_on() -> None:
    async with cluster({"n1": "a", "n2": "a", "n3": "b"}, grace_s=0.2) as one:

        async def lost(pod: Pod) -> int:
            one.workloads.lost.add("n2")
            await asyncio.Event().wait()
            return 0

        one.scripts["latency", "n2"] = lost
        outcome = await run(one, wishes(seconds=10.0, only="latency"), hurried())
        assert one.workloads.of("jobs") == []
    assert set(outcome.latencies) == {"n1", "n3"}
    assert any("node n2, latency: its pod said nothing in time" in each for each in outcome.problems)


async def test_image_that_does_not_exist_is_told_once_for_its_node_and_nobody_else_tries() -> None:
    async def missing(pod: Pod) -> int:
        pod.say(
            wire.Trouble(problem="the pull of none.example/x:1 failed: not found", hint="is the name right?")
        )
        pod.say(wire.Removed(image=pod.order.image))
        return 0

    async with cluster() as one:
        one.scripts["pull"] = missing
        outcome = await run(one, wishes(image="none.example/x:1"))
        nothing_stays(one)
    (problem,) = outcome.problems
    assert problem.endswith("pull: the pull of none.example/x:1 failed: not found (is the name right?)")
    assert len([stage for stage, _ in one.stages() if stage == "pull"]) == 1


async def test_api_server_that_is_away_for_a_moment_costs_no_result() -> None:
    async with cluster(patience_s=10.0) as one:

        async def away(pod: Pod) -> int:
            await one.server.stop()
            await asyncio.sleep(0.3)
            await one.server.start()
            return await one_latency(pod)

        one_latency = one.scripts["latency"]
        one.scripts["latency", "n1"] = away
        outcome = await run(one)
        nothing_stays(one)
    assert outcome.problems == []
    assert len(outcome.latencies) == 5


async def test_api_server_that_stays_away_leaves_jobs_that_end_by_themselves_and_says_so() -> None:
    async with cluster({"n1": "a", "n2": "b"}, patience_s=0.3) as one:

        async def away(pod: Pod) -> int:
            await one.server.stop()
            await asyncio.Event().wait()
            return 0

        one.scripts["latency", "n1"] = away
        outcome = await run(one, wishes(seconds=10.0, only="latency"), hurried())
        for job in one.workloads.of("jobs"):
            assert job["spec"]["activeDeadlineSeconds"] <= 90 + 30
            assert job["spec"]["ttlSecondsAfterFinished"] == 600
    assert set(outcome.looks) == {"n1", "n2"}
    assert any("could not be deleted" in each and "ends by itself" in each for each in outcome.problems)


async def test_log_that_breaks_in_the_middle_is_read_again_and_counts_once() -> None:
    async with cluster() as one:
        one.workloads.log_cuts = 3
        outcome = await run(one)
    assert outcome.problems == []
    assert outcome.moved_bytes == 5 * 1_000_000 + 4 * 1000


async def test_run_that_is_cancelled_deletes_its_jobs_and_waits_until_pods_removed_what_they_pulled() -> None:
    removed = []

    async def slow(pod: Pod) -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await pull(pod)
            removed.append(pod.order.node)
        return 0

    async with cluster() as one:
        one.scripts["pull"] = slow
        prepared = await prepare(one.kube, wishes())
        outcome = Outcome()
        running = asyncio.create_task(measure(one.kube, prepared, silent, outcome=outcome, patience=QUICK))
        await until(lambda: outcome.pulls)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        nothing_stays(one)
    unsure = [
        each for each in outcome.problems if "nobody said that" in each
    ]  # it was gone before it was heard
    assert removed
    assert outcome.removed + len(unsure) == len(removed)


async def test_run_that_is_cancelled_while_its_jobs_are_made_leaves_none() -> None:
    async with cluster() as one:
        prepared = await prepare(one.kube, wishes())
        running = asyncio.create_task(measure(one.kube, prepared, silent, patience=QUICK))
        await until(lambda: one.workloads.made)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        nothing_stays(one)


async def test_jobs_of_a_run_that_crashed_are_deleted_by_the_next_one() -> None:
    async with cluster() as one:
        prepared = await prepare(one.kube, wishes())
        leaving = asyncio.create_task(measure(one.kube, prepared, silent, patience=QUICK))
        await until(lambda: len(one.workloads.of("jobs")) == 5)
        left = [*one.workloads.of("jobs")]
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        for job in left:  # as if the first had died before it could delete them
            job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
            one.workloads.put("jobs", job)
        outcome = await run(one)
        nothing_stays(one)
    assert outcome.problems == []


async def until_ended(pod: Pod) -> int:
    await pod.term.wait()
    return 0


async def test_run_beside_another_one_is_refused_and_clean_ends_that_one() -> None:
    async with cluster() as one:
        one.scripts["look"] = until_ended
        prepared = await prepare(one.kube, wishes())
        other = asyncio.create_task(measure(one.kube, prepared, silent, patience=QUICK))
        await until(lambda: one.workloads.of("jobs"))
        with pytest.raises(RunFailed, match="another benchmark is under way: Job shorthaul-bench-") as raised:
            await prepare(one.kube, wishes())
        assert "--clean" in raised.value.hint
        count = await clean(one.kube, silent, patience=QUICK)
        assert count > 0
        await other
        nothing_stays(one)


async def test_job_that_somebody_deletes_before_its_pod_runs_ends_the_wait_for_it() -> None:
    async with cluster({"n1": "a"}) as one:
        one.workloads.waiting = ("ContainerCreating", "")
        prepared = await prepare(one.kube, wishes())
        running = asyncio.create_task(measure(one.kube, prepared, silent, patience=QUICK))
        await until(lambda: one.workloads.of("jobs"))
        await clean(one.kube, silent, patience=QUICK)
        outcome = await running
    assert outcome.problems == ["node n1, look: somebody deleted its Job"]


async def test_clean_waits_until_the_pods_are_gone() -> None:
    async with cluster() as one:

        async def forever(pod: Pod) -> int:
            await pod.term.wait()
            await asyncio.sleep(0.3)
            return 0

        one.scripts["look"] = forever
        prepared = await prepare(one.kube, wishes())
        other = asyncio.create_task(measure(one.kube, prepared, silent, patience=QUICK))
        await until(lambda: len(bench_pods(one)) == 5)
        await clean(one.kube, silent, patience=QUICK)
        nothing_stays(one)
        await other


async def test_no_more_bytes_are_pulled_than_the_bounds_allow() -> None:
    async def large(pod: Pod) -> int:
        assert pod.order.bytes_max <= GB
        pod.say(wire.Pulled(image=pod.order.image, seconds=1.0, size_bytes=400_000_000))
        await pod.term.wait()
        pod.say(wire.Removed(image=pod.order.image))
        return 0

    async with cluster() as one:
        one.scripts["pull"] = large
        outcome = await run(one, wishes(image="registry.example/large:1"))
    assert len(outcome.pulls) == 2
    assert outcome.moved_bytes <= GB
    assert any("3 nodes did not pull" in each for each in outcome.notes)


async def test_image_that_is_there_before_is_neither_pulled_nor_counted() -> None:
    async def there(pod: Pod) -> int:
        pod.say(wire.Pulled(image=pod.order.image, size_bytes=1000, there_before=True))
        return 0

    async with cluster() as one:
        one.scripts["pull", "n3"] = there
        outcome = await run(one)
    assert outcome.problems == []
    assert outcome.moved_bytes == 5 * 1_000_000 + 3 * 1000


async def test_image_that_could_not_be_removed_is_a_problem_of_its_node() -> None:
    async def kept(pod: Pod) -> int:
        pod.say(wire.Pulled(image=pod.order.image, seconds=1.0, size_bytes=1000))
        await pod.term.wait()
        if pod.order.node == "n3":
            pod.say(wire.Removed(image=pod.order.image, kept="a container uses it by now"))
        return 0 if pod.order.node == "n3" else 137

    async with cluster() as one:
        one.scripts["pull", "n3"] = one.scripts["pull", "n4"] = kept
        outcome = await run(one)
    kept_there, unsaid = sorted(outcome.problems)
    assert kept_there == f"node n3: {ONLY_ON_N1.name} is still there: a container uses it by now"
    assert unsaid.startswith(f"node n4: nobody said that {ONLY_ON_N1.name} is away again")


async def test_everything_that_is_made_carries_the_name_of_its_run() -> None:
    async with cluster() as one:
        await run(one)
        runs = {job["metadata"]["labels"][RUN_LABEL] for job in one.workloads.made}
    assert len(runs) == 1
    assert EVERYWHERE.name not in {pod.order.image for pod in one.pods}

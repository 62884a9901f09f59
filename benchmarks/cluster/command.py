"""``shorthaul bench --cluster``: what a person sees of it, from the question to the report."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from agent.cli.clusteroptions import BYTES, SECONDS
from agent.cli.progress import Course, shown
from agent.members.kubernetes.client import Access, ApiServer, Failed, access
from agent.members.kubernetes.kubeconfig import KubeconfigInvalid, load, opened, paths
from benchmarks.arguments import make_console
from benchmarks.cluster.kube import Kube
from benchmarks.cluster.outcome import tell, unfinished
from benchmarks.cluster.plan import RATE_PER_S, Bounds
from benchmarks.cluster.release import ReleaseInvalid
from benchmarks.cluster.run import Outcome, Prepared, RunFailed, Wishes, clean, measure, prepare
from benchmarks.reporting.format import Fact, Machine, Report
from benchmarks.reporting.machine import product_facts
from benchmarks.reporting.recorder import Recorder
from benchmarks.reporting.tables import figures_table
from benchmarks.running import tell as tell_report

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LEAST_BYTES, _LEAST_S = 10_000_000, 30.0
_DEFAULT_NAMESPACE = "default"
_T = TypeVar("_T")

Ask = Callable[[str], str]


@contextmanager
def way_to_the_cluster(
    arguments: argparse.Namespace, environment: Mapping[str, str], pod: Path = _POD
) -> Iterator[tuple[Access, str]]:
    """The API server and the namespace. Raises `KubeconfigInvalid`.

    In this order: --api; --kubeconfig or --context; the pod that this runs in; the kubeconfig of kubectl.
    """
    own = pod / "namespace"
    if arguments.api:
        yield access(arguments.api, None, None), arguments.namespace or _DEFAULT_NAMESPACE
    elif own.exists() and not (arguments.kubeconfig or arguments.context or environment.get("KUBECONFIG")):
        namespace = arguments.namespace or own.read_text(encoding="utf-8").strip()
        yield access(None, None, None, environment), namespace
    else:
        context = load(paths(environment, arguments.kubeconfig), arguments.context)
        with opened(context) as found:
            yield found, arguments.namespace or context.namespace or _DEFAULT_NAMESPACE


def run(
    arguments: argparse.Namespace,
    old: Report | None = None,
    *,
    ask: Ask = input,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Measure, print, and write what was asked for. Returns the exit status. ``old``: to compare with."""
    try:
        wishes = _wishes(arguments)
        with way_to_the_cluster(arguments, environment) as (found, namespace):
            if arguments.clean:
                return _clean(found, namespace)
            prepared = _run(lambda: _with(found, namespace, lambda kube: prepare(kube, wishes)), "looking")
            console = make_console()
            console.print(intent(prepared), highlight=False, markup=False, soft_wrap=True)
            _confirm(arguments, ask)
            return _measured(arguments, console, found, prepared, old)
    except (RunFailed, ReleaseInvalid, KubeconfigInvalid, Failed) as error:
        hint = _hint(error)
        print(f"shorthaul bench: {error}" + (f"\n      hint: {hint}" if hint else ""), file=sys.stderr)
        return error.status if isinstance(error, RunFailed) else 1


def intent(prepared: Prepared) -> str:
    """What will be done, and what it may cost, before anything is done."""
    bounds, choice, release = prepared.wishes.bounds, prepared.choice, prepared.release
    jobs = f"{release.name}-bench-{prepared.run}-…"
    gigabytes = f"{bounds.bytes / 1e9:.3g} GB"
    names = ", ".join(node.name for node in choice.nodes[:10])
    more = f" and {len(choice.nodes) - 10} more" if len(choice.nodes) > 10 else ""
    image = prepared.wishes.image or "an image that one of them has, on the others,"
    lines = [
        f"A benchmark of {release.namespace}/{release.name} on {_count(len(choice.nodes), 'node')} in "
        f"{_count(choice.zones, 'zone')}: {names}{more}.",
        f"It makes Jobs from the agents' image ({release.image}), named {jobs}. "
        "Their pods run as root on the nodes' network, with containerd's socket, without any capability and "
        "without a token of the API server.",
        f"They ask each node's agent {RATE_PER_S:.0f} times a second, and have containerd pull {image} and "
        "remove it again.",
        f"Together they move at most {gigabytes} and measure for at most {bounds.seconds:.0f} s. Then all is "
        "deleted, also on Ctrl-C.",
        *(f"Note: {note}." for note in choice.notes),
    ]
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _wishes(arguments: argparse.Namespace) -> Wishes:
    bytes_max = BYTES if arguments.bytes is None else arguments.bytes
    seconds = SECONDS if arguments.seconds is None else arguments.seconds
    if arguments.nodes < 1 or bytes_max < _LEAST_BYTES or seconds < _LEAST_S:
        raise RunFailed(
            f"that is too little: {arguments.nodes} nodes, {bytes_max} bytes, {seconds:g} s",
            f"at least 1 node, {_LEAST_BYTES // 1_000_000} MB and {_LEAST_S:.0f} s",
            status=2,
        )
    images = arguments.image or [""]
    if len(images) > 1:
        raise RunFailed("the nodes pull one image only", "name one --image", status=2)
    bounds = Bounds(nodes=arguments.nodes, bytes=bytes_max, seconds=seconds)
    return Wishes(bounds=bounds, daemonset=arguments.daemonset, image=images[0], only=arguments.only)


def _confirm(arguments: argparse.Namespace, ask: Ask) -> None:
    if arguments.yes:
        return
    try:
        answer = ask("Go on? [y/N] ")
    except EOFError:
        raise RunFailed("nobody answers", "say --yes where no person is", status=2) from None
    if answer.strip().lower() not in ("y", "yes"):
        raise RunFailed("nothing was done", status=1)


def _clean(found: Access, namespace: str) -> int:
    count = _run(
        lambda: _with(found, namespace, lambda kube: clean(kube, lambda _share, _what: None)), "cleaning up"
    )
    print(f"{count} Jobs of benchmarks were ended and deleted.")
    return 0


def _measured(
    arguments: argparse.Namespace, console: Console, found: Access, prepared: Prepared, old: Report | None
) -> int:
    """Measure, and report in any case."""
    recorder, outcome = Recorder(console), Outcome()
    began, began_s, status = datetime.now(UTC), time.monotonic(), 0
    course = Course("bench")
    with shown(course):

        def measure_it(kube: Kube) -> Awaitable[Outcome]:
            return measure(kube, prepared, lambda share, what: course.step(what, share), outcome=outcome)

        try:
            asyncio.run(_until_signal(lambda: _with(found, prepared.release.namespace, measure_it)))
        except _Ended as ended:
            status = 128 + ended.number
            outcome.problems.append(unfinished(time.monotonic() - began_s, cleaned=not ended.at_once))
    tell(recorder, prepared, outcome)
    report = Report(
        name="cluster",
        began=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=round(time.monotonic() - began_s, 1),
        complete=not recorder.problems,
        machine=_nodes(outcome),
        product=product_facts(),
        arguments=(
            Fact(name="command line", value=" ".join(["shorthaul", *sys.argv[1:]])),
            Fact(name="run", value=prepared.run),
        ),
        sections=recorder.sections,
        problems=tuple(recorder.problems),
    )
    console.print(figures_table(report.sections, f"measured on {report.machine.virtual} just now"))
    return max(status, tell_report(report, old, console, arguments))


def _nodes(outcome: Outcome) -> Machine:
    """What was measured is many machines: only what they have in common is said."""
    kinds = sorted({look.machine for look in outcome.looks.values()})
    kernels = sorted({look.kernel for look in outcome.looks.values()})
    return Machine(
        processor="; ".join(kinds) or "unknown",
        processors=sum(look.processors for look in outcome.looks.values()),
        memory_mib=sum(look.memory_mib for look in outcome.looks.values()),
        kernel="; ".join(kernels) or "unknown",
        virtual=f"a cluster of {_count(len(outcome.looks), 'node')}",
    )


class _Ended(Exception):
    """A signal ended it, after it had cleaned up. ``at_once``: a second one came, and it had not."""

    def __init__(self, number: int, *, at_once: bool) -> None:
        super().__init__(f"signal {number}")
        self.number = number
        self.at_once = at_once


async def _until_signal(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it. A first signal cancels it, and it cleans up; a second one ends even that."""
    loop, got = asyncio.get_running_loop(), list[int]()
    task = asyncio.ensure_future(work())

    def on(number: int) -> None:
        got.append(number)
        if len(got) == 1:
            print("shorthaul bench: ending; cleaning up (again to leave that to Kubernetes)", file=sys.stderr)
        task.cancel()

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, on, number)
    try:
        return await task
    except asyncio.CancelledError:
        if got:
            raise _Ended(got[0], at_once=len(got) > 1) from None
        raise
    finally:
        for number in _SIGNALS:
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)


async def _with(found: Access, namespace: str, do: Callable[[Kube], Awaitable[_T]]) -> _T:
    # Each pod's log is followed on a connection of its own.
    async with ApiServer(found, agent="shorthaul-bench", connections=0) as api:
        return await do(Kube(api, namespace))


def _run(work: Callable[[], Awaitable[_T]], what: str) -> _T:
    async def all_of_it() -> _T:
        return await work()

    with shown(Course("bench", doing=f"{what} at the cluster")):
        return asyncio.run(all_of_it())


def _hint(error: Exception) -> str:
    """What to do. What the API server's client says is meant for an agent, not for a person's command."""
    if isinstance(error, Failed):
        if error.status in (401, 403):
            return "is it the right --context? docs/benchmarks.md, “On your own cluster”, names the rights"
        return "does kubectl reach this cluster? Name a --context, or --api for the one of `kubectl proxy`"
    return str(getattr(error, "hint", ""))

"""``shorthaul everywhere COMMAND…``: runs a command in every agent's pod, and says where it fails."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.errors import CommandError
from agent.cli.progress import Course

if TYPE_CHECKING:
    from agent.fleet.pods import Said

_SELECTOR = "app.kubernetes.io/name=shorthaul,app.kubernetes.io/component=agent"
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "everywhere",
        help="run a command in every agent's pod (in a pod that may)",
        description="Run a shorthaul command in the pod of every agent, and show where it ends with another "
        "exit status than 0. It needs the rights to list pods and to run commands in them; the chart's "
        "test (`helm test`) has them.",
    )
    parser.add_argument("--namespace", help="the agents' (default: that of the pod which this runs in)")
    parser.add_argument("--selector", default=_SELECTOR, help=f"of the agents' pods (default: {_SELECTOR})")
    parser.add_argument(
        "--daemonset", metavar="NAME", help="of the agents: then nodes that should have a pod count too"
    )
    parser.add_argument("--container", default="agent", help="in which it runs (default: agent)")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS", help="for one pod (default: 60)"
    )
    parser.add_argument("--api", metavar="URL", help="the API server (default: that of the pod)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="for example: doctor")
    parser.set_defaults(run=run, course=Course("shorthaul everywhere"))


def run(arguments: argparse.Namespace) -> int:
    """Run the command everywhere. Returns 1 if it is not good on every node."""
    from agent.fleet.pods import report

    command = [word for word in arguments.command if word != "--"]
    try:
        if not command:
            raise CommandError("no command", hint="write for example: shorthaul everywhere doctor", status=2)
        every, missing = asyncio.run(_run(arguments, command))
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    print(report(command, every, missing=missing))
    return 0 if every and not missing and all(said.good for said in every) else 1


async def _run(arguments: argparse.Namespace, command: Sequence[str]) -> tuple[tuple["Said", ...], int]:
    from agent.fleet.execution import Fleet
    from agent.members.kubernetes.client import ApiServer, Failed, access

    async with ApiServer(access(arguments.api, None, None), agent="shorthaul-everywhere") as api:
        fleet = Fleet(
            api=api,
            namespace=arguments.namespace or _own_namespace(),
            selector=arguments.selector,
            container=arguments.container,
            timeout_s=arguments.timeout,
        )
        try:
            pods = await fleet.pods()
            missing = await fleet.missing(arguments.daemonset, pods) if arguments.daemonset else 0
        except (Failed, OSError) as error:
            hint = error.hint if isinstance(error, Failed) else "run it in a pod, or name --api"
            if isinstance(error, Failed) and error.status == 403:
                hint = "it needs the rights to list pods and to create pods/exec: `helm test` has them"
            raise CommandError(f"the agents can't be listed: {error}", hint=hint) from error
        course = arguments.course

        def told(said: int) -> None:
            course.step(f"{said} of {len(pods)} nodes", said / max(1, len(pods)))

        told(0)
        return await fleet.run(["shorthaul", *command], pods, told=told), missing


def _own_namespace() -> str:
    try:
        return _NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CommandError("this is no pod of a cluster", hint="name the agents' --namespace") from error

"""``shorthaul doctor``: what keeps this node's pulls from being served, and what to do about it.

It only looks. It needs no rights of the probe: in Kubernetes it runs in the agent's own container.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.errors import CommandError
from agent.cli.hosts import add_node, check_root
from agent.cli.settings import CONFIG_VARIABLE, add_config, settings_or_none
from agent.config import Settings

if TYPE_CHECKING:
    from agent.preflight import Check
    from agent.preflight.doctor import DoctorTarget

ROOT_VARIABLE = "SHORTHAUL_ROOT"
_POD_ROOT = Path("/host")
_PIPED_WIDTH = 100  # `kubectl exec` and logs; programs read --json


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "doctor",
        help="look for what keeps this node's pulls from being served, and say what to do",
        description="Look at containerd, its hosts.toml files, the ports, this node's agent, its peers in "
        "both directions, names, clocks and labels. One table: what was looked at, what is wrong, what to "
        "do. The exit status is 1 if anything keeps pulls from being served, and 0 with warnings otherwise. "
        "It takes ten seconds at most, and changes nothing.",
    )
    add_config(parser, required=False)
    add_node(parser, default_root=default_root(os.environ))
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.set_defaults(run=run)


def default_root(environment: Mapping[str, str], pod_root: Path = _POD_ROOT) -> Path:
    """Where the node's file system is. In the agent's pod it is mounted at /host."""
    named = environment.get(ROOT_VARIABLE)
    if named:
        return Path(named)
    return pod_root if environment.get(CONFIG_VARIABLE) and pod_root.is_dir() else Path("/")


def run(arguments: argparse.Namespace) -> int:
    """Look, and print what was found."""
    settings = settings_or_none(arguments)
    if settings is None:
        return 2
    try:
        check_root(arguments.root)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status
    from agent.preflight.doctor import examine

    started_s = time.monotonic()
    checks = examine(_target(arguments, settings))
    seconds = time.monotonic() - started_s
    if arguments.json:
        print(json.dumps(_as_json(settings.node.name, checks, seconds), indent=2))
    else:
        _print(settings.node.name, checks)
    return 0 if serves(checks) else 1


def serves(checks: "Sequence[Check]") -> bool:
    """Whether nothing keeps pulls from being served."""
    from agent.preflight import Status

    return all(check.status is not Status.BAD for check in checks)


def _target(arguments: argparse.Namespace, settings: Settings) -> "DoctorTarget":
    from agent.config.settings import ProbeSettings
    from agent.preflight.containerdfiles import find_containerd
    from agent.preflight.doctor import DoctorTarget
    from agent.preflight.ports import find_listeners
    from agent.probe.unseen import unseen_listeners

    hosts_dir = settings.probe.hosts_dir
    node = find_containerd(
        arguments.root,
        flavour=arguments.flavour,
        certs_d=arguments.certs_d,
        config=arguments.containerd_config,
        hosts_dir=None if hosts_dir == ProbeSettings().hosts_dir else hosts_dir,
    )
    return DoctorTarget(
        settings=settings,
        name=settings.node.name if arguments.config else None,
        node=node,
        listeners=lambda port: find_listeners(Path("/proc"), port, unseen=lambda: unseen_listeners(port)),
    )


def _as_json(node: str, checks: "Sequence[Check]", seconds: float) -> object:
    from agent.documents.codec import to_plain
    from agent.documents.doctor import DoctorDocument, FindingEntry

    findings = tuple(
        FindingEntry(
            subject=check.name,
            status=check.status.value,
            found=check.detail,
            advice=check.hint,
            lines=check.lines,
        )
        for check in checks
    )
    document = DoctorDocument(node=node, serves=serves(checks), seconds=round(seconds, 3), findings=findings)
    return to_plain(document)


def _print(node: str, checks: "Sequence[Check]") -> None:
    from agent.cli import drawing
    from agent.cli.findings import checks_table
    from agent.cli.formats import count
    from agent.preflight import Status

    console = drawing.make_console(piped_width=_PIPED_WIDTH)
    console.print(checks_table(checks, title=f"Node {node}"))
    bad = sum(check.status is Status.BAD for check in checks)
    warned = sum(check.status is Status.WARN for check in checks)
    unseen = sum(check.status is Status.UNKNOWN for check in checks)
    others = [count(warned, "warning")] if warned else []
    others += [f"{unseen} not known"] if unseen else []
    beside = f" ({', '.join(others)})" if others else ""
    if bad:
        console.print(
            f"\n{count(bad, 'fault')} that may keep pulls from being served{beside}.", style="bold red"
        )
    else:
        console.print(f"\nNothing was found that keeps pulls from being served{beside}.", style="bold green")

"""``shorthaul verify``: checks once whether this node's path to the agent is direct.

The exit status is 0 only if the path to the HostPort is proved to be direct and to end at this node's agent.
"""

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.cli.settings import add_config, settings_or_none
from agent.config import Settings
from agent.observe import log

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from agent.flows.messages import Canary
    from agent.preflight import Check


_WIDE = 120  # columns that the table needs; a narrower terminal gets a list
_OWNER = "HostPort"  # the check that says which process has the port, which no canary can show


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "verify",
        help="prove that this node's path to the agent is direct (needs root)",
        description="Check the node, make one connection to each endpoint, and show what the kernel saw. "
        "The exit status is 0 only if the path to the HostPort is proved to be direct.",
    )
    add_config(parser, required=False)
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the node, send canaries, print the result."""
    settings = settings_or_none(arguments)
    if settings is None:
        return 2
    log.configure("text", "error")
    # Imported here, because other commands do not need these.
    from agent.preflight import PreflightTarget, run_checks
    from bpf.errors import BpfError

    probe, local = settings.probe, settings.listen.hostport
    checks = run_checks(
        PreflightTarget(
            host_port=local.port,
            node_port=probe.node_port,
            host_address=local.host,
            cgroup=probe.cgroup,
            containerd_cgroup=probe.containerd_cgroup,
        )
    )
    canaries: tuple[Canary, ...] = ()
    alike = True
    failure: BpfError | None = None
    try:
        canaries, alike = _send_canaries(settings)
    except BpfError as error:
        failure = error
    proved, why = _conclude(
        checks, canaries, settings.node.name if arguments.config else None, alike, failure
    )
    if arguments.json:
        print(json.dumps(_as_dict(checks, canaries, failure, proved, why), indent=2))
    else:
        _print(checks, canaries, proved, why)
    if failure is not None:
        from agent.cli.probe import print_bpf_error

        print_bpf_error(failure, advice="")
    return 0 if proved else 1


def _send_canaries(settings: Settings) -> "tuple[tuple[Canary, ...], bool]":
    """The canaries' results, and whether the same eBPF programs run on containerd's connect()."""
    from agent.probe.run import attached, make_probe

    with attached(settings, known=_known_programs(settings)) as source:
        probe = make_probe(settings, source)
        canaries = asyncio.run(probe.send_canaries())
        return canaries, probe.health().alike


def _known_programs(settings: Settings) -> tuple[int, ...]:
    """The programs of the probe that already runs on this node. Empty if none runs."""
    from agent.probe.reader import read_hello

    try:
        return asyncio.run(read_hello(settings.probe.socket)).programs
    except (OSError, ValueError, TimeoutError):
        return ()


def _conclude(
    checks: "tuple[Check, ...]",
    canaries: "tuple[Canary, ...]",
    node: str | None,
    alike: bool,
    failure: Exception | None,
) -> tuple[bool, str]:
    """Whether the path is proved, and why, as a sentence. ``node``: the node whose agent must answer."""
    from agent.flows.verdicts import EndpointName, Verdict
    from agent.preflight import Status

    if failure is not None:
        return False, f"Not proved: {failure}."
    to_host_port = [canary for canary in canaries if canary.endpoint is EndpointName.HOSTPORT]
    if not to_host_port:
        return False, "Not proved: nothing was sent to the HostPort."
    for canary in to_host_port:
        if canary.verdict is not Verdict.DIRECT:
            return False, f"Not proved: {canary.address} is {canary.verdict.value}: {canary.reason}."
        if not canary.answered_by:
            return (
                False,
                f"Not proved: {canary.address} is direct, but no shorthaul agent answered: {canary.reason}.",
            )
        if node is not None and canary.answered_by != node:
            return False, f"Not proved: {canary.address} was answered by {canary.answered_by}, not by {node}."
    if not alike:
        return False, (
            "Not proved: other eBPF programs run on containerd's connect() than on the canary's; "
            "`bpftool cgroup tree` lists them."
        )
    for check in checks:
        if check.name == _OWNER and check.status is Status.BAD:
            return False, f"Not proved, although {to_host_port[0].address} is direct: {check.detail}."
    addresses = ", ".join(canary.address for canary in to_host_port)
    return True, f"Proved: {addresses} is direct, and {to_host_port[0].answered_by}'s agent answered."


def _as_dict(
    checks: "tuple[Check, ...]",
    canaries: "tuple[Canary, ...]",
    failure: Exception | None,
    proved: bool,
    why: str,
) -> dict[str, Any]:
    documents = [asdict(canary) for canary in canaries]
    for canary in documents:
        canary["endpoint"], canary["verdict"] = canary["endpoint"].value, canary["verdict"].value
        del canary["at_s"]
    return {
        "proved": proved,
        "why": why,
        "canaries": documents,
        "preflight": [
            {"name": each.name, "status": each.status.value, "detail": each.detail, "hint": each.hint}
            for each in checks
        ],
        "error": None if failure is None else {"message": str(failure), "hint": getattr(failure, "hint", "")},
    }


def _print(checks: "tuple[Check, ...]", canaries: "tuple[Canary, ...]", proved: bool, why: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from agent.cli import drawing
    from agent.preflight import Status

    console = drawing.make_console()
    styles = {Status.GOOD: "green", Status.WARN: "yellow", Status.BAD: "bold red"}
    looked = Table(box=None, pad_edge=False, title="The node", title_justify="left", show_header=False)
    for check in checks:
        detail = Text(check.detail, overflow="fold")  # a path is worth nothing without its end
        if check.hint and check.status is not Status.GOOD:
            detail.append(f"\n→ {check.hint}", style="dim")
        looked.add_row(Text(check.status.value, style=styles[check.status]), check.name, detail)
    console.print(looked)
    if canaries:
        console.print(Text("\nOne connection to each endpoint", style="italic"))
        console.print(_table(canaries) if console.width >= _WIDE else _list(canaries))
    console.print()
    console.print(Text(why, style="bold green" if proved else "bold red"))


def _table(canaries: "tuple[Canary, ...]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("endpoint", "asked for", "verdict", "on the wire to", "answered by", "RTT", "why"):
        table.add_column(column)
    for canary in canaries:
        endpoint, address, verdict, went, by, rtt, reason = _words(canary)
        style = _style(canary)
        table.add_row(
            endpoint, Text(address), Text(verdict, style=style), Text(went), Text(by), rtt, Text(reason)
        )
    return table


def _list(canaries: "tuple[Canary, ...]") -> "Text":
    """The canaries as a list, for narrow terminals."""
    from rich.text import Text

    text = Text()
    for canary in canaries:
        endpoint, address, verdict, went, by, rtt, reason = _words(canary)
        text.append(f"{endpoint} {address}: ").append(verdict, style=_style(canary))
        text.append(f"\n    on the wire to {went}, answered by {by}, RTT {rtt}\n    {reason}\n")
    return text


def _words(canary: "Canary") -> tuple[str, ...]:
    from agent.cli.formats import ms

    return (
        canary.endpoint.value,
        canary.address,
        canary.verdict.value,
        canary.went or "–",
        canary.answered_by or "–",
        ms(canary.rtt_us or None),
        canary.reason,
    )


def _style(canary: "Canary") -> str:
    return "green" if canary.verdict.value == "DIRECT" else "yellow"

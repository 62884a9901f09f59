"""``shorthaul verify``: checks once whether this node's path to the agent is direct.

The exit status is 0 only if the path to the HostPort is proved to be direct and to end at this node's agent.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agent.cli.settings import add_config, settings_or_none
from agent.config import Settings
from agent.observe import log

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from agent.flows.messages import Canary
    from agent.preflight import Check
    from agent.probe.inquiry import ProbeWord


_WIDE = 120  # columns that the table needs; a narrower terminal gets a list
_MIRRORS = "hosts.toml"  # the check that says what containerd is told to use
_AGENT_S = 5.0
_HEARD_S, _AGAIN_S = 2.0, 0.1  # the agent hears of the canaries a moment later than this command
_NO_AGENT = (
    "No agent told this probe its sockets: is it running, with the same probe.socket, and is its user root "
    "or among probe.readers?"
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "verify",
        help="prove that this node's path to the agent is direct (needs root)",
        description="Check the node, make one connection to each endpoint, and show what the kernel saw. "
        "A probe that runs here is asked; otherwise this command is one for a moment. The exit status is 0 "
        "only if the path to the HostPort is proved to be direct, and the agent says so too.",
    )
    add_config(parser, required=False)
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the node, ask its probe and its agent, print the result."""
    settings = settings_or_none(arguments)
    if settings is None:
        return 2
    log.configure("text", "error")
    # Imported here, because other commands do not need these.
    from agent.probe.inquiry import ProbeSilent, ask_probe
    from agent.probe.publisher import SocketTaken
    from bpf.errors import BpfError

    checks = _checks(settings)
    word: ProbeWord[AgentWord] | None = None
    failure: BpfError | SocketTaken | ProbeSilent | None = None
    try:
        if not wrong_namespace(checks):  # a probe of another namespace would only mislead the agent
            word = asyncio.run(ask_probe(settings, lambda: _ask_agent(settings)))
    except (BpfError, SocketTaken, ProbeSilent) as error:
        failure = error
    if word is not None:
        proved, why = conclude(checks, word, settings.node.name if arguments.config else None)
    else:
        proved, why = False, wrong_namespace(checks) or f"Not proved: {failure}."
    canaries = () if word is None else word.canaries
    if arguments.json:
        print(json.dumps(_as_dict(checks, word, failure, proved, why), indent=2))
    else:
        _print(checks, canaries, proved, why)
    if failure is not None:
        from agent.cli.probe import print_bpf_error

        print_bpf_error(failure, advice="")
    return 0 if proved else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentWord:
    """What the agent says of its path: `FlowsDocument`. ``why``: also why it could not be asked."""

    answered: bool
    proved: bool
    why: str


def _checks(settings: Settings) -> "tuple[Check, ...]":
    from agent.hosts.named import named_mirrors
    from agent.preflight import PreflightTarget, ToldMirrors, mirrors, run_checks
    from agent.probe.process import watched_node
    from bpf.events import Address, pack_ip

    probe, local = settings.probe, settings.listen.hostport
    target = PreflightTarget(
        host_port=local.port,
        node_port=probe.node_port,
        host_address=local.host,
        cgroup=probe.cgroup,
        containerd_cgroup=probe.containerd_cgroup,
    )
    named, view = named_mirrors(probe.hosts_dir, {local.port, probe.node_port}), watched_node(settings).view
    own = [one for one in named.endpoints if view.endpoint(Address(pack_ip(one.host), one.port)) is not None]
    told = ToldMirrors(
        folder=probe.hosts_dir,
        files=named.files,
        own=[str(one) for one in own],
        others=(*named.others, *(str(one) for one in named.endpoints if one not in own)),
        by_settings=[str(one) for one in probe.endpoints],
    )
    return (*run_checks(target), mirrors(target, told))


def _ask_agent(settings: Settings) -> AgentWord:
    """What this node's agent says. It knows what containerd's own connections met."""
    from agent.cli.adminclient import UNIX, read, request_json
    from agent.cli.errors import CommandError
    from agent.documents.flows import FlowsDocument

    # Its own socket asks for no token, wherever the admin port listens.
    socket, until_s = settings.health.socket, time.monotonic() + _HEARD_S
    by_socket = socket is not None and socket.exists()
    url = f"{UNIX}{socket}" if by_socket else f"http://{settings.listen.admin}"
    while True:
        try:
            document = read(FlowsDocument, request_json(url, FlowsDocument.PATH, deadline_s=_AGENT_S))
        except CommandError as error:
            return AgentWord(answered=False, proved=False, why=f"{error}")
        if document.proved or time.monotonic() > until_s:
            return AgentWord(answered=True, proved=document.proved, why=document.why)
        time.sleep(_AGAIN_S)


def conclude(checks: "Sequence[Check]", word: "ProbeWord[AgentWord]", node: str | None) -> tuple[bool, str]:
    """Whether the path is proved, and why, as a sentence. ``node``: the node whose agent must answer.

    It never says more than the agent does: the agent also knows what containerd's own connections met.
    """
    from agent.flows.verdicts import EndpointName, Verdict
    from agent.preflight import Status

    if not word.is_here:
        return False, (
            "Not proved: this is not the network namespace that this node's probe watches. Run verify in the "
            "node's own (in a pod: hostNetwork: true; else nsenter --target CONTAINERD_PID --net)."
        )
    for check in checks:
        if check.name == _MIRRORS and check.status is Status.BAD:
            return False, f"Not proved: {check.detail}."
    to_host_port = [canary for canary in word.canaries if canary.endpoint is EndpointName.HOSTPORT]
    if not to_host_port:
        return False, "Not proved: nothing was sent to the HostPort."
    for canary in to_host_port:
        if canary.verdict is not Verdict.DIRECT:
            unknown = "" if word.agents or canary.verdict is not Verdict.UNKNOWN else f" {_NO_AGENT}"
            return False, f"Not proved: {canary.address} is {canary.verdict.value}: {canary.reason}.{unknown}"
        if not canary.answered_by:
            return (
                False,
                f"Not proved: {canary.address} is direct, but no shorthaul agent answered: {canary.reason}.",
            )
        if node is not None and canary.answered_by != node:
            return False, f"Not proved: {canary.address} was answered by {canary.answered_by}, not by {node}."
    if not word.alike:
        return False, (
            "Not proved: other eBPF programs run on containerd's connect() than on the canary's, or "
            "containerd's cgroup is not known and some cgroup has such programs; `bpftool cgroup tree` lists "
            "them, and probe.containerd_cgroup names containerd's."
        )
    agent = word.meanwhile
    if not agent.proved:
        says = "the agent says" if agent.answered else "the agent can't be asked what containerd's own met"
        return False, f"Not proved, although {to_host_port[0].address} is direct now: {says}: {agent.why}."
    addresses = ", ".join(canary.address for canary in to_host_port)
    return True, f"Proved: {addresses} is direct, and {to_host_port[0].answered_by}'s agent answered."


def wrong_namespace(checks: "Sequence[Check]") -> str:
    """Why a proof from here is about another network namespace than containerd's. Empty if it is not."""
    from agent.preflight import NETWORK_NAMESPACE, Status

    for check in checks:
        if check.name == NETWORK_NAMESPACE and check.status is Status.BAD:
            return f"Not proved: this network namespace is {check.detail}. {check.hint}."
    return ""


def _as_dict(
    checks: "tuple[Check, ...]",
    word: "ProbeWord[AgentWord] | None",
    failure: Exception | None,
    proved: bool,
    why: str,
) -> dict[str, Any]:
    documents = [] if word is None else [asdict(canary) for canary in word.canaries]
    for canary in documents:
        canary["endpoint"], canary["verdict"] = canary["endpoint"].value, canary["verdict"].value
        del canary["at_s"]
    return {
        "proved": proved,
        "why": why,
        "asked": None if word is None else "running probe" if word.was_running else "own probe",
        "agent": None if word is None else {"proved": word.meanwhile.proved, "why": word.meanwhile.why},
        "canaries": documents,
        "preflight": [
            {"name": each.name, "status": each.status.value, "detail": each.detail, "hint": each.hint}
            for each in checks
        ],
        "error": None if failure is None else {"message": str(failure), "hint": getattr(failure, "hint", "")},
    }


def _print(checks: "tuple[Check, ...]", canaries: "tuple[Canary, ...]", proved: bool, why: str) -> None:
    from rich.text import Text

    from agent.cli import drawing
    from agent.cli.findings import checks_table

    console = drawing.make_console()
    looked = checks_table(checks, title="The node")
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

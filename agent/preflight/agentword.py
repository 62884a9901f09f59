"""What this node's agent says of itself: which of its parts work, and what is wrong around it. Pure."""

import re
from collections.abc import Iterator, Sequence

from agent.documents.topology import ProblemEntry, TopologyDocument
from agent.preflight.check import Check, bad, good, listed, shown, warn
from agent.preflight.gather import Unknown

NAME = "the agent"
_LINE = re.compile(r"\[([-+!])\] ([^:\n]+): ([^\n]*)")
_LONG = 300
_PROBLEMS_MAX = 6
_STANDING_BY = "standing by"
_LOG = "its log says why; in Kubernetes: kubectl logs -c agent, with --previous if it restarts"


def agent_parts(said: tuple[int, str] | Unknown) -> tuple[Check, ...]:
    """The parts of the agent, by ``/readyz?verbose``: its status and its text."""
    if isinstance(said, Unknown):
        return (bad(NAME, said.why, hint=f"start it, or name its settings with --config; {_LOG}"),)
    status, text = said
    lines = _LINE.findall(text)
    if not lines:
        return (bad(NAME, f"what answers is no agent: {shown(text, 80)!r}", hint="see listen.admin"),)
    checks = [*_parts(lines)]
    works = [name for mark, name, _ in lines if mark == "+" and name != "phase"]
    if status == 200:
        checks.insert(0, good(NAME, f"it serves; these parts work: {listed(works, 9)}"))
    elif not checks:
        checks.insert(0, bad(NAME, shown(text.strip().rpartition("\n")[2]), hint=_LOG))
    return tuple(checks)


def _parts(lines: Sequence[tuple[str, str, str]]) -> Iterator[Check]:
    for mark, name, said in lines:
        problem, advice = _apart(said)
        if mark == "+":
            continue
        if name == "phase":
            if said.startswith(_STANDING_BY):
                yield warn(NAME, f"it is {said}", hint="ask that one; this pod is about to end")
            else:
                yield bad(NAME, f"it does not serve: {shown(said)}", hint=_LOG)
        elif mark == "-":
            yield bad(shown(name, 30), shown(problem, _LONG), hint=shown(advice or _LOG, _LONG))
        else:
            yield warn(shown(name, 30), shown(problem, _LONG), hint=shown(advice or _LOG, _LONG))


def _apart(said: str) -> tuple[str, str]:
    """The problem, and the advice in the brackets at the end."""
    if not said.endswith(")"):
        return said, ""
    depth = 0
    for at in range(len(said) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(said[at], 0)
        if depth == 0:
            return said[:at].rstrip(), said[at + 1 : -1]
    return said, ""


def around(topology: TopologyDocument | Unknown) -> tuple[Check, ...]:
    """The problems that the agent found with its labels, its peers and its settings."""
    if isinstance(topology, Unknown):
        return ()  # `agent_parts` says that the agent does not answer
    checks = [_problem(each) for each in topology.problems[:_PROBLEMS_MAX]]
    more = len(topology.problems) - len(checks)
    if more > 0:
        checks.append(warn("problems", f"{more} more", hint="GET /api/topology lists them all"))
    return tuple(checks)


def _problem(entry: ProblemEntry) -> Check:
    return warn(f"about {shown(entry.node, 40)}", shown(entry.problem, _LONG), hint=shown(entry.hint, _LONG))


def zone_label(topology: TopologyDocument | Unknown) -> tuple[Check, ...]:
    """Whether this node has the label that says in which zone it is, as the others have."""
    name = "the zone label"
    if isinstance(topology, Unknown):
        return ()
    own = next((node for node in topology.nodes if node.own), None)
    labels = {} if own is None or own.inferred else dict(own.placement)
    if "zone" in labels:
        return (good(name, " / ".join(shown(value, 40) for value in labels.values())),)
    others = [node for node in topology.nodes if not node.own and "zone" in dict(node.placement)]
    if not others:
        return (good(name, "no node has one: all peers count as equally near, by their labels"),)
    return (
        warn(
            name,
            f"this node has none, and {len(others)} of {len(topology.nodes) - 1} others have one: nobody "
            "knows which peers are near it",
            hint="kubectl label node NAME topology.kubernetes.io/zone=ZONE, or set placement.zone",
        ),
    )

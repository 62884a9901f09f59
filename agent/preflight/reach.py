"""What it means that peers answer or not, in each direction, and who they say they are. Pure."""

from collections import Counter
from collections.abc import Sequence

from agent.documents.reach import NO_TLS, OWN, REFUSED, SILENT, ReachDocument, ReachEntry
from agent.preflight.check import Check, bad, good, listed, unknown, warn
from agent.preflight.gather import Unknown

OUT, BACK, NAMES = "to the peers", "from the peers", "names of agents"
_DROPS = (
    "a SYN without an answer is dropped on its way: a NetworkPolicy, a firewall or a security group. Allow "
    "TCP to port {port} of {where} from all nodes{down}"
)


def peers_reached(reach: ReachDocument | Unknown, own_port: int) -> tuple[Check, ...]:
    """Whether this node reaches its peers, whether they reach it, and whether their names are unique.

    ``own_port``: that of this node's peer listener.
    """
    if isinstance(reach, Unknown):
        return (unknown(OUT, reach.why), unknown(BACK, reach.why))
    others = [each for each in reach.asked if not each.own]
    if not others:
        return (good(OUT, "there are no peers: what this node lacks comes from the registry"),)
    return (_out(others, reach.peers), _back(others, own_port), *_names(others, reach.node))


def _out(asked: Sequence[ReachEntry], peers: int) -> Check:
    failed = [each for each in asked if not each.reached]
    some = f" of {len(asked)} asked, {peers} in all"
    if not failed:
        return good(OUT, f"this node reaches {len(asked)}{some}")
    detail = f"this node does not reach {len(failed)}{some}: {listed(map(_how, failed), 3, width=120)}"
    hint = _hint([each.kind for each in failed], _port(failed[0].address), "these nodes", down=True)
    if len(failed) == len(asked):
        return bad(OUT, detail, hint=hint)
    return warn(OUT, detail, hint=hint)


def _back(asked: Sequence[ReachEntry], own_port: int) -> Check:
    told = [each for each in asked if each.returns is not None]
    failed = [each for each in told if not each.returns]
    if not told:
        why = next(
            (each.returned or each.how for each in asked if each.returned or each.how), "no peer says it"
        )
        return unknown(BACK, f"no peer could be asked whether it reaches this node: {why}")
    if not failed:
        return good(BACK, f"{len(told)} of {len(asked)} asked reach this node")
    words = [f"{each.node} ({each.returned})" for each in failed]
    detail = f"{len(failed)} of {len(told)} do not reach this node: {listed(words, 3, width=120)}"
    hint = _hint([each.returned_kind for each in failed], str(own_port), "this node", down=False)
    return bad(BACK, detail, hint=hint) if len(failed) == len(told) else warn(BACK, detail, hint=hint)


def _names(asked: Sequence[ReachEntry], own: str) -> tuple[Check, ...]:
    called = Counter(each.called for each in asked if each.called is not None)
    twice = [name for name, count in called.items() if count > (0 if name == own else 1)]
    if not twice:
        return ()
    where = [f"{each.address} (listed as {each.node})" for each in asked if each.called in twice]
    beside = ", and so is this node" if own in twice else ""
    return (
        bad(
            NAMES,
            f"two agents have one name: {listed(twice, 3)} is the name of the agent at {listed(where, 3)}"
            f"{beside}",
            hint="node.name must be unique: change it on one of the two nodes, or peers take them for one",
        ),
    )


def _how(entry: ReachEntry) -> str:
    return f"{entry.node} at {entry.address} ({entry.how})"


def _hint(kinds: Sequence[str], port: str, where: str, *, down: bool) -> str:
    if SILENT in kinds:
        maybe = "; or the node is down" if down else ""
        return _DROPS.format(port=port, where=where, down=maybe)
    if REFUSED in kinds:
        return f"nobody listens there: does the agent run there, with listen.peer at port {port}?"
    if NO_TLS in kinds:
        return "compare peering.tls on both nodes; `/readyz?verbose` of each says what is wrong with its own"
    if OWN in kinds:
        return "this node itself can't connect: see its network and its limit of open files"
    return "see that node's agent, and the address and port in the list of peers"


def _port(address: str) -> str:
    return address.rpartition(":")[2]

"""Says why no peer gave a content: who was tried, who was not asked, and why. Pure.

A cluster may have thousands of nodes, so each list has its number and the first few names only.
"""

from collections.abc import Iterable, Mapping

from topology.placement import NodeName

_NAMED_MOST = 3
_WORDS_MOST = 100  # characters of one reason


def nobody_gave_it(
    attempts: int, tried: Mapping[NodeName, str], unasked: Mapping[NodeName, str], own: str = ""
) -> str:
    """Why a pull ends with a 404.

    ``attempts``: how many were made. ``tried``: what the peers did that were tried. ``unasked``: the peers
    that may have it all the same, and why they were not asked, or not in full. ``own``: why this node could
    not ask.
    """
    if unasked or own:
        begin = f"no peer that was asked in full gives it ({attempts} tried"
    else:
        begin = f"no peer has it ({attempts} tried" if not tried else f"no peer gives it ({attempts} tried"
    told = f": {listed(tried)})" if tried else ")"
    return f"{begin}{told}{not_asked(unasked, own)}"


def is_fault(*, faults: int, unasked: int, peers: int, own: bool) -> bool:
    """Whether a 404 should not have been: a node may have the content.

    ``faults``: attempts that failed by somebody's fault: a holder was known. ``unasked``: how many of all
    ``peers`` were not asked in full; in a large cluster some always are. ``own``: this node could not ask,
    or was refused by its own fault.
    """
    return own or faults > 0 or 2 * unasked > peers


def not_asked(unasked: Mapping[NodeName, str], own: str = "") -> str:
    """The end of a sentence that says who was not asked. Empty if everybody was."""
    ends = [f"; not asked in full: {listed(unasked)}"] if unasked else []
    return "".join([*ends, f"; this node could not ask: {_cut(own)}"] if own else ends)


def listed(reasons: Mapping[NodeName, str]) -> str:
    """The first few nodes with their reasons, and the number of the others."""
    named = sorted(reasons)[:_NAMED_MOST]
    parts = [f"{node} ({_cut(reasons[node])})" for node in named]
    more = len(reasons) - len(named)
    return ", ".join(parts) + (f" and {more} more" if more else "")


def ago(words: str, age_s: float) -> str:
    """What happened, and how long ago."""
    return f"{words}, {max(0.0, age_s):.0f} s ago"


def without(nodes: Iterable[NodeName], reasons: Mapping[NodeName, str]) -> dict[NodeName, str]:
    """The reasons of all nodes but these."""
    left_out = frozenset(nodes)
    return {node: reason for node, reason in reasons.items() if node not in left_out}


def _cut(words: str) -> str:
    return words if len(words) <= _WORDS_MOST else f"{words[: _WORDS_MOST - 1]}…"

"""Whose clock is wrong. Pure.

Nothing here knows the right time. If most of the others agree that this node's clock is off, it is this
node's.
"""

from collections.abc import Mapping

from agent.preflight.check import Check, good, listed, unknown, warn

NAME = "the clock"
_OFF_S = 30.0  # certificates and tokens bear more; a node that asks a time server is off by milliseconds
_HINT = (
    "let the node ask a time server (chrony, systemd-timesyncd): certificates, tokens and the ages of tags "
    "depend on the clock"
)


def clock(ahead_s: Mapping[str, float]) -> Check:
    """Compare clocks. ``ahead_s``: by how many seconds the clocks of others are ahead of this node's."""
    if not ahead_s:
        return unknown(NAME, "there is nobody to compare it with")
    off = {name: each for name, each in ahead_s.items() if abs(each) > _OFF_S}
    if not off:
        most = max(abs(each) for each in ahead_s.values())
        return good(NAME, f"within {most:.1f} s of {len(ahead_s)} others")
    middle = sorted(ahead_s.values())[len(ahead_s) // 2]
    agree = [name for name, each in off.items() if abs(each - middle) <= _OFF_S]
    if abs(middle) > _OFF_S and 2 * len(agree) > len(ahead_s):
        if len(ahead_s) == 1:
            return warn(NAME, f"this node's and that of {agree[0]} differ by {_span(middle)}", hint=_HINT)
        return warn(
            NAME,
            f"this node's clock is {_span(middle)} {'behind' if middle > 0 else 'ahead'}, say {len(agree)} "
            f"of {len(ahead_s)} others",
            hint=_HINT,
        )
    words = [f"{name}'s is {_span(each)} {'ahead' if each > 0 else 'behind'}" for name, each in off.items()]
    return warn(NAME, f"others' clocks are off: {listed(words, 3)}", hint=_HINT)


def _span(seconds: float) -> str:
    seconds = abs(seconds)
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"

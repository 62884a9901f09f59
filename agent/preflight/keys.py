"""The cluster's key as this node has it: can it be read, by whom, and which key signs.

Nothing of a key is shown but its name. Whether the peers have the same ones is the agent's own word.
"""

import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.keyring import MAKE_ONE, KeyRing, KeysInvalid, read_keys
from agent.preflight.check import Check, bad, good, shown, unknown, warn
from agent.preflight.gather import Unknown

KEY = "the key's file"
_OTHERS = stat.S_IROTH | stat.S_IWOTH


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """The file ``peering.key``. ``ring``: its keys; None: it is no use, for this ``problem``.

    ``mode``: of the file behind all links; None: not known.
    """

    path: Path
    ring: KeyRing | None = None
    problem: str = ""
    hint: str = ""
    mode: int | None = None


def look_at_key(path: Path) -> KeyFacts:
    """Read the file, as the agent does."""
    mode = None
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
    try:
        return KeyFacts(path=path, ring=read_keys(path), mode=mode)
    except KeysInvalid as error:
        return KeyFacts(path=path, problem=str(error), hint=error.hint, mode=mode)


def key_file(facts: KeyFacts | Unknown | None, *, is_open: bool) -> tuple[Check, ...]:
    """What the file means. None: the settings name none. ``is_open``: nobody has to prove anything."""
    if facts is None:
        if is_open:
            return (good(KEY, "none, and none is needed: peering.open is true"),)
        hint = f"{MAKE_ONE}, the same on all nodes, and set peering.key"
        return (warn(KEY, "none: this agent answers no peer, and none answers it", hint=hint),)
    if isinstance(facts, Unknown):
        return (unknown(KEY, facts.why),)
    where = shown(str(facts.path), 200)
    if facts.ring is None:
        stays = "an agent that runs keeps the keys that it has, and one that starts does not serve"
        return (bad(KEY, f"{where}: {shown(facts.problem, 200)}; {stays}", hint=shown(facts.hint, 200)),)
    first, *others = facts.ring.ids
    accepted = (
        f", and {' and '.join(others)} {'is' if len(others) == 1 else 'are'} accepted" if others else ""
    )
    checks = [good(KEY, f"{where}: {first} signs{accepted}")]
    if facts.mode is not None and facts.mode & _OTHERS:
        checks.append(
            warn(
                KEY,
                f"{where} is open to every user of this node (mode {facts.mode:04o}): who reads it is "
                "an agent of this cluster to all others",
                hint=f"chmod 0600 {where}; in a pod: defaultMode 0400 of the Secret's volume. Then make "
                "another key, because somebody may have this one",
            )
        )
    return tuple(checks)

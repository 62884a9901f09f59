"""Looks at many things at once. Each look has the same deadline, and none can make another one fail."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.preflight.check import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Why something could not be looked at."""

    why: str


def gather(looks: Mapping[str, Callable[[], Any]], *, at_most_s: float) -> dict[str, Any]:
    """What each look returns, or `Unknown`. A look that hangs is left behind in its thread."""
    found: dict[str, Any] = {}
    threads = {}
    for name, look in looks.items():
        thread = threading.Thread(target=_run, args=(name, look, found), name=name, daemon=True)
        thread.start()
        threads[name] = thread
    until_s = time.monotonic() + at_most_s
    for thread in threads.values():
        thread.join(max(until_s - time.monotonic(), 0))
    late = Unknown(why=f"no answer within {at_most_s:g} s")
    return {name: found.get(name, late) for name in looks}


def _run(name: str, look: Callable[[], Any], found: dict[str, Any]) -> None:
    try:
        found[name] = look()
    except Exception as error:  # noqa: BLE001 - a bug in one look must not hide what the others see
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        found[name] = Unknown(why=shown(words))

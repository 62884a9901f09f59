"""Which media types a client accepts (RFC 9110, 12.5.1, Accept)."""

import re
from collections.abc import Iterable

_ITEM = re.compile(r"\s*([\w!#$&^.+*-]+)/([\w!#$&^.+*-]+)\s*((?:;[^,]*)?)\s*", re.ASCII)
_QUALITY = re.compile(r";\s*q\s*=\s*([0-9.]+)", re.ASCII | re.IGNORECASE)


def accepts(headers: Iterable[str], media_type: str) -> bool:
    """Whether a client with these Accept headers takes ``media_type``.

    No header means that it takes anything. So does a header without any media type in it: a client that
    can't write one does not check what it gets.
    """
    wanted_type, _, wanted_subtype = media_type.lower().partition("/")
    best: tuple[int, bool] | None = None  # how exactly the most specific range fits, and what it says
    any_range = False
    for item in ",".join(headers).split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            continue
        any_range = True
        kind, subtype = match[1].lower(), match[2].lower()
        if kind not in (wanted_type, "*") or subtype not in (wanted_subtype, "*"):
            continue
        fit = (kind != "*") + (subtype != "*")
        if best is None or fit > best[0]:
            best = fit, _quality(match[3]) > 0
    return best[1] if best is not None else not any_range


def _quality(parameters: str) -> float:
    match = _QUALITY.search(parameters)
    try:
        return float(match[1]) if match else 1.0
    except ValueError:
        return 1.0

"""When a tag was last seen *from the registry*, across mirrors.

A store says when its owner last wrote a tag. If the owner learned the tag's digest from this mirror, that
time says nothing about the registry. Without this ledger an old answer would look fresh again on each node
that it reaches, and a moved tag could stay unnoticed for ever. Pure, except for loading and saving the file.
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from agent.content.store import TaggedImage
from agent.oci.digest import Digest
from agent.oci.reference import Named

_log = logging.getLogger(__name__)

_ENTRIES_MAX = 10_000  # tags; the oldest are dropped first


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mirrored:
    """A tag that this mirror resolved, and when the registry was last known to have it then.

    ``sent_to_registry_s``: when this mirror later left the question to the registry.
    """

    digest: Digest
    seen_s: float
    sent_to_registry_s: float | None = None


class TagAges:
    """The ages of the tags that this agent resolved for its containerd. Times are Unix seconds."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._mirrored: dict[str, _Mirrored] = _load(path) if path else {}

    def seen_s(self, image: TaggedImage) -> float:
        """When the registry was last known to resolve this tag to this digest."""
        entry = self._mirrored.get(str(image.name))
        if entry is None or entry.digest != image.descriptor.digest:
            return image.seen_s
        if entry.sent_to_registry_s is not None and image.seen_s > entry.sent_to_registry_s:
            return image.seen_s  # written after this mirror declined, so the registry answered
        return min(entry.seen_s, image.seen_s)

    def resolved(self, name: Named, digest: Digest, seen_s: float) -> None:
        """Record that this mirror resolved ``name`` to ``digest``, seen at the registry at ``seen_s``.

        0 means that nobody knows when (a store that can't be read just now): nothing to record.
        """
        if not seen_s:
            return
        key = str(name)
        entry = _Mirrored(digest=digest, seen_s=seen_s)
        if self._mirrored.get(key) == entry:
            return
        self._mirrored.pop(key, None)
        self._mirrored[key] = entry
        if len(self._mirrored) > _ENTRIES_MAX:
            del self._mirrored[next(iter(self._mirrored))]
        self._save()

    def declined(self, name: Named, now_s: float) -> None:
        """Record that this mirror did not answer ``name``, so that containerd asks the registry now."""
        key = str(name)
        entry = self._mirrored.get(key)
        if entry is not None and entry.sent_to_registry_s is None:
            self._mirrored[key] = _Mirrored(
                digest=entry.digest, seen_s=entry.seen_s, sent_to_registry_s=now_s
            )
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        lines = {
            name: [entry.digest, entry.seen_s, entry.sent_to_registry_s]
            for name, entry in self._mirrored.items()
        }
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(lines))
            new.replace(self._path)
        except OSError as error:
            _log.warning("tag ages not saved to %s: %s", self._path, error)


def _load(path: Path) -> dict[str, _Mirrored]:
    try:
        return {
            str(name): _Mirrored(
                digest=Digest(str(digest)),
                seen_s=_time(seen_s),
                sent_to_registry_s=None if sent is None else _time(sent),
            )
            for name, (digest, seen_s, sent) in json.loads(path.read_text()).items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        _log.warning("tag ages in %s can't be read, starting without them: %s", path, error)
        return {}


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is not a time")
    return float(value)

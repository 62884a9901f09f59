"""When a tag was last seen *from the registry*, across mirrors; and which tags nobody asked a registry for.

A store says when its owner last heard of a tag. If the owner learned the tag's digest from this mirror, that
time says nothing about the registry. Without this ledger an old answer would look fresh again on each node
that it reaches, and a moved tag could stay unnoticed for ever.

A store does not say whether its owner pulled a tag, or whether somebody gave the name to other content of
the same repository. But a containerd that uses this mirror asks it before it pulls. So a tag that appears
without a question was not pulled. Pure, except for the clocks, and for loading and saving the file.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from agent.content.store import TagChange, TaggedImage
from agent.oci.digest import Digest
from agent.oci.reference import Named
from agent.oci.registry import Registry
from topology.placement import NodeName

_log = logging.getLogger(__name__)
_V = TypeVar("_V")

_ENTRIES_MAX = 10_000  # tags; the oldest are dropped first
_AHEAD_S = 60.0  # a file server's clock may be ahead by seconds; the clock of one node is not ahead of itself


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mirrored:
    """A tag that this mirror resolved, and when the registry was last known to have it then.

    ``voucher``: the node that saw it at the registry. ``sent_to_registry_s``: when this mirror later left the
    question to the registry.
    """

    digest: Digest
    seen_s: float
    voucher: NodeName
    sent_to_registry_s: float | None = None


class TagAges:
    """The ages of the tags that this agent resolved for its containerd. Times are Unix seconds.

    ``ticks``: seconds of CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._clock = clock
        self._ticks = ticks
        self._mirrored: dict[str, _Mirrored] = _load(path) if path else {}
        self._questions: dict[str, None] = {}  # an ordered set: tags asked for, and not written since
        self._asking: set[Registry] = set()  # the registries for whose tags the owner asks this mirror
        self._unasked: dict[str, Digest] = {}

    def seen_s(self, image: TaggedImage) -> float:
        """When the registry was last known to resolve this tag to this digest."""
        entry = self._inherited(image)
        return image.seen_s if entry is None else min(entry.seen_s, image.seen_s)

    def age_s(self, image: TaggedImage) -> float:
        """How long ago that was, in seconds.

        It is infinite if the record's time is in the future: then it says nothing. It is never less than the
        time for which this agent knows the record, whatever happens to the clock.
        """
        age_s = self._clock() - self.seen_s(image)
        if age_s < -_AHEAD_S:
            return math.inf
        return max(age_s, self._ticks() - image.noticed_s, 0.0)

    def voucher(self, image: TaggedImage) -> NodeName | None:
        """The node that saw the tag at the registry. None: this node, as far as it is known."""
        entry = self._inherited(image)
        return None if entry is None else entry.voucher

    def was_asked_for(self, image: TaggedImage) -> bool:
        """False if the tag was written while this agent ran, and its owner had not asked for it before."""
        return self._unasked.get(str(image.name)) != image.descriptor.digest

    def asked(self, name: Named) -> None:
        """The store's owner asks this mirror for a tag. It will write the tag soon, if a registry has it."""
        if name.registry is not None:
            self._asking.add(name.registry)
            _remember(self._questions, str(name), None)

    def written(self, change: TagChange) -> None:
        """The store's owner wrote a tag."""
        image, key = change.image, str(change.image.name)
        asked = key in self._questions
        self._questions.pop(key, None)
        if change.first or asked or image.name.registry not in self._asking:
            self._unasked.pop(key, None)
        elif change.before is None or change.before.descriptor.digest != image.descriptor.digest:
            _remember(self._unasked, key, image.descriptor.digest)

    def resolved(self, name: Named, digest: Digest, seen_s: float, voucher: NodeName) -> None:
        """Record that this mirror resolved ``name`` to ``digest``, seen at the registry at ``seen_s``."""
        entry = _Mirrored(digest=digest, seen_s=seen_s, voucher=voucher)
        if self._mirrored.get(str(name)) == entry:
            return
        _remember(self._mirrored, str(name), entry)
        self._save()

    def declined(self, name: Named, now_s: float) -> None:
        """Record that this mirror did not answer ``name``, so that containerd asks the registry now."""
        key = str(name)
        entry = self._mirrored.get(key)
        if entry is not None and entry.sent_to_registry_s is None:
            self._mirrored[key] = replace(entry, sent_to_registry_s=now_s)
            self._save()

    def _inherited(self, image: TaggedImage) -> _Mirrored | None:
        """The answer of this mirror from which the store has the tag, if it has it from one."""
        entry = self._mirrored.get(str(image.name))
        if entry is None or entry.digest != image.descriptor.digest:
            return None
        if entry.sent_to_registry_s is not None and image.seen_s > entry.sent_to_registry_s:
            return None  # written after this mirror declined, so the registry answered
        return entry

    def _save(self) -> None:
        if self._path is None:
            return
        lines = {
            name: [entry.digest, entry.seen_s, entry.sent_to_registry_s, entry.voucher]
            for name, entry in self._mirrored.items()
        }
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(lines))
            new.replace(self._path)
        except OSError as error:
            _log.warning("tag ages not saved to %s: %s", self._path, error)


def _remember(entries: dict[str, _V], key: str, value: _V) -> None:
    entries.pop(key, None)
    entries[key] = value
    if len(entries) > _ENTRIES_MAX:
        del entries[next(iter(entries))]


def _load(path: Path) -> dict[str, _Mirrored]:
    try:
        return {
            str(name): _Mirrored(
                digest=Digest(str(digest)),
                seen_s=_time(seen_s),
                sent_to_registry_s=None if sent is None else _time(sent),
                voucher=NodeName(str(voucher)),
            )
            for name, (digest, seen_s, sent, voucher) in json.loads(path.read_text()).items()
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

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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from agent.content.store import TagChange, TaggedImage
from agent.files import read_regular
from agent.oci.digest import Digest
from agent.oci.reference import Named
from agent.oci.registry import Registry
from topology.placement import NodeName

_log = logging.getLogger(__name__)

_FILE_MAX_BYTES = 64 << 20
_K = TypeVar("_K")
_V = TypeVar("_V")

_ENTRIES_MAX = 10_000  # tags; the oldest are dropped first
_QUESTIONS_MAX = 1_000  # of each registry
_STRANGERS_MAX = 16  # registries that were asked for, and that no record names; anybody may make some up
_FORGIVING_S = 3600.0  # a question that was dropped may be of a pull that takes so long
_UNREADABLE = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)
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


class _Questions:
    """The owner's questions about one registry's tags that were not written since.

    Questions are dropped if there are too many. For a while after ``dropped_s`` it is not known of a tag that
    nobody asked for it.
    """

    __slots__ = ("_any", "_dropped_s", "_open")

    def __init__(self, dropped_s: float = -math.inf) -> None:
        self._open: dict[str, None] = {}  # an ordered set
        self._any = False
        self._dropped_s = dropped_s

    @property
    def open(self) -> list[str]:
        """The tags that it asked for and did not write since."""
        return [*self._open]

    def add(self, tag: str, now_s: float) -> None:
        """The owner asks for this tag."""
        self._any = True
        if _remember(self._open, tag, None, at_most=_QUESTIONS_MAX):
            self._dropped_s = now_s

    def close(self, tag: str, now_s: float) -> bool:
        """The owner wrote this tag. False if it asks for tags of this registry, but did not for this one."""
        asked = tag in self._open
        self._open.pop(tag, None)
        return asked or not self._any or now_s - self._dropped_s < _FORGIVING_S


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
        self._given = False  # a newer agent keeps them, and writes the file
        # What the owner asks, by registry: of those that its records name, and of others. A client may ask
        # for what it likes, but it can't make up a record.
        self._questions: dict[Registry | None, _Questions] = {}
        self._strangers: dict[Registry, _Questions] = {}
        self._strangers_dropped_s = -math.inf
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
        registry, now_s = name.registry, self._ticks()
        if registry is None:
            return
        questions = self._questions.get(registry)
        if questions is None:
            questions = self._strangers.get(registry) or _Questions(self._strangers_dropped_s)
            if _remember(self._strangers, registry, questions, at_most=_STRANGERS_MAX):
                self._strangers_dropped_s = now_s
        questions.add(str(name), now_s)

    def written(self, change: TagChange) -> None:
        """The store's owner wrote a tag."""
        image, key = change.image, str(change.image.name)
        asked = self._questions_about(image.name.registry).close(key, self._ticks())
        if change.first or asked:
            self._unasked.pop(key, None)
        elif change.before is None or change.before.descriptor.digest != image.descriptor.digest:
            _remember(self._unasked, key, image.descriptor.digest)

    def _questions_about(self, registry: Registry | None) -> _Questions:
        """The questions about a registry that a record names."""
        questions = self._questions.get(registry)
        if questions is None:
            stranger = None if registry is None else self._strangers.pop(registry, None)
            questions = self._questions[registry] = stranger or _Questions(self._strangers_dropped_s)
        return questions

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

    def give(self) -> dict[str, Any]:
        """All that is known, for a newer agent of this node. Nothing is saved here until `take`."""
        self._given = True
        asked = {registry: questions.open for registry, questions in self._questions.items() if registry}
        return {"mirrored": self._entries(), "asked": asked}

    def take(self, given: Mapping[str, Any] | None) -> None:
        """What an older agent of this node knew, or nothing. It is saved here from now on."""
        if self._given and self._path is not None:  # a newer agent may have written the file meanwhile
            self._mirrored |= _load(self._path)
        self._given = False
        with suppress(*_UNREADABLE):
            for name, entry in _parse((given or {}).get("mirrored", {})).items():
                _remember(self._mirrored, name, entry)
            for registry, names in (given or {}).get("asked", {}).items():
                questions = self._questions_about(Registry(str(registry)))
                for name in names:
                    questions.add(str(name), self._ticks())
        self._save()

    def _entries(self) -> dict[str, Any]:
        return {
            name: [entry.digest, entry.seen_s, entry.sent_to_registry_s, entry.voucher]
            for name, entry in self._mirrored.items()
        }

    def _inherited(self, image: TaggedImage) -> _Mirrored | None:
        """The answer of this mirror from which the store has the tag, if it has it from one."""
        entry = self._mirrored.get(str(image.name))
        if entry is None or entry.digest != image.descriptor.digest:
            return None
        if entry.sent_to_registry_s is not None and image.seen_s > entry.sent_to_registry_s:
            return None  # written after this mirror declined, so the registry answered
        return entry

    def _save(self) -> None:
        if self._path is None or self._given:
            return
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(self._entries()))
            new.replace(self._path)
        except OSError as error:
            _log.warning("tag ages not saved to %s: %s", self._path, error)


def _remember(entries: dict[_K, _V], key: _K, value: _V, *, at_most: int = _ENTRIES_MAX) -> bool:
    """Add an entry as the newest. Returns whether the oldest one was dropped for it."""
    entries.pop(key, None)
    entries[key] = value
    if len(entries) <= at_most:
        return False
    del entries[next(iter(entries))]
    return True


def _load(path: Path) -> dict[str, _Mirrored]:
    try:
        return _parse(json.loads(read_regular(path, most_bytes=_FILE_MAX_BYTES)))
    except FileNotFoundError:
        return {}
    except (OSError, *_UNREADABLE) as error:
        _log.warning("tag ages in %s can't be read, starting without them: %s", path, error)
        return {}


def _parse(entries: Any) -> dict[str, _Mirrored]:
    """Raises `_UNREADABLE`."""
    return {
        str(name): _Mirrored(
            digest=Digest(str(digest)),
            seen_s=_time(seen_s),
            sent_to_registry_s=None if sent is None else _time(sent),
            voucher=NodeName(str(voucher)),
        )
        for name, (digest, seen_s, sent, voucher) in entries.items()
    }


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is not a time")
    return float(value)

"""This node's placement: from the settings, its labels, the file of the downward API, and what the membership
learns of this node's labels.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from agent.config import PlacementSettings
from agent.files import read_regular
from agent.members.files import follow_file
from agent.observe.reloads import Reloads
from topology.labels import LabelProblem, configured_placement, parse_downward_api, read_labels
from topology.placement import NodeName, Placement

_log = logging.getLogger(__name__)

_LABELS_MAX_BYTES = 1 << 20  # Kubernetes allows 256 KiB of labels and annotations together


class Learned(Enum):
    """From where the membership knows labels of this node."""

    SLICE = "EndpointSlice"  # its zone only, as of the slice's last change: anything else is newer
    NODE = "Node"  # as they are now: newer than the file of the downward API, which is written once


Placed = Callable[[Placement, tuple[LabelProblem, ...]], None]
"""Is told where this node is from now on, and the problems with its labels."""


class OwnPlacement:
    """Where this node is, and what is wrong with its labels.

    ``finer_levels``: see `read_labels`. ``reloads``: is told each reading while the agent runs.
    """

    def __init__(
        self,
        own: NodeName,
        settings: PlacementSettings,
        finer_levels: Sequence[str],
        *,
        reloads: Reloads | None = None,
    ) -> None:
        self._own = own
        self._settings = settings
        self._finer_levels = finer_levels
        self._reloads = reloads or Reloads()
        self._again = asyncio.Event()
        self._unreadable = False
        self._learned: dict[Learned, Mapping[str, str]] = {}
        self._new = asyncio.Event()  # labels were learned
        self._last: tuple[Placement, tuple[LabelProblem, ...]] | None = None

    def read(self) -> tuple[Placement, tuple[LabelProblem, ...]]:
        """The placement now, and the problems with its labels. Logs new problems.

        If the file can't be read any more, the last placement stays in force.
        """
        settings = self._settings
        labels, problems = _labels(self._own, settings, self._learned)
        self._unreadable = labels is None
        if labels is None and self._last is not None:
            found = self._last[0], tuple(problems)
        else:
            placement, more = read_labels(
                self._own,
                labels or dict(settings.labels.items),
                configured=configured_placement(settings.region, settings.zone, settings.rack),
                finer_levels=self._finer_levels,
            )
            found = placement, (*problems, *more)
        if self._last is None or found[1] != self._last[1]:
            for problem in found[1]:
                _log.warning("labels: %s", problem.problem, extra={"fields": {"hint": problem.hint}})
        self._last = found
        return found

    def learn(self, source: Learned, labels: Mapping[str, str]) -> None:
        """The membership knows these labels of this node. `run` uses them."""
        if self._learned.get(source) != labels:
            self._learned[source] = labels
            self._new.set()

    async def run(self, placed: Placed) -> None:
        """Follow the labels' file, and what is learned, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_learned(placed), name="follow what is learned of the labels")
            tasks.create_task(self._follow_file(placed), name="follow the labels' file")

    async def _follow_learned(self, placed: Placed) -> None:
        while True:
            await self._new.wait()
            self._new.clear()
            before = self._last
            found = self.read()
            if found != before:
                placed(*found)
                self._tell(changed=True)

    async def _follow_file(self, placed: Placed) -> None:
        path = self._settings.labels_file
        if path is None:
            return
        first = True
        async for _ in follow_file(path, again=self._again):
            before = self._last
            found = self.read()
            if found != before:
                placed(*found)
            if not first or found != before:
                self._tell(changed=found != before)
            first = False

    def reread(self) -> None:
        """Read the labels' file at once, because somebody asked for it."""
        self._again.set()

    def _tell(self, *, changed: bool) -> None:
        if self._unreadable:
            self._reloads.count("labels", "failed")  # `read` said why
        elif changed and self._last is not None:
            self._reloads.changed("labels", {"placement": self._last[0].path})
        else:
            self._reloads.unchanged("labels")


def _labels(
    own: NodeName, settings: PlacementSettings, learned: Mapping[Learned, Mapping[str, str]]
) -> tuple[dict[str, str] | None, list[LabelProblem]]:
    """The labels of all sources; None if the file can't be read, and nothing else was learned.

    What is configured counts first, and a source that disagrees is reported. Of the other sources the newest
    counts: they are copies of the same labels.
    """
    labels, problems = dict(settings.labels.items), list[LabelProblem]()
    node = learned.get(Learned.NODE, {})
    file, why = _file_labels(settings)
    if why is not None:
        hint = "placement.labels_file names a downward API file with the pod's labels"
        problems.append(LabelProblem(node=own, problem=why, hint=hint))
        if not learned:
            return None, problems
    # A label that the Node does not have any more must not come back from a slice that did not change since.
    in_slice = {} if Learned.NODE in learned else learned.get(Learned.SLICE, {})
    found = {
        **{key: (value, "its EndpointSlice") for key, value in in_slice.items()},
        **{key: (value, "placement.labels_file") for key, value in file.items()},
        **{key: (value, "its Node") for key, value in node.items()},
    }
    for key, (value, source) in found.items():
        if labels.setdefault(key, value) != value:
            problems.append(
                LabelProblem(
                    node=own,
                    problem=f"label {key} is {labels[key]!r} in placement.labels and {value!r} in "
                    f"{source}; the first one is used",
                    hint="leave one of them out",
                )
            )
    return labels, problems


def _file_labels(settings: PlacementSettings) -> tuple[dict[str, str], str | None]:
    """The labels in the file, if there is one, and why it can't be read."""
    path = settings.labels_file
    if path is None:
        return {}, None
    try:
        text = read_regular(path, most_bytes=_LABELS_MAX_BYTES).decode(errors="replace")
    except OSError as error:
        return {}, f"{path}: {error.strerror}"
    return parse_downward_api(text), None

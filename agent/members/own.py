"""This node's placement: from the settings, its labels, and the file of the downward API."""

import logging
from collections.abc import Sequence

from agent.config import PlacementSettings
from topology.labels import LabelProblem, configured_placement, parse_downward_api, read_labels
from topology.placement import NodeName, Placement

_log = logging.getLogger(__name__)


def own_placement(
    own: NodeName, settings: PlacementSettings, finer_levels: Sequence[str]
) -> tuple[Placement, tuple[LabelProblem, ...]]:
    """This node's placement, and the problems with its labels. Logs the problems as well."""
    labels, problems = _labels(own, settings)
    placement, more = read_labels(
        own,
        labels,
        configured=configured_placement(settings.region, settings.zone, settings.rack),
        finer_levels=finer_levels,
    )
    for problem in (*problems, *more):
        _log.warning("labels: %s", problem.problem, extra={"fields": {"hint": problem.hint}})
    return placement, (*problems, *more)


def _labels(own: NodeName, settings: PlacementSettings) -> tuple[dict[str, str], list[LabelProblem]]:
    labels = dict(settings.labels.items)
    path = settings.labels_file
    if path is None:
        return labels, []
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        hint = "placement.labels_file names a downward API file with the pod's labels"
        return labels, [LabelProblem(node=own, problem=f"{path}: {error.strerror}", hint=hint)]
    problems: list[LabelProblem] = []
    for key, value in parse_downward_api(text).items():
        if labels.setdefault(key, value) != value:
            problems.append(
                LabelProblem(
                    node=own,
                    problem=f"label {key} is {labels[key]!r} in placement.labels and {value!r} in "
                    "placement.labels_file; the first one is used",
                    hint="leave one of them out",
                )
            )
    return labels, problems

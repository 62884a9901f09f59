"""Which image names in a containerd are a benchmark's own, and so may be removed. Pure.

A pull makes several records: the name that was asked for, the name with the digest, and the image's id; all
have the same target. What had such a name before is somebody's, and stays.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

NOTE = "shorthaul-bench-"
"""What the ids of the leases begin with that say, in a containerd itself, what a run pulls there.

A lease without contents holds nothing back. It outlives the pod, the node and containerd, so that a later run
finds what one that was killed could not remove.
"""

IMAGE_LABEL = "shorthaul/bench-image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A name in containerd. ``target``: the digest that it stands for. ``made_s``: when, by its clock."""

    name: str
    target: str
    made_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an earlier run was about to pull. ``made_s``: when, by containerd's clock."""

    id: str
    image: str
    made_s: float


def own_names(image: str, before: Collection[str], after: Iterable[Record]) -> tuple[str, ...]:
    """The names that a pull of ``image`` made, given those of before."""
    records = tuple(after)
    targets = {record.target for record in records if _is(record.name, image)}
    return tuple(each.name for each in records if each.target in targets and each.name not in before)


def left_names(note: Note, records: Iterable[Record]) -> tuple[str, ...]:
    """The names that the pull of a note made: those of its image that are not older than the note."""
    every = tuple(records)
    before = {each.name for each in every if each.made_s < note.made_s}
    return own_names(note.image, before, every)


def _is(name: str, image: str) -> bool:
    """Whether a record has the name that was asked for, as containerd completes it."""
    return name in completed(image)


def completed(image: str) -> tuple[str, ...]:
    """The names under which containerd keeps what a person calls so."""
    named, at, digest = image.partition("@")
    first = named.partition("/")[0]
    if "/" not in named:
        named = f"docker.io/library/{named}"
    elif not ("." in first or ":" in first or first == "localhost"):
        named = f"docker.io/{named}"
    if at:
        return (f"{named}@{digest}",)
    return (named if ":" in named.rpartition("/")[2] else f"{named}:latest",)

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

_ID = "sha256:"  # what the name begins with that is an image's id


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
    """The names that a pull of ``image`` made, given those of before.

    Who pulled the same content under another name meanwhile keeps that, and the image's id with it.
    """
    records = tuple(after)
    (asked,) = completed(image)
    target = next((record.target for record in records if record.name == asked), None)
    if target is None or asked in before:
        return ()
    named = (asked, f"{repository(image)}@{target}")
    same = [each.name for each in records if each.target == target]
    others = [name for name in same if name not in named and not name.startswith(_ID)]
    ids = () if others else tuple(name for name in same if name.startswith(_ID))
    return tuple(name for name in same if name in (*named, *ids) and name not in before)


def left_names(note: Note, records: Iterable[Record]) -> tuple[str, ...]:
    """The names that the pull of a note made: those of its image that are not older than the note."""
    every = tuple(records)
    before = {each.name for each in every if each.made_s < note.made_s}
    return own_names(note.image, before, every)


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


def repository(image: str) -> str:
    """The registry and the repository in an image's name."""
    (name,) = completed(image)
    named = name.partition("@")[0]
    head, colon, tag = named.rpartition(":")
    return head if colon and "/" not in tag else named

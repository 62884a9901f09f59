"""Which names in a containerd may be removed: those that a pull made, and never one that was there before."""

import pytest

from benchmarks.cluster.traces import Note, Record, completed, left_names, own_names, repository


def record(name: str, target: str = "sha256:t", made_s: float = 10.0) -> Record:
    return Record(name=name, target=target, made_s=made_s)


PULLED = [record("r.io/app:v1"), record("r.io/app@sha256:t"), record("sha256:id")]


def test_all_names_that_the_pull_made_are_its_own() -> None:
    assert own_names("r.io/app:v1", (), PULLED) == ("r.io/app:v1", "r.io/app@sha256:t", "sha256:id")


def test_names_of_before_and_other_images_stay() -> None:
    others = [record("r.io/app:older"), record("r.io/other:v1", "sha256:o")]
    before = {"r.io/app:older", "sha256:id", "r.io/other:v1"}
    assert own_names("r.io/app:v1", before, [*PULLED, *others]) == ("r.io/app:v1", "r.io/app@sha256:t")


def test_name_that_somebody_gave_the_same_content_meanwhile_stays_and_so_does_its_id() -> None:
    theirs = [record("r.io/copy:v2", made_s=20.0), record("r.io/copy@sha256:t", made_s=20.0)]
    assert own_names("r.io/app:v1", (), [*PULLED, *theirs]) == ("r.io/app:v1", "r.io/app@sha256:t")
    note = Note(id="shorthaul-bench-x", image="r.io/app:v1", made_s=9.0)
    assert left_names(note, [*PULLED, *theirs]) == ("r.io/app:v1", "r.io/app@sha256:t")


def test_image_that_was_asked_for_by_digest_has_one_name_and_its_id() -> None:
    names = own_names("r.io/app@sha256:t", (), PULLED[1:])
    assert names == ("r.io/app@sha256:t", "sha256:id")


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("r.io:5000/a/b:1", "r.io:5000/a/b"),
        ("r.io/a@sha256:0", "r.io/a"),
    ],
)
def test_repository_is_the_name_without_tag_and_digest(image: str, named: str) -> None:
    assert repository(image) == named


def test_pull_that_failed_made_no_name() -> None:
    assert own_names("r.io/none:v1", (), PULLED) == ()


def test_what_a_killed_run_left_is_what_is_not_older_than_its_note() -> None:
    note = Note(id="shorthaul-bench-x", image="r.io/app:v1", made_s=9.0)
    older = [record("sha256:id", made_s=1.0), *PULLED[:2]]
    assert left_names(note, older) == ("r.io/app:v1", "r.io/app@sha256:t")


def test_image_that_is_older_than_the_note_is_somebodys() -> None:
    note = Note(id="shorthaul-bench-x", image="r.io/app:v1", made_s=11.0)
    assert left_names(note, PULLED) == ()


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("ann/app", "docker.io/ann/app:latest"),
        ("localhost/app:1", "localhost/app:1"),
        ("r.io:5000/a/b", "r.io:5000/a/b:latest"),
        ("r.io/a@sha256:0", "r.io/a@sha256:0"),
    ],
)
def test_name_is_completed_as_containerd_does(named: str, kept: str) -> None:
    assert completed(named) == (kept,)

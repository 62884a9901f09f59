"""What every content store does, run on the OCI layout and on real containerds of three versions.

The containerds need root; without it these tests fail, so that nobody takes them for passed.
"""

import asyncio
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from agent.content.sharing import Sharing
from agent.content.store import (
    Blob,
    Change,
    ChangeKind,
    ContentGone,
    ContentMissing,
    ContentStore,
    TagChange,
)
from agent.content.tracing import Tracer
from agent.oci.authority import Authorities
from agent.oci.digest import Digest
from agent.oci.filters import parse_filter
from agent.oci.mirrors import MirrorNames
from agent.oci.origin import Origin
from agent.oci.reference import Repository, Tag
from agent.oci.registry import Registry
from agent.tasks import end_all
from benchmarks.lab.folders import make_folder

from .owners import ContainerdOwner, LayoutOwner, Owner, digest_of
from .running import RunningStore

_VERSIONS = ["1.6", "1.7", "2.1"]
_CONTRACT_S = 1.0
_NOTICED_S = 20.0  # of a single change, on any machine. Before a whole scan, which is due in 30 s
_numbers = count()
_MIB = 1 << 20


@pytest.fixture(scope="module", params=["oci-layout", *(f"containerd-{version}" for version in _VERSIONS)])
def owner(request: pytest.FixtureRequest) -> Iterator[Owner]:
    """One store with its owner for the whole module."""
    kind: str = request.param
    folder = make_folder("shlab", "store-")
    try:
        made = LayoutOwner(folder) if kind == "oci-layout" else _containerd(folder, kind)
        try:
            made.add(b"there from the start")
            made.add_image(made.new_image("registry.test/library/start:v1", seed=1))
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def running(owner: Owner) -> Iterator[RunningStore]:
    """Our view of it, running."""
    with RunningStore(owner.store) as view:
        yield view


def _containerd(folder: Path, kind: str) -> Owner:
    return ContainerdOwner(folder, kind.removeprefix("containerd-"))


def _fresh(size: int = 1000) -> bytes:
    """Content that no other test has."""
    return f"content {next(_numbers)} ".encode().ljust(size, b".")


def _find(store: ContentStore, repository: str, tag: str, registry: str | None) -> list[tuple[str, str]]:
    found = store.find(Repository(repository), Tag(tag), None if registry is None else Registry(registry))
    return sorted((str(image.name), str(image.descriptor.digest)) for image in found)


def _wait_held(running: RunningStore, content: bytes) -> None:
    digest = digest_of(content)
    running.wait_for(lambda: running.store.holds(digest), "the blob is noticed", at_most_s=_NOTICED_S)


def _wait_gone(running: RunningStore, content: bytes) -> None:
    digest = digest_of(content)
    running.wait_for(lambda: not running.store.holds(digest), "its going is noticed", at_most_s=_NOTICED_S)


def _read(running: RunningStore, content: bytes) -> bytes:
    """All bytes of a blob, in two steps."""
    blob = running.call(running.store.open(digest_of(content)))
    try:
        middle = blob.size_bytes // 2
        first = running.call(blob.read(0, middle))
        return first + running.call(blob.read(middle, blob.size_bytes))
    finally:
        blob.close()


async def test_a_store_says_that_it_does_not_work_until_it_runs(owner: Owner) -> None:
    store = owner.store()
    assert store.problem is not None


def test_what_was_there_before_is_held_and_announced(running: RunningStore) -> None:
    content = b"there from the start"
    _wait_held(running, content)
    assert _read(running, content) == content
    added = Change(ChangeKind.ADDED, digest_of(content))
    running.wait_for(lambda: added in running.changes, "it is announced", at_most_s=_NOTICED_S)


def test_an_added_blob_is_held_and_announced_once(owner: Owner, running: RunningStore) -> None:
    content = _fresh()
    assert not running.store.holds(digest_of(content))
    owner.add(content)
    _wait_held(running, content)
    added = Change(ChangeKind.ADDED, digest_of(content))
    running.wait_for(lambda: added in running.changes, "it is announced", at_most_s=_NOTICED_S)
    assert running.changes.count(added) == 1


def test_a_removed_blob_is_no_longer_held_and_announced_once(owner: Owner, running: RunningStore) -> None:
    content = _fresh()
    owner.add(content)
    _wait_held(running, content)
    owner.remove(content)
    _wait_gone(running, content)
    removed = Change(ChangeKind.REMOVED, digest_of(content))
    running.wait_for(lambda: removed in running.changes, "it is announced", at_most_s=_NOTICED_S)
    assert running.changes.count(removed) == 1
    with pytest.raises(ContentMissing):
        running.call(running.store.open(digest_of(content)))


def test_a_blob_can_come_and_go_again_and_again(owner: Owner, running: RunningStore) -> None:
    content = _fresh()

    def kinds() -> list[ChangeKind]:
        return [change.kind for change in running.changes if change.digest == digest_of(content)]

    for _ in range(2):
        owner.add(content)
        _wait_held(running, content)
        owner.remove(content)
        _wait_gone(running, content)
    running.wait_for(lambda: len(kinds()) >= 4, "all changes are announced", at_most_s=_NOTICED_S)
    assert kinds() == [ChangeKind.ADDED, ChangeKind.REMOVED] * 2


def test_most_changes_are_noticed_within_the_contracts_second(owner: Owner, running: RunningStore) -> None:
    # Most of them, because a loaded machine may delay any single one.
    taken_s = []
    for content in [_fresh() for _ in range(3)]:
        for change, wait in ((owner.add, _wait_held), (owner.remove, _wait_gone)):
            change(content)
            began_s = time.monotonic()
            wait(running, content)
            taken_s.append(time.monotonic() - began_s)
    assert statistics.median(taken_s) < _CONTRACT_S, taken_s


def test_every_blob_of_many_is_noticed(owner: Owner, running: RunningStore) -> None:
    contents = [_fresh() for _ in range(15)]
    for content in contents:
        owner.add(content)
    for content in contents:
        _wait_held(running, content)


def test_an_open_blob_has_its_bytes_its_size_and_a_descriptor_for_sendfile(
    owner: Owner, running: RunningStore
) -> None:
    content = _fresh(300_000)
    owner.add(content)
    _wait_held(running, content)
    blob: Blob = running.call(running.store.open(digest_of(content)))
    try:
        assert blob.size_bytes == blob.available_bytes == len(content)
        assert blob.fd is not None
        assert os.pread(blob.fd, 400_000, 0) == content
        assert running.call(blob.read(5, 7)) == content[5:12]
        assert running.call(blob.read(299_990, 100)) == content[299_990:]
        assert running.call(blob.read(300_000, 10)) == b""
        assert running.call(blob.read(300_005, 10)) == b""
    finally:
        blob.close()
        blob.close()  # does nothing


def test_an_open_blob_stays_readable_when_it_is_removed(owner: Owner, running: RunningStore) -> None:
    content = _fresh()
    owner.add(content)
    _wait_held(running, content)
    blob = running.call(running.store.open(digest_of(content)))
    try:
        owner.remove(content)
        _wait_gone(running, content)
        assert running.call(blob.read(0, 2000)) == content
    finally:
        blob.close()


@pytest.mark.parametrize("digest", [digest_of(b"never added"), Digest("sha512:" + "0" * 128)])
def test_an_unknown_digest_is_missing(running: RunningStore, digest: Digest) -> None:
    assert not running.store.holds(digest)
    with pytest.raises(ContentMissing):
        running.call(running.store.open(digest))


def test_a_name_is_found_with_its_registry_and_without(owner: Owner, running: RunningStore) -> None:
    image = owner.new_image("registry.test/library/app:v1", seed=2)
    owner.add_image(image)
    expected = [("registry.test/library/app:v1", image.manifest)]
    store = running.store
    for registry in ("registry.test", None):
        running.wait_for(
            lambda registry=registry: _find(store, "library/app", "v1", registry) == expected,  # type: ignore[misc]
            "the name is found",
            at_most_s=_NOTICED_S,
        )
    (found,) = store.find(Repository("library/app"), Tag("v1"), None)
    assert found.descriptor.size_bytes == image.blobs[image.manifest]
    assert found.descriptor.media_type == "application/vnd.oci.image.manifest.v1+json"
    for digest in image.blobs:
        running.wait_for(
            lambda digest=digest: store.holds(Digest(digest)),  # type: ignore[misc]
            "its content is held",
            at_most_s=_NOTICED_S,
        )


def test_a_name_of_two_registries_is_found_in_each_and_in_both(owner: Owner, running: RunningStore) -> None:
    names = ["one.test/library/shared:v1", "two.test:5000/library/shared:v1"]
    images = [owner.new_image(name, seed=10 + place) for place, name in enumerate(names)]
    for image in images:
        owner.add_image(image)
    expected = [(image.tag, image.manifest) for image in images]
    store = running.store
    running.wait_for(
        lambda: _find(store, "library/shared", "v1", None) == expected, "both are found", at_most_s=_NOTICED_S
    )
    assert _find(store, "library/shared", "v1", "one.test") == expected[:1]
    assert _find(store, "library/shared", "v1", "two.test:5000") == expected[1:]


def test_an_unknown_name_is_found_nowhere(running: RunningStore) -> None:
    store = running.store
    running.wait_for(lambda: bool(_find(store, "library/start", "v1", None)), "names are known")
    assert store.find(Repository("library/start"), Tag("v2"), None) == ()
    assert store.find(Repository("library/other"), Tag("v1"), None) == ()
    assert store.find(Repository("library/start"), Tag("v1"), Registry("unknown.test")) == ()


def test_a_name_that_moves_is_found_at_its_new_place_and_seen_now(
    owner: Owner, running: RunningStore
) -> None:
    name = "registry.test/library/moves:v1"
    store = running.store
    seen_s = []
    for seed in (20, 21):
        image = owner.new_image(name, seed=seed)
        owner.add_image(image)
        running.wait_for(
            lambda image=image: _find(store, "library/moves", "v1", None) == [(name, image.manifest)],  # type: ignore[misc]
            "the name is at its new place",
            at_most_s=_NOTICED_S,
        )
        seen_s += [found.seen_s for found in store.find(Repository("library/moves"), Tag("v1"), None)]
    assert seen_s[0] < seen_s[1]


def _origin(store: ContentStore, repository: str) -> list[Origin]:
    return [image.origin for image in store.find(Repository(repository), Tag("v1"), None)]


def test_a_name_is_imported_until_the_store_says_where_its_content_came_from(
    owner: Owner, running: RunningStore
) -> None:
    image = owner.new_image("registry.test:5000/library/came:v1", seed=40)
    owner.add_image(image)
    for came_from, origin in (
        (None, Origin.IMPORTED),
        ("library/other", Origin.ELSEWHERE),
        ("library/other,library/came", Origin.REGISTRY),
    ):
        if came_from is not None:
            owner.mark(image, "registry.test", came_from)
        running.wait_for(
            lambda origin=origin: _origin(running.store, "library/came") == [origin],  # type: ignore[misc]
            f"it is {origin.value}",
            at_most_s=_NOTICED_S,
        )


def test_each_name_that_is_written_is_told_with_what_it_was(owner: Owner, running: RunningStore) -> None:
    name, told = "registry.test/library/told:v1", list[TagChange]()
    running.wait_for(lambda: bool(_find(running.store, "library/start", "v1", None)), "names are known")

    def listen(change: TagChange) -> None:
        if str(change.image.name) == name:  # an owner may write other names at any time
            told.append(change)

    running.do(lambda: running.store.on_tag(listen))
    manifests = []
    for seed in (50, 51):
        image = owner.new_image(name, seed=seed)
        owner.add_image(image)
        manifests.append(image.manifest)

        def last() -> str | None:
            return told[-1].image.descriptor.digest if told else None

        running.wait_for(lambda: last() == manifests[-1], "it is told", at_most_s=_NOTICED_S)
    assert not any(change.first for change in told)
    before = [None if change.before is None else change.before.descriptor.digest for change in told]
    assert before[0] is None
    assert before[-1] in manifests
    assert manifests[0] in before


def test_a_name_that_is_there_at_the_start_is_told_as_such(owner: Owner) -> None:
    told: list[TagChange] = []

    def listened() -> ContentStore:
        store = owner.store()
        store.on_tag(told.append)
        return store

    with RunningStore(listened) as view:
        view.wait_for(lambda: bool(told), "the names are told", at_most_s=_NOTICED_S)
        assert all(change.first and change.before is None for change in told)


def test_a_digest_has_the_repositories_of_its_names(owner: Owner, running: RunningStore) -> None:
    image = owner.new_image("registry.test/library/placed:v1", seed=60)
    manifest, expected = Digest(image.manifest), {("registry.test", "library/placed")}
    owner.add_image(image)
    running.wait_for(lambda: running.store.named.get(manifest) == expected, "known", at_most_s=_NOTICED_S)
    owner.remove_name(image.tag)
    running.wait_for(lambda: manifest not in running.store.named, "forgotten", at_most_s=_NOTICED_S)


def test_names_reach_what_their_images_list_and_nothing_else(owner: Owner, running: RunningStore) -> None:
    image, stranger = owner.new_image("registry.test/library/reached:v1", seed=70), _fresh()
    sharing = Sharing(
        exclusive=False,
        registries=parse_filter(["*"], []),
        authorities=Authorities(),
        mirrors=MirrorNames(ports=(), hosts=()),
    )

    def shared() -> set[bool]:
        return {sharing.shares(Digest(digest)) for digest in image.blobs}

    async def trace() -> "asyncio.Task[None]":
        tracer = Tracer(running.store, sharing, quiet_s=0.1)
        return asyncio.create_task(tracer.run())

    owner.add(stranger)
    tracing = running.call(trace())
    assert shared() == {False}
    owner.add_image(image)
    running.wait_for(lambda: shared() == {True}, "all of it is reached", at_most_s=_NOTICED_S)
    owner.remove_name(image.tag)
    running.wait_for(lambda: shared() == {False}, "nothing is reached any more", at_most_s=_NOTICED_S)
    _wait_held(running, stranger)
    assert not sharing.shares(digest_of(stranger))
    running.call(end_all({tracing}))


def test_a_removed_name_is_no_longer_found(owner: Owner, running: RunningStore) -> None:
    name = "registry.test/library/goes:v1"
    owner.add_image(owner.new_image(name, seed=30))
    store = running.store
    running.wait_for(lambda: bool(_find(store, "library/goes", "v1", None)), "found", at_most_s=_NOTICED_S)
    owner.remove_name(name)
    running.wait_for(lambda: not _find(store, "library/goes", "v1", None), "gone", at_most_s=_NOTICED_S)


def test_totals_follow_what_comes_and_goes(owner: Owner, running: RunningStore) -> None:
    content, store = _fresh(12_345), running.store
    _wait_held(running, b"there from the start")
    # What earlier tests left as garbage goes now, not in the middle of this one.
    swept = _fresh()
    owner.add(swept)
    _wait_held(running, swept)
    owner.remove(swept)
    _wait_gone(running, swept)
    time.sleep(1.0)
    blobs, size_bytes = store.totals
    assert blobs > 0
    assert size_bytes > 0
    owner.add(content)
    running.wait_for(
        lambda: store.totals == (blobs + 1, size_bytes + 12_345), "it is counted", at_most_s=_NOTICED_S
    )
    owner.remove(content)
    running.wait_for(
        lambda: store.totals == (blobs, size_bytes), "it is no longer counted", at_most_s=_NOTICED_S
    )


def test_changes_add_up_to_what_is_held(owner: Owner, running: RunningStore) -> None:
    content = b"there from the start"
    _wait_held(running, content)
    time.sleep(1.2)  # longer than any poll of a store's
    assert running.store.holds(digest_of(content))
    kinds = [change.kind for change in running.changes if change.digest == digest_of(content)]
    assert kinds == [ChangeKind.ADDED]


def test_the_digests_are_those_that_are_held(owner: Owner, running: RunningStore) -> None:
    content, store, first = _fresh(), running.store, digest_of(b"there from the start")
    running.wait_for(lambda: first in store.digests, "the first scan", at_most_s=_NOTICED_S)
    assert digest_of(content) not in store.digests
    owner.add(content)
    _wait_held(running, content)
    assert digest_of(content) in store.digests
    assert len(store.digests) == store.totals[0]
    owner.remove(content)
    _wait_gone(running, content)
    assert digest_of(content) not in store.digests


def _withdraw(running: RunningStore, content: bytes) -> None:
    """Take back what the store has of this content now."""
    blob = running.call(running.store.open(digest_of(content)))
    try:
        running.do(lambda: running.store.withdraw(digest_of(content), blob.identity))
    finally:
        blob.close()


def _is_gone(running: RunningStore, content: bytes) -> bool:
    """Whether nothing tells of it any more."""
    with pytest.raises(ContentMissing):
        running.call(running.store.open(digest_of(content)))
    return not running.store.holds(digest_of(content)) and digest_of(content) not in running.store.digests


def _kinds(running: RunningStore, content: bytes) -> list[ChangeKind]:
    return [change.kind for change in running.changes if change.digest == digest_of(content)]


def test_a_withdrawn_blob_is_gone_for_everybody_although_its_file_is_there(
    owner: Owner, running: RunningStore
) -> None:
    content = _fresh()
    owner.add(content)
    _wait_held(running, content)
    blobs = running.store.totals[0]
    _withdraw(running, content)
    assert _is_gone(running, content)
    assert running.store.totals[0] == blobs - 1
    running.wait_for(lambda: len(_kinds(running, content)) >= 2, "it is announced", at_most_s=_NOTICED_S)
    time.sleep(1.2)  # longer than any poll of a store's
    assert _is_gone(running, content)
    assert _kinds(running, content) == [ChangeKind.ADDED, ChangeKind.REMOVED]


def test_a_withdrawn_blob_that_is_written_anew_is_held_again(owner: Owner, running: RunningStore) -> None:
    content = _fresh()
    owner.add(content)
    _wait_held(running, content)
    _withdraw(running, content)
    owner.remove(content)
    assert _is_gone(running, content)
    owner.add(content)
    _wait_held(running, content)
    assert _read(running, content) == content
    added = [ChangeKind.ADDED, ChangeKind.REMOVED, ChangeKind.ADDED]
    running.wait_for(lambda: _kinds(running, content) == added, "it is announced", at_most_s=_NOTICED_S)


def test_a_blob_whose_file_was_replaced_since_it_was_read_is_not_withdrawn(
    owner: Owner, running: RunningStore
) -> None:
    content = _fresh()
    owner.add(content)
    _wait_held(running, content)
    blob = running.call(running.store.open(digest_of(content)))
    try:
        owner.remove(content)
        owner.add(content)
        _wait_held(running, content)
        running.do(lambda: running.store.withdraw(digest_of(content), blob.identity))
    finally:
        blob.close()
    _wait_held(running, content)
    assert _read(running, content) == content


def test_withdrawing_what_is_not_there_does_nothing(running: RunningStore) -> None:
    content = b"never added"
    running.do(lambda: running.store.withdraw(digest_of(content), None))
    running.do(lambda: running.store.withdraw(digest_of(content), (1, 2, 3)))
    assert _is_gone(running, content)
    assert _kinds(running, content) == []


def test_a_withdrawn_blob_stays_away_when_the_store_vanishes_and_comes_back(
    owner: Owner, running: RunningStore
) -> None:
    content, store = _fresh(), running.store
    owner.add(content)
    _wait_held(running, content)
    _withdraw(running, content)
    try:
        owner.vanish()
        running.wait_for(lambda: store.problem is not None, "the problem is noticed", at_most_s=_NOTICED_S)
        assert not store.holds(digest_of(content))
    finally:
        owner.come_back()
    running.wait_for(lambda: store.problem is None, "it works again")
    _wait_held(running, b"there from the start")
    assert _is_gone(running, content)


def test_a_store_can_be_stopped_at_any_moment(owner: Owner) -> None:
    for step in range(40):
        with RunningStore(owner.store, wait=False):
            time.sleep(step / 2000)


def test_a_store_that_vanishes_has_a_problem_and_comes_back_with_its_content(
    owner: Owner, running: RunningStore
) -> None:
    content, store = b"there from the start", running.store
    _wait_held(running, content)
    try:
        owner.vanish()
        running.wait_for(lambda: store.problem is not None, "the problem is noticed", at_most_s=_NOTICED_S)
    finally:
        owner.come_back()
    running.wait_for(lambda: store.problem is None, "it works again")
    _wait_held(running, content)
    assert _read(running, content) == content
    running.wait_for(lambda: bool(_find(store, "library/start", "v1", "registry.test")), "names are known")
    later = _fresh()
    owner.add(later)
    _wait_held(running, later)


def test_a_store_that_is_gone_at_the_start_is_found_when_it_comes(owner: Owner) -> None:
    owner.vanish()
    back = False
    try:
        with RunningStore(owner.store, wait=False) as view:
            time.sleep(0.6)
            assert view.running
            assert view.store.problem is not None
            owner.come_back()
            back = True
            view.wait_for(lambda: view.store.problem is None, "it works")
            _wait_held(view, b"there from the start")
    finally:
        if not back:
            owner.come_back()


def _growing(running: RunningStore, content: bytes) -> tuple[int, int] | None:
    """How far the owner is with a blob: bytes that are there, and of how many."""
    growing = running.store.growing(digest_of(content))
    return None if growing is None else (growing.available_bytes, growing.size_bytes)


def _wait_grown(running: RunningStore, content: bytes, expected: tuple[int, int]) -> None:
    running.wait_for(lambda: _growing(running, content) == expected, "it grows", at_most_s=_NOTICED_S)


def test_content_that_is_being_written_is_followed_to_its_end_if_the_owner_shows_it(
    owner: Owner, running: RunningStore
) -> None:
    content, store = _fresh(3 * _MIB + 5), running.store
    writing = owner.begin(content)
    if not owner.shows_growth:
        writing.write(content)
        assert (_growing(running, content), store.receiving(digest_of(content))) == (None, None)
        with pytest.raises(ContentMissing):
            running.call(store.open_growing(digest_of(content)))
        writing.commit()
        _wait_held(running, content)
        return
    _wait_grown(running, content, (0, len(content)))
    assert store.receiving(digest_of(content))
    assert not store.holds(digest_of(content))
    blob = running.call(store.open_growing(digest_of(content)))
    try:
        writing.write(content[:_MIB])
        assert running.call(blob.wait_beyond(_MIB - 1)) == _MIB
        assert running.call(blob.read(0, len(content))) == content[:_MIB]
        writing.write(content[_MIB:])
        writing.commit()
        assert running.call(blob.wait_beyond(len(content) - 1)) == len(content) == blob.size_bytes
        _wait_held(running, content)
        running.wait_for(lambda: not store.receiving(digest_of(content)), "it is written")
        assert _growing(running, content) is None
        assert running.call(blob.read(0, len(content))) == content, "across the commit"
        owner.remove(content)
        _wait_gone(running, content)
        assert running.call(blob.wait_beyond(0)) == len(content)
        assert running.call(blob.read(0, len(content))) == content, "although it was removed"
    finally:
        blob.close()


def test_content_that_its_owner_gives_up_is_gone_for_those_who_wait(
    owner: Owner, running: RunningStore
) -> None:
    content, store = _fresh(3 * _MIB), running.store
    writing = owner.begin(content)
    if not owner.shows_growth:
        writing.give_up()
        return
    writing.write(content[:_MIB])
    _wait_grown(running, content, (_MIB, len(content)))
    blob = running.call(store.open_growing(digest_of(content)))
    try:
        writing.give_up()
        with pytest.raises(ContentGone):
            running.call(blob.wait_beyond(_MIB))
        assert running.call(blob.read(0, len(content))) == content[:_MIB], "what was there is read on"
    finally:
        blob.close()
    assert (_growing(running, content), store.receiving(digest_of(content))) == (None, False)
    with pytest.raises(ContentMissing):
        running.call(store.open_growing(digest_of(content)))


def test_content_that_is_written_while_the_owner_restarts_goes_on_where_it_was(
    owner: Owner, running: RunningStore
) -> None:
    content, store = _fresh(3 * _MIB), running.store
    writing = owner.begin(content)
    if not owner.shows_growth:
        writing.give_up()
        return
    writing.write(content[:_MIB])
    _wait_grown(running, content, (_MIB, len(content)))
    blob = running.call(store.open_growing(digest_of(content)))
    try:
        owner.vanish()
        owner.come_back()
        running.wait_for(lambda: store.problem is None, "it works again")
        assert running.call(blob.read(0, len(content))) == content[:_MIB], (
            "a daemon that ends removes nothing"
        )
        owner.resume(content)
        _wait_held(running, content)
        assert running.call(blob.wait_beyond(len(content) - 1)) == len(content)
        assert running.call(blob.read(0, len(content))) == content, "it went on where it was"
    finally:
        blob.close()


def test_content_that_nobody_writes_does_not_grow(running: RunningStore) -> None:
    for content in (b"there from the start", b"never added"):
        assert running.store.growing(digest_of(content)) is None
        with pytest.raises(ContentMissing):
            running.call(running.store.open_growing(digest_of(content)))


@pytest.fixture
def over_api(owner: Owner) -> Iterator[RunningStore]:
    """A view that can't read the files, as the root it is told of does not exist."""
    assert isinstance(owner, ContainerdOwner)
    with RunningStore(lambda: owner.view(owner.folder / "no-such-root")) as view:
        yield view


_ONLY_CONTAINERD = pytest.mark.parametrize(
    "owner", [f"containerd-{version}" for version in _VERSIONS], indirect=True, scope="module"
)


@_ONLY_CONTAINERD
def test_without_the_files_the_content_api_serves_the_same_bytes(
    owner: Owner, over_api: RunningStore
) -> None:
    content = _fresh(5_000_000)
    owner.add(content)
    _wait_held(over_api, content)
    blob = over_api.call(over_api.store.open(digest_of(content)))
    try:
        assert blob.fd is None
        assert blob.size_bytes == blob.available_bytes == len(content)
        assert over_api.call(blob.read(5, 7)) == content[5:12]
        assert over_api.call(blob.read(4_999_990, 100)) == content[4_999_990:]
        assert over_api.call(blob.read(5_000_000, 100)) == b""
    finally:
        blob.close()
    assert _read(over_api, content) == content


@_ONLY_CONTAINERD
def test_without_the_files_nobody_sees_what_is_being_written(owner: Owner, over_api: RunningStore) -> None:
    content, store = _fresh(2 * _MIB), over_api.store
    writing = owner.begin(content)
    writing.write(content[:_MIB])
    over_api.wait_for(lambda: owner.is_writing(content), "it is being written")
    assert (_growing(over_api, content), store.receiving(digest_of(content))) == (None, None)
    with pytest.raises(ContentMissing):
        over_api.call(store.open_growing(digest_of(content)))
    writing.give_up()


@_ONLY_CONTAINERD
def test_without_the_files_coming_and_going_is_noticed_all_the_same(
    owner: Owner, over_api: RunningStore
) -> None:
    content = _fresh()
    _wait_held(over_api, b"there from the start")
    blobs, size_bytes = over_api.store.totals
    owner.add(content)
    _wait_held(over_api, content)
    assert over_api.store.totals == (blobs + 1, size_bytes + len(content))
    owner.remove(content)
    _wait_gone(over_api, content)
    kinds = [change.kind for change in over_api.changes if change.digest == digest_of(content)]
    assert kinds == [ChangeKind.ADDED, ChangeKind.REMOVED]
    with pytest.raises(ContentMissing):
        over_api.call(over_api.store.open(digest_of(content)))


@_ONLY_CONTAINERD
def test_without_the_files_names_are_found_and_unknown_digests_are_missing(
    owner: Owner, over_api: RunningStore
) -> None:
    store = over_api.store
    over_api.wait_for(lambda: bool(_find(store, "library/start", "v1", "registry.test")), "names are known")
    with pytest.raises(ContentMissing):
        over_api.call(store.open(digest_of(b"never added")))


@_ONLY_CONTAINERD
def test_without_the_files_a_daemon_that_restarts_is_found_again(
    owner: Owner, over_api: RunningStore
) -> None:
    content, store = b"there from the start", over_api.store
    _wait_held(over_api, content)
    try:
        owner.vanish()
        over_api.wait_for(lambda: store.problem is not None, "noticed", at_most_s=_NOTICED_S)
    finally:
        owner.come_back()
    over_api.wait_for(lambda: store.problem is None, "it works again")
    assert _read(over_api, content) == content


@_ONLY_CONTAINERD
def test_without_the_files_a_withdrawn_blob_is_gone_until_it_is_written_anew(
    owner: Owner, over_api: RunningStore
) -> None:
    content, later = _fresh(), _fresh()
    owner.add(content)
    _wait_held(over_api, content)
    assert digest_of(content) in over_api.store.digests
    _withdraw(over_api, content)
    assert _is_gone(over_api, content)
    owner.remove(content)
    owner.add(later)
    _wait_held(over_api, later)  # by now the API was asked again
    assert _is_gone(over_api, content)
    owner.add(content)
    _wait_held(over_api, content)
    assert _read(over_api, content) == content

"""What a node speaks of: one function decides for requests, answers, announcements and lists."""

import math
from dataclasses import replace
from typing import Any

import pytest

from agent.content.offer import Doubt, KnownTag, Offer
from agent.content.store import Growing, TagChange, TaggedImage
from agent.oci.authority import Authorities, Authority, AuthorityRule
from agent.oci.errors import OciError
from agent.oci.origin import Origin
from agent.oci.patterntext import parse_pattern
from agent.oci.reference import Addressed, Kind, ReferrerList, Repository, TagList
from agent.oci.registry import Registry
from tests.unit.agent.holders.test_tags import NOW_S, image, make_ages, make_offer
from tests.unit.evidence import MemoryStore
from tests.unit.inflight import Flight
from tests.unit.twins import named, node, sha256

RETAGGED = image(named(), origin=Origin.ELSEWHERE)
IMPORTED = image(named(), origin=Origin.IMPORTED)
OF_THE_MIRROR = named(registry="127.0.0.1:30020")


def offer_of(
    *images: TaggedImage, exclude: tuple[str, ...] = (), share_imported: bool = False, resolve: bool = True
) -> Offer:
    store = MemoryStore()
    store.names.replace(images)
    return make_offer(store, exclude=exclude, share_imported=share_imported, resolve=resolve)


def test_tag_whose_content_came_from_its_registry_is_vouched_for_by_this_node() -> None:
    (known,) = offer_of(image(named())).known(named())
    assert (known.voucher, known.age_s, known.imported) == (node("own"), 100.0, False)


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (RETAGGED, Doubt.RENAMED),
        (IMPORTED, Doubt.IMPORTED),
        (image(named(), seen_s=NOW_S + 365 * 86400), Doubt.POSTDATED),
    ],
)
def test_tag_that_nobody_vouches_for_is_not_spoken_of(found: TaggedImage, doubt: Doubt) -> None:
    offer = offer_of(found)
    assert (offer.known(named()), offer.doubts(named())) == ((), (doubt,))


def test_tag_that_this_nodes_containerd_did_not_ask_for_is_not_spoken_of() -> None:
    ages = make_ages()
    ages.asked(named(tag="another"))
    offer = make_offer(MemoryStore(), ages=ages)
    moved = image(named(), "v2")
    ages.written(TagChange(image=moved, before=image(named(), "v1"), first=False))
    assert offer.judge(moved) is Doubt.UNASKED


def test_import_is_spoken_of_as_one_when_the_setting_says_so_and_a_new_name_never_is() -> None:
    said = offer_of(IMPORTED, share_imported=True).judge(IMPORTED)
    assert isinstance(said, KnownTag)
    assert said.imported
    assert offer_of(RETAGGED, share_imported=True).judge(RETAGGED) is Doubt.RENAMED


def test_import_has_an_age_that_can_be_told_whatever_its_record_says() -> None:
    ahead = image(named(), seen_s=NOW_S + 365 * 86400, origin=Origin.IMPORTED)
    said = offer_of(ahead, share_imported=True).judge(ahead)
    assert isinstance(said, KnownTag)
    assert math.isfinite(said.age_s)


@pytest.mark.parametrize(
    "left_out",
    [
        image(named(tag="latest")),
        image(OF_THE_MIRROR),
        image(named("acme/secret")),
    ],
)
def test_what_the_configuration_leaves_out_is_neither_known_nor_in_doubt(left_out: TaggedImage) -> None:
    offer = offer_of(left_out, exclude=("docker.io/acme/*",))
    assert offer.judge(left_out) is None
    assert not offer.known(left_out.name)
    assert not offer.doubts(left_out.name)


def test_without_resolving_no_tag_is_known_and_asking_says_why() -> None:
    offer = offer_of(image(named()), resolve=False)
    assert offer.known(named()) == ()
    problem = offer.problem(named())
    assert problem is not None
    assert "tags.resolve" in problem.hint


@pytest.mark.parametrize("registry", ["127.0.0.1:30020", "10.0.0.1:30021", "own:30020"])
def test_target_that_names_the_mirror_as_its_registry_names_none(registry: str) -> None:
    offer, repository = offer_of(), Repository("lab/app")
    targets = (
        named(registry=registry),
        Addressed(registry=Registry(registry), repository=repository, kind=Kind.BLOB, digest=sha256("layer")),
        TagList(registry=Registry(registry), repository=repository),
        ReferrerList(registry=Registry(registry), repository=repository, digest=sha256("v1")),
    )
    assert [offer.understood(target).registry for target in targets] == [None] * 4
    assert offer.understood(named()) == named()


def test_digest_is_shared_unless_all_of_its_names_are_excluded() -> None:
    secret = image(named("acme/secret"), "secret")
    offer = offer_of(
        secret,
        image(named("acme/both"), "both"),
        image(named("library/both"), "both"),
        image(named("acme/secret", registry="127.0.0.1:30020"), "by the mirror"),
        exclude=("docker.io/acme/*",),
    )
    shared = {seed: offer.shares(sha256(seed)) for seed in ("secret", "both", "by the mirror", "a layer")}
    assert shared == {"secret": False, "both": True, "by the mirror": False, "a layer": False}


def test_content_without_a_name_is_shared_if_all_content_is_this_agents_and_nothing_is_held_back() -> None:
    private = Authorities([AuthorityRule(match=parse_pattern("ghcr.io"), by=Authority.REGISTRY)])
    others = MemoryStore(exclusive=False)
    assert offer_of().shares(sha256("a layer"))
    assert offer_of(exclude=("*:latest",)).shares(sha256("a layer"))
    assert not offer_of(exclude=("docker.io/acme/*",)).shares(sha256("a layer"))
    assert not make_offer(MemoryStore(), authorize=private).shares(sha256("a layer"))
    assert not make_offer(others).shares(sha256("a layer"))


def test_excluded_tag_leaves_its_digest_shared() -> None:
    latest = image(named(tag="latest"))
    assert offer_of(latest, exclude=("*:latest",)).shares(latest.descriptor.digest)


def test_images_whose_digests_are_served_are_those_of_mirrored_registries() -> None:
    offer = offer_of(
        image(named()), image(OF_THE_MIRROR), image(named(registry="ghcr.io")), exclude=("ghcr.io/*",)
    )
    assert [each.name for each in offer.images(named().repository)] == [named()]


def test_same_decision_is_behind_every_way_of_speaking() -> None:
    secret = image(named("acme/secret"), "secret")
    offer = offer_of(secret, exclude=("docker.io/acme/*",))
    target = Addressed(
        registry=secret.name.registry,
        repository=secret.name.repository,
        kind=Kind.MANIFEST,
        digest=secret.descriptor.digest,
    )
    with pytest.raises(OciError):
        offer.require(target)
    assert not offer.admits(secret.name)
    assert not offer.shares(secret.descriptor.digest)
    assert not offer.known(secret.name)
    assert not offer.images(secret.name.repository)


def _fetching(available_bytes: int, **more: Any) -> tuple[Offer, Addressed]:
    """A node whose containerd fetches a content, and the name under which it asked for it."""
    content = b"a layer of some bytes"
    store = MemoryStore(exclusive=False)
    target = Addressed(
        registry=Registry("docker.io"),
        repository=Repository("library/app"),
        kind=Kind.BLOB,
        digest=sha256("layer"),
    )
    store.flights[target.digest] = Flight(content, available_bytes)
    return replace(make_offer(store, **more), share_arriving=True), target


def test_content_that_arrives_is_spoken_of_once_it_was_asked_for_and_has_a_byte() -> None:
    offer, target = _fetching(5)
    assert offer.arriving(target.digest) is None, "nobody asked here for it"
    offer.fetching(target)
    assert offer.arriving(target.digest) == Growing(size_bytes=21, available_bytes=5)
    assert offer.gives_arriving(target, registry_decided=True)
    empty, target = _fetching(0)
    empty.fetching(target)
    assert empty.arriving(target.digest) is None
    assert empty.gives_arriving(target, registry_decided=True), "its first byte may be waited for"


def test_content_that_arrives_is_not_spoken_of_if_it_is_not_to_be_shared() -> None:
    offer, target = _fetching(5)
    offer = replace(offer, share_arriving=False)
    offer.fetching(target)
    assert offer.arriving(target.digest) is None
    assert not offer.gives_arriving(target, registry_decided=True)
    excluded, target = _fetching(5, exclude=("docker.io/library/*",))
    excluded.fetching(target)
    assert excluded.arriving(target.digest) is None


def test_content_that_stopped_arriving_is_not_spoken_of() -> None:
    offer, target = _fetching(5)
    offer.fetching(target)
    store = offer.store
    assert isinstance(store, MemoryStore)
    store.flights[target.digest].quiet_s = 9.0
    assert offer.arriving(target.digest) is not None
    store.flights[target.digest].quiet_s = 11.0
    assert offer.arriving(target.digest) is None


def test_private_content_that_arrives_is_for_those_who_leave_it_to_the_registry_too() -> None:
    rules = Authorities((AuthorityRule(parse_pattern("docker.io/library/*"), Authority.REGISTRY),))
    offer, target = _fetching(5, authorize=rules)
    offer.fetching(target)
    assert offer.arriving(target.digest) is not None, "who may have it is decided when it is asked for"
    assert offer.gives_arriving(target, registry_decided=True)
    assert not offer.gives_arriving(target, registry_decided=False)
    assert not offer.gives_arriving(replace(target, repository=Repository("evil/app")), registry_decided=True)

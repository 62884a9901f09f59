"""Resolving a tag: when this node answers, from where, and what it replies to its peers."""

from dataclasses import dataclass, field

import pytest

from agent.content.offer import KnownTag, Offer
from agent.content.sharing import Sharing
from agent.content.store import ContentStore, TaggedImage
from agent.content.tags import TagAges
from agent.holders.tagfinder import TagAnswer, TagFinder
from agent.holders.tags import Resolved, TagResolver
from agent.holders.wire import Question, Reply
from agent.oci.authority import Authorities
from agent.oci.digest import Digest
from agent.oci.errors import ManifestUnknown
from agent.oci.filters import parse_filter
from agent.oci.mirrors import MirrorNames
from agent.oci.origin import Origin
from agent.oci.reference import Named
from tests.unit.evidence import MemoryStore, follow_at_once
from tests.unit.twins import descriptor, named, node, sha256

NOW_S, TICKS_S = 10_000.0, 50.0
MAX_AGE_S = 3600.0


@dataclass
class MemoryTagFinder:
    """A tag finder that answers from a list, and records the questions."""

    answers: tuple[TagAnswer, ...] = ()
    asked: list[tuple[Named, float]] = field(default_factory=list)

    async def find_tag(self, name: Named, *, max_age_s: float) -> tuple[TagAnswer, ...]:
        self.asked.append((name, max_age_s))
        return self.answers


def image(
    name: Named, content: str = "v1", seen_s: float = NOW_S - 100, origin: Origin = Origin.REGISTRY
) -> TaggedImage:
    """A tag that was noticed just now."""
    return TaggedImage(
        name=name, descriptor=descriptor(content), seen_s=seen_s, origin=origin, noticed_s=TICKS_S
    )


def answer(
    name: Named, age_s: float = 60.0, content: str = "v1", by: str = "peer", *, imported: bool = False
) -> TagAnswer:
    """A peer's answer. Another node saw the tag at the registry."""
    return TagAnswer(
        node=node(by),
        name=name,
        descriptor=descriptor(content),
        age_s=age_s,
        voucher=node("seer"),
        imported=imported,
    )


def make_ages() -> TagAges:
    """A ledger at this module's time."""
    return TagAges(clock=lambda: NOW_S, ticks=lambda: TICKS_S)


def make_offer(
    store: ContentStore,
    *,
    exclude: tuple[str, ...] = (),
    exclude_tags: tuple[str, ...] = ("*:latest",),
    authorize: Authorities | None = None,
    resolve: bool = True,
    share_imported: bool = False,
    ages: TagAges | None = None,
) -> Offer:
    """What the node ``own`` at 10.0.0.1 offers of a store."""
    sharing = Sharing(
        exclusive=store.exclusive,
        registries=parse_filter(["*"], exclude),
        authorities=authorize or Authorities(),
        mirrors=MirrorNames(ports={30020, 30021}, hosts={"own", "10.0.0.1"}),
    )
    follow_at_once(store, sharing)
    return Offer(
        own=node("own"),
        store=store,
        ages=ages or make_ages(),
        sharing=sharing,
        tags=parse_filter(["*"], exclude_tags),
        resolve=resolve,
        share_imported=share_imported,
    )


def resolver(
    *images: TaggedImage,
    answers: tuple[TagAnswer, ...] = (),
    exclude: tuple[str, ...] = (),
    enabled: bool = True,
    share_imported: bool = False,
    ages: TagAges | None = None,
    held: bool = True,
) -> tuple[TagResolver, MemoryTagFinder]:
    store, finder = MemoryStore(), MemoryTagFinder(answers)
    store.names.replace(images)
    if held:
        store.held.update(each.descriptor.digest for each in images)
    as_store: ContentStore = store
    as_finder: TagFinder = finder
    made = TagResolver(
        offer=make_offer(
            as_store, exclude=exclude, resolve=enabled, share_imported=share_imported, ages=ages
        ),
        finder=as_finder,
        max_age_s=MAX_AGE_S,
        clock=lambda: NOW_S,
    )
    return made, finder


async def test_tag_of_the_local_store_is_answered_without_asking_peers() -> None:
    resolve, finder = resolver(image(named()), answers=(answer(named(), content="newer"),))
    assert await resolve.resolve(named(), ask_peers=True) == Resolved(
        name=named(),
        descriptor=descriptor("v1"),
        age_s=100.0,
        seen_s=NOW_S - 100,
        voucher=node("own"),
        imported=False,
        node=None,
    )
    assert finder.asked == []


@pytest.mark.parametrize(("age_s", "answered"), [(MAX_AGE_S, True), (MAX_AGE_S + 1, False)])
async def test_this_nodes_own_tag_is_answered_no_longer_than_a_peers(age_s: float, answered: bool) -> None:
    resolve, _ = resolver(image(named(), seen_s=NOW_S - age_s))
    if answered:
        assert (await resolve.resolve(named(), ask_peers=True)).age_s == age_s
        return
    with pytest.raises(ManifestUnknown, match="this node did 3601 s ago") as caught:
        await resolve.resolve(named(), ask_peers=True)
    assert "tags.max_age_s" in caught.value.hint


async def test_own_tag_that_is_too_old_is_answered_by_a_peer_that_saw_it_since() -> None:
    resolve, _ = resolver(image(named(), seen_s=1.0), answers=(answer(named(), content="moved"),))
    resolved = await resolve.resolve(named(), ask_peers=True)
    assert (resolved.descriptor, resolved.node) == (descriptor("moved"), node("peer"))


@pytest.mark.parametrize("origin", [Origin.ELSEWHERE, Origin.IMPORTED])
async def test_own_tag_that_no_registry_is_known_to_have_had_is_left_to_the_registry(origin: Origin) -> None:
    resolve, _ = resolver(image(named(), origin=origin))
    with pytest.raises(ManifestUnknown, match="this node has it, but"):
        await resolve.resolve(named(), ask_peers=True)


async def test_own_import_is_answered_at_any_age_when_the_setting_says_so() -> None:
    resolve, _ = resolver(image(named(), seen_s=1.0, origin=Origin.IMPORTED), share_imported=True)
    resolved = await resolve.resolve(named(), ask_peers=True)
    assert (resolved.imported, resolved.node, resolved.voucher) == (True, None, node("own"))


async def test_registrys_word_from_anywhere_comes_before_an_import() -> None:
    own = image(named(), "imported", origin=Origin.IMPORTED)
    told = (answer(named(), 500, "pulled"), answer(named(), 1, "imported there", imported=True))
    resolve, _ = resolver(own, answers=told, share_imported=True)
    assert (await resolve.resolve(named(), ask_peers=True)).descriptor == descriptor("pulled")


async def test_peers_import_counts_only_where_the_setting_says_so() -> None:
    told = (answer(named(), 99_999, imported=True),)
    believing, _ = resolver(answers=told, share_imported=True)
    assert (await believing.resolve(named(), ask_peers=True)).imported
    doubting, _ = resolver(answers=told)
    with pytest.raises(ManifestUnknown):
        await doubting.resolve(named(), ask_peers=True)


async def test_word_of_a_peer_names_the_node_that_saw_the_tag_at_the_registry() -> None:
    resolve, _ = resolver(answers=(answer(named(), by="teller"),))
    source = (await resolve.resolve(named(), ask_peers=True)).source(node("own"))
    assert (source.told_by, source.vouched_by, source.age_s) == ("teller", "seer", 60.0)


async def test_own_word_that_came_from_a_mirror_names_the_node_that_saw_the_tag_at_the_registry() -> None:
    ages = make_ages()
    ages.resolved(named(), sha256("v1"), NOW_S - 300, node("seer"))
    resolve, _ = resolver(image(named()), ages=ages)
    source = (await resolve.resolve(named(), ask_peers=True)).source(node("own"))
    assert (source.told_by, source.vouched_by, source.age_s) == ("own", "seer", 300.0)


async def test_local_tag_that_was_mirrored_has_the_age_it_had_then() -> None:
    ages = make_ages()
    ages.resolved(named(), sha256("v1"), NOW_S - 3000, node("seer"))
    resolve, _ = resolver(image(named()), ages=ages)
    assert (await resolve.resolve(named(), ask_peers=True)).seen_s == NOW_S - 3000


async def test_freshest_peer_answers_for_a_tag_that_is_not_here_and_its_age_is_inherited() -> None:
    resolve, finder = resolver(
        answers=(answer(named(), 60, by="fresh"), answer(named(), 90, "v0", by="stale"))
    )
    assert await resolve.resolve(named(), ask_peers=True) == Resolved(
        name=named(),
        descriptor=descriptor("v1"),
        age_s=60.0,
        seen_s=NOW_S - 60,
        voucher=node("seer"),
        imported=False,
        node=node("fresh"),
    )
    assert finder.asked == [(named(), MAX_AGE_S)]


async def test_tag_of_another_registry_here_is_no_answer() -> None:
    resolve, _ = resolver(image(named(registry="ghcr.io")))
    with pytest.raises(ManifestUnknown, match="nobody saw"):
        await resolve.resolve(named(), ask_peers=True)


async def test_peers_question_is_answered_from_here_alone() -> None:
    resolve, finder = resolver(answers=(answer(named()),))
    with pytest.raises(ManifestUnknown):
        await resolve.resolve(named(), ask_peers=False)
    assert finder.asked == []


async def test_nothing_is_resolved_when_tags_are_switched_off() -> None:
    resolve, finder = resolver(image(named()), answers=(answer(named()),), enabled=False)
    with pytest.raises(ManifestUnknown) as caught:
        await resolve.resolve(named(), ask_peers=True)
    assert "tags.resolve" in caught.value.hint
    assert finder.asked == []


async def test_excluded_tag_is_never_resolved_even_from_the_local_store() -> None:
    latest = named(tag="latest")
    resolve, finder = resolver(image(latest), answers=(answer(latest),))
    with pytest.raises(ManifestUnknown) as caught:
        await resolve.resolve(latest, ask_peers=True)
    assert "tags.exclude" in caught.value.hint
    assert finder.asked == []


async def test_name_without_registry_is_answered_from_here_when_no_peer_knows_another() -> None:
    resolve, finder = resolver(image(named()), answers=(answer(named(), content="newer"),))
    resolved = await resolve.resolve(named(registry=None), ask_peers=True)
    assert (resolved.name, resolved.descriptor, resolved.node) == (named(), descriptor("v1"), None)
    assert finder.asked == [(named(registry=None), MAX_AGE_S)]


async def test_name_without_registry_takes_the_registry_of_the_only_answer() -> None:
    resolve, _ = resolver(answers=(answer(named(registry="ghcr.io")),))
    resolved = await resolve.resolve(named(registry=None), ask_peers=True)
    assert resolved.name == named(registry="ghcr.io")


@pytest.mark.parametrize(
    ("here", "there"),
    [(("docker.io", "ghcr.io"), ()), (("docker.io",), ("ghcr.io",)), ((), ("docker.io", "ghcr.io"))],
)
async def test_name_that_several_registries_have_is_not_guessed(
    here: tuple[str, ...], there: tuple[str, ...]
) -> None:
    resolve, _ = resolver(
        *(image(named(registry=registry), registry) for registry in here),
        answers=tuple(answer(named(registry=registry), content=registry) for registry in there),
    )
    with pytest.raises(ManifestUnknown, match=r"docker\.io, ghcr\.io") as caught:
        await resolve.resolve(named(registry=None), ask_peers=True)
    assert "ns=" in caught.value.hint


async def test_name_on_which_several_registries_agree_is_no_conflict() -> None:
    told = (answer(named(registry="ghcr.io")), answer(named(registry="quay.io")))
    resolve, _ = resolver(image(named()), answers=told)
    resolved = await resolve.resolve(named(registry=None), ask_peers=True)
    assert (resolved.name, resolved.descriptor) == (named(), descriptor("v1"))


async def test_name_of_the_mirror_itself_makes_no_name_ambiguous() -> None:
    own_name = named(registry="127.0.0.1:30020")
    resolve, _ = resolver(
        image(named()),
        image(own_name, "other"),
        answers=(answer(named(registry="10.0.0.1:30021"), content="another"),),
    )
    resolved = await resolve.resolve(named(registry=None), ask_peers=True)
    assert (resolved.name, resolved.descriptor) == (named(), descriptor("v1"))


async def test_name_of_an_excluded_registry_makes_no_name_ambiguous() -> None:
    excluded = named(registry="ghcr.io")
    resolve, _ = resolver(
        image(named()),
        image(excluded, "other"),
        answers=(answer(excluded, content="other"),),
        exclude=("ghcr.io/*",),
    )
    assert (await resolve.resolve(named(registry=None), ask_peers=True)).name == named()


def ask(resolve: TagResolver, *names: Named, digests: tuple[Digest, ...] = ()) -> Reply:
    return resolve.reply_to(Question(digests=digests, tags=names))


def test_reply_has_the_digests_of_the_question_that_are_here() -> None:
    resolve, _ = resolver(image(named()), image(named(tag="2"), "v2"))
    assert ask(resolve, digests=(sha256("v1"), sha256("elsewhere"))).held == {sha256("v1")}


def test_reply_has_the_tag_with_its_age() -> None:
    resolve, _ = resolver(image(named()))
    known = KnownTag(name=named(), descriptor=descriptor("v1"), age_s=100.0, voucher=node("own"))
    assert ask(resolve, named()).tags == (known,)


def test_reply_has_the_inherited_age_of_a_mirrored_tag() -> None:
    ages = make_ages()
    ages.resolved(named(), sha256("v1"), NOW_S - 3000, node("seer"))
    resolve, _ = resolver(image(named()), ages=ages)
    assert [(tag.age_s, tag.voucher) for tag in ask(resolve, named()).tags] == [(3000.0, "seer")]


def test_clock_that_was_set_back_makes_no_negative_age() -> None:
    resolve, _ = resolver(image(named(), seen_s=NOW_S + 50))
    assert [tag.age_s for tag in ask(resolve, named()).tags] == [0.0]


def test_question_without_registry_gets_the_tag_of_every_registry() -> None:
    resolve, _ = resolver(image(named()), image(named(registry="ghcr.io")))
    tags = ask(resolve, named(registry=None)).tags
    assert {tag.name.registry for tag in tags} == {"docker.io", "ghcr.io"}


def test_reply_has_no_tag_whose_manifest_is_gone_and_none_that_is_excluded() -> None:
    gone, _ = resolver(image(named()), held=False)
    excluded, _ = resolver(image(named(tag="latest")))
    assert ask(gone, named()).tags == ()
    assert ask(excluded, named(tag="latest")).tags == ()


@pytest.mark.parametrize("origin", [Origin.ELSEWHERE, Origin.IMPORTED])
def test_reply_has_no_tag_that_no_registry_is_known_to_have_had_but_its_digest(origin: Origin) -> None:
    resolve, _ = resolver(image(named(), origin=origin))
    reply = ask(resolve, named(), digests=(sha256("v1"),))
    assert reply == Reply(held=frozenset((sha256("v1"),)))


def test_reply_has_an_import_when_the_setting_says_so_and_calls_it_one() -> None:
    resolve, _ = resolver(image(named(), origin=Origin.IMPORTED), share_imported=True)
    assert [tag.imported for tag in ask(resolve, named()).tags] == [True]
    retagged, _ = resolver(image(named(), origin=Origin.ELSEWHERE), share_imported=True)
    assert ask(retagged, named()).tags == ()


def test_reply_has_neither_the_tag_nor_the_digest_of_an_excluded_repository() -> None:
    resolve, _ = resolver(image(named()), exclude=("docker.io/library/nginx",))
    assert ask(resolve, named(), digests=(sha256("v1"),)) == Reply()


def test_reply_has_a_digest_that_another_repository_has_too() -> None:
    resolve, _ = resolver(
        image(named()), image(named(repository="library/other")), exclude=("docker.io/library/nginx",)
    )
    assert ask(resolve, digests=(sha256("v1"),)).held == {sha256("v1")}


def test_reply_has_digests_but_no_tags_when_tags_are_switched_off() -> None:
    resolve, _ = resolver(image(named()), enabled=False)
    assert ask(resolve, named(), digests=(sha256("v1"),)) == Reply(held=frozenset((sha256("v1"),)))

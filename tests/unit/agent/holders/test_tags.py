"""Resolving a tag: when this node answers, from where, and what it replies to its peers."""

from dataclasses import dataclass, field

import pytest

from agent.content.store import ContentStore, TaggedImage
from agent.content.tags import TagAges
from agent.holders.tagfinder import TagAnswer, TagFinder
from agent.holders.tags import Resolved, TagResolver
from agent.holders.wire import KnownTag, Question, Reply
from agent.oci.digest import Digest
from agent.oci.errors import ManifestUnknown
from agent.oci.filters import parse_filter
from agent.oci.reference import Named
from tests.unit.evidence import MemoryStore
from tests.unit.twins import descriptor, named, node, sha256

NOW_S = 10_000.0
MAX_AGE_S = 3600.0


@dataclass
class MemoryTagFinder:
    """A tag finder that answers from a list, and records the questions."""

    answers: tuple[TagAnswer, ...] = ()
    asked: list[tuple[Named, float]] = field(default_factory=list)

    async def find_tag(self, name: Named, *, max_age_s: float) -> tuple[TagAnswer, ...]:
        self.asked.append((name, max_age_s))
        return self.answers


def image(name: Named, content: str = "v1", seen_s: float = NOW_S - 100) -> TaggedImage:
    return TaggedImage(name=name, descriptor=descriptor(content), seen_s=seen_s)


def answer(name: Named, age_s: float = 60.0, content: str = "v1", by: str = "peer") -> TagAnswer:
    return TagAnswer(node=node(by), name=name, descriptor=descriptor(content), age_s=age_s)


def resolver(
    *images: TaggedImage,
    answers: tuple[TagAnswer, ...] = (),
    exclude: tuple[str, ...] = ("*:latest",),
    enabled: bool = True,
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
        store=as_store,
        ages=ages or TagAges(),
        finder=as_finder,
        tags=parse_filter(["*"], exclude),
        enabled=enabled,
        max_age_s=MAX_AGE_S,
        clock=lambda: NOW_S,
    )
    return made, finder


async def test_tag_of_the_local_store_is_answered_without_asking_peers() -> None:
    resolve, finder = resolver(image(named()), answers=(answer(named(), content="newer"),))
    assert await resolve.resolve(named(), ask_peers=True) == Resolved(
        name=named(), descriptor=descriptor("v1"), seen_s=NOW_S - 100, node=None
    )
    assert finder.asked == []


async def test_local_tag_is_answered_at_any_age() -> None:
    resolve, _ = resolver(image(named(), seen_s=1.0))
    assert (await resolve.resolve(named(), ask_peers=True)).seen_s == 1.0


async def test_local_tag_that_was_mirrored_has_the_age_it_had_then() -> None:
    ages = TagAges()
    ages.resolved(named(), sha256("v1"), 5.0)
    resolve, _ = resolver(image(named()), ages=ages)
    assert (await resolve.resolve(named(), ask_peers=True)).seen_s == 5.0


async def test_freshest_peer_answers_for_a_tag_that_is_not_here_and_its_age_is_inherited() -> None:
    resolve, finder = resolver(
        answers=(answer(named(), 60, by="fresh"), answer(named(), 90, "v0", by="stale"))
    )
    assert await resolve.resolve(named(), ask_peers=True) == Resolved(
        name=named(), descriptor=descriptor("v1"), seen_s=NOW_S - 60, node=node("fresh")
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
        *(image(named(registry=registry)) for registry in here),
        answers=tuple(answer(named(registry=registry)) for registry in there),
    )
    with pytest.raises(ManifestUnknown, match=r"docker\.io, ghcr\.io") as caught:
        await resolve.resolve(named(registry=None), ask_peers=True)
    assert "ns=" in caught.value.hint


def ask(resolve: TagResolver, *names: Named, digests: tuple[Digest, ...] = ()) -> Reply:
    return resolve.reply_to(Question(digests=digests, tags=names))


def test_reply_has_the_digests_of_the_question_that_are_here() -> None:
    resolve, _ = resolver(image(named()), image(named(tag="2"), "v2"))
    assert ask(resolve, digests=(sha256("v1"), sha256("elsewhere"))).held == {sha256("v1")}


def test_reply_has_the_tag_with_its_age() -> None:
    resolve, _ = resolver(image(named()))
    assert ask(resolve, named()).tags == (KnownTag(name=named(), descriptor=descriptor("v1"), age_s=100.0),)


def test_reply_has_the_inherited_age_of_a_mirrored_tag() -> None:
    ages = TagAges()
    ages.resolved(named(), sha256("v1"), NOW_S - 3000)
    resolve, _ = resolver(image(named()), ages=ages)
    assert [tag.age_s for tag in ask(resolve, named()).tags] == [3000.0]


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


def test_reply_has_digests_but_no_tags_when_tags_are_switched_off() -> None:
    resolve, _ = resolver(image(named()), enabled=False)
    assert ask(resolve, named(), digests=(sha256("v1"),)) == Reply(held=frozenset((sha256("v1"),)))

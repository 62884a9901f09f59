"""Which tags are resolved for whom, and what this node remembers of it."""

from dataclasses import replace

import pytest

from agent.content.store import TagChange
from agent.listen.caller import Caller, CallerKind
from agent.listen.names import RequestNames
from agent.observe.requests import RequestPath
from agent.oci.digest import Digest
from agent.oci.errors import OciError
from tests.unit.agent.holders.test_tags import NOW_S, MemoryTagFinder, answer, image, make_ages, resolver
from tests.unit.agent.listen.test_prefetch import Node
from tests.unit.twins import named, sha256


def caller(listener: RequestPath = RequestPath.HOSTPORT) -> Caller:
    return Caller(
        listener=listener,
        address="127.0.0.1",
        cookie=1,
        connected_s=0.0,
        kind=CallerKind.OWN_CONTAINERD if listener is RequestPath.HOSTPORT else CallerKind.AGENT,
    )


class Names:
    """What resolves tags here; the peers know the tag, or nobody does."""

    def __init__(
        self, *, known: bool = True, exclude: tuple[str, ...] = (), share_imported: bool = False
    ) -> None:
        self.finder: MemoryTagFinder
        self.ages, self.node = make_ages(), Node()
        made, self.finder = resolver(
            answers=(answer(named()),) if known else (),
            exclude=exclude,
            ages=self.ages,
            share_imported=share_imported,
        )
        self.names = RequestNames(resolver=made, prefetcher=self.node.prefetcher, clock=lambda: NOW_S)

    @property
    def remembered_s(self) -> float:
        """When the tag was seen; without a memory of it, when its image came into the store: now."""
        return self.ages.seen_s(image(named(), seen_s=NOW_S))


async def test_tag_becomes_the_manifest_that_it_names() -> None:
    names = Names()
    target = await names.names.resolve(named(), caller())
    assert (target.name, target.descriptor.digest) == (named(), sha256("v1"))


async def test_local_client_s_tag_has_the_age_of_the_answer_and_its_manifest_is_looked_up() -> None:
    names = Names()
    await names.names.resolve(named(), caller())
    assert names.remembered_s == NOW_S - 60
    assert names.node.looked_up == [[Digest(sha256("v1"))]]


async def test_other_client_s_tag_leaves_no_memory() -> None:
    names = Names()
    await names.names.resolve(named(), caller(RequestPath.NODEPORT))
    assert names.remembered_s == NOW_S


async def test_peer_makes_this_node_ask_nobody() -> None:
    names = Names()
    with pytest.raises(OciError) as refused:
        await names.names.resolve(named(), caller(RequestPath.PEER))
    assert refused.value.status == 404
    assert names.finder.asked == []


async def test_tag_of_a_registry_that_is_not_mirrored_is_a_404_that_says_where_to_look() -> None:
    names = Names(exclude=("docker.io/*",))
    with pytest.raises(OciError) as refused:
        names.names.offer.require(named())
    assert refused.value.status == 404
    assert "registries." in refused.value.hint


def changed(content: str, before: str | None = None) -> TagChange:
    """The tag was written while the agent runs."""
    was = None if before is None else image(named(), before)
    return TagChange(image=image(named(), content), before=was, first=False)


async def test_tag_that_containerd_asked_for_before_it_wrote_it_was_pulled() -> None:
    names = Names(known=False)
    with pytest.raises(OciError):
        await names.names.resolve(named(), caller())
    names.ages.written(changed("v1"))
    assert names.ages.was_asked_for(image(named(), "v1"))


async def test_question_of_another_client_does_not_make_a_local_name_a_pulled_one() -> None:
    names = Names(known=False)
    other = named(tag="asked for")
    for target, who in ((other, caller()), (named(), replace(caller(), kind=CallerKind.STRANGER))):
        with pytest.raises(OciError):
            await names.names.resolve(target, who)
    names.ages.written(changed("v1"))
    assert not names.ages.was_asked_for(image(named(), "v1"))


async def test_imported_tag_leaves_no_memory_of_a_registrys_word() -> None:
    names = Names(share_imported=True)
    names.finder.answers = (answer(named(), imported=True),)
    await names.names.resolve(named(), caller())
    assert names.remembered_s == NOW_S

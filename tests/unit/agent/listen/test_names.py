"""Which tags are resolved for whom, and what this node remembers of it."""

import pytest

from agent.content.tags import TagAges
from agent.listen.caller import Caller, CallerKind
from agent.listen.names import RequestNames
from agent.observe.requests import RequestPath
from agent.oci.digest import Digest
from agent.oci.errors import OciError
from agent.oci.filters import parse_filter
from tests.unit.agent.holders.test_tags import NOW_S, MemoryTagFinder, answer, image, resolver
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

    def __init__(self, *, known: bool = True, exclude: tuple[str, ...] = ()) -> None:
        self.finder: MemoryTagFinder
        made, self.finder = resolver(answers=(answer(named()),) if known else ())
        self.ages, self.node = TagAges(), Node()
        self.names = RequestNames(
            resolver=made,
            ages=self.ages,
            registries=parse_filter(["*"], exclude),
            prefetcher=self.node.prefetcher,
            clock=lambda: NOW_S,
        )

    @property
    def remembered_s(self) -> float:
        """When the tag was seen; without a memory of it, when its image came into the store: now."""
        return self.ages.seen_s(image(named(), seen_s=NOW_S))


async def test_tag_becomes_the_manifest_that_it_names() -> None:
    names = Names()
    target = await names.names.resolve(named(), caller())
    assert target.digest == sha256("v1")
    assert (target.registry, target.repository) == (named().registry, named().repository)


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
        await names.names.resolve(named(), caller())
    assert refused.value.status == 404
    assert "registries." in refused.value.hint
    with pytest.raises(OciError):
        names.names.require_mirrored(named())

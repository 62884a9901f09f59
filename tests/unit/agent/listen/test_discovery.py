"""Which tags this node lists. Referrers are in tests/server/test_oci_pull.py."""

import json

import pytest

from agent.content.store import TaggedImage
from agent.listen.discovery import Discovery
from agent.oci.errors import NameUnknown
from agent.oci.origin import Origin
from agent.oci.reference import Repository, TagList
from agent.oci.registry import Registry
from tests.unit.agent.holders.test_tags import image, make_offer
from tests.unit.evidence import MemoryStore
from tests.unit.twins import named


def listed(
    *tags: str,
    limit: int | None = None,
    last: str | None = None,
    exclude: tuple[str, ...] = (),
    exclude_tags: tuple[str, ...] = (),
    more: tuple[TaggedImage, ...] = (),
) -> tuple[list[str], str | None]:
    """The tags that are shown of a store with these, and the link to the next page."""
    store = MemoryStore()
    store.names.replace([*(image(named(tag=tag)) for tag in tags), *more])
    target = TagList(registry=None, repository=Repository("library/nginx"), limit=limit, last=last)
    response = Discovery(offer=make_offer(store, exclude=exclude, exclude_tags=exclude_tags)).tags(target)
    assert isinstance(response.body, bytes)
    return json.loads(response.body)["tags"], response.headers.get("Link")


def test_tags_are_in_lexical_order() -> None:
    assert listed("v2", "v10", "latest") == (["latest", "v10", "v2"], None)


def test_page_ends_with_a_link_to_the_next_one() -> None:
    link = '</v2/library/nginx/tags/list?n=2&last=b>; rel="next"'
    assert listed("a", "b", "c", limit=2) == (["a", "b"], link)
    assert listed("a", "b", "c", limit=2, last="b") == (["c"], None)


def test_page_of_no_tags_has_no_link() -> None:
    assert listed("a", limit=0) == ([], None)


def test_tags_that_are_not_mirrored_are_not_listed() -> None:
    assert listed("v1", "latest", exclude=("*:latest",))[0] == ["v1"]


def test_tags_that_would_not_be_answered_are_not_listed() -> None:
    assert listed("v1", "latest", exclude_tags=("*:latest",))[0] == ["v1"]
    retagged = image(named(tag="v2"), origin=Origin.ELSEWHERE)
    of_the_mirror = image(named(tag="v3", registry="127.0.0.1:30020"))
    assert listed("v1", more=(retagged, of_the_mirror))[0] == ["v1"]


def test_repository_of_which_no_tag_is_known_is_a_404() -> None:
    with pytest.raises(NameUnknown):
        listed()


def test_list_of_a_named_registry_is_the_registry_s_to_give() -> None:
    target = TagList(
        registry=Registry("docker.io"), repository=Repository("library/nginx"), limit=None, last=None
    )
    with pytest.raises(NameUnknown) as refused:
        Discovery(offer=make_offer(MemoryStore())).tags(target)
    assert "ns=" in refused.value.hint

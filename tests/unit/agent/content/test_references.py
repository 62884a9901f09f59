"""The reference graph: what names reach, however and in whichever order it is learned."""

from collections.abc import Iterable, Sequence, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.content.audience import EVERYBODY, NOBODY, Audience, Link, Place, private
from agent.content.references import Key, References, key_of
from agent.oci.digest import Digest
from agent.oci.reference import Repository
from agent.oci.registry import Registry
from tests.unit.twins import sha256

APP: Place = (Registry("ghcr.io"), Repository("acme/app"))
OTHER: Place = (Registry("ghcr.io"), Repository("acme/other"))
PRIVATE = private(APP, included=True)
INDEX, MANIFEST, CONFIG, BASE, LAYER = (
    sha256(each) for each in ("index", "manifest", "config", "base", "layer")
)
Names = Sequence[tuple[Digest, Audience]]


def rebuild(references: References, names: Names) -> Set[Key]:
    """Rebuild to the end. Returns what was lost."""
    return [*references.rebuild(names)][-1]


def spread(references: References, names: Names) -> None:
    for digest, said in names:
        assert {key_of(digest)} <= {*references.spread(digest, said)}


def graph(**listed: Iterable[tuple[str, Link]]) -> References:
    references = References()
    for name, children in listed.items():
        references.learn(sha256(name), [(sha256(child), link) for child, link in children])
    return references


def image() -> References:
    """An index with a manifest, which has a config and two layers, each fetched for it."""
    fetched = Link.FETCHED_LAYER
    return graph(
        index=[("manifest", Link.WHOLE)],
        manifest=[("config", Link.WHOLE), ("base", fetched), ("layer", fetched)],
    )


@pytest.mark.parametrize("packed", [False, True])
def test_name_reaches_config_and_layers_through_index_and_manifest(packed: bool) -> None:
    references = image()
    spread(references, [(INDEX, EVERYBODY)])
    if packed:
        rebuild(references, [(INDEX, EVERYBODY)])
        assert references.waiting == 0
    for digest in (INDEX, MANIFEST, CONFIG, BASE, LAYER):
        assert references.audience(digest).is_for(None)
    assert references.audience(sha256("stranger")) is NOBODY
    assert references.lists(MANIFEST)
    assert not references.lists(LAYER)


def test_content_is_lost_with_its_last_name_and_what_others_reach_stays() -> None:
    references = image()
    references.learn(sha256("second"), [(BASE, Link.LAYER)])
    both: Names = [(INDEX, EVERYBODY), (sha256("second"), EVERYBODY)]
    spread(references, both)
    assert not rebuild(references, both)
    assert rebuild(references, both[1:]) == {key_of(each) for each in (INDEX, MANIFEST, CONFIG, LAYER)}
    assert references.audience(BASE).included
    for digest in (INDEX, MANIFEST, CONFIG, LAYER):
        assert references.audience(digest) is NOBODY
        assert not references.lists(digest)


def test_index_of_an_open_name_does_not_open_the_private_image_that_it_lists() -> None:
    references = image()
    evil = sha256("evil")
    references.learn(evil, [(MANIFEST, Link.WHOLE)])
    names: Names = [(evil, EVERYBODY), (INDEX, PRIVATE)]
    for order in (names, names[::-1]):
        rebuild(references, [])
        references = image()
        references.learn(evil, [(MANIFEST, Link.WHOLE)])
        spread(references, order)
        if references.overtaken:  # the open name was followed before anybody knew that it should not
            rebuild(references, order)
        assert not references.overtaken
        for digest in (MANIFEST, CONFIG, BASE, LAYER):
            assert not references.audience(digest).is_for(None), digest
            assert references.audience(digest).is_for(APP), digest
        assert references.audience(evil).is_for(None)


def test_manifest_of_an_open_name_does_not_open_the_private_layers_that_were_there_before_it() -> None:
    references = image()
    evil = sha256("evil")
    references.learn(evil, [(LAYER, Link.LAYER), (CONFIG, Link.LAYER), (BASE, Link.FETCHED_LAYER)])
    spread(references, [(evil, EVERYBODY), (INDEX, PRIVATE)])
    assert not references.audience(LAYER).is_for(None)
    assert not references.audience(CONFIG).is_for(None)
    assert references.audience(BASE).is_for(None), "the open image's registry has it"


def test_index_of_an_open_name_that_lists_a_private_layer_as_a_manifest_does_not_open_it() -> None:
    references = image()
    references.learn(sha256("evil"), [(LAYER, Link.WHOLE)])
    spread(references, [(INDEX, PRIVATE), (sha256("evil"), EVERYBODY)])
    assert not references.audience(LAYER).is_for(None)
    assert references.audience(LAYER).is_for(OTHER), "layers are given to all of the registry's private names"


def test_manifest_that_references_itself_ends() -> None:
    references = graph(a=[("b", Link.WHOLE)], b=[("a", Link.WHOLE), ("c", Link.LAYER)])
    spread(references, [(sha256("a"), EVERYBODY)])
    assert references.audience(sha256("c")).included


def test_manifest_that_is_read_again_reaches_what_came_meanwhile() -> None:
    references = graph(index=[])
    rebuild(references, [(INDEX, EVERYBODY)])
    references.learn(INDEX, [(MANIFEST, Link.WHOLE)])
    spread(references, [(INDEX, EVERYBODY)])
    assert references.audience(MANIFEST).included


def test_answers_are_the_old_ones_until_a_rebuild_has_ended() -> None:
    references = image()
    spread(references, [(INDEX, EVERYBODY)])
    steps = references.rebuild([(sha256("another"), EVERYBODY)])
    assert not next(steps)
    assert references.audience(LAYER).included
    assert [*steps][-1]
    assert not references.audience(LAYER).included


def test_much_that_waits_is_worth_packing() -> None:
    references = References()
    assert not references.outgrown
    references.learn(INDEX, [(sha256(str(number)), Link.LAYER) for number in range(2000)])
    spread(references, [(INDEX, EVERYBODY)])
    assert references.outgrown
    rebuild(references, [(INDEX, EVERYBODY)])
    assert (references.outgrown, references.waiting) == (False, 0)
    assert references.packed_bytes < 40 * 2000


NODES = [sha256(str(number)) for number in range(8)]
LISTINGS = st.dictionaries(
    st.sampled_from(NODES),
    st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(Link)), max_size=4),
)
SAID = st.sampled_from([EVERYBODY, PRIVATE, private(OTHER, included=True), private(OTHER, included=False)])


@given(
    listed=LISTINGS, names=st.lists(st.tuples(st.sampled_from(NODES), SAID), max_size=4), packed=st.booleans()
)
def test_following_names_one_by_one_leads_to_what_following_all_of_them_does(
    listed: dict[Digest, list[tuple[Digest, Link]]], names: list[tuple[Digest, Audience]], packed: bool
) -> None:
    gradual, whole = References(), References()
    for references in (gradual, whole):
        for digest, children in listed.items():
            references.learn(digest, children)
    for count, name in enumerate(names, 1):
        spread(gradual, [name])
        if packed:
            rebuild(gradual, names[:count])
            for manifest, children in listed.items():
                gradual.learn(manifest, children)
    if gradual.overtaken:
        rebuild(gradual, names)
    rebuild(whole, names)
    for digest in NODES:
        assert gradual.audience(digest) == whole.audience(digest)

"""Which images a mirror answers for, which tags it resolves, and how old a peer's answer may be."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from .agents import LOCAL, PEER, SERVICE, Image, Node, Reply, Site, digest_of, make_image, wait_for
from .proofs import OPEN
from .websocket import questioning

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

_SLOW_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """A holder of two images, the second seen two hours ago; and neighbours of different policies."""

    holder: Node
    default: Node
    patient: Node
    no_tags: Node
    picky: Node
    movers: Node
    image: Image
    old: Image

    def tag(self, node: Node, name: str, *, port: int = LOCAL, registry: str = "registry.test") -> Reply:
        """Ask for ``library/NAME``, NAME with its tag."""
        repository, _, tag = name.partition(":")
        return node.ask(f"/v2/library/{repository}/manifests/{tag}?ns={registry}", port=port)


@pytest.fixture(scope="module")
def policies() -> Iterator[Policies]:
    """The agents of this module; its tests only read."""
    image, old = make_image(b"a layer", note="new"), make_image(b"a layer", note="old")
    with Site(PEERING) as made:
        picky: dict[str, Any] = {
            "registries": {"include": ["registry.test/*"], "exclude": ["registry.test/library/secret*"]},
            "tags": {"exclude": ["Registry.test/library/app:v1"]},
        }
        policies = Policies(
            holder=made.add("holder"),
            default=made.add("default"),
            patient=made.add("patient", tags={"max_age_s": 10_800}),
            no_tags=made.add("no-tags", tags={"resolve": False}),
            picky=made.add("picky", **picky),
            movers=made.add("movers", tags={"resolve_latest": True}),
            image=image,
            old=old,
        )
        names = ("app:v1", "app:v2", "app:latest", "secret:v1")
        for node in (policies.holder, policies.picky, policies.no_tags, policies.movers):
            node.put_image(image, *(f"registry.test/library/{name}" for name in names))
            node.put_image(image, "other.test/library/app:v1")
        policies.holder.put_image(old, "registry.test/library/old:v1")
        two_hours_ago_s = time.time() - 7200
        os.utime(policies.holder.path_of(old.manifest), (two_hours_ago_s, two_hours_ago_s))
        made.start()
        yield policies


@pytest.mark.parametrize("port", [LOCAL, SERVICE])
def test_a_peers_tag_is_taken(policies: Policies, port: int) -> None:
    assert policies.tag(policies.default, "app:v2", port=port).body == policies.image.manifest


def test_latest_is_not_resolved_unless_told_so(policies: Policies) -> None:
    for node in (policies.holder, policies.default):
        reply = policies.tag(node, "app:latest")
        assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")
        assert b"tags.exclude" in reply.body


def test_latest_is_resolved_where_the_settings_say_so(policies: Policies) -> None:
    assert policies.tag(policies.movers, "app:latest").body == policies.image.manifest


def test_tags_exclude_adds_to_latest_and_leaves_digests_alone(policies: Policies) -> None:
    node = policies.picky
    assert policies.tag(node, "app:v1").status == 404
    assert policies.tag(node, "app:v2").status == 200
    assert policies.tag(node, "app:latest").status == 404
    assert policies.tag(node, policies.image.digest.replace("sha256:", "app:sha256:")).status == 200


def test_a_tag_that_a_node_excludes_is_not_told_to_its_peers(policies: Policies) -> None:
    asked = [["registry.test", "library/app", tag] for tag in ("v1", "v2")]
    with questioning(policies.picky.address) as questioner:
        reply = questioner.ask(tags=asked)
    assert [entry[0][2] for entry in reply["tags"]] == ["v2"]


def test_what_a_node_does_not_serve_it_tells_nobody_of(site: Site) -> None:
    node = site.add("excluding", registries={"exclude": ["registry.test/library/secret"]})
    secret, public = make_image(b"secret"), make_image(b"public")
    node.put_image(secret, "registry.test/library/secret:v1")
    node.put_image(public, "registry.test/library/app:v1")
    site.start()
    asked = [["registry.test", f"library/{name}", "v1"] for name in ("secret", "app")]
    with questioning(node.address) as questioner:

        def reply() -> dict[str, Any]:
            return questioner.ask(tags=asked, digests=[secret.digest, public.digest])

        wait_for(lambda: bool(reply()["tags"]), "the names are known")
        assert [entry[0][1] for entry in reply()["tags"]] == ["library/app"]
        assert reply()["held"] == [1]
    path = f"/v2/library/secret/manifests/{secret.digest}?ns=registry.test"
    assert node.ask(path, port=PEER).status == 404
    assert node.ask("/v2/library/secret/tags/list").status == 404


def test_without_tags_resolve_only_digests_are_answered(policies: Policies) -> None:
    node = policies.no_tags
    assert policies.tag(node, "app:v1").status == 404
    assert policies.tag(node, "app:v1", port=PEER).status == 404
    assert node.ask(f"/v2/library/app/manifests/{policies.image.digest}").status == 200
    assert node.ask(f"/v2/library/app/blobs/{digest_of(b'a layer')}").status == 200
    with questioning(node.address) as questioner:
        assert questioner.ask(tags=[["registry.test", "library/app", "v2"]])["tags"] == []


def test_an_excluded_repository_is_404_by_tag_by_digest_and_by_blob(policies: Policies) -> None:
    node = policies.picky
    layer = digest_of(b"a layer")
    for path in (f"manifests/{policies.image.digest}", "manifests/v1", f"blobs/{layer}"):
        for port in (LOCAL, SERVICE):
            reply = node.ask(f"/v2/library/secret/{path}?ns=registry.test", port=port)
            assert reply.status == 404
            assert reply.oci_code() in ("MANIFEST_UNKNOWN", "BLOB_UNKNOWN")
            assert b"registries.include" in reply.body
    assert node.ask(f"/v2/library/app/blobs/{layer}?ns=registry.test").status == 200


def test_a_registry_that_is_not_included_is_404(policies: Policies) -> None:
    assert policies.tag(policies.picky, "app:v2", registry="other.test").status == 404
    layer = digest_of(b"a layer")
    assert policies.picky.ask(f"/v2/library/app/blobs/{layer}?ns=other.test").status == 404


def test_an_excluded_repository_stays_excluded_when_no_registry_is_named(policies: Policies) -> None:
    assert policies.picky.ask("/v2/library/secret/manifests/v1").status == 404


def test_a_peers_tag_older_than_tags_max_age_s_is_not_taken(policies: Policies) -> None:
    reply = policies.tag(policies.default, "old:v1")
    assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")


def test_a_peers_tag_younger_than_tags_max_age_s_is_taken(policies: Policies) -> None:
    assert policies.tag(policies.patient, "old:v1").body == policies.old.manifest


def test_a_nodes_own_tag_older_than_tags_max_age_s_is_left_to_the_registry(policies: Policies) -> None:
    reply = policies.tag(policies.holder, "old:v1")
    assert (reply.status, reply.oci_code()) == (404, "MANIFEST_UNKNOWN")
    assert b"this node did 7" in reply.body
    assert b"tags.max_age_s" in reply.body


def test_an_old_digest_is_served_all_the_same(policies: Policies) -> None:
    reply = policies.default.ask(f"/v2/library/old/manifests/{policies.old.digest}?ns=registry.test")
    assert reply.body == policies.old.manifest


def test_a_tag_learned_from_a_peer_does_not_become_younger_on_its_way(site: Site) -> None:
    image = make_image(b"a layer")
    first = site.add("first")
    second, third = (site.add(name, tags={"max_age_s": 10_800}) for name in ("second", "third"))
    strict = site.add("strict")
    first.put_image(image, "registry.test/library/app:v1")
    long_ago_s = time.time() - 7200
    os.utime(first.path_of(image.manifest), (long_ago_s, long_ago_s))
    site.start()
    path = "/v2/library/app/manifests/v1?ns=registry.test"
    # The second node's client pulls the tag through its mirror and stores it now.
    assert second.ask(path).status == 200
    second.put_image(image, "registry.test/library/app:v1")
    with questioning(second.address) as questioner:

        def known() -> list[list[Any]]:
            tags: list[list[Any]] = questioner.ask(tags=[["registry.test", "library/app", "v1"]])["tags"]
            return tags

        wait_for(lambda: len(known()) == 1, "the second node knows the tag")
        assert 7100 < known()[0][4] < 7300
        assert known()[0][5] == "first", "who saw it at the registry goes with it"
    first.stop()
    assert third.ask(path).body == image.manifest
    assert strict.ask(path).status == 404


def test_of_two_answers_to_a_tag_the_fresher_one_is_taken(site: Site) -> None:
    stale, fresh = make_image(b"a layer", note="stale"), make_image(b"a layer", note="fresh")
    asking = site.add("asking", lookup={"patience_s": 10, "timeout_s": 10})
    holders = [site.add(name) for name in ("one", "two", "three")]
    for node, image, age_s in zip(holders, (stale, fresh, stale), (1000, 10, 2000), strict=True):
        node.put_image(image, "registry.test/library/app:v1")
        seen_s = time.time() - age_s
        os.utime(node.path_of(image.manifest), (seen_s, seen_s))
    site.start()
    for query in ("?ns=registry.test", ""):
        with _slow(holders):
            asked = ThreadPoolExecutor(1).submit(asking.ask, f"/v2/library/app/manifests/v1{query}")
        assert asked.result().body == fresh.manifest


@contextmanager
def _slow(nodes: Sequence[Node]) -> Iterator[None]:
    """Let the nodes answer only some time after the block.

    With a registry named, an asker waits for further answers as long again as the first one took. If every
    answer is slow, a loaded machine can't make one of them too late.
    """
    for node in nodes:
        node.process.signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(_SLOW_S)
    finally:
        for node in nodes:
            node.process.signal(signal.SIGCONT)


def test_a_tag_that_a_peer_knows_of_another_registry_is_ambiguous_without_ns(site: Site) -> None:
    one, two = make_image(b"one"), make_image(b"two")
    asking, other = site.add("asking"), site.add("other")
    asking.put_image(one, "one.test/library/app:v1")
    other.put_image(two, "two.test/library/app:v1")
    site.start()
    reply = asking.ask("/v2/library/app/manifests/v1")
    assert reply.status == 404
    assert b"one.test" in reply.body
    assert b"two.test" in reply.body
    assert asking.ask("/v2/library/app/manifests/v1?ns=two.test").body == two.manifest


def test_a_tag_without_ns_is_not_answered_from_a_registry_that_is_not_included(policies: Policies) -> None:
    only_here = make_image(b"another layer", note="elsewhere")
    for node in (policies.picky, policies.holder):
        node.put_image(only_here, "third.test/library/only:v1")
    path = "/v2/library/only/manifests/v1"
    wait_for(lambda: policies.default.ask(path).status == 200, "the name is known")
    assert policies.picky.ask(f"{path}?ns=third.test").status == 404
    assert policies.picky.ask(path).status == 404


def test_a_client_without_ns_is_not_shut_out_by_an_excluded_registry_but_gets_nothing_of_it(
    site: Site,
) -> None:
    ours, theirs = make_image(b"ours"), make_image(b"theirs")
    node = site.add(
        "node", registries={"exclude": ["theirs.test"]}, tags={"exclude": ["ours.test/library/*:rc"]}
    )
    node.put_image(ours, "ours.test/library/app:v1", "ours.test/library/app:rc")
    node.put_image(theirs, "theirs.test/library/tool:v1")
    site.start()
    assert node.ask("/v2/library/app/manifests/v1").body == ours.manifest
    assert node.ask(f"/v2/library/app/blobs/{digest_of(b'ours')}").body == b"ours"
    assert node.ask("/v2/library/app/manifests/rc").status == 404
    refused = node.ask("/v2/library/tool/manifests/v1")
    assert (refused.status, b"registries.include" in refused.body) == (404, True)


@pytest.mark.parametrize("stored", ["docker.io", "index.docker.io", "Registry-1.Docker.IO:443"])
def test_docker_hub_is_one_registry_in_stores_between_agents_and_in_filters(site: Site, stored: str) -> None:
    image = make_image(b"a layer", note=stored)
    asking = site.add("asking", registries={"include": ["registry-1.docker.io"]})
    holder = site.add("holder", registries={"exclude": ["index.docker.io/acme/*"]})
    holder.put_image(image, f"{stored}/library/app:v1", f"{stored}/acme/app:v1")
    site.start()
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io", "DOCKER.io.:443"):
        assert asking.ask(f"/v2/library/app/manifests/v1?ns={name}").body == image.manifest
        assert holder.ask(f"/v2/library/app/manifests/v1?ns={name}").body == image.manifest
        assert holder.ask(f"/v2/acme/app/manifests/v1?ns={name}").status == 404
    assert asking.ask("/v2/library/app/manifests/v1").body == image.manifest
    tags = holder.ask("/v2/library/app/tags/list")
    assert tags.json()["tags"] == ["v1"]

"""Who vouches for a tag: which names spread, and who is named for it in header, log, API and explain."""

import os
import time
from typing import Any

from .agents import ADMIN, LOCAL, Image, Node, Reply, Site, digest_of, make_image, wait_for

NAME = "registry.test/library/app:v1"
PATH = "/v2/library/app/manifests/v1?ns=registry.test"


def two_nodes(site: Site, **settings: Any) -> tuple[Node, Node]:
    return site.add("first", **settings), site.add("second", **settings)


def test_a_name_that_was_given_to_other_content_does_not_spread_and_its_digest_does(site: Site) -> None:
    first, second = two_nodes(site)
    tool = make_image(b"tool")
    first.put_image(tool, "registry.test/library/tool:v1")
    first.put_image(tool, NAME, origin="registry.test/library/tool")
    site.start()
    tool_path = PATH.replace("app", "tool")
    wait_for(lambda: second.ask(tool_path).body == tool.manifest, "the pulled name spreads")
    for node in (first, second):
        assert node.ask(PATH).status == 404
    assert b"pulled under another name" in first.ask(PATH).body
    by_digest = f"/v2/library/app/manifests/{tool.digest}?ns=registry.test"
    assert second.ask(by_digest).body == tool.manifest


def test_an_imported_image_is_shared_by_digest_and_by_tag_only_if_the_setting_says_so(site: Site) -> None:
    image = make_image(b"imported")
    first, second = two_nodes(site)
    sharing, believing = (
        site.add(name, tags={"share_imported": True, "max_age_s": 0}) for name in ("sharing", "believing")
    )
    first.put_image(image, NAME, origin=None)
    site.start()
    wait_for(lambda: b"imported or built here" in first.ask(PATH).body, "the name is known")
    assert second.ask(PATH).status == believing.ask(PATH).status == 404
    assert second.ask(f"/v2/library/app/manifests/{image.digest}").body == image.manifest
    sharing.put_image(image, NAME, origin=None)
    wait_for(lambda: sharing.ask(PATH).body == image.manifest, "the importer itself answers")
    reply = believing.ask(PATH)
    assert reply.body == image.manifest
    assert (
        "tag-told-by=sharing; tag-vouched-by=sharing; tag-import-age-s=" in reply.headers["Shorthaul-Source"]
    )
    assert second.ask(PATH).status == 404, "it does not believe imports"


def test_a_tag_whose_record_is_dated_a_year_ahead_is_fresh_for_nobody(site: Site) -> None:
    first, second = two_nodes(site)
    image = make_image(b"layer")
    first.put_image(image, NAME)
    next_year_s = time.time() + 365 * 86400
    os.utime(first.path_of(image.manifest), (next_year_s, next_year_s))
    site.start()
    wait_for(lambda: b"dated in the future" in first.ask(PATH).body, "the name is known")
    assert second.ask(PATH).status == 404
    assert second.ask(f"/v2/library/app/manifests/{image.digest}").body == image.manifest


def entry_of(reply: Reply, node: Node) -> dict[str, Any]:
    """The tag's entry in the newest record of a request by tag."""
    assert reply.status == 200
    wait_for(lambda: bool(node.requests()), "the request is recorded")
    entry: dict[str, Any] = next(each for each in node.requests() if each["target"] == NAME)["tag"]
    return entry


def test_the_voucher_is_named_although_the_bytes_are_this_nodes_own(site: Site) -> None:
    first, second = two_nodes(site)
    image = make_image(b"layer")
    for node in (first, second):
        node.put_image(image, NAME)
    site.start()
    wait_for(lambda: second.ask(PATH).status == 200, "the name is known")
    reply = second.ask(PATH)
    assert (
        "tag-told-by=second; tag-vouched-by=second; tag-registry-age-s=" in reply.headers["Shorthaul-Source"]
    )
    second.remove_names()
    wait_for(
        lambda: "told-by=first" in second.ask(PATH).headers["Shorthaul-Source"], "the peer's word is taken"
    )
    reply = second.ask(PATH)
    source = reply.headers["Shorthaul-Source"]
    assert source.startswith("node=second; tier=node; ")
    assert "tag-told-by=first; tag-vouched-by=first; tag-registry-age-s=" in source
    entry = entry_of(reply, second)
    assert (entry["told_by"], entry["vouched_by"], entry["imported"]) == ("first", "first", False)
    assert 0 <= entry["age_s"] < 3600
    logged = second.log.read_text()
    assert '"told_by": "first", "vouched_by": "first"' in logged
    explained = second.ask(f"/api/explain?image={NAME}", port=ADMIN).json()
    assert explained["tag"]["vouched_by"] == "first"
    assert explained["choice"] == "second"


def test_a_request_by_digest_names_no_voucher(site: Site) -> None:
    (node,) = (site.add("only"),)
    image = make_image(b"layer")
    node.put_image(image, NAME)
    site.start()
    reply = node.ask(f"/v2/library/app/blobs/{digest_of(b'layer')}")
    assert "tag" not in reply.headers["Shorthaul-Source"]
    wait_for(lambda: bool(node.requests()), "the request is recorded")
    assert node.requests()[0]["tag"] is None


def pull_by_the_mirrors_own_name(node: Node, image: Image) -> None:
    """What `ctr pull 127.0.0.1:30020/library/app:v1` leaves in a store."""
    node.put_image(image, f"{node.address}:{LOCAL}/library/app:v1")


def test_a_pull_by_the_mirrors_own_name_makes_the_name_ambiguous_for_nobody(site: Site) -> None:
    first, second = two_nodes(site)
    real, other = make_image(b"real"), make_image(b"other")
    first.put_image(real, NAME)
    pull_by_the_mirrors_own_name(first, other)
    pull_by_the_mirrors_own_name(second, other)
    site.start()
    path = "/v2/library/app/manifests/v1"
    wait_for(lambda: first.ask(PATH).status == 200, "the name is known")
    for node in (first, second):
        assert node.ask(path).body == real.manifest
        own_name = f"{path}?ns={node.address}:{LOCAL}"
        assert node.ask(own_name).body == real.manifest, "the mirror's own name is no registry"
        explained = node.ask(f"/api/explain?image={node.address}:{LOCAL}/library/app:v1", port=ADMIN)
        assert explained.json()["digest"] == real.digest
    assert first.ask("/v2/library/app/tags/list").json()["tags"] == ["v1"]
    assert second.ask("/v2/library/app/tags/list").status == 404


def test_two_registries_that_agree_on_a_digest_are_no_conflict(site: Site) -> None:
    first, second = two_nodes(site)
    image = make_image(b"layer")
    first.put_image(image, NAME, "copy.test/library/app:v1")
    second.put_image(image, "third.test/library/app:v1")
    site.start()
    path = "/v2/library/app/manifests/v1"
    for node in (first, second):
        wait_for(lambda node=node: node.ask(path).body == image.manifest, "one digest")  # type: ignore[misc]

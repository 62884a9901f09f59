"""What is counted as a fetch from the registry, and whose it is."""

from benchmarks.coldstart.fetches import Fetches, count_fetches
from benchmarks.lab.registry import Answer

_NODES = {"10.9.1.1": ("a1", "a"), "10.9.2.1": ("a2", "a"), "10.9.3.1": ("b1", "b")}
_MANIFEST, _LAYER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def _answer(path: str, *, client: str = "10.9.1.1", method: str = "GET", status: int = 200) -> Answer:
    return Answer(client=client, method=method, uri=f"/v2/app/{path}", status=status, body_bytes=10)


def _count(*answers: Answer) -> Fetches:
    return count_fetches(answers, nodes=_NODES, digests={_MANIFEST, _LAYER}, tags={"v1": _MANIFEST})


def test_manifest_by_tag_and_by_digest_is_the_same_manifest() -> None:
    fetches = _count(_answer("manifests/v1"), _answer(f"manifests/{_MANIFEST}?ns=registry.demo"))
    assert fetches.manifests["a", _MANIFEST].gets == fetches.manifest_gets_most == 2


def test_each_zone_is_counted_for_itself() -> None:
    layer = f"blobs/{_LAYER}"
    fetches = _count(_answer(layer), _answer(layer, client="10.9.3.1"))
    assert fetches.blob_gets_most == fetches.blob_nodes_most == 1
    assert fetches.gets == 2


def test_node_that_goes_on_asks_twice_and_is_one_node() -> None:
    layer = f"blobs/{_LAYER}"
    fetches = _count(
        _answer(layer), _answer(layer, status=206), _answer(layer, client="10.9.2.1", status=206)
    )
    assert (fetches.blob_gets_most, fetches.blob_nodes_most, fetches.body_bytes) == (3, 2, 30)


def test_heads_refusals_strangers_and_other_images_count_for_nothing() -> None:
    fetches = _count(
        _answer("manifests/v1", method="HEAD"),
        _answer("manifests/v1", status=401),
        _answer(f"blobs/{_LAYER}", client="10.9.0.1"),
        _answer(f"blobs/sha256:{'3' * 64}"),
        Answer(client="10.9.1.1", method="GET", uri="/v2/", status=200, body_bytes=2),
    )
    assert fetches.gets == fetches.manifest_gets_most == fetches.blob_gets_most == 0

"""Which holders are looked up before a client asks for them."""

from collections.abc import Sequence

from agent.content.sizes import ContentSizes
from agent.listen.caller import Caller
from agent.listen.prefetch import Prefetcher
from agent.observe.requests import RequestPath
from agent.oci.digest import Digest, digest_of
from agent.oci.manifest import OCI_MANIFEST, Descriptor, Manifest


def caller(listener: RequestPath = RequestPath.HOSTPORT) -> Caller:
    return Caller(listener=listener, address="127.0.0.1", cookie=1, connected_s=0.0)


def digests(number: int) -> list[Digest]:
    return [digest_of(str(each).encode()) for each in range(number)]


def manifest(children: Sequence[Digest]) -> Manifest:
    return Manifest(
        content=b"{}",
        media_type=OCI_MANIFEST,
        children=tuple(Descriptor(digest=each, size_bytes=7, media_type="layer") for each in children),
    )


class Node:
    """A node that holds some blobs, and what it looks up."""

    def __init__(self, *held: Digest) -> None:
        self.looked_up: list[list[Digest]] = []
        self.sizes = ContentSizes()
        self.prefetcher = Prefetcher(
            holds=lambda digest: digest in held,
            look_up=lambda digests: self.looked_up.append(list(digests)),
            sizes=self.sizes,
        )


def test_children_that_the_node_lacks_are_looked_up_at_once() -> None:
    held, *lacking = digests(4)
    node = Node(held)
    node.prefetcher.answered_manifest(manifest([held, *lacking]), caller())
    assert node.looked_up == [lacking]


def test_nothing_is_looked_up_when_the_node_has_it_all() -> None:
    node = Node(*digests(3))
    node.prefetcher.answered_manifest(manifest(digests(3)), caller())
    node.prefetcher.answered_tag(digests(3)[0], caller())
    assert node.looked_up == []


def test_manifest_of_a_tag_is_looked_up_when_the_node_lacks_it() -> None:
    node = Node()
    node.prefetcher.answered_tag(digests(1)[0], caller(RequestPath.NODEPORT))
    assert node.looked_up == [digests(1)]


def test_hostile_manifest_has_only_its_first_children_looked_up() -> None:
    node = Node()
    node.prefetcher.answered_manifest(manifest(digests(5000)), caller())
    assert node.looked_up == [digests(256)]


def test_peer_s_request_looks_up_nothing_but_teaches_sizes() -> None:
    node, (child,) = Node(), digests(1)
    node.prefetcher.answered_manifest(manifest([child]), caller(RequestPath.PEER))
    node.prefetcher.answered_tag(child, caller(RequestPath.PEER))
    assert node.looked_up == []
    assert node.sizes.get(child) == 7

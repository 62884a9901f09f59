"""A containerd that is set to fetch layers in parallel chunks, in every detail of how it behaves.

It gets a layer in one stream: then it forgives failures as other containerds do. What it resumes comes in
chunks, and no failure of a chunk may reach it.
"""

from random import Random

import pytest

from .agents import LOCAL, PEER, SERVICE, Node, Site, digest_of
from .chunked import ChunkedClient
from .wire import raw_get

_MIB = 1 << 20
_LAYER = Random(61).randbytes(_MIB) * 12
_CONTAINERD = "containerd/2.1.9"


def _path(content: bytes) -> str:
    return f"/v2/library/app/blobs/{digest_of(content)}"


def _client(node: Node, *, at_once: int = 20, chunk_bytes: int = _MIB, port: int = LOCAL) -> ChunkedClient:
    return ChunkedClient(
        hosts=[(node.address, port)],
        path=_path(_LAYER),
        size_bytes=len(_LAYER),
        chunk_bytes=chunk_bytes,
        at_once=at_once,
    )


@pytest.mark.parametrize(("at_once", "chunk_bytes"), [(3, 4 * _MIB), (20, _MIB), (20, 65_536)])
def test_layer_comes_in_one_stream_from_one_fetch(site: Site, at_once: int, chunk_bytes: int) -> None:
    asking, holder = site.add("asking"), site.add("holder")
    holder.put(_LAYER)
    site.start()
    client = _client(asking, at_once=at_once, chunk_bytes=chunk_bytes)
    assert client.pull() == _LAYER
    assert client.statuses(client.hosts[0]) == [200]
    assert asking.metric("shorthaul_peer_attempts_total") == 1
    assert (asking.newest(_LAYER)["result"], asking.newest(_LAYER)["bytes"]) == ("ok", len(_LAYER))


@pytest.mark.parametrize("port", [LOCAL, SERVICE, PEER])
def test_blob_of_this_node_comes_in_one_stream_by_any_listener(site: Site, port: int) -> None:
    node = site.add("node")
    node.put(_LAYER)
    site.start()
    client = _client(node, port=port)
    assert client.pull() == _LAYER
    assert client.statuses(client.hosts[0]) == [200]


@pytest.mark.parametrize("agent", ["curl/8", "shorthaul"])
def test_others_get_the_range_that_they_ask_for(site: Site, agent: str) -> None:
    node = site.add("node")
    node.put(_LAYER)
    site.start()
    reply = raw_get(node.address, PEER, _path(_LAYER), Range="bytes=0-", User_Agent=agent)
    assert (reply.status, reply.body) == (206, _LAYER)
    assert reply.headers["Content-Range"] == f"bytes 0-{len(_LAYER) - 1}/{len(_LAYER)}"


@pytest.mark.parametrize("value", ["bytes=0-0", "bytes=1-", "bytes=-5"])
def test_any_other_range_of_a_containerd_is_a_206(site: Site, value: str) -> None:
    node = site.add("node")
    node.put(_LAYER)
    site.start()
    reply = raw_get(node.address, LOCAL, _path(_LAYER), Range=value, User_Agent=_CONTAINERD)
    assert reply.status == 206

"""How containerd fetches a layer in chunks, and how its requests are to be understood. Pure.

Since version 2.1 containerd can fetch a layer in several parallel ranges (``concurrent_layer_fetch_buffer``
and ``max_concurrent_downloads``). Each request asks for the rest of the blob (``bytes=K-``), and containerd
closes the connection after its chunk. Once a first request was answered with 206, a failure of any later one
fails the pull: containerd does not go to its next host then.

So the agent does not let it begin. A request from the blob's first byte (``bytes=0-``) selects the whole
content, and a server may answer it with a 200 (RFC 9110, 14.2). containerd then fetches the layer in one
stream, as without the setting (``errContentRangeIgnored`` in its ``fetcher.go``, 2.1 to 2.3). Only a layer
that it resumes is still fetched in chunks. Evidence: docs/decisions/0018.
"""

from dataclasses import dataclass

from agent.oci.ranges import RangeSpec


def is_first_chunk(range_spec: RangeSpec | None) -> bool:
    """Whether a range of containerd's is the first chunk of a layer. It is answered with a 200."""
    return range_spec is not None and range_spec.first == 0 and range_spec.last is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """``in_chunks``: this node's containerd fetches layers in chunks."""

    in_chunks: bool = False

    def after(self, range_spec: RangeSpec | None) -> "Chunking":
        """What is known after containerd requested this range of a blob. None: all of the blob.

        The first of several chunks is requested from the start of the blob, and with an open end. Without
        chunks, containerd requests a range only to resume, and that does not begin at the start.
        """
        if range_spec is not None and range_spec.first != 0:
            return self
        return Chunking(in_chunks=is_first_chunk(range_spec))

    def is_chunk(self, range_spec: RangeSpec | None) -> bool:
        """Whether a request of containerd for this range is one for a chunk."""
        return self.in_chunks and range_spec is not None and not is_first_chunk(range_spec)

"""Whether this node's containerd fetches layers in chunks, as far as its requests show. Pure.

Since version 2.1 containerd can fetch a layer in several parallel ranges. It gives up the layer if one of
them breaks off. A pull has to know, because it then tries harder before it gives up (`Policy.limits`).
"""

from dataclasses import dataclass

from agent.oci.ranges import RangeSpec


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
        return Chunking(in_chunks=range_spec is not None and range_spec.last is None)

    def is_chunk(self, range_spec: RangeSpec | None) -> bool:
        """Whether a request of containerd for this range is one for a chunk."""
        return self.in_chunks and range_spec is not None

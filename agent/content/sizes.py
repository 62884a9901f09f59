"""Sizes of contents that this node may not have itself, as the manifests that name them say."""

from collections import OrderedDict

from agent.oci.digest import Digest
from agent.oci.manifest import Manifest

_SIZES_MAX = 20_000


class ContentSizes:
    """Sizes of blobs as the manifests that went through here name them. Bounded; the oldest go."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[Digest, int | None] = OrderedDict()

    def learn(self, manifest: Manifest) -> None:
        """Remember the sizes of what a manifest names."""
        for child in manifest.children:
            known = self._sizes.setdefault(child.digest, child.size_bytes)
            if known != child.size_bytes:
                self._sizes[child.digest] = None  # one of them lies: believe neither
        while len(self._sizes) > _SIZES_MAX:
            self._sizes.popitem(last=False)

    def get(self, digest: Digest) -> int | None:
        """The size, if the manifests told it and agree."""
        return self._sizes.get(digest)

"""What manifests say of contents that this node may not have itself: their sizes, and which are configs."""

from collections import OrderedDict

from agent.oci.digest import Digest
from agent.oci.manifest import Manifest

_SIZES_MAX = 20_000


class ContentSizes:
    """Sizes of blobs as the manifests that went through here name them. Bounded; the oldest go."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[Digest, int | None] = OrderedDict()
        self._configs: OrderedDict[Digest, None] = OrderedDict()

    def learn(self, manifest: Manifest) -> None:
        """Remember the sizes of what a manifest names."""
        for child in manifest.children:
            known = self._sizes.setdefault(child.digest, child.size_bytes)
            if known != child.size_bytes:
                self._sizes[child.digest] = None  # one of them lies: believe neither
        if manifest.config is not None:
            self._configs[manifest.config.digest] = None
        for known_of in (self._sizes, self._configs):
            while len(known_of) > _SIZES_MAX:
                known_of.popitem(last=False)

    def is_config(self, digest: Digest) -> bool:
        """Whether a manifest names it as an image's config."""
        return digest in self._configs

    def get(self, digest: Digest) -> int | None:
        """The size, if the manifests told it and agree."""
        return self._sizes.get(digest)

"""What manifests say about content that this node may not have: its size, and whether it is a config."""

from collections import OrderedDict

from agent.oci.digest import Digest
from agent.oci.manifest import Manifest

_SIZES_MAX = 20_000


class ContentSizes:
    """The sizes of blobs, from the manifests that this agent served. Bounded: the oldest are dropped."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[Digest, int | None] = OrderedDict()
        self._configs: OrderedDict[Digest, None] = OrderedDict()

    def learn(self, manifest: Manifest) -> None:
        """Remember the sizes of the blobs that a manifest names."""
        for child in manifest.children:
            known = self._sizes.setdefault(child.digest, child.size_bytes)
            if known != child.size_bytes:
                self._sizes[child.digest] = None  # one of the two is wrong, so neither counts
        if manifest.config is not None:
            self._configs[manifest.config.digest] = None
        for known_of in (self._sizes, self._configs):
            while len(known_of) > _SIZES_MAX:
                known_of.popitem(last=False)

    def is_config(self, digest: Digest) -> bool:
        """Whether a manifest names this blob as an image's config."""
        return digest in self._configs

    def get(self, digest: Digest) -> int | None:
        """The size of a blob. None if no manifest named it, or if manifests disagree."""
        return self._sizes.get(digest)

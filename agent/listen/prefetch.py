"""Looking up holders before a client asks: it will want what the tag or the manifest that it gets names."""

from collections.abc import Sequence

from agent.content.sizes import ContentSizes
from agent.content.store import ContentStore
from agent.holders.index import HolderIndex
from agent.listen.caller import Caller
from agent.oci.digest import Digest
from agent.oci.manifest import Manifest

_DIGESTS_MAX = 256  # an image has at most 127 layers; a hostile manifest names 40,000


class Prefetcher:
    """Has the index look up what the caller will ask for next and this node does not have."""

    def __init__(self, *, store: ContentStore, index: HolderIndex, sizes: ContentSizes) -> None:
        self._store = store
        self._index = index
        self._sizes = sizes

    def answered_tag(self, digest: Digest, caller: Caller) -> None:
        """The caller learns that a tag is this digest: it asks for the manifest next."""
        self._look_up([digest], caller)

    def answered_manifest(self, manifest: Manifest, caller: Caller) -> None:
        """The caller gets this manifest: it asks for the manifest's children next."""
        self._sizes.learn(manifest)
        self._look_up([child.digest for child in manifest.children[:_DIGESTS_MAX]], caller)

    def _look_up(self, digests: Sequence[Digest], caller: Caller) -> None:
        if not caller.may_ask_peers:
            return
        missing = [digest for digest in digests if not self._store.holds(digest)]
        if missing:
            self._index.prefetch(missing)

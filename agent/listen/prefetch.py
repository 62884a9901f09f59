"""Looks up holders before a client asks: after a tag it requests the manifest, and then its children."""

from collections.abc import Callable, Sequence

from agent.content.sizes import ContentSizes
from agent.listen.caller import Caller
from agent.oci.digest import Digest
from agent.oci.manifest import Manifest

_DIGESTS_MAX = 256  # an image has at most 127 layers; a hostile manifest names 40,000


class Prefetcher:
    """Looks up holders of what the caller will request next, unless this node has it.

    ``holds``: whether this node has a digest. ``look_up``: starts a look-up of holders and does not wait.
    """

    def __init__(
        self,
        *,
        holds: Callable[[Digest], bool],
        look_up: Callable[[Sequence[Digest]], None],
        sizes: ContentSizes,
    ) -> None:
        self._holds = holds
        self._start_look_up = look_up
        self._sizes = sizes

    def answered_tag(self, digest: Digest, caller: Caller) -> None:
        """The caller learned that a tag is this digest. It will request the manifest next."""
        self._look_up([digest], caller)

    def answered_manifest(self, manifest: Manifest, caller: Caller) -> None:
        """The caller gets this manifest. It will request the manifest's children next."""
        self._sizes.learn(manifest)
        self._look_up([child.digest for child in manifest.children[:_DIGESTS_MAX]], caller)

    def _look_up(self, digests: Sequence[Digest], caller: Caller) -> None:
        if not caller.may_ask_peers:
            return
        missing = [digest for digest in digests if not self._holds(digest)]
        if missing:
            self._start_look_up(missing)

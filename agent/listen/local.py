"""Answers with content of this node's store. Small contents are verified before they are sent.

A blob that can't be read counts as missing as long as no byte of it was sent: a peer may have a sound copy.
"""

import logging

from aiohttp import web

from agent.content.scrub import Scrubber
from agent.content.sharing import Sharing
from agent.content.sizes import ContentSizes
from agent.content.store import Blob, ContentError, ContentMissing, ContentStore, ContentUnreadable
from agent.content.verified import ContentSpoiled, read_manifest, read_verified
from agent.listen.caller import CallerKind
from agent.listen.exchange import Exchange
from agent.listen.heads import blob_headers, body_head, not_modified, wanted_range
from agent.listen.traffic import Traffic
from agent.observe.requests import Result
from agent.observe.steps import Outcome, StepKind, held_words
from agent.oci.authority import AUTHORITY_HEADER
from agent.oci.digest import Digest
from agent.oci.errors import ManifestUnknown
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest
from agent.oci.ranges import ByteRange, select
from agent.oci.reference import Addressed
from agent.pull.bucket import TokenBucket
from agent.transfer.blobs import read_first, send_blob
from agent.transfer.peers import VERIFIED_BYTES
from topology.placement import NodeName, Tier

_log = logging.getLogger("shorthaul.request")


class LocalContent:
    """Answers from this node's store. ``upload_limit``: the rate limit for bodies to other nodes."""

    def __init__(
        self,
        *,
        own: NodeName,
        store: ContentStore,
        sharing: Sharing,
        sizes: ContentSizes,
        scrubber: Scrubber,
        traffic: Traffic,
        upload_limit: TokenBucket,
    ) -> None:
        self._own = own
        self._store = store
        self._sharing = sharing
        self._sizes = sizes
        self._scrubber = scrubber
        self._traffic = traffic
        self._upload_limit = upload_limit
        self._no_limit = TokenBucket(0)

    def withholds(self, exchange: Exchange, target: Addressed) -> bool:
        """Whether the content is here, and is given under other names only."""
        held = self._store.holds(target.digest) and self._sharing.shares(target.digest)
        return held and not self._gives(exchange, target)

    async def manifest(self, exchange: Exchange, target: Addressed) -> Manifest | None:
        """The manifest, verified. None if it is not here, or not for this name.

        Raises `ManifestUnknown` if it is no manifest.
        """
        steps = exchange.record.steps
        step = steps.begin(StepKind.LOCAL, self._own, Tier.NODE)
        blob = await self._open(exchange, target)
        if blob is None:
            steps.drop(step)
            return None
        try:
            manifest = await read_manifest(blob, target.digest)
            steps.end(step)
        except ContentError as error:
            steps.end(step, Outcome.FAILED, why=str(error))
            self._doubt(blob, target.digest, error)
            return None
        if manifest is None:
            raise ManifestUnknown(
                f"{target}: this content is not a manifest", hint="ask for it under /blobs/"
            )
        self._credit(exchange)
        return manifest

    async def blob(self, exchange: Exchange, target: Addressed) -> web.StreamResponse | None:
        """Send the blob. Returns the response. None if the blob is not here, or not for this name.

        Raises `OciError` when the range is wrong or there is no room for another upload, and `ClientGone`.
        """
        record = exchange.record
        step = record.steps.begin(StepKind.LOCAL, self._own, Tier.NODE, told=lambda: record.body_bytes)
        blob = await self._open(exchange, target)
        if blob is None:
            record.steps.drop(step)
            return None
        try:
            await self._verify_if_small(blob, target.digest)
            response = await self._send(exchange, target.digest, blob)
            if record.result is Result.CUT:
                record.steps.end(step, Outcome.FAILED, why=record.reason)
            record.steps.end(step, why=held_words(record.held_s))
        except ContentError as error:  # before the first byte: a peer may have a sound copy
            record.steps.end(step, Outcome.FAILED, why=str(error))
            self._doubt(blob, target.digest, error)
            _log.warning("local blob unreadable: %s", error, extra={"fields": {"target": str(target)}})
            exchange.discredit()
            return None
        else:
            return response
        finally:
            blob.close()

    def _gives(self, exchange: Exchange, target: Addressed) -> bool:
        decided = exchange.caller.kind is not CallerKind.AGENT or AUTHORITY_HEADER in exchange.request.headers
        return self._sharing.gives(target, registry_decided=decided)

    async def _open(self, exchange: Exchange, target: Addressed) -> Blob | None:
        if not self._gives(exchange, target):
            return None
        try:
            return await self._store.open(target.digest)
        except (ContentMissing, ContentUnreadable):  # the store itself tells of the latter, once
            return None
        except ContentError as error:
            _log.warning("local content unavailable: %s", error, extra={"fields": {"target": str(target)}})
            return None

    async def _verify_if_small(self, blob: Blob, digest: Digest) -> None:
        """Verify the blob if that is quick. Raises `ContentSpoiled`."""
        limit_bytes = SIZE_MAX_BYTES if self._sizes.is_config(digest) else VERIFIED_BYTES
        if blob.size_bytes <= limit_bytes:
            await read_verified(blob, digest)
        elif self._sizes.get(digest) not in (None, blob.size_bytes):
            # The manifest names another size: either the manifest or the file is wrong.
            self._scrubber.check_soon(digest, blob.identity)

    async def _send(self, exchange: Exchange, digest: Digest, blob: Blob) -> web.StreamResponse:
        """Send the blob. Raises `ContentError` if it can't be read, but not after the first byte was sent."""
        spec = wanted_range(exchange, digest, blob.size_bytes)
        self._credit(exchange)
        headers = blob_headers(exchange.record, digest)
        unchanged = not_modified(exchange, digest, headers)
        if unchanged is not None:
            return unchanged
        selected = select(spec, blob.size_bytes)
        response = body_head(exchange, selected, blob.size_bytes, headers)
        if exchange.is_head:
            self._traffic.check_room(exchange.caller)
            return response
        await self._send_body(exchange, digest, response, blob, selected)
        return response

    async def _send_body(
        self,
        exchange: Exchange,
        digest: Digest,
        response: web.StreamResponse,
        blob: Blob,
        selected: ByteRange | None,
    ) -> None:
        """Send this range; None: all of it. Raises the same errors as `_send`."""
        record, caller = exchange.record, exchange.caller
        start, stop = (selected.start, selected.stop) if selected else (0, blob.size_bytes)
        limit = self._upload_limit if caller.is_upload else self._no_limit
        with self._traffic.upload(
            caller, exchange.request, stop - start, digest=digest, selected=selected
        ) as uploaded:
            record.body_length = stop - start
            first = await read_first(blob, start, stop)
            async with exchange.sink(response, limit=limit, uploaded=uploaded) as sink:
                await sink.begin(first)
                try:
                    await send_blob(blob, sink, start + len(first), stop)
                except ContentError as error:
                    record.result, record.reason = Result.CUT, str(error)
                    self._doubt(blob, digest, error)

    def _credit(self, exchange: Exchange) -> None:
        exchange.credit(self._own, Tier.NODE, "in this node's store")

    def _doubt(self, blob: Blob, digest: Digest, error: ContentError) -> None:
        """A blob could not be read, or is spoiled: peers should not be told of it any longer."""
        if isinstance(error, ContentSpoiled):
            self._scrubber.spoiled(digest, blob.identity, "read")
        else:
            self._scrubber.check_soon(digest, blob.identity)

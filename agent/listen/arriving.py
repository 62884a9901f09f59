"""Answers to other agents with content that this node's containerd is still fetching.

Nobody has verified it, so only agents that ask for it get it: each of them gives it to its own containerd,
which verifies it. It is given under the names under which it is fetched. A follower has to be behind this
node: whoever asks for a byte that is not here for `AHEAD_S` goes elsewhere, so no circle of nodes waits for
each other's bytes. Whoever believed that all of it is here goes at once. Once a body has begun, it lasts as
long as the content takes to arrive.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from agent.content.offer import Offer
from agent.content.store import ContentError, GrowingBlob
from agent.content.verified import read_manifest, read_verified
from agent.listen.exchange import Exchange
from agent.listen.heads import blob_headers, body_head, wanted_range
from agent.listen.traffic import Traffic
from agent.observe.requests import Result
from agent.observe.steps import Outcome, StepKind, held_words
from agent.oci.authority import AUTHORITY_HEADER
from agent.oci.digest import Digest
from agent.oci.errors import BlobUnknown
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest
from agent.oci.ranges import select
from agent.oci.reference import Addressed
from agent.pull.arrival import AHEAD_S, FOLLOW_AT_ONCE, FOLLOW_HEADER, Arrival
from agent.pull.bucket import TokenBucket
from agent.pull.lineages import Lineage
from agent.transfer.blobs import read_first, send_growing
from agent.transfer.peers import VERIFIED_BYTES
from agent.transfer.sink import ClientSink
from topology.placement import NodeName, Tier


class NotAhead(BlobUnknown):
    """The content is arriving here, and the byte that was asked for is not here yet."""

    def __init__(self, message: str, arrival: Arrival) -> None:
        super().__init__(message, hint="ask the node that the content comes from, or wait")
        self._arrival = arrival

    @property
    def headers(self) -> dict[str, str]:
        return self._arrival.headers


class ArrivingContent:
    """Answers with what is arriving here. ``lineage``: from whom it comes."""

    def __init__(
        self,
        *,
        own: NodeName,
        offer: Offer,
        lineage: Callable[[Digest], Lineage],
        traffic: Traffic,
        upload_limit: TokenBucket,
    ) -> None:
        self._own = own
        self._offer = offer
        self._lineage = lineage
        self._traffic = traffic
        self._upload_limit = upload_limit
        self.following = 0  # bodies that are being sent as their content arrives

    def may_be_asked(self, exchange: Exchange, target: Addressed) -> bool:
        """Whether the caller follows content that is arriving, and may have this one if it is."""
        if exchange.is_head or not exchange.caller.verifies or FOLLOW_HEADER not in exchange.request.headers:
            return False
        decided = AUTHORITY_HEADER in exchange.request.headers
        return self._offer.gives_arriving(target, registry_decided=decided)

    async def manifest(self, exchange: Exchange, target: Addressed) -> Manifest | None:
        """The manifest, verified, if it is arriving and all of it is here soon. None: it is not arriving.

        Raises `NotAhead`.
        """
        blob = await self._open(target.digest)
        if blob is None:
            return None
        try:
            if blob.size_bytes > SIZE_MAX_BYTES:
                return None
            await self._come(exchange, target, blob, blob.size_bytes - 1)
            step = exchange.record.steps.begin(StepKind.LOCAL, self._own, Tier.NODE)
            manifest = await read_manifest(blob, target.digest)
            exchange.record.steps.end(step)
        except ContentError:
            return None
        finally:
            blob.close()
        if manifest is not None:
            exchange.credit(self._own, Tier.NODE, "it has just arrived here")
        return manifest

    async def blob(self, exchange: Exchange, target: Addressed) -> web.StreamResponse | None:
        """Send the blob as it arrives. Returns the response. None: it is not arriving.

        Raises `NotAhead`, `OciError` when the range is wrong or there is no room, and `ClientGone`.
        """
        blob = await self._open(target.digest)
        if blob is None:
            return None
        try:
            return await self._send(exchange, target, blob)
        except ContentError:  # before the first byte
            exchange.discredit()
            return None
        finally:
            blob.close()

    async def _open(self, digest: Digest) -> GrowingBlob | None:
        try:
            return await self._offer.store.open_growing(digest)
        except ContentError:
            return None

    async def _come(self, exchange: Exchange, target: Addressed, blob: GrowingBlob, offset: int) -> None:
        """Return as soon as the byte at this offset is here. Raises `NotAhead`, and `ContentGone`."""
        waits = exchange.request.headers.get(FOLLOW_HEADER) != FOLLOW_AT_ONCE
        steps = exchange.record.steps
        step = steps.begin(StepKind.WAIT, self._own, Tier.NODE, why=f"byte {offset} has to arrive here")
        try:
            async with asyncio.timeout(AHEAD_S if waits else 0.0):
                await blob.wait_beyond(offset)
                steps.end(step)
        except TimeoutError:
            steps.end(step, Outcome.TIMEOUT)
            arrival = self._arrival(target.digest, blob)
            raise NotAhead(f"{target}: it is arriving, and byte {offset} is not here yet", arrival) from None

    def _arrival(self, digest: Digest, blob: GrowingBlob) -> Arrival:
        lineage = self._lineage(digest)
        return Arrival(available_bytes=blob.available_bytes, origin=lineage.origin, depth=lineage.depth)

    async def _send(self, exchange: Exchange, target: Addressed, blob: GrowingBlob) -> web.StreamResponse:
        """Send the blob. Raises `ContentError` too, but not after the first byte was sent."""
        digest = target.digest
        selected = select(wanted_range(exchange, digest, blob.size_bytes), blob.size_bytes)
        start, stop = (selected.start, selected.stop) if selected else (0, blob.size_bytes)
        # Whoever waits for the first byte has its place already: the others should not wait to be sent on.
        with self._traffic.upload(
            exchange.caller,
            exchange.request,
            stop - start,
            digest=digest,
            selected=selected,
            in_flight=True,
        ) as uploaded:
            await self._come(exchange, target, blob, start)
            arrival = self._arrival(digest, blob)
            if arrival.available_bytes == blob.size_bytes <= VERIFIED_BYTES:
                await read_verified(blob, digest)
            first = await read_first(blob, start, min(stop, arrival.available_bytes))
            exchange.credit(self._own, Tier.NODE, f"in flight, {arrival.percent_of(blob.size_bytes)} %")
            headers = blob_headers(exchange.record, digest) | arrival.headers
            response = body_head(exchange, selected, blob.size_bytes, headers)
            record = exchange.record
            record.body_length = stop - start
            step = record.steps.begin(
                StepKind.LOCAL,
                self._own,
                Tier.NODE,
                why="as it arrives here",
                told=lambda: record.body_bytes,
            )
            async with exchange.sink(response, limit=self._upload_limit, uploaded=uploaded) as sink:
                await sink.begin(first)
                await self._follow(exchange, blob, sink, start + len(first), stop)
            if record.result is Result.CUT:
                record.steps.end(step, Outcome.FAILED, why=record.reason)
            record.steps.end(step, why=held_words(record.held_s))
        return response

    async def _follow(
        self, exchange: Exchange, blob: GrowingBlob, sink: ClientSink, start: int, stop: int
    ) -> None:
        """Send the rest as it arrives. If it stops arriving, the record says that the body was cut."""
        record = exchange.record
        self.following += 1
        try:
            await send_growing(blob, sink, start, stop)
        except (ContentError, TimeoutError) as error:
            record.result, record.reason = Result.CUT, str(error) or "nothing arrived"
        finally:
            self.following -= 1

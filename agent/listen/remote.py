"""Answers with content that this node does not have: relays it from a peer, or redirects the client to one.

Only for callers that may make this agent ask its peers (`Caller.may_ask_peers`).
"""

from dataclasses import replace

from aiohttp import web

from agent.content.sizes import ContentSizes
from agent.listen.exchange import Exchange
from agent.listen.heads import (
    blob_headers,
    body_head,
    not_modified,
    requested_range,
    wanted_range,
)
from agent.observe.metrics import Metrics
from agent.observe.requests import Result, SourceBytes
from agent.oci.errors import RangeInvalid
from agent.oci.manifest import Manifest
from agent.oci.ranges import select
from agent.oci.reference import Addressed, unknown
from agent.pull.chunks import Chunking
from agent.transfer.answers import FetchRequest
from agent.transfer.executor import BodyCut, NobodyHasIt, Puller, RunningPull
from agent.transfer.peers import VERIFIED_BYTES, PeerBody
from topology.ranking import Ranked


class RemoteContent:
    """Answers from peers. ``redirects``: redirect clients to a peer if this agent need not see the bytes."""

    def __init__(self, *, puller: Puller, sizes: ContentSizes, metrics: Metrics, redirects: bool) -> None:
        self._puller = puller
        self._sizes = sizes
        self._metrics = metrics
        self._redirects = redirects
        self._chunking = Chunking()

    async def manifest(self, exchange: Exchange, target: Addressed) -> Manifest:
        """The manifest, verified. Raises `OciError` (404) if no peer gives it."""
        wanted = FetchRequest(target=target)
        async with self._puller.pull(wanted, committed=exchange.caller.committed) as pull:
            _, body = await _first_bytes(exchange, target, pull)
        assert body.manifest is not None, "a manifest was wanted"
        if not exchange.is_head:
            exchange.record.sources = _sources(pull)
        return body.manifest

    async def blob(self, exchange: Exchange, target: Addressed) -> web.StreamResponse:
        """Send the blob, or redirect the client. Returns the response.

        Raises `OciError` if no peer gives the blob or the range is wrong, and `ClientGone`.
        """
        wanted = self._wanted(exchange, target)
        if self._may_redirect(exchange, wanted):
            redirected = await self._redirect(exchange, wanted)
            if redirected is not None:
                return redirected
        async with self._puller.pull(wanted, committed=exchange.caller.committed) as pull:
            return await self._relay(exchange, target, pull)

    def _wanted(self, exchange: Exchange, target: Addressed) -> FetchRequest:
        """What to request from peers. Raises `RangeInvalid`."""
        size_bytes = self._sizes.get(target.digest)
        spec = wanted_range(exchange, target.digest, size_bytes)
        if size_bytes is not None:
            select(spec, size_bytes)  # an impossible range is rejected without asking a peer
        if exchange.caller.committed and not exchange.is_head:
            self._chunking = self._chunking.after(requested_range(exchange, target.digest, size_bytes))
        return FetchRequest(
            target=target,
            range_spec=spec,
            head=exchange.is_head,
            size_bytes=size_bytes,
            config=self._sizes.is_config(target.digest),
            chunk=exchange.caller.is_local and self._chunking.is_chunk(spec),
        )

    def _may_redirect(self, exchange: Exchange, wanted: FetchRequest) -> bool:
        """Never redirect a client that fetches in chunks, not even for the first of them.

        It gives up the blob if one chunk fails. A relay can prevent that, a redirect can't.
        """
        in_chunks = exchange.caller.fetches_in_chunks and self._chunking.in_chunks
        return self._redirects and not (wanted.head or wanted.config or wanted.chunk or in_chunks)

    async def _redirect(self, exchange: Exchange, wanted: FetchRequest) -> web.StreamResponse | None:
        """Redirect the client to the nearest peer that could send the blob now.

        None for a small blob: this agent relays it, because it can verify it.
        """
        puller, target, committed = self._puller, wanted.target, exchange.caller.committed
        if committed:
            puller.commits.requested(target.digest, wanted.range_spec)
        async with puller.pull(replace(wanted, head=True, range_spec=None)) as pull:
            holder, body = await _first_bytes(exchange, target, pull)
        peer = puller.roster.peer(holder.node)
        if peer is None or body.size_bytes <= VERIFIED_BYTES:
            return None
        if committed:
            puller.checks.remember(target)
            puller.policy.redirected(
                target.digest,
                holder.node,
                size_bytes=body.size_bytes,
                received=puller.commits.receiving(target.digest),
                now_s=puller.clock(),
            )
        exchange.record.status, exchange.record.result = 307, Result.REDIRECTED
        self._metrics.redirect()
        headers = blob_headers(exchange.record, target.digest)
        return web.Response(status=307, headers=headers | {"Location": f"{peer.base_url}{wanted.url_path}"})

    async def _relay(self, exchange: Exchange, target: Addressed, pull: RunningPull) -> web.StreamResponse:
        """Relay the pull's body to the client. If it can't be completed, the record says that it was cut."""
        record = exchange.record
        _, body = await _first_bytes(exchange, target, pull)
        headers = blob_headers(record, target.digest)
        unchanged = not_modified(exchange, target.digest, headers)
        if unchanged is not None:
            return unchanged
        response = body_head(exchange, body.selected, body.size_bytes, headers)
        if exchange.is_head:
            return response
        record.body_length = body.length
        try:
            async with exchange.sink(response, limit=self._puller.limit) as sink:
                await pull.deliver(sink)
        except BodyCut as error:
            record.result, record.reason = Result.CUT, str(error)
        finally:
            record.resumes = pull.resumes
            record.sources = _sources(pull)
        return response


async def _first_bytes(exchange: Exchange, target: Addressed, pull: RunningPull) -> tuple[Ranked, PeerBody]:
    """The holder that gives the content, and the first bytes. Credits it. Raises `OciError` if none does."""
    try:
        holder, body = await pull.first_bytes()
    except NobodyHasIt as error:
        if error.unsatisfiable_bytes is not None:
            raise RangeInvalid("the range selects nothing", size_bytes=error.unsatisfiable_bytes) from error
        raise unknown(target, str(error)) from error
    exchange.credit(holder.node, holder.tier, holder.reason)
    return holder, body


def _sources(pull: RunningPull) -> tuple[SourceBytes, ...]:
    """How many of the delivered bytes each holder gave."""
    return tuple(
        SourceBytes(holder.node, holder.tier, size_bytes)
        for holder, size_bytes in pull.given_bytes.values()
        if size_bytes
    )

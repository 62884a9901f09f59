"""Answers with content that this node does not have: relays it from a peer, or redirects the client to one.

Only for callers that may make this agent ask its peers (`Caller.may_ask_peers`).
"""

import time
from collections.abc import Callable
from dataclasses import replace

from aiohttp import web

from agent.content.sizes import ContentSizes
from agent.listen.exchange import Exchange
from agent.listen.heads import blob_headers, requested_range, wanted_range
from agent.listen.relay import PartRelay, first_bytes_of, relay, sources_of
from agent.members.member import Peer
from agent.observe.metrics import Metrics
from agent.observe.requests import Result
from agent.oci.authority import Authorities
from agent.oci.errors import BlobUnknown
from agent.oci.manifest import Manifest
from agent.oci.ranges import select
from agent.oci.reference import Addressed
from agent.pull.chunks import ChunkedLayers
from agent.transfer.answers import FetchRequest
from agent.transfer.executor import Puller
from agent.transfer.peers import VERIFIED_BYTES


class RemoteContent:
    """Answers from peers. ``redirects``: redirect clients to a peer if this agent need not see the bytes.

    ``address``: makes the address at which a client may fetch a path from a peer. ``authorities``: who
    decides on which names.
    """

    def __init__(
        self,
        *,
        puller: Puller,
        sizes: ContentSizes,
        authorities: Authorities,
        metrics: Metrics,
        redirects: bool,
        address: Callable[[Peer, str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._puller = puller
        self._sizes = sizes
        self._authorities = authorities
        self._metrics = metrics
        self._redirects = redirects
        self._address = address
        self._clock = clock
        self._layers = ChunkedLayers()

    async def manifest(self, exchange: Exchange, target: Addressed) -> Manifest:
        """The manifest, verified. Raises `OciError` (404) if no peer gives it."""
        wanted = FetchRequest(target=target)
        committed = exchange.caller.committed
        pull = self._puller.pull(
            wanted, committed=committed, claims=not exchange.is_head, steps=exchange.record.steps
        )
        try:
            async with pull:
                _, body = await first_bytes_of(exchange, target, pull)
        finally:
            if not exchange.is_head:
                exchange.record.sources = sources_of(pull)
        assert body.manifest is not None, "a manifest was wanted"
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
        start = _rest_of_a_layer(exchange, wanted)
        if start is None:
            pull = self._puller.pull(wanted, committed=exchange.caller.committed, steps=exchange.record.steps)
            try:
                async with pull:
                    return await relay(exchange, target, pull, self._puller.limit)
            finally:
                exchange.record.sources = sources_of(pull)
        part = self._layers.begin(target.digest, start, self._clock())
        try:
            return await PartRelay(self._puller, exchange, wanted, part).send()
        finally:
            self._layers.end(part, self._clock())

    def _wanted(self, exchange: Exchange, target: Addressed) -> FetchRequest:
        """What to request from peers. Raises `RangeInvalid`."""
        size_bytes = self._sizes.get(target.digest)
        # Where a registry decides on anything, only peers say what is to be told: whoever asks under another
        # name would learn from the size in a 416 that this is content which somebody has.
        told_bytes = None if self._authorities.decide else size_bytes
        spec = wanted_range(exchange, target.digest, told_bytes)
        if told_bytes is not None:
            select(spec, told_bytes)  # an impossible range is rejected without asking a peer
        if exchange.caller.committed and not exchange.is_head:
            self._layers.note(requested_range(exchange, target.digest, told_bytes))
        return FetchRequest(
            target=target,
            range_spec=spec,
            head=exchange.is_head,
            size_bytes=size_bytes,
            config=self._sizes.is_config(target.digest),
        )

    def _may_redirect(self, exchange: Exchange, wanted: FetchRequest) -> bool:
        """Never redirect a client that fetches in chunks, not even for the first of them.

        It gives up the blob if one chunk fails. A relay can prevent that, a redirect can't. A range that goes
        on from within a blob may be a chunk, also if this agent saw none of the chunks before it.
        """
        spec = wanted.range_spec
        may_be_chunk = self._layers.in_chunks or (spec is not None and bool(spec.first) and spec.last is None)
        in_chunks = exchange.caller.fetches_in_chunks and may_be_chunk
        return self._redirects and not (wanted.head or wanted.config or in_chunks)

    async def _redirect(self, exchange: Exchange, wanted: FetchRequest) -> web.StreamResponse | None:
        """Redirect the client to the nearest peer that could send the blob now.

        None for a small blob: this agent relays it, because it can verify it. None too if no peer has all of
        it: while it arrives at one, only agents are given it.
        """
        puller, target, committed = self._puller, wanted.target, exchange.caller.committed
        if committed:
            puller.commits.requested(target.digest, wanted.range_spec)
        try:
            question = replace(wanted, head=True, range_spec=None)
            async with puller.pull(question, steps=exchange.record.steps) as pull:
                holder, body = await first_bytes_of(exchange, target, pull)
        except BlobUnknown:
            if committed and puller.follows:
                return None
            raise
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
        return web.Response(status=307, headers=headers | {"Location": self._address(peer, wanted.url_path)})


def _rest_of_a_layer(exchange: Exchange, wanted: FetchRequest) -> int | None:
    """Where this node's containerd wants the rest of a blob from. None: it wants something else."""
    spec = wanted.range_spec
    rest = spec is not None and spec.first is not None and spec.last is None
    if not (rest and exchange.caller.committed) or exchange.header("If-None-Match") is not None:
        return None
    assert spec is not None, "it has a range"
    return spec.first

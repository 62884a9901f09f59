"""The OCI pull API: the way of a request, from its path to its last byte.

parse → filter → tag → local content → peers. The same handler stands behind each of the three
listeners; what differs is the path it is told: peers are answered from local content only, so that no
request ever travels in a circle. Source: OCI distribution spec 1.1, "Pull"; containerd's reactions as
measured (docs/decisions/0003): never 200 before the first bytes are in hand, 404 to say "go elsewhere".
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiohttp import web

from agent.content.scrub import Scrubber
from agent.content.sizes import ContentSizes
from agent.content.store import Blob, ContentError, ContentMissing, ContentStore
from agent.content.tags import TagAges
from agent.content.verified import ContentSpoiled, read_manifest, read_verified
from agent.holders.answering import QuestionDesk
from agent.holders.index import HolderIndex
from agent.holders.tags import TagResolver
from agent.holders.wire import PATH as HOLDERS_PATH
from agent.latency.hearing import ReportDesk
from agent.latency.wire import PATH as LATENCY_PATH
from agent.listen.caller import Caller
from agent.listen.discovery import Discovery
from agent.listen.http import STOPPING, caller_of, error_response
from agent.listen.judged import JudgedRequests
from agent.listen.traffic import Traffic
from agent.observe.metrics import Metrics
from agent.observe.requests import Given, RecentRequests, RequestRecord, Result
from agent.oci.conditional import client_has, etag, if_range_holds
from agent.oci.digest import Digest
from agent.oci.errors import (
    Internal,
    ManifestUnknown,
    OciError,
    Overloaded,
    RangeInvalid,
    TooManyRequests,
    Unsupported,
)
from agent.oci.manifest import SIZE_MAX_BYTES, Manifest
from agent.oci.patterns import Filter
from agent.oci.ranges import ByteRange, RangeSpec, parse_range, select
from agent.oci.reference import Addressed, Kind, Named, Ping, ReferrerList, TagList, parse_target, unknown
from agent.pull.bucket import TokenBucket
from agent.transfer.answers import Wanted
from agent.transfer.executor import BodyCut, NobodyHasIt, Puller, RunningPull
from agent.transfer.movers import read_first, send_blob
from agent.transfer.peers import VERIFIED_BYTES, PeerBody
from agent.transfer.sink import ClientGone, ClientSink, cut
from topology.placement import Locality, NodeName
from topology.ranking import Ranked

_log = logging.getLogger("shorthaul.request")

_PREFETCH_MAX = 256  # an image has at most 127 layers; a hostile manifest names 40,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a request may need. One set for all listeners."""

    own: NodeName
    store: ContentStore
    resolver: TagResolver
    ages: TagAges
    index: HolderIndex
    puller: Puller
    desk: QuestionDesk
    reports: ReportDesk
    traffic: Traffic
    judged: JudgedRequests
    discovery: Discovery
    registries: Filter
    metrics: Metrics
    recent: RecentRequests
    scrubber: Scrubber
    send_stall_s: float
    redirect: bool
    upload_limit: TokenBucket
    sizes: ContentSizes = field(default_factory=ContentSizes)
    clock: Callable[[], float] = time.perf_counter


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """One request on its way: what came in, and the record that its way fills in."""

    request: web.BaseRequest
    caller: Caller
    record: RequestRecord
    started_s: float

    @property
    def head(self) -> bool:
        return self.request.method == "HEAD"


class OciServer:
    """The handler behind the three listeners."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._no_limit = TokenBucket(0)
        self._takes_chunks = False  # this node's containerd fetches layers in parallel parts

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and record it. Cancelled when the client goes away."""
        services = self._services
        caller = caller_of(request)
        record = RequestRecord(path=caller.listener, method=request.method, target=request.raw_path[:300])
        exchange = _Exchange(request=request, caller=caller, record=record, started_s=services.clock())
        try:
            response = await self._answer(exchange)
        except OciError as error:
            record.result = _result_of(error)
            record.status, record.reason = error.status, error.message
            response = error_response(error)
        except (ClientGone, asyncio.CancelledError) as error:
            # A client may close as soon as it has the last byte, before this handler has ended.
            whole = record.status and record.body_bytes == record.body_length
            record.result = (
                Result.OK if whole else Result.CUT if STOPPING in error.args else Result.CLIENT_GONE
            )
            self._finish(exchange)
            if isinstance(error, ClientGone) and request.transport is not None:
                request.transport.abort()  # a flush would wait for the client that takes no bytes
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ConnectionResetError("client gone") from error
        except Exception:  # noqa: BLE001 - the one boundary: a bug must not end the agent
            _log.exception("request failed", extra={"fields": {"target": record.target}})
            record.result = Result.ERROR
            if request.writer.output_size > 0:  # a second head would be taken for bytes of the body
                self._finish(exchange)
                await cut(request)
                raise ConnectionResetError("body cut after a bug") from None
            record.status = 500
            response = error_response(Internal("internal error", hint="see the agent's log"))
            response.force_close()
        self._finish(exchange)
        if record.result is Result.CUT:
            response.force_close()
            await cut(request)
        return response

    async def _answer(self, exchange: _Exchange) -> web.StreamResponse:
        request, caller, record = exchange.request, exchange.caller, exchange.record
        if caller.opens_channels and request.raw_path == HOLDERS_PATH:
            record.kind, record.status = "holders", 101
            return await self._services.desk.serve(request)
        if caller.opens_channels and request.raw_path == LATENCY_PATH:
            record.kind, record.status = "latency", 101
            return await self._services.reports.serve(request)
        if request.method not in ("GET", "HEAD"):
            raise Unsupported(
                f"{request.method} is not supported: this is a read-only mirror",
                hint="push to the registry itself",
            )
        target = parse_target(request.raw_path)
        if isinstance(target, Ping):
            record.kind, record.status = "ping", 200
            return _pong(caller.identity_headers(self._services.own))
        if isinstance(target, TagList | ReferrerList):
            record.kind, record.status = "discovery", 200
            discovery = self._services.discovery
            if isinstance(target, TagList):
                return discovery.tags(target)
            return await discovery.referrers(target)
        record.kind = "manifest" if isinstance(target, Named) else target.kind.value
        record.target = str(target)
        if not self._services.registries.admits(target):
            raise unknown(target, "not mirrored here", hint="registries.include and .exclude decide")
        if isinstance(target, Named):
            target = await self._resolve(exchange, target)
        record.digest = target.digest
        if target.kind is Kind.MANIFEST:
            return await self._answer_manifest(exchange, target)
        return await self._answer_blob(exchange, target)

    async def _resolve(self, exchange: _Exchange, name: Named) -> Addressed:
        services = self._services
        caller = exchange.caller
        try:
            resolved = await services.resolver.resolve(name, ask_peers=caller.may_ask_peers)
        except OciError:
            if caller.is_local:
                services.ages.declined(name, time.time())
            raise
        if not services.registries.admits(resolved.name):
            raise unknown(resolved.name, "not mirrored here", hint="registries.include and .exclude decide")
        if caller.is_local:
            services.ages.resolved(resolved.name, resolved.descriptor.digest, resolved.seen_s)
        if caller.may_ask_peers and not services.store.holds(resolved.descriptor.digest):
            services.index.prefetch([resolved.descriptor.digest])  # the manifest is asked for next
        return Addressed(
            registry=resolved.name.registry,
            repository=name.repository,
            kind=Kind.MANIFEST,
            digest=resolved.descriptor.digest,
        )

    async def _answer_manifest(self, exchange: _Exchange, target: Addressed) -> web.StreamResponse:
        record = exchange.record
        manifest = await self._local_manifest(target)
        if manifest is not None:
            self._credit(record, self._services.own, Locality.NODE, "in this node's store")
        elif not exchange.caller.may_ask_peers:
            raise unknown(target, "not in this node's store")
        else:
            committed = exchange.caller.committed
            async with self._services.puller.pull(Wanted(target=target), committed=committed) as pull:
                _, body = await self._first_bytes(exchange, target, pull)
            manifest = body.manifest
            if not exchange.head:
                record.given = _given(pull)
            assert manifest is not None, "a manifest was wanted"
        self._expect_children(exchange.caller, manifest)
        record.status = 200
        headers = self._content_headers(record, target.digest, manifest.media_type)
        if client_has(exchange.request.headers.get("If-None-Match"), target.digest):
            record.status = 304
            return web.Response(status=304, headers=headers)
        response = _response(None, len(manifest.content), headers)
        if not exchange.head:
            record.body_length = len(manifest.content)
            async with self._sink(exchange, response, self._no_limit) as sink:
                await sink.begin(manifest.content)
        return response

    async def _local_manifest(self, target: Addressed) -> Manifest | None:
        blob = await self._open(target)
        if blob is None:
            return None
        try:
            manifest = await read_manifest(blob, target.digest)
        except ContentError as error:
            self._withdraw_if_spoiled(blob, target.digest, error)
            return None
        if manifest is None:
            raise ManifestUnknown(
                f"{target}: this content is not a manifest", hint="ask for it under /blobs/"
            )
        return manifest

    def _expect_children(self, caller: Caller, manifest: Manifest) -> None:
        """The client will ask for what the manifest names: find its holders before it does."""
        services = self._services
        services.sizes.learn(manifest)
        if not caller.may_ask_peers:
            return
        expected = manifest.children[:_PREFETCH_MAX]
        missing = [child.digest for child in expected if not services.store.holds(child.digest)]
        if missing:
            services.index.prefetch(missing)

    async def _answer_blob(self, exchange: _Exchange, target: Addressed) -> web.StreamResponse:
        request = exchange.request
        blob = await self._open(target)
        if blob is not None:
            try:
                await self._doubt(blob, target.digest)
                spec = _range_of(request, target.digest, blob.size_bytes)
                return await self._send_local(exchange, target, blob, spec)
            except ContentError as error:  # before the first byte: a peer may have it in better shape
                self._withdraw_if_spoiled(blob, target.digest, error)
                _log.warning("local blob unreadable: %s", error, extra={"fields": {"target": str(target)}})
                exchange.record.node = exchange.record.locality = None
            finally:
                blob.close()
        if not exchange.caller.may_ask_peers:
            raise unknown(target, "not in this node's store")
        size_bytes = self._services.sizes.get(target.digest)
        spec = _range_of(request, target.digest, size_bytes)
        if size_bytes is not None:
            select(spec, size_bytes)  # an impossible range is answered without asking anybody
        committed = exchange.caller.committed
        if committed and not exchange.head:
            self._notice_chunks(spec)
        config = self._services.sizes.is_config(target.digest)
        wanted = Wanted(
            target=target,
            range_spec=spec,
            head=exchange.head,
            size_bytes=size_bytes,
            config=config,
            chunk=spec is not None and exchange.caller.is_local and self._takes_chunks,
        )
        # A client that fetches in parts gives up all when one fails: where this agent sees it, it can help.
        if self._services.redirect and not exchange.head and not config and not wanted.chunk:
            redirected = await self._redirect(exchange, wanted)
            if redirected is not None:
                return redirected
        async with self._services.puller.pull(wanted, committed=committed) as pull:
            _, body = await self._first_bytes(exchange, target, pull)
            headers = self._content_headers(exchange.record, target.digest, "application/octet-stream")
            if client_has(request.headers.get("If-None-Match"), target.digest):
                exchange.record.status = 304
                return web.Response(status=304, headers=headers)
            response = _response(body.selected, body.size_bytes, headers)
            exchange.record.status = response.status
            if exchange.head:
                return response
            exchange.record.body_length = body.length
            try:
                async with self._sink(exchange, response, self._services.puller.limit) as sink:
                    await pull.deliver(sink)
            except BodyCut as error:
                exchange.record.result, exchange.record.reason = Result.CUT, str(error)
            finally:
                exchange.record.resumes = pull.resumes
                exchange.record.given = _given(pull)
            return response

    async def _redirect(self, exchange: _Exchange, wanted: Wanted) -> web.StreamResponse | None:
        """Send the client to the nearest peer that says it could give the blob now.

        None for a blob so small that it is better verified here.
        """
        puller, target = self._services.puller, wanted.target
        committed = exchange.caller.committed
        if committed:
            puller.doubt(wanted)
        async with puller.pull(replace(wanted, head=True, range_spec=None)) as pull:
            holder, body = await self._first_bytes(exchange, target, pull)
        peer = puller.roster.peer(holder.node)
        if peer is None or body.size_bytes <= VERIFIED_BYTES:
            return None
        if committed:
            puller.redirected(wanted, holder.node, size_bytes=body.size_bytes)
        exchange.record.status, exchange.record.result = 307, Result.REDIRECTED
        self._services.metrics.redirect()
        headers = self._content_headers(exchange.record, target.digest, "application/octet-stream")
        return web.Response(status=307, headers=headers | {"Location": f"{peer.base_url}{wanted.url_path}"})

    def _notice_chunks(self, spec: RangeSpec | None) -> None:
        """containerd 2.1 that fetches in chunks asks for a range even at the start; else only to resume."""
        if spec is None or spec.first == 0:
            self._takes_chunks = spec is not None and spec.last is None

    async def _send_local(
        self, exchange: _Exchange, target: Addressed, blob: Blob, spec: RangeSpec | None
    ) -> web.StreamResponse:
        """Raises `ContentError` when the blob can't be read, but never after its first byte was sent."""
        record, request = exchange.record, exchange.request
        self._credit(record, self._services.own, Locality.NODE, "in this node's store")
        headers = self._content_headers(record, target.digest, "application/octet-stream")
        if client_has(request.headers.get("If-None-Match"), target.digest):
            record.status = 304
            return web.Response(status=304, headers=headers)
        selected = select(spec, blob.size_bytes)
        response = _response(selected, blob.size_bytes, headers)
        record.status = response.status
        if exchange.head:
            self._services.traffic.check_room(exchange.caller)
            return response
        start, stop = (selected.start, selected.stop) if selected else (0, blob.size_bytes)
        with self._services.traffic.upload(exchange.caller, request, stop - start) as uploaded:
            record.body_length = stop - start
            first = await read_first(blob, start, stop)
            limit = self._services.upload_limit if exchange.caller.is_upload else self._no_limit
            async with self._sink(exchange, response, limit, uploaded) as sink:
                await sink.begin(first)
                try:
                    await send_blob(blob, sink, start + len(first), stop)
                except ContentError as error:
                    record.result, record.reason = Result.CUT, str(error)
        return response

    async def _doubt(self, blob: Blob, digest: Digest) -> None:
        """Verify what is quickly verified. Raises `ContentSpoiled`."""
        sizes = self._services.sizes
        limit_bytes = SIZE_MAX_BYTES if sizes.is_config(digest) else VERIFIED_BYTES
        if blob.size_bytes <= limit_bytes:
            await read_verified(blob, digest)
        elif sizes.get(digest) not in (None, blob.size_bytes):
            # Either the manifest is wrong, or the file.
            self._services.scrubber.check_soon(digest, blob.identity)

    def _withdraw_if_spoiled(self, blob: Blob, digest: Digest, error: ContentError) -> None:
        if isinstance(error, ContentSpoiled):
            self._services.scrubber.spoiled(digest, blob.identity, "read")

    async def _open(self, target: Addressed) -> Blob | None:
        try:
            return await self._services.store.open(target.digest)
        except ContentMissing:
            return None
        except ContentError as error:
            _log.warning("local content unavailable: %s", error, extra={"fields": {"target": str(target)}})
            return None

    async def _first_bytes(
        self, exchange: _Exchange, target: Addressed, pull: RunningPull
    ) -> tuple[Ranked, PeerBody]:
        try:
            holder, body = await pull.first_bytes()
        except NobodyHasIt as error:
            if error.unsatisfiable_bytes is not None:
                raise RangeInvalid(
                    "the range selects nothing", size_bytes=error.unsatisfiable_bytes
                ) from error
            raise unknown(target, str(error)) from error
        self._credit(exchange.record, holder.node, holder.locality, holder.reason)
        return holder, body

    @asynccontextmanager
    async def _sink(
        self,
        exchange: _Exchange,
        response: web.StreamResponse,
        limit: TokenBucket,
        uploaded: Callable[[int], None] = lambda _: None,
    ) -> AsyncIterator[ClientSink]:
        """Where the response's body goes; whatever went is on the record afterwards."""
        record, services = exchange.record, self._services

        def sent(size_bytes: int) -> None:
            if record.first_byte_s is None:
                record.first_byte_s = services.clock() - exchange.started_s
            record.body_bytes += size_bytes
            uploaded(size_bytes)

        sink = ClientSink(exchange.request, response, stall_s=services.send_stall_s, limit=limit, sent=sent)
        try:
            yield sink
        finally:
            sink.close()
            record.way = max(sink.ways, key=sink.ways.__getitem__, default=None)
            services.metrics.sent(sink.ways)

    def _credit(self, record: RequestRecord, node: NodeName, locality: Locality, reason: str) -> None:
        record.node, record.locality, record.reason = node, locality, reason

    def _content_headers(self, record: RequestRecord, digest: Digest, media_type: str) -> dict[str, str]:
        assert record.locality is not None
        return {
            "Content-Type": media_type,
            "Docker-Content-Digest": digest,
            "Docker-Distribution-Api-Version": "registry/2.0",
            "ETag": etag(digest),
            "Accept-Ranges": "bytes",
            "Shorthaul-Source": _source(record),
        }

    def _finish(self, exchange: _Exchange) -> None:
        record = exchange.record
        record.seconds = self._services.clock() - exchange.started_s
        self._services.metrics.request(record)
        if record.kind in ("holders", "latency"):
            return  # a peer's standing connection, not a pull
        self._services.traffic.account(record, exchange.caller)
        self._services.recent.add(record)
        self._services.judged.judge(record, exchange.caller, _tell)


def _tell(record: RequestRecord) -> None:
    if _log.isEnabledFor(logging.INFO):
        _log.info("request", extra={"fields": record.as_dict()})


def _source(record: RequestRecord) -> str:
    """Where the bytes come from and why, in characters that any header may have."""
    reason = record.reason.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
    return f'node={record.node}; tier={record.locality_label}; reason="{reason}"'


def _given(pull: RunningPull) -> tuple[Given, ...]:
    """Who gave how much of what the pull delivered."""
    return tuple(
        Given(holder.node, holder.locality, size_bytes)
        for holder, size_bytes in pull.given_bytes.values()
        if size_bytes
    )


def _pong(identity: dict[str, str]) -> web.Response:
    headers = {"Docker-Distribution-Api-Version": "registry/2.0", "Content-Type": "application/json"}
    return web.Response(body=b"{}", headers=headers | identity)


def _response(selected: ByteRange | None, size_bytes: int, headers: dict[str, str]) -> web.StreamResponse:
    """The head of a blob's response; the body follows by other ways than aiohttp's."""
    length = selected.length if selected else size_bytes
    headers = {**headers, "Content-Length": str(length)}
    if selected:
        headers["Content-Range"] = selected.content_range
    return web.StreamResponse(status=206 if selected else 200, headers=headers)


def _range_of(request: web.BaseRequest, digest: Digest, size_bytes: int | None) -> RangeSpec | None:
    """The range to send: none for a HEAD (RFC 9110, 14.2), nor when If-Range names other content."""
    if request.method == "HEAD" or not if_range_holds(request.headers.get("If-Range"), digest):
        return None
    return parse_range(request.headers.get("Range"), size_bytes)


def _result_of(error: OciError) -> Result:
    if error.status == 404:
        return Result.NOT_FOUND
    if isinstance(error, TooManyRequests | Overloaded):
        return Result.BUSY
    if error.status == 503:
        return Result.UNAVAILABLE
    return Result.REJECTED if error.status < 500 else Result.ERROR

"""The OCI pull API: the way of a request, from its path to its last byte.

door → parse → filter → tag → this node's content (`local`) → what it is fetching (`arriving`, for agents)
→ peers (`remote`). One server handles the
requests of all three listeners. The `Doors` say who is let in at all, and the `Caller` what is different for
whom. Peers are answered from this node's content only, so no request goes round in a circle. A 200 is sent
only once the first bytes of the body are there. A 404 makes containerd try its next host. Sources: OCI
distribution spec 1.1, "Pull"; docs/decisions/0003 for containerd's reactions, as measured.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import assert_never

from aiohttp import web

from agent.holders.answering import QuestionDesk
from agent.holders.wire import PATH as HOLDERS_PATH
from agent.latency.receiver import ReportDesk
from agent.listen.arriving import ArrivingContent
from agent.listen.caller import Caller, CallerKind
from agent.listen.discovery import Discovery
from agent.listen.doors import Doors
from agent.listen.draining import Draining
from agent.listen.exchange import Exchange
from agent.listen.heads import API_VERSION, body_head, content_headers, not_modified, require_accepted
from agent.listen.http import STOPPING, error_response, prove
from agent.listen.local import LocalContent
from agent.listen.lost import BETWEEN_AGENTS, CHANNELS
from agent.listen.names import RequestNames
from agent.listen.prefetch import Prefetcher
from agent.listen.recorder import Recorder
from agent.listen.refusals import Refusals, refusal_error, told_headers
from agent.listen.remote import RemoteContent
from agent.observe.refusals import Refusal
from agent.observe.requests import REQUEST_HEADER, Result
from agent.observe.steps import StepKind
from agent.oci.browser import BrowserGuard
from agent.oci.digest import Digest
from agent.oci.errors import Denied, Internal, NameUnknown, OciError, TooManyRequests, Unsupported, Withheld
from agent.oci.manifest import Manifest
from agent.oci.reference import Addressed, Kind, Named, Ping, ReferrerList, TagList, parse_target, unknown
from agent.peering.reach import PATH as REACH_PATH
from agent.peering.reach import ReachDesk
from agent.pull.bucket import TokenBucket
from agent.transfer.sink import ClientGone, cut
from topology.placement import NodeName

_log = logging.getLogger("shorthaul.request")


class OciServer:
    """The handler behind the three listeners of the pull API.

    ``introduction``: the headers that tell another agent who this one is, and which listener it reached.
    """

    def __init__(
        self,
        *,
        own: NodeName,
        doors: Doors,
        guard: BrowserGuard,
        introduction: Callable[[str], Mapping[str, str]],
        draining: Draining,
        recorder: Recorder,
        refusals: Refusals,
        questions: QuestionDesk,
        reports: ReportDesk,
        reach: ReachDesk,
        discovery: Discovery,
        names: RequestNames,
        prefetcher: Prefetcher,
        local: LocalContent,
        arriving: ArrivingContent,
        remote: RemoteContent,
    ) -> None:
        self._own = own
        self._doors = doors
        self._guard = guard
        self._introduction = introduction
        self._draining = draining
        self._recorder = recorder
        self._refusals = refusals
        self._questions = questions
        self._reports = reports
        self._reach = reach
        self._discovery = discovery
        self._names = names
        self._prefetcher = prefetcher
        self._local = local
        self._arriving = arriving
        self._remote = remote
        self._no_limit = TokenBucket(0)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and record it. Is cancelled when the client leaves."""
        turned_away = await self._doors.turned_away(request)
        if turned_away is not None:
            return turned_away
        caller = self._recorder.caller_of(request)
        if caller.refusal is not None:
            return self._turn_away(request, caller, caller.refusal)
        if caller.account is not None and not prove(request, caller.account):
            return _too_many()
        exchange = self._recorder.begin(request, caller)
        try:
            response = await self._answer(exchange)
        except OciError as error:
            return await self._refuse(exchange, error)
        except (ClientGone, asyncio.CancelledError) as error:
            exchange.client_left(stopping=STOPPING in error.args)
            self._recorder.finish(exchange)
            if isinstance(error, asyncio.CancelledError):
                raise
            if request.transport is not None:
                request.transport.abort()  # flushing would wait for a client that takes no bytes
            raise ConnectionResetError("client gone") from error
        except Exception:  # noqa: BLE001 - the only broad except: a bug must not end the agent
            fields = {"id": exchange.record.id, "target": exchange.record.target}
            _log.exception("request failed", extra={"fields": fields})
            exchange.record.result = Result.ERROR
            if request.writer.output_size > 0:  # the client would take a second head for bytes of the body
                self._recorder.finish(exchange)
                await cut(request)
                raise ConnectionResetError("body cut after a bug") from None
            exchange.record.status = 500
            response = error_response(Internal("internal error", hint="see the agent's log"))
            response.force_close()
        self._introduce(exchange, response)
        self._recorder.finish(exchange)
        if exchange.record.result is Result.CUT:
            response.force_close()
            await cut(request)
        return response

    def _turn_away(self, request: web.BaseRequest, caller: Caller, refusal: Refusal) -> web.StreamResponse:
        """Answer a client that may not ask. Nothing is done for it, and its connection ends."""
        self._refusals.turned_away(caller.listener.value, caller.address, refusal)
        response = error_response(refusal_error(refusal))
        response.headers.update(told_headers(refusal, time.time()))
        if refusal.knows_key and request.raw_path in BETWEEN_AGENTS:
            response.headers.update(self._introduction(caller.listener.value))
        response.force_close()
        return response

    async def _refuse(self, exchange: Exchange, error: OciError) -> web.StreamResponse:
        """Answer with an error, then record it. The client should not wait for the record."""
        exchange.failed(error)
        response = error_response(error)
        self._introduce(exchange, response)
        try:
            with suppress(ConnectionError):  # the client left, which aiohttp notices, too
                await response.prepare(exchange.request)
                await response.write_eof()
        finally:
            self._recorder.finish(exchange)
        return response

    def _introduce(self, exchange: Exchange, response: web.StreamResponse) -> None:
        """Say the request's id. If a channel between agents is refused, say who refuses it."""
        if response.prepared:
            return
        response.headers[REQUEST_HEADER] = exchange.record.id
        if exchange.request.raw_path in CHANNELS:
            response.headers.update(self._introduction(exchange.caller.listener.value))

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        request, caller, record = exchange.request, exchange.caller, exchange.record
        refused = self._guard.refusal(request.method, request.headers)
        if refused is not None:
            raise Denied(refused.message, hint=refused.hint)
        stopping = self._draining.refusal(caller, exchange.header("Range"), time.monotonic())
        if stopping is not None:
            raise stopping
        if request.raw_path in BETWEEN_AGENTS:
            return await self._between_agents(exchange)
        if request.method not in ("GET", "HEAD"):
            raise Unsupported(
                f"{request.method} is not supported: this is a read-only mirror",
                hint="push to the registry itself",
            )
        target = parse_target(request.raw_path)
        if not isinstance(target, Ping):
            target = self._names.offer.understood(target)
        match target:
            case Ping():
                record.kind, record.status = "ping", 200
                headers = {"Content-Type": "application/json"} | caller.identity_headers(self._own)
                return web.Response(body=b"{}", headers=API_VERSION | headers)
            case TagList():
                record.kind, record.status = "discovery", 200
                return self._discovery.tags(target)
            case ReferrerList():
                record.kind, record.status = "discovery", 200
                return await self._discovery.referrers(target)
            case Named() | Addressed():
                return await self._content(exchange, target)
            case _:
                assert_never(target)

    async def _between_agents(self, exchange: Exchange) -> web.StreamResponse:
        """Another agent's standing connection or question.

        Raises `OciError` (404) if this is not the peer listener.
        """
        request, caller, record = exchange.request, exchange.caller, exchange.record
        if not caller.opens_channels:
            raise NameUnknown(
                f"this is listen.{caller.listener.value}, and agents talk to listen.peer",
                hint="correct the port in the list of peers",
            )
        if request.raw_path == REACH_PATH:
            if caller.kind is not CallerKind.AGENT:
                raise Denied("only agents are told", hint="ask with `shorthaul doctor`")
            record.kind, record.status = "reach", 200
            body = await self._reach.answer(caller.address, caller.node)
            return web.Response(body=body, content_type="application/json")
        proved = caller.node if caller.proved else None
        if request.raw_path == HOLDERS_PATH:
            record.kind, record.status = "holders", 101
            return await self._questions.serve(request, caller.address, proved)
        record.kind, record.status = "latency", 101
        return await self._reports.serve(request, caller.address, proved)

    async def _content(self, exchange: Exchange, target: Named | Addressed) -> web.StreamResponse:
        record = exchange.record
        record.kind = "manifest" if isinstance(target, Named) else target.kind.value
        record.target = str(target)
        self._recorder.asks(exchange, target)
        self._names.offer.require(target)
        if isinstance(target, Named):
            target = await self._resolve(exchange, target)
        elif exchange.is_head and exchange.caller.kind is not CallerKind.AGENT:
            # An agent asks for the head of what it then redirects its client to.
            self._names.offer.require_head(target)
        record.digest = target.digest
        if exchange.caller.committed and not exchange.is_head:
            self._names.offer.fetching(target)
        if target.kind is Kind.MANIFEST:
            return await self._manifest(exchange, target)
        return await self._blob(exchange, target)

    async def _resolve(self, exchange: Exchange, name: Named) -> Addressed:
        """The manifest that the tag names. Raises `OciError` (404) if nobody vouches for the tag."""
        steps = exchange.record.steps
        step = steps.begin(StepKind.RESOLVE)
        resolved = await self._names.resolve(name, exchange.caller)
        tag = exchange.record.tag = resolved.source(self._own)
        step.node = tag.told_by
        steps.end(step, why=tag.words)
        return Addressed(
            registry=resolved.name.registry,
            repository=name.repository,
            kind=Kind.MANIFEST,
            digest=resolved.descriptor.digest,
        )

    async def _manifest(self, exchange: Exchange, target: Addressed) -> web.StreamResponse:
        manifest = await self._local.manifest(exchange, target)
        if manifest is None and self._arriving.may_be_asked(exchange, target):
            manifest = await self._arriving.manifest(exchange, target)
            if manifest is None:  # it may have been committed between the two looks
                manifest = await self._local.manifest(exchange, target)
        if manifest is None:
            self._require_may_ask_peers(exchange, target)
            manifest = await self._remote.manifest(exchange, target)
        require_accepted(exchange, target, manifest.media_type)
        self._prefetcher.answered_manifest(manifest, exchange.caller)
        return await self._send_manifest(exchange, target.digest, manifest)

    async def _blob(self, exchange: Exchange, target: Addressed) -> web.StreamResponse:
        response = await self._local.blob(exchange, target)
        if response is None and self._arriving.may_be_asked(exchange, target):
            response = await self._arriving.blob(exchange, target)
            if response is None:  # it may have been committed between the two looks
                response = await self._local.blob(exchange, target)
        if response is None:
            self._require_may_ask_peers(exchange, target)
            response = await self._remote.blob(exchange, target)
        return response

    async def _send_manifest(
        self, exchange: Exchange, digest: Digest, manifest: Manifest
    ) -> web.StreamResponse:
        headers = content_headers(exchange.record, digest, manifest.media_type)
        unchanged = not_modified(exchange, digest, headers)
        if unchanged is not None:
            return unchanged
        response = body_head(exchange, None, len(manifest.content), headers)
        if not exchange.is_head:
            exchange.record.body_length = len(manifest.content)
            async with exchange.sink(response, limit=self._no_limit) as sink:
                await sink.begin(manifest.content)
            exchange.record.steps.gave(exchange.record.body_bytes)
        return response

    def _require_may_ask_peers(self, exchange: Exchange, target: Addressed) -> None:
        """The loop guard. Raises `OciError` (404) if the caller is served this node's content only."""
        if exchange.caller.may_ask_peers:
            return
        if exchange.caller.kind is CallerKind.AGENT and self._local.withholds(exchange, target):
            raise Withheld(f"{target}: it is given under other names only")
        raise unknown(target, "not in this node's store")


def _too_many() -> web.StreamResponse:
    response = error_response(TooManyRequests("too many connections", wait_s=1.0))
    response.force_close()
    return response

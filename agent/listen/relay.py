"""Relays what peers give to a client: a whole body, or one chunk of a layer that containerd resumes.

A chunk may need several pulls: no failure may reach the client once it has the head of an earlier chunk. What
to do then is decided by `agent.pull.chunks`.
"""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import replace
from typing import assert_never

from aiohttp import web

from agent.listen.exchange import Exchange
from agent.listen.heads import blob_headers, body_head, not_modified
from agent.listen.http import close_is_departure
from agent.observe.requests import Result, SourceBytes
from agent.observe.steps import StepKind
from agent.oci.errors import RangeInvalid
from agent.oci.ranges import ByteRange, RangeSpec
from agent.oci.reference import Addressed, unknown
from agent.pull.bucket import TokenBucket
from agent.pull.chunks import HAND_OVER_S, HEAD_AFTER_S, Part, Unserved
from agent.tasks import end_all
from agent.transfer.answers import FetchRequest
from agent.transfer.executor import BodyCut, NobodyHasIt, Puller, RunningPull
from agent.transfer.peers import PeerBody
from agent.transfer.sink import ClientSink
from topology.ranking import Ranked

_HEAD_BYTES = 4096  # more than the head of an answer and an error's body
_NOTICE_S = 0.05  # to notice that a client has left that is sent nothing


async def relay(
    exchange: Exchange, target: Addressed, pull: RunningPull, limit: TokenBucket
) -> web.StreamResponse:
    """Relay the pull's body to the client. If it can't be completed, the record says that it was cut.

    ``limit``: the rate limit. Raises `OciError` if no peer gives the body, and `ClientGone`.
    """
    record = exchange.record
    _, body = await first_bytes_of(exchange, target, pull)
    headers = blob_headers(record, target.digest)
    unchanged = not_modified(exchange, target.digest, headers)
    if unchanged is not None:
        return unchanged
    response = body_head(exchange, body.selected, body.size_bytes, headers)
    if exchange.is_head:
        return response
    record.body_length = body.length
    try:
        async with exchange.sink(response, limit=limit) as sink:
            await pull.deliver(sink)
    except BodyCut as error:
        record.result, record.reason = Result.CUT, str(error)
    finally:
        record.resumes = pull.resumes
    return response


class PartRelay:
    """The answer to one request of containerd for the rest of a layer. Call `send` once.

    ``wanted``: an open-ended range that begins at ``part``.
    """

    def __init__(self, puller: Puller, exchange: Exchange, wanted: FetchRequest, part: Part) -> None:
        self._puller = puller
        self._exchange = exchange
        self._wanted = wanted
        self._part = part
        self._response: web.StreamResponse | None = None
        self._sink: ClientSink | None = None
        self._fault = False  # of the last time that no peer gave it

    @property
    def _position(self) -> int:
        """The next byte that the client needs."""
        return self._part.start + (0 if self._sink is None else self._sink.sent_bytes)

    async def send(self) -> web.StreamResponse:
        """Send the part. Returns the response. If it hands the layer over, the record says that it was cut.

        Raises `OciError` if no peer gives it and the client can go to its next host, and `ClientGone`.
        """
        record = self._exchange.record
        async with AsyncExitStack() as stack:
            try:
                while (reason := await self._pull(stack)) is not None:
                    await self._go_on_without_holder(stack, reason)
                    if record.result is Result.CUT:
                        break
            except BaseException:
                if self._part.is_chunk_end(self._position):
                    record.body_length = record.body_bytes  # the client left with all that it wanted
                raise
        assert self._response is not None, "it was sent"
        return self._response

    async def _go_on_without_holder(self, stack: AsyncExitStack, reason: str) -> None:
        """No peer can serve it now. Returns if it is to be tried again, or was handed over."""
        part, record = self._part, self._exchange.record
        unserved = part.unserved()
        if unserved is Unserved.NOT_FOUND:
            raise unknown(self._wanted.target, reason).as_fault(self._fault)
        step = record.steps.begin(StepKind.WAIT, why=reason, resume=record.steps.begun)
        match unserved:
            case Unserved.SEARCH:
                sink = await self._send_head(stack)
                await sink.stays(_NOTICE_S)
            case Unserved.HAND_OVER:
                await self._send_head(stack)
                await asyncio.sleep(HAND_OVER_S)
                if part.unserved() is Unserved.HAND_OVER:
                    part.cut(self._position)
                    record.result, record.reason = Result.CUT, f"handed over to the next host: {reason}"
            case _ as never:
                assert_never(never)
        record.steps.end(step)

    async def _pull(self, stack: AsyncExitStack) -> str | None:
        """Send what peers give. Returns why the part is not complete, or None: it is."""
        exchange, record = self._exchange, self._exchange.record
        wanted = replace(
            self._wanted,
            range_spec=RangeSpec(first=self._position, last=None),
            chunk=not self._part.opens,
            size_bytes=self._part.opening.size_bytes or self._wanted.size_bytes,
        )
        pull = self._puller.pull(
            wanted, committed=exchange.caller.committed, pieces=self._part, steps=record.steps
        )
        try:
            async with pull:
                holder, body = await self._first_bytes(stack, pull)
                if self._sink is None:
                    exchange.credit(holder.node, holder.tier, holder.reason)
                    self._part.answered(body.size_bytes)
                sink = await self._begun(stack)
                await pull.deliver(sink)
        except NobodyHasIt as error:
            if error.unsatisfiable_bytes is not None and self._part.opens:
                raise _unsatisfiable(error.unsatisfiable_bytes) from error
            self._fault = error.fault
            return str(error)
        except BodyCut as error:
            return str(error)
        finally:
            record.resumes += pull.resumes
            record.sources = _merged((*record.sources, *sources_of(pull)))
        return None

    async def _first_bytes(self, stack: AsyncExitStack, pull: RunningPull) -> tuple[Ranked, PeerBody]:
        """The pull's first bytes. While they do not come, the client at least gets a head."""
        if self._sink is not None:
            return await pull.first_bytes()
        if self._part.opens:
            with _noticing_departure(self._exchange):
                return await pull.first_bytes()
        first = asyncio.create_task(pull.first_bytes(), name="first bytes")
        try:
            await asyncio.wait((first,), timeout=HEAD_AFTER_S)
            if not first.done():
                await self._send_head(stack)
            return await first
        finally:
            await end_all((first,))

    async def _send_head(self, stack: AsyncExitStack) -> ClientSink:
        """Send the head without a byte of the body, if it was not sent yet."""
        if self._sink is None:
            sink = await self._begun(stack)
            await sink.begin(b"")
        return await self._begun(stack)

    async def _begun(self, stack: AsyncExitStack) -> ClientSink:
        """The sink for the body. The size of the layer is known."""
        if self._sink is None:
            exchange, size_bytes = self._exchange, self._part.opening.size_bytes
            assert size_bytes is not None, "an earlier part was answered"
            rest = ByteRange(start=self._part.start, stop=size_bytes, size_bytes=size_bytes)
            headers = blob_headers(exchange.record, self._wanted.target.digest)
            self._response = body_head(exchange, rest, size_bytes, headers)
            exchange.record.body_length = rest.length
            self._sink = await stack.enter_async_context(
                exchange.sink(self._response, limit=self._puller.limit)
            )
        return self._sink


async def first_bytes_of(exchange: Exchange, target: Addressed, pull: RunningPull) -> tuple[Ranked, PeerBody]:
    """The holder that gives the content, and the first bytes. Credits it. Raises `OciError` if none does."""
    try:
        with _noticing_departure(exchange):
            holder, body = await pull.first_bytes()
    except NobodyHasIt as error:
        if error.unsatisfiable_bytes is not None:
            raise _unsatisfiable(error.unsatisfiable_bytes) from error
        raise unknown(target, str(error)).as_fault(error.fault) from error
    exchange.credit(holder.node, holder.tier, holder.reason)
    return holder, body


def _noticing_departure(exchange: Exchange) -> AbstractContextManager[None]:
    """Notice that this node's containerd leaves while it waits: others may wait for what it was to fetch."""
    return close_is_departure(exchange.request) if exchange.caller.committed else nullcontext()


def sources_of(pull: RunningPull) -> tuple[SourceBytes, ...]:
    """How many of the delivered bytes each holder gave, and how many came from it. Only after the pull's end.

    A holder of which no byte was delivered is left out if it sent no more than heads.
    """
    sources = []
    for node in dict.fromkeys((*pull.given.by, *pull.received_bytes)):
        holder, received_bytes = pull.received_bytes.get(node, (None, 0))
        given_by, given_bytes = pull.given.by.get(node, (holder, 0))
        if given_by is not None and (given_bytes or received_bytes > _HEAD_BYTES):
            in_flight_bytes = pull.given.in_flight_bytes[node]
            sources.append(SourceBytes(node, given_by.tier, given_bytes, received_bytes, in_flight_bytes))
    return tuple(sources)


def _merged(sources: Iterable[SourceBytes]) -> tuple[SourceBytes, ...]:
    """The same sources, each node once."""
    merged: dict[str, SourceBytes] = {}
    for source in sources:
        before = merged.get(source.node)
        both = source
        if before is not None:
            both = replace(
                source,
                size_bytes=source.size_bytes + before.size_bytes,
                received_bytes=source.received_bytes + before.received_bytes,
                in_flight_bytes=source.in_flight_bytes + before.in_flight_bytes,
            )
        merged[source.node] = both
    return tuple(merged.values())


def _unsatisfiable(size_bytes: int) -> RangeInvalid:
    return RangeInvalid("the range selects nothing", size_bytes=size_bytes)

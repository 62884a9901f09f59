"""The few calls of containerd's gRPC API that the store needs. The only importer of grpclib.

Errors of the transport and of the daemon become `ContentUnavailable`. NOT_FOUND becomes `ContentMissing`.
Source: containerd/api/services/{images,content,events}/v1.
"""

from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import ProtocolError, StreamTerminatedError

from agent.content.containerd import api_pb2 as api
from agent.content.store import ContentMissing, ContentUnavailable

_CALL_S = 5.0


class Client:
    """One connection to one containerd, for one namespace. The next call reconnects if necessary."""

    def __init__(self, socket: Path, namespace: str) -> None:
        self.socket = socket
        self.namespace = namespace
        self._channel = Channel(path=str(socket))
        self._metadata = {"containerd-namespace": namespace}
        self._list_images = UnaryUnaryMethod(
            self._channel,
            "/containerd.services.images.v1.Images/List",
            api.ListImagesRequest,
            api.ListImagesResponse,
        )
        self._subscribe = UnaryStreamMethod(
            self._channel,
            "/containerd.services.events.v1.Events/Subscribe",
            api.SubscribeRequest,
            api.Envelope,
        )
        self._info = UnaryUnaryMethod(
            self._channel,
            "/containerd.services.content.v1.Content/Info",
            api.InfoRequest,
            api.InfoResponse,
        )
        self._list_content = UnaryStreamMethod(
            self._channel,
            "/containerd.services.content.v1.Content/List",
            api.ListContentRequest,
            api.ListContentResponse,
        )
        self._version = UnaryUnaryMethod(
            self._channel, "/containerd.services.version.v1.Version/Version", Empty, api.VersionResponse
        )
        self._read = UnaryStreamMethod(
            self._channel,
            "/containerd.services.content.v1.Content/Read",
            api.ReadContentRequest,
            api.ReadContentResponse,
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    async def version(self) -> str:
        """containerd's version, such as ``v2.1.4`` or ``1.7.24~ds1``."""
        with self._translated():
            reply = await self._version(Empty(), timeout=_CALL_S)
            return str(reply.version)

    async def images(self) -> list[api.Image]:
        """All image records of the namespace."""
        with self._translated():
            reply = await self._list_images(api.ListImagesRequest(), timeout=_CALL_S, metadata=self._metadata)
            return list(reply.images)

    async def image_events(self) -> AsyncGenerator[None, None]:
        """Yields once when the subscription is established, then once for each event about an image.

        Connects if necessary. The stream has no deadline.
        """
        with self._translated():
            async with self._subscribe.open(metadata=self._metadata) as stream:
                await stream.send_message(api.SubscribeRequest(filters=['topic~="/images/"']), end=True)
                yield
                async for _ in stream:
                    yield

    async def size_bytes(self, digest: str) -> int:
        """The size of a committed blob."""
        return (await self.info(digest)).size

    async def info(self, digest: str) -> api.Info:
        """What containerd notes of a committed blob, its labels among it."""
        with self._translated():
            reply = await self._info(api.InfoRequest(digest=digest), timeout=_CALL_S, metadata=self._metadata)
            return reply.info

    async def content(self) -> AsyncGenerator[api.Info, None]:
        """What containerd notes of each committed blob of the namespace. A walk over all its content."""
        with self._translated():
            async with self._list_content.open(timeout=_CALL_S, metadata=self._metadata) as stream:
                await stream.send_message(api.ListContentRequest(), end=True)
                async for reply in stream:
                    for info in reply.info:
                        yield info

    async def infos(self, digests: Collection[str]) -> dict[str, api.Info]:
        """What containerd notes of those of these blobs that it has. Costs a walk over all its content."""
        return {info.digest: info async for info in self.content() if info.digest in digests}

    async def sizes(self) -> dict[str, int]:
        """Every committed blob of the namespace with its size."""
        return {info.digest: info.size async for info in self.content()}

    async def read(self, digest: str, offset: int, length: int) -> bytes:
        """``length`` bytes of a blob from ``offset``. Fewer only at its end."""
        with self._translated():
            async with self._read.open(timeout=_CALL_S, metadata=self._metadata) as stream:
                request = api.ReadContentRequest(digest=digest, offset=offset, size=length)
                await stream.send_message(request, end=True)
                return b"".join([reply.data async for reply in stream])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except GRPCError as error:
            if error.status is Status.NOT_FOUND:
                raise ContentMissing(error.message or "not found") from error
            raise ContentUnavailable(
                f"containerd at {self.socket}: {error.message or error.status.name}"
            ) from error
        except (TimeoutError, OSError, StreamTerminatedError, ProtocolError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ContentUnavailable(f"containerd at {self.socket} does not answer: {reason}") from error

"""The containerd of the pod's node: what it has, a pull as the kubelet makes it, and its removal.

Source: Kubernetes' CRI (runtime.v1), containerd/api/services/{images,leases,content}/v1.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import ProtocolError, StreamTerminatedError

from agent.oci.origin import MARK
from benchmarks.cluster import containerd_pb2 as api
from benchmarks.cluster.traces import IMAGE_LABEL, NOTE, Note, Record
from benchmarks.cluster.wire import Blob, Image

_CALL_S = 20.0
_GC_S = 45.0  # it waits until containerd has looked through all that it has
_LOOK_S = 0.2
_Reply = TypeVar("_Reply")


class ContainerdFailed(Exception):
    """containerd did not do it, in its own words. ``hint``: what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Method(Protocol):
    """A call."""

    async def __call__(self, request: Any, *, timeout: float, metadata: Any = None) -> Any:
        """Make it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An image that a node has. ``id``: the digest of its configuration."""

    id: str
    size_bytes: int


class NodeContainerd:
    """One connection to one containerd. ``namespace``: Kubernetes' own there."""

    def __init__(self, socket: Path, namespace: str) -> None:
        self._socket = socket
        self._channel = Channel(path=str(socket))
        self._metadata = {"containerd-namespace": namespace}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    async def images(self) -> tuple[Image, ...]:
        """All images that have a name with a digest."""
        reply = await self._cri("ImageService/ListImages", api.CriImagesRequest(), api.CriImagesResponse)
        return tuple(
            Image(name=name, digest=name.partition("@")[2], size_bytes=int(image.size))
            for image in reply.images
            for name in image.repo_digests[:1]
        )

    async def records(self) -> tuple[Record, ...]:
        """All names."""
        reply = await self._call(
            "containerd.services.images.v1.Images/List", api.RecordsRequest(), api.RecordsResponse
        )
        return tuple(
            Record(name=each.name, target=each.target.digest, made_s=_seconds(each.created_at))
            for each in reply.images
        )

    async def status(self, image: str) -> Status | None:
        """An image by its name. None: the node does not have it."""
        request = api.ImageStatusRequest(image=api.ImageSpec(image=image))
        reply = await self._cri("ImageService/ImageStatus", request, api.ImageStatusResponse)
        if not reply.image.id:
            return None
        return Status(id=reply.image.id, size_bytes=int(reply.image.size))

    async def in_use(self, image_id: str) -> bool:
        """Whether a container has this image."""
        reply = await self._cri(
            "RuntimeService/ListContainers", api.ListContainersRequest(), api.ListContainersResponse
        )
        return any(image_id in (each.image_ref, each.image.image) for each in reply.containers)

    async def pull(self, image: str, *, bytes_max: int, seconds: float) -> None:
        """Pull an image as the kubelet does, without credentials.

        Ends with `ContainerdFailed` when it is larger than ``bytes_max``, or takes longer than ``seconds``.
        Cancelling it makes containerd stop.
        """
        request = api.PullImageRequest(image=api.ImageSpec(image=image))
        pulling = asyncio.ensure_future(
            self._cri("ImageService/PullImage", request, api.PullImageResponse, at_most_s=seconds)
        )
        try:
            seen: dict[str, int] = {}
            before = set(await self._arriving())
            while not (await asyncio.wait({pulling}, timeout=_LOOK_S))[0]:
                for ref, size_bytes in (await self._arriving()).items():
                    if ref not in before:
                        seen[ref] = max(seen.get(ref, 0), size_bytes)
                if sum(seen.values()) > bytes_max:
                    raise ContainerdFailed(
                        f"{image} has more than the {bytes_max} bytes that are left: the pull was stopped",
                        hint="allow more --bytes, or name a smaller --image",
                    )
            await pulling
        finally:
            pulling.cancel()
            with contextlib.suppress(asyncio.CancelledError, ContainerdFailed):
                await pulling

    async def _arriving(self) -> dict[str, int]:
        """What containerd is fetching, and how large each is, as far as it knows."""
        try:
            reply = await self._call(
                "containerd.services.content.v1.Content/ListStatuses",
                api.ListStatusesRequest(),
                api.ListStatusesResponse,
            )
        except ContainerdFailed:
            return {}  # the pull itself says what is wrong
        return {each.ref: max(each.offset, each.total) for each in reply.statuses}

    async def remove(self, names: tuple[str, ...]) -> None:
        """Remove these names, and with the last one what nothing else needs."""
        for name in names:
            request = api.DeleteImageRequest(name=name, sync=name == names[-1])
            with _unless_away():
                await self._call(
                    "containerd.services.images.v1.Images/Delete", request, Empty, at_most_s=60.0
                )

    async def notes(self) -> tuple[Note, ...]:
        """What runs noted that they pull, and did not strike out."""
        reply = await self._call(
            "containerd.services.leases.v1.Leases/List", api.ListLeasesRequest(), api.ListLeasesResponse
        )
        return tuple(
            Note(id=each.id, image=each.labels.get(IMAGE_LABEL, ""), made_s=_seconds(each.created_at))
            for each in reply.leases
            if each.id.startswith(NOTE)
        )

    async def note(self, run: str, image: str) -> str:
        """Note that this run is about to pull an image. Returns the note's id."""
        request = api.CreateLeaseRequest(id=f"{NOTE}{run}", labels={IMAGE_LABEL: image})
        await self._call("containerd.services.leases.v1.Leases/Create", request, api.CreateLeaseResponse)
        return str(request.id)

    async def strike_out(self, note: str) -> None:
        """Nothing is left of what the note says. containerd looks now for what nothing needs."""
        request = api.DeleteLeaseRequest(id=note, sync=True)
        with _unless_away():
            await self._call("containerd.services.leases.v1.Leases/Delete", request, Empty, at_most_s=_GC_S)

    async def _cri(
        self, name: str, request: Any, reply: type[_Reply], *, at_most_s: float = _CALL_S
    ) -> _Reply:
        return await self._call(f"runtime.v1.{name}", request, reply, at_most_s=at_most_s)

    async def _call(
        self, name: str, request: Any, reply: type[_Reply], *, at_most_s: float = _CALL_S
    ) -> _Reply:
        method = cast(Method, UnaryUnaryMethod(self._channel, f"/{name}", type(request), reply))
        with self._translated(name, at_most_s):
            return cast(_Reply, await method(request, timeout=at_most_s, metadata=self._metadata))

    @contextmanager
    def _translated(self, name: str, at_most_s: float) -> Iterator[None]:
        what = name.rpartition("/")[2]
        try:
            yield
        except GRPCError as error:
            raise ContainerdFailed(_short(error.message or error.status.name), _hint(error)) from error
        except TimeoutError as error:
            raise ContainerdFailed(f"{what} was not done after {at_most_s:.0f} s") from error
        except (OSError, StreamTerminatedError, ProtocolError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ContainerdFailed(
                f"containerd at {self._socket} does not answer: {reason}", "is containerd up on that node?"
            ) from error


@contextmanager
def _unless_away() -> Iterator[None]:
    """What is to be removed may be away already."""
    try:
        yield
    except ContainerdFailed as error:
        cause = error.__cause__
        if not (isinstance(cause, GRPCError) and cause.status.name == "NOT_FOUND"):
            raise


def blobs_of(infos: Iterable[Any], most: int) -> tuple[Blob, ...]:
    """Blobs that came from a registry, by what containerd notes: the smallest, and the largest."""
    found = []
    for info in infos:
        marked = next((each for each in info.labels.items() if each[0].startswith(MARK)), None)
        if marked is not None:
            found.append(
                Blob(
                    registry=marked[0].removeprefix(MARK),
                    repository=marked[1].partition(",")[0],
                    digest=info.digest,
                    size_bytes=int(info.size),
                )
            )
    found.sort(key=lambda blob: (blob.size_bytes, blob.digest))
    return tuple(found[: most // 2] + found[most // 2 :][-(most - most // 2) :])


def _seconds(stamp: Any) -> float:
    return float(stamp.seconds) + float(stamp.nanos) / 1e9


def _hint(error: GRPCError) -> str:
    words = (error.message or "").lower()
    if "no space left" in words:
        return "the node's disk is full: free some of it, or name a smaller --image"
    if "not found" in words or ("unexpected status" in words and "404" in words):
        return "is the image's name right? The registry says that there is none"
    if "401" in words or "403" in words or "authorization" in words:
        return "the registry wants credentials, and the benchmark has none: name a public --image"
    return "the containerd of that node says more in its log"


def _short(text: str) -> str:
    return text if len(text) <= 500 else f"{text[:500]}…"

"""What the benchmark's pods run, each on one node, from the agents' own image.

Its order comes in one environment variable, what it says goes to its log (`benchmarks.cluster.wire`). It asks
the API server nothing. It ends with status 0 whatever it finds: what went wrong is said, not thrown.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent.cli.settings import add_config, read_settings
from agent.config.load import ConfigError
from agent.config.settings import Settings
from agent.config.values import ContainerdStore, parse_endpoint
from agent.content.containerd.client import Client
from agent.content.store import ContentUnavailable
from agent.documents.codec import DocumentInvalid
from benchmarks.cluster.localities import Place, Unanswered, measure, opened
from benchmarks.cluster.node import ContainerdFailed, NodeContainerd, blobs_of
from benchmarks.cluster.traces import left_names, own_names
from benchmarks.cluster.wire import (
    ORDER_VARIABLE,
    Document,
    Latencies,
    Look,
    Order,
    Pulled,
    Removed,
    Step,
    Trouble,
    order,
    written,
)
from benchmarks.cluster.witness import Witness
from benchmarks.reporting.machine import MachineWatch

_BEAT_S = 5.0
_BLOBS_MAX, _IMAGES_MAX, _NAMES_MAX = 200, 80, 1000
"""What a pod tells of its node, at most: 200 blobs are 40 KB."""


class Log:
    """The pod's log, line by line. At least one each 5 s: silence means that something broke."""

    def __init__(self, write: Callable[[str], object] = lambda line: print(line, flush=True)) -> None:
        self._write = write
        self._number = 0
        self._step = Step()

    def say(self, document: Document) -> None:
        """Say this."""
        if isinstance(document, Step):
            self._step = document
        self._number += 1
        self._write(written(self._number, document))

    def trouble(self, problem: str, hint: str = "") -> None:
        """Say that something went wrong."""
        self.say(Trouble(problem=problem, hint=hint))

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Say the last step again and again, until the end."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(_BEAT_S)
                self.say(self._step)

        task = asyncio.create_task(beat(), name="signs of life")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """The pod's node. ``ended``: set when the pod is to end."""

    order: Order
    settings: Settings
    containerd: NodeContainerd
    log: Log
    ended: asyncio.Event


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Do what the order says."""
    log = Log()
    try:
        ordered = order(environment.get(ORDER_VARIABLE, ""))
        parser = argparse.ArgumentParser()
        add_config(parser, required=True, environment=environment)
        settings = read_settings(parser.parse_args([]))
    except (DocumentInvalid, ConfigError) as error:
        log.trouble(f"the pod can't use its order: {error}", "use the agents' own version of this command")
        return 0
    asyncio.run(work(ordered, settings, log))
    return 0


async def work(ordered: Order, settings: Settings, log: Log) -> None:
    """Do what the order says, until SIGTERM or the end of its time."""
    store = settings.store
    if not isinstance(store, ContainerdStore):
        log.trouble("the agent of this node has no containerd: its store is an image layout")
        return
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    containerd = NodeContainerd(store.socket, store.namespace)
    here = Here(order=ordered, settings=settings, containerd=containerd, log=log, ended=ended)
    try:
        async with log.beating():
            match ordered.stage:
                case "look":
                    await look(here)
                case "latency":
                    await latency(here)
                case "pull":
                    await pull(here)
                case _:
                    log.trouble(f"the pod knows no stage {ordered.stage}")
    except ContainerdFailed as error:
        log.trouble(f"containerd: {error}", error.hint)
    except ContentUnavailable as error:
        log.trouble(f"containerd: {error}", "is containerd up on that node?")
    finally:
        containerd.close()


async def look(here: Here) -> None:
    """Say what the node has. Remove what a run that was killed left here."""
    assert isinstance(here.settings.store, ContainerdStore)
    left = await clean(here)
    client = Client(here.settings.store.socket, here.settings.store.namespace)
    try:
        version, infos = await client.version(), [info async for info in client.content()]
    finally:
        client.close()
    machine = MachineWatch().facts()
    records = await here.containerd.records()
    images = sorted(await here.containerd.images(), key=lambda image: -image.size_bytes)
    here.log.say(
        Look(
            containerd=version,
            machine=machine.processor,
            processors=machine.processors,
            memory_mib=machine.memory_mib,
            kernel=machine.kernel,
            blobs=blobs_of(infos, _BLOBS_MAX),
            images=tuple(images[:_IMAGES_MAX]),
            names=tuple(record.name for record in records)[:_NAMES_MAX],
            left=left,
        )
    )


async def clean(here: Here) -> tuple[str, ...]:
    """Remove the images that runs which were killed have left. Returns their names."""
    removed = []
    for note in await here.containerd.notes():
        names = left_names(note, await here.containerd.records())
        found = await here.containerd.status(note.image) if names else None
        if found is None or not await here.containerd.in_use(found.id):
            await here.containerd.remove(names)
            removed += [note.image] if names else []
        await here.containerd.strike_out(note.id)
    return tuple(removed)


async def latency(here: Here) -> None:
    """Measure latencies, and say them."""
    ordered, named = here.order, here.order.hostport
    hostport = parse_endpoint(named) if named else here.settings.listen.hostport
    loop = asyncio.get_running_loop()

    def step(share: float, what: str) -> None:
        loop.call_soon_threadsafe(here.log.say, Step(share=share, what=what))

    def work_on() -> Latencies:
        place = opened(Place(host=hostport.host, port=hostport.port), here.settings.probe.hosts_dir)
        return measure(
            place,
            ordered.blobs,
            seconds=ordered.seconds,
            bytes_max=ordered.bytes_max,
            rate_per_s=ordered.rate_per_s,
            step=step,
            go_on=lambda: not here.ended.is_set(),
        )

    try:
        here.log.say(await asyncio.to_thread(work_on))
    except Unanswered as error:
        here.log.trouble(str(error), error.hint)


async def pull(here: Here) -> None:
    """Pull the image, say how long it took, keep it until the pod is to end, and remove it."""
    image, containerd = here.order.image, here.containerd
    found = await containerd.status(image)
    if found is not None:
        here.log.say(Pulled(image=image, size_bytes=found.size_bytes, there_before=True))
        return
    before = frozenset(record.name for record in await containerd.records())
    note = await containerd.note(here.order.run, image)
    try:
        await _pull(here)
    finally:
        await asyncio.shield(_remove(here, before, note))


async def _pull(here: Here) -> None:
    image, containerd = here.order.image, here.containerd
    witness = Witness(here.settings, image)
    await witness.begin()
    here.log.say(Step(what=f"pulling {image}"))
    began_s = time.monotonic()
    pulling = asyncio.ensure_future(
        containerd.pull(image, bytes_max=here.order.bytes_max, seconds=here.order.seconds)
    )
    ending = asyncio.ensure_future(here.ended.wait())
    try:
        await asyncio.wait({pulling, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not pulling.done():
            here.log.trouble(f"the pull of {image} was ended before it was done")
            return
        await pulling
        seconds = time.monotonic() - began_s
        found = await containerd.status(image)
        here.log.say(
            Pulled(
                image=image,
                seconds=seconds,
                size_bytes=0 if found is None else found.size_bytes,
                tiers=await witness.tiers(),
            )
        )
        here.log.say(Step(share=1.0, what=f"holding {image}"))
        await asyncio.wait({ending}, timeout=here.order.hold_s)
    except ContainerdFailed as error:
        here.log.trouble(f"the pull of {image} failed: {error}", error.hint)
    finally:
        for task in (pulling, ending):
            task.cancel()
        await asyncio.gather(pulling, ending, return_exceptions=True)


async def _remove(here: Here, before: frozenset[str], note: str) -> None:
    """Remove what this pod pulled, and nothing that was there before."""
    image, containerd = here.order.image, here.containerd
    try:
        names = own_names(image, before, await containerd.records())
        found = await containerd.status(image) if names else None
        if found is not None and await containerd.in_use(found.id):
            kept = "a container uses it by now"
        else:
            kept = ""
            await containerd.remove(names)
        await containerd.strike_out(note)
    except ContainerdFailed as error:
        kept = str(error)
    here.log.say(Removed(image=image, kept=kept))


if __name__ == "__main__":
    sys.exit(main())

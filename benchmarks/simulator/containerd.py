"""containerd and the kubelet of one node, as they were measured: what they ask their agent and the registry.

An image's manifest first, then its config and its layers, in random order, three at a time. What the agent
answers with a 404 is fetched from the registry, when a slot is free again: what was not asked for yet comes
first. A body that is cut is asked for again from the byte that was reached, of the agent first. If the
registry fails, the pull of the image fails, and the kubelet begins anew after a pause that doubles.
"""

from collections import deque
from collections.abc import Callable

from benchmarks.simulator.agents import Agent
from benchmarks.simulator.network import REGISTRY, Flow
from benchmarks.simulator.pulling import End, RunningPull
from benchmarks.simulator.result import RegistryFetch
from benchmarks.simulator.serving import Serving
from benchmarks.simulator.world import World

_BACK_OFF_S, _BACK_OFF_MOST_S = 10.0, 300.0  # of the kubelet
_STALL_S = 320.0  # containerd waits so long for the next byte of a registry


class ImagePull:
    """The pull of an image by one node. ``finished`` is called once, when it has all of it."""

    def __init__(
        self,
        world: World,
        serving: Serving,
        agent: Agent,
        image: int,
        finished: Callable[["ImagePull"], None],
    ) -> None:
        self.world, self.serving, self.agent, self.image = world, serving, agent, image
        self._finished = finished
        self.alive = True
        self._failures = 0
        self._free = world.scenario.slots
        self._waiting: deque[Callable[[], None]] = deque()
        self._left: set[int] = set()
        self._fetches: dict[int, ContentFetch] = {}

    def start(self) -> None:
        """Begin, or begin anew."""
        if not self.alive:
            return
        manifest, *others = self.world.contents.of_image[self.image]
        self._left = {manifest, *others}
        self._want([manifest])

    def abort(self) -> None:
        """The node is gone."""
        self.alive = False
        for fetch in self._fetches.values():
            fetch.abort()

    def has_slot(self, work: Callable[[], None]) -> None:
        """Do this as soon as a slot is free."""
        if self._free:
            self._free -= 1
            work()
        else:
            self._waiting.append(work)

    def free_slot(self) -> None:
        """A slot is free again."""
        if self._waiting:
            self.world.loop.soon(self._waiting.popleft())
        else:
            self._free += 1

    def got(self, content: int) -> None:
        """The node has this content."""
        self._fetches.pop(content, None)
        self._left.discard(content)
        manifest, *others = self.world.contents.of_image[self.image]
        if content == manifest:
            config, *layers = others
            self.world.lot.shuffle(layers)
            self._want([config, *layers])
        elif not self._left and self.alive:
            self.alive = False
            self._finished(self)

    def failed(self) -> None:
        """The registry failed: the pull fails, and is begun anew after a while."""
        if not self.alive:
            return
        for fetch in self._fetches.values():
            fetch.abort()
        self._fetches.clear()
        self._waiting.clear()
        self._free = self.world.scenario.slots
        self.world.counts.failed_pulls += 1
        pause_s = min(_BACK_OFF_S * 2**self._failures, _BACK_OFF_MOST_S)
        self._failures += 1
        self.world.loop.after(pause_s, self.start)

    def _want(self, contents: list[int]) -> None:
        fetches = []
        for content in contents:
            if self.world.contents.complete[content, self.agent.number]:
                self.got(content)
            else:
                fetches.append(ContentFetch(self, content))
        for fetch in fetches:
            self._fetches[fetch.content] = fetch
            self.has_slot(fetch.ask)


class ContentFetch:
    """How one content comes to the node."""

    def __init__(self, image: ImagePull, content: int) -> None:
        self._image, self.content = image, content
        self._world, self._node = image.world, image.agent.number
        self.pull: RunningPull | None = None
        self._flow: Flow | None = None
        self._over = False

    @property
    def _has_bytes(self) -> int:
        return int(self._world.network.have[self.content, self._node])

    def ask(self) -> None:
        """Ask the agent. The slot is taken."""
        if self._over:
            return
        world = self._world
        if not world.contents.arriving[self.content, self._node]:
            world.contents.arriving[self.content, self._node] = True
            world.began_s[self.content, self._node] = world.now_s
        self.pull = RunningPull(
            world, self._image.serving, self._image.agent, self.content, self._has_bytes, self._pull_ended
        )
        self.pull.start()

    def abort(self) -> None:
        """Stop. What came until now is lost."""
        if self._over:
            return
        self._over = True
        if self.pull is not None:
            self.pull.abort()
        if self._flow is not None:
            self._world.ended(self._flow)
            self._flow = None
        self._world.lost(self.content, self._node)

    def _pull_ended(self, end: End) -> None:
        self.pull = None
        if self._over:
            return
        if end is End.WHOLE:
            self._commit()
        elif end is End.CUT:
            self._world.loop.soon(self.ask)
        else:
            self._image.free_slot()
            self._image.has_slot(self._ask_registry)

    def _ask_registry(self) -> None:
        if self._over:
            return
        world = self._world
        world.counts.fetches.append(
            RegistryFetch(node=self._node, content=self.content, at_s=world.now_s, offset=self._has_bytes)
        )
        world.loop.after(world.scenario.links.registry_first_byte_s, self._registry_answers)

    def _registry_answers(self) -> None:
        world, links = self._world, self._world.scenario.links
        if self._over:
            return
        if world.registry_down or self._image.agent.zone in world.cut:
            self._over = True
            world.lost(self.content, self._node)
            self._image.failed()
            return
        self._flow = world.network.open(
            REGISTRY,
            self._node,
            self.content,
            self,
            limit=min(links.registry_stream_bytes_per_s, links.containerd_bytes_per_s),
            now_s=world.now_s,
            patience_s=_STALL_S,
            look_s=float("inf"),
        )

    def whole(self, flow: Flow) -> None:
        """See `Receiver`."""
        self._world.ended(flow)
        self._flow = None
        self._commit()

    def stalled(self, _: Flow) -> None:
        """See `Receiver`: the registry gives nothing for minutes."""
        self._image.failed()

    def look(self, _: Flow) -> None:
        """See `Receiver`: nothing to look at."""

    def source_gone(self, _: Flow) -> None:
        """See `Receiver`: a registry keeps what it has."""

    def _commit(self) -> None:
        world = self._world
        world.finished_s[self.content, self._node] = world.now_s
        world.loop.after(world.scenario.links.commit_s, self._committed)

    def _committed(self) -> None:
        if self._over:
            return
        self._over = True
        self._image.agent.depths.pop(self.content, None)
        self._world.contents.commit(self.content, self._node)
        self._image.free_slot()
        self._image.got(self.content)

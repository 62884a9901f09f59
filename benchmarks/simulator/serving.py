"""What a node answers to another one that asks it for a content. The rules are the product's."""

from dataclasses import dataclass

from agent.pull.admission import Refused, Upload
from agent.pull.arrival import AHEAD_S
from agent.pull.events import Failure
from agent.pull.fanout import Admitted, Shared, is_shared_out
from benchmarks.simulator.agents import Agent
from benchmarks.simulator.clock import Alarm
from benchmarks.simulator.world import World
from topology.placement import NodeName


@dataclass(slots=True, eq=False)
class Request:
    """A request for the bytes of a content from ``position`` on. ``closed``: nobody waits for the answer.

    ``waits``: for a moment, if the content is still arriving there, and not as far yet.
    """

    asker: Agent
    source: int
    content: int
    position: int
    follow: bool
    waits: bool
    owner: "Answered"
    giver: Agent | None = None
    place: Admitted | None = None
    upload: Upload | None = None
    closed: bool = False
    until_s: float = 0.0
    alarm: Alarm | None = None


class Answered:
    """Whoever is told of the answer."""

    def answered(self, request: Request, percent: int | None) -> None:
        """First bytes are there. ``percent``: how much of it is there; None: all."""
        raise NotImplementedError

    def refused(
        self,
        request: Request,
        failure: Failure,
        *,
        told_s: float | None = None,
        instead: tuple[NodeName, ...] = (),
    ) -> None:
        """There will be no body."""
        raise NotImplementedError


class Serving:
    """All nodes as those that are asked."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._parked: dict[tuple[int, int], list[Request]] = {}

    def ask(self, request: Request) -> None:
        """The request is at its node."""
        world, source = self._world, self._world.agents[request.source]
        if request.closed or source.frozen or not world.reaches(request.asker.number, request.source):
            return  # no answer comes
        contents = world.contents
        if contents.complete[request.content, request.source]:
            self._give(request, source, in_flight=False)
        elif request.follow and contents.arriving[request.content, request.source]:
            self._give(request, source, in_flight=True)
        else:
            self._refuse(request, Failure.MISSING)

    def _give(self, request: Request, source: Agent, *, in_flight: bool) -> None:
        world = self._world
        content, asker, now_s = world.contents.all[request.content], request.asker, world.now_s
        request.giver = source
        part = request.position > 0
        if is_shared_out(content.size_bytes, part=part, in_flight=in_flight) and request.follow:
            zone = world.snapshot(source).zone_of(asker.name)
            asked = source.fanout.ask(content.digest, asker.name, zone, now_s, in_flight=in_flight)
            if isinstance(asked, Shared):
                world.counts.shared += 1
                self._refuse(request, Failure.SHARED, instead=asked.nodes)
                return
            request.place = asked
        upload = source.admission.admit(
            asker.name,
            content.size_bytes - request.position,
            now_s,
            blob=content.digest,
            start=request.position,
            part=part,
        )
        if isinstance(upload, Refused):
            self.close(request, whole=False)
            world.counts.busy += 1
            self._refuse(request, Failure.BUSY, told_s=upload.wait_s)
            return
        request.upload = upload
        if not in_flight:
            self._answer(request, None)
        elif int(world.network.have[request.content, request.source]) > request.position:
            self._answer(request, self._percent(request))
        elif not request.waits:
            self._starve(request)
        else:
            request.until_s = now_s + AHEAD_S
            self._parked.setdefault((request.content, request.source), []).append(request)
            request.alarm = world.loop.alarm(request.until_s, self._not_ahead, request)

    def wake(self) -> None:
        """Answer those that waited for a byte that is there by now."""
        have, complete = self._world.network.have, self._world.contents.complete
        for key in [*self._parked]:
            content, source = key
            there = int(have[content, source])
            left = []
            for request in self._parked[key]:
                if request.closed:
                    continue
                if there > request.position:
                    self._answer(request, None if complete[content, source] else self._percent(request))
                else:
                    left.append(request)
            if left:
                self._parked[key] = left
            else:
                del self._parked[key]

    def close(self, request: Request, *, whole: bool) -> None:
        """The body ended, or nobody wants it any more."""
        request.closed = True
        if request.alarm is not None:
            request.alarm.cancel()
        source, now_s = request.giver, self._world.now_s
        if source is None:
            return
        if request.upload is not None:
            source.admission.ended(request.upload, now_s)
            request.upload = None
        if request.place is not None:
            source.fanout.ended(request.place, now_s, whole=whole)
            request.place = None

    def _not_ahead(self, request: Request) -> None:
        parked = self._parked.get((request.content, request.source), ())
        if not request.closed and any(each is request for each in parked):
            self._starve(request)

    def _starve(self, request: Request) -> None:
        """The byte that it wants is not here."""
        self.close(request, whole=False)
        self._world.counts.starved += 1
        self._refuse(request, Failure.STARVED)

    def _percent(self, request: Request) -> int:
        size = self._world.contents.all[request.content].size_bytes
        return 100 * int(self._world.network.have[request.content, request.source]) // size

    def _answer(self, request: Request, percent: int | None) -> None:
        self._world.loop.after(self._way_back_s(request), request.owner.answered, request, percent)

    def _refuse(
        self,
        request: Request,
        failure: Failure,
        *,
        told_s: float | None = None,
        instead: tuple[NodeName, ...] = (),
    ) -> None:
        request.closed = True
        self._world.loop.after(self._way_back_s(request), self._tell, request, failure, told_s, instead)

    def _tell(
        self, request: Request, failure: Failure, told_s: float | None, instead: tuple[NodeName, ...]
    ) -> None:
        request.owner.refused(request, failure, told_s=told_s, instead=instead)

    def _way_back_s(self, request: Request) -> float:
        return self._world.places.rtt_s(request.asker.number, request.source) / 2

"""This node at a glance: ``/api/overview``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from agent import __version__
from agent.admin.claims import ClaimsView
from agent.admin.readiness import Readiness
from agent.admin.sums import sums_entry
from agent.content.scrub import Scrubber
from agent.content.store import ContentStore
from agent.documents.doctor import DoctorDocument
from agent.documents.overview import (
    CanaryBriefEntry,
    ClaimsBriefEntry,
    ComponentEntry,
    ContentBriefEntry,
    IndexBriefEntry,
    OverviewDocument,
    ProofEntry,
    QuantilesEntry,
    RequestCountEntry,
    SuccessEntry,
    TransfersBriefEntry,
    TroubleEntry,
)
from agent.documents.times import Moment
from agent.flows.book import FlowBook
from agent.holders.index import HolderIndex
from agent.listen.traffic import Traffic
from agent.members.problems import Problem
from agent.members.roster import Roster
from agent.observe.mirror_metrics import Outcome
from agent.observe.quantiles import Durations, joined
from agent.observe.requests import RequestPath
from agent.observe.tally import Tally
from agent.pull.policy import Policy
from agent.transfer.executor import Puller
from topology.labels import LabelProblem
from topology.placement import NodeName, Tier

_PROBLEMS_MAX = 40  # after so many, a person looks for their common cause


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewView:
    """Reads the state of the agent's parts.

    ``problems``: what is wrong around this node. ``doctor``: what the doctor found last. ``trouble``: why
    this node could not ask others a moment ago; empty: it could. ``tabs``: how many streams are open.
    """

    own: NodeName
    instance: str
    began: Moment
    roster: Roster
    policy: Policy
    store: ContentStore
    scrubber: Scrubber
    index: HolderIndex
    claims: ClaimsView
    puller: Puller
    traffic: Traffic
    book: FlowBook
    readiness: Readiness
    tally: Tally
    problems: Callable[[], Sequence[Problem]]
    doctor: Callable[[], DoctorDocument | None]
    trouble: Callable[[float], str]
    tabs: Callable[[], int]

    def document(self, moment: Moment) -> OverviewDocument:
        """The overview of now. It asks nobody."""
        now_s, roster, tally = moment.now_s, self.roster, self.tally
        reason = self.readiness.reason()
        components = tuple(self._components())
        trouble = self.trouble(now_s)
        cooling = roster.peers.keys() & set(self.policy.regard.cooling(now_s))
        silent = roster.peers.keys() & set(self.policy.regard.silent())
        window_s, uptime_s = tally.window_s(now_s), max(0.0, now_s - self.began.now_s)
        placement = roster.snapshot.standings[self.own].placement
        return OverviewDocument(
            time=moment.text,
            node=self.own,
            region=placement.region,
            zone=placement.zone,
            version=__version__,
            instance=self.instance,
            since=moment.text_of(self.began.now_s),
            uptime_s=round(uptime_s, 3),
            ready=reason is None,
            why_not_ready=reason,
            phase=self.readiness.phase.value,
            components=components,
            problems=tuple(islice(self._problems(components, trouble, len(silent)), _PROBLEMS_MAX)),
            own_trouble=trouble,
            members=len(roster) + 1,
            peers_reachable=len(roster) - len(cooling | silent),
            peers_cooling=len(cooling),
            peers_silent=len(silent),
            window_s=round(window_s, 3),
            window=sums_entry(tally.window(), window_s),
            total=sums_entry(tally.total(), uptime_s),
            requests=tuple(self._requests()),
            success=tuple(self._success(path) for path in (RequestPath.HOSTPORT, RequestPath.NODEPORT)),
            first_byte=tuple(self._first_bytes()),
            lookup=_quantiles("all", None, tally.lookups()),
            proof=self._proof(moment),
            index=self._index(),
            claims=self._claims(),
            transfers=TransfersBriefEntry(
                downloads=len(self.puller.running),
                uploads=self.traffic.uploads,
                uploads_refused=self.traffic.admission.refused,
            ),
            content=self._content(),
            tabs=self.tabs(),
        )

    def _components(self) -> Iterator[ComponentEntry]:
        for one in self.readiness.components:
            problem = one.problem()
            yield ComponentEntry(
                key=one.key,
                name=one.name,
                ok=problem is None,
                required=one.required,
                problem=problem,
                hint="" if problem is None else one.advice,
                state=one.state() if problem is None else "",
            )

    def _problems(
        self, components: Sequence[ComponentEntry], trouble: str, silent: int
    ) -> Iterator[TroubleEntry]:
        """The gravest first: what makes the agent unready, what spoils pulls, what should be mended."""
        broken = [one for one in components if not one.ok]
        for one in sorted(broken, key=lambda one: not one.required):
            if one.required:
                yield _trouble(one.name, one.problem or "", one.hint, grave=True)
        if trouble:
            yield _trouble(
                "this node's network",
                trouble,
                "look at this node first: what it says of others is doubtful meanwhile",
                grave=True,
            )
        corrupt = len(self.scrubber.withdrawn)
        if corrupt:
            yield _trouble(
                "this node's content",
                f"{corrupt} blobs were found corrupt and withdrawn",
                "`shorthaul scrub` lists them: remove the images that use them, to pull these again",
                grave=True,
            )
        findings = self._findings()
        yield from (found for found in findings if found.grave)
        for one in broken:
            if not one.required:
                yield _trouble(one.name, one.problem or "", one.hint)
        if silent and not trouble:
            words = "1 peer does not answer" if silent == 1 else f"{silent} peers do not answer"
            yield _trouble("peers", words, "`shorthaul topology` names them; are their nodes and agents up?")
        yield from (found for found in findings if not found.grave)
        yield from map(_found, self.problems())
        yield from map(_found, self.roster.problems)

    def _findings(self) -> tuple[TroubleEntry, ...]:
        """What the doctor found when it looked last, if anything is to be done about it."""
        last = self.doctor()
        return tuple(
            _trouble(f"doctor: {each.subject}", each.found, each.hint, grave=each.status == "bad")
            for each in (() if last is None else last.findings)
            if each.status in ("bad", "warn")
        )

    def _requests(self) -> Iterator[RequestCountEntry]:
        for path, result, in_window, since_start in self.tally.results():
            yield RequestCountEntry(
                path=path.value, result=result.value, in_window=in_window, since_start=since_start
            )

    def _success(self, sought: RequestPath) -> SuccessEntry:
        found = self.tally.outcomes(sought)
        asked, served = sum(found.values()), found.get(Outcome.SERVED, 0)
        return SuccessEntry(
            path=sought.value,
            asked=asked,
            served=served,
            missed=found.get(Outcome.MISSED, 0),
            failed=found.get(Outcome.FAILED, 0),
            share=round(served / asked, 6) if asked else None,
        )

    def _first_bytes(self) -> Iterator[QuantilesEntry]:
        by_tier = self.tally.first_bytes()
        yield _quantiles("all", None, joined(by_tier.values()))
        yield _quantiles("local", None, by_tier.get(Tier.NODE, Durations()))
        yield _quantiles(
            "peer", None, joined(each for tier, each in by_tier.items() if tier is not Tier.NODE)
        )
        for tier, durations in by_tier.items():
            if tier is not Tier.NODE:
                yield _quantiles("peer", tier.label, durations)

    def _proof(self, moment: Moment) -> ProofEntry:
        proved, why = self.book.proved(moment.now_s)
        canaries = (
            CanaryBriefEntry(
                endpoint=canary.endpoint.value,
                verdict=canary.verdict.value,
                sent_at=moment.text_of(canary.at_s),
            )
            for canary in self.book.proof.canaries
        )
        return ProofEntry(probe=self.book.connected, proved=proved, why=why, canaries=tuple(canaries))

    def _index(self) -> IndexBriefEntry:
        status = self.index.status()
        return IndexBriefEntry(
            index=status.index,
            state=status.state.value,
            words=status.state.words,
            problem=status.problem,
            hint=status.hint,
        )

    def _claims(self) -> ClaimsBriefEntry:
        numbers = self.claims.numbers()
        return ClaimsBriefEntry(
            held=numbers["held"],
            awaited=numbers["waiting"],
            decided=numbers["decided"],
            followers=self.traffic.followers,
        )

    def _content(self) -> ContentBriefEntry:
        blobs, size_bytes = self.store.totals
        return ContentBriefEntry(
            blobs=blobs,
            size_bytes=size_bytes,
            unreadable=len(self.store.unreadable),
            corrupt=len(self.scrubber.withdrawn),
            scrub=self.scrubber.state,
        )


def without_time(document: OverviewDocument) -> OverviewDocument:
    """The same for all moments at which nothing happened: without what changes by itself."""
    return replace(
        document,
        time="",
        since="",
        uptime_s=0.0,
        window_s=0.0,
        window=replace(document.window, seconds=0.0),
        total=replace(document.total, seconds=0.0),
        components=tuple(replace(one, state="") for one in document.components),
        proof=replace(document.proof, canaries=()),
    )


def _trouble(what: str, problem: str, hint: str, *, grave: bool = False) -> TroubleEntry:
    return TroubleEntry(grave=grave, what=what, node=None, problem=problem, hint=hint)


def _found(found: Problem | LabelProblem) -> TroubleEntry:
    return TroubleEntry(
        grave=False, what="the cluster", node=found.node, problem=found.problem, hint=found.hint
    )


def _quantiles(source: str, tier: str | None, durations: Durations) -> QuantilesEntry:
    p50_s, p95_s, p99_s = durations.quantiles(0.5, 0.95, 0.99)
    return QuantilesEntry(
        source=source, tier=tier, count=durations.count, p50_s=p50_s, p95_s=p95_s, p99_s=p99_s
    )

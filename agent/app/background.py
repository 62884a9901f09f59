"""Makes the background tasks, the components whose state is watched, and what SIGHUP does."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.admin.index import state_in_words, warning_in_words
from agent.admin.readiness import Phase
from agent.app.core import Core
from agent.app.inbound import Inbound
from agent.app.outbound import Outbound
from agent.config import ContainerdStore, Settings
from agent.config.reload import SettingsReload
from agent.content.store import unreadable_in_words
from agent.hangup import Hangup
from agent.holders.announcer import announce_store
from agent.holders.index import HolderIndex
from agent.keyring import KeyFile
from agent.listen.health import ListenerHealth
from agent.listen.http import HttpListener
from agent.members.problems import Problem
from agent.memory import settle
from agent.observe import log
from agent.observe.components import Component, follow_components
from agent.observe.metrics import Metrics
from agent.observe.pulse import Pulse
from agent.peering.tls import LOOK_S, PeerTls
from agent.probe.follower import ProbeFollower
from agent.probe.reader import OwnSockets

_log = logging.getLogger("shorthaul")

_DIFFERS = "look at that node: its log says why, and its key, clock or list of peers is to be corrected"
_KEY_S = 5.0  # a Secret takes a minute to reach a node; a look costs a stat

Background = Mapping[str, Callable[[], Coroutine[Any, Any, None]]]
"""The background tasks by name. Each runs until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rereading:
    """When settings are read again, and how. ``doctor``: the command that looks at this node with them."""

    hangup: Hangup
    read: Callable[[], Settings]
    doctor: tuple[str, ...] = ()


def make_background(
    settings: Settings,
    core: Core,
    outbound: Outbound,
    inbound: Inbound,
    rereading: Rereading,
) -> Background:
    """The background tasks. Each runs until it is cancelled."""
    reload = _make_reload(settings, core, rereading.read)
    follower = ProbeFollower(
        settings.probe.socket,
        own=OwnSockets(
            node=core.own,
            listeners=tuple(one.socket for one in inbound.listeners.values()),
            accepted=core.records.accepted,
            known=lambda: core.records.book.known_programs,
        ),
        book=core.records.book,
        roster=core.members.roster,
        metrics=core.records.metrics,
    )
    pulse = Pulse(core.records.metrics.loop_lag)
    listening = ListenerHealth(
        inbound.listeners, expected=lambda: core.records.readiness.phase is Phase.SERVING
    )
    components = _components(settings, core, outbound, inbound, listening, pulse)
    core.records.readiness.watch(components)
    return {
        "pulse": pulse.run,
        "tally": core.records.tally.run,
        "gathering": inbound.gatherer.run,
        "listeners": listening.run,
        "store": core.content.store.run,
        "references": core.content.tracer.run,
        "holder index": outbound.index.run,
        **_keep_index_server(outbound),
        "announcer": partial(announce_store, core.content.offer, outbound.index),
        "key": partial(_follow_key, core, outbound, inbound),
        "members": partial(core.members.membership.run, core.members.roster.update),
        "placement": partial(core.members.placement.run, core.members.roster.place),
        "latency": outbound.measurer.run,
        "standing channels": outbound.standing.run,
        "memory": settle,
        "topology": core.members.roster.follow,
        "verdicts": follower.run,
        "commits": outbound.puller.commits.run,
        "checks": outbound.puller.checks.run,
        **_keep_claims(outbound),
        "scrub": core.content.scrubber.run,
        "identities": core.members.identities.run,
        **_follow_tls(core),
        "components": partial(follow_components, components),
        "doctor": core.records.doctoring.run,
        "reload": partial(rereading.hangup.follow, reload),
    }


def _components(
    settings: Settings,
    core: Core,
    outbound: Outbound,
    inbound: Inbound,
    listening: ListenerHealth,
    pulse: Pulse,
) -> tuple[Component, ...]:
    listeners = (
        Component(
            name=f"listen.{name}",
            key=f"listen_{name}",
            problem=partial(listening.problem, name),
            hint="see `ss -ltnp` and the limit of open files; a restart opens the socket again",
            state=partial(_connections, listener),
        )
        for name, listener in inbound.listeners.items()
    )
    return (
        *_store_components(settings, core),
        *listeners,
        Component(
            name="who is at the HostPort",
            key="callers",
            problem=lambda: inbound.clients.problem,
            hint=lambda: inbound.clients.hint,
            required=False,  # other nodes' containerds are served as well without it
            state=inbound.clients.state,
        ),
        Component(
            name="the cluster's key",
            key="key",
            problem=lambda: _key_trouble(core, outbound)[0] or None,
            hint=lambda: _key_trouble(core, outbound)[1],
            required=False,  # this node's own content is served without it
            state=lambda: _key_state(settings, core),
        ),
        Component(
            name="the membership",
            key="membership",
            problem=lambda: _membership_problem(settings, core),
            hint=lambda: (
                core.members.membership.hint or "see the log: it says why the list of peers can't be read"
            ),
            required=False,
            state=lambda: f"{len(core.members.roster)} peers",
        ),
        *_index_components(outbound.index),
        *_tls_components(core.tls),
        Component(
            name="the probe",
            key="probe",
            problem=lambda: None,  # a node without one serves as well; its metrics tell
            hint="",
            required=False,
            state=lambda: core.records.book.proved(time.monotonic())[1],
        ),
        Component(
            name="the event loop",
            key="event_loop",
            problem=lambda: None,
            hint="",
            required=False,
            state=pulse.state,
        ),
    )


def _store_components(settings: Settings, core: Core) -> tuple[Component, ...]:
    if isinstance(settings.store, ContainerdStore):
        hint = "does containerd run, and may this agent use the socket and the root that `store` names?"
    else:
        hint = "may this agent read the image layout that `store` names?"

    def state() -> str:
        blobs, size_bytes = core.content.store.totals
        return f"{blobs} blobs, {size_bytes / 1e9:.1f} GB"

    return (
        Component(
            name="the store", key="store", problem=lambda: core.content.store.problem, hint=hint, state=state
        ),
        Component(
            name="what the store's names reference",
            key="references",
            problem=lambda: core.content.tracer.problem,
            hint="ten thousand images take some seconds; if the store has a problem, mend that first",
        ),
        Component(
            name="reading the store's files",
            key="store_files",
            problem=lambda: core.content.store.detour,
            hint="let the agent read them (in a pod: mount containerd's content, add DAC_READ_SEARCH): the "
            "other way costs several times the processor",
            required=False,
        ),
        Component(
            name="part of this node's content",
            key="content",
            problem=partial(unreadable_in_words, core.content.store),
            hint="let the agent read these files; `shorthaul scrub` lists them; no peer is told",
            required=False,
            state=lambda: "all of it can be read",
        ),
    )


def _index_components(index: HolderIndex) -> tuple[Component, ...]:
    """Never required: near peers are asked in place of a server, and this node's own content is served."""

    def warning(part: int) -> str:
        words = warning_in_words(index.status())
        return "" if words is None else words[part]

    return (
        Component(
            name="the index",
            key="index",
            problem=lambda: index.status().problem,
            hint=lambda: index.status().hint or "shorthaul index says more",
            required=False,
            state=lambda: state_in_words(index.status()),
        ),
        Component(
            name="the choice of the index",
            key="index_choice",
            problem=lambda: warning(0) or None,
            hint=lambda: warning(1),
            required=False,
            state=lambda: "nothing speaks against it",
            wrong="should be changed",
            right="is as it should be",
        ),
    )


def _tls_components(tls: PeerTls | None) -> tuple[Component, ...]:
    if tls is None:
        return ()
    return (
        Component(
            name="the certificate for peers",
            key="certificate",
            problem=lambda: tls.problem,
            hint=lambda: tls.hint,
            required=False,  # this node's own content is served as before
            state=lambda: tls.state,
        ),
    )


def _keep_index_server(outbound: Outbound) -> Background:
    return {} if outbound.index_server is None else {"index server": outbound.index_server.run}


def _keep_claims(outbound: Outbound) -> Background:
    fences = {} if outbound.fenced is None else {"fences of claims": outbound.fenced.run}
    return fences if outbound.claimant is None else {"claims": outbound.claimant.run, **fences}


def _follow_tls(core: Core) -> Background:
    if core.tls is None:
        return {}
    return {"certificate": partial(_follow_certificate, core.tls, core.records.metrics)}


async def _follow_certificate(tls: PeerTls, metrics: Metrics) -> None:
    """Use a renewed certificate soon after its files changed, until cancelled."""
    while True:
        tls.reread()
        metrics.certificate_ends(tls.certificate.not_after_s)
        await asyncio.sleep(LOOK_S)


def _connections(listener: HttpListener) -> str:
    return f"{listener.connections} connections"


def _membership_problem(settings: Settings, core: Core) -> str | None:
    if core.members.membership.problem is not None:
        return core.members.membership.problem
    if settings.membership.name == "none" or core.members.known.is_set():
        return None
    return "no list of peers was read yet"


def _key_trouble(core: Core, outbound: Outbound) -> tuple[str, str]:
    """What is wrong with this node's proof, and what to do. Empty: nothing."""
    refused = outbound.acceptance.problem(time.monotonic())
    if refused is not None:
        return refused.words, refused.hint
    if core.key is not None and core.key.problem is not None:
        return f"{core.key.path}: {core.key.problem}; the keys of before stay", core.key.problem.hint
    return "", ""


def _key_state(settings: Settings, core: Core) -> str:
    names = "none" if core.key is None else ", ".join(core.key.ring.ids)
    return f"{names} (open: nobody has to prove anything)" if settings.peering.open else names


async def _follow_key(core: Core, outbound: Outbound, inbound: Inbound) -> None:
    """Read the cluster's key again when its file changes, and tell which peers differ, until cancelled.

    Standing connections that were opened with a key that has gone are ended: it may have been stolen.
    """
    known = core.credentials.ring()
    while True:
        if core.key is not None:
            _reread_key(core.key)
            if core.key.ring != known:
                known = core.key.ring
                await inbound.questions.close(core.credentials.still_accepts)
                await inbound.reports.close(core.credentials.still_accepts)
        core.records.problems.found(
            "the cluster's key",
            (
                Problem(node=node, problem=f"{node} {refusal.words}; others accept it", hint=_DIFFERS)
                for node, refusal in outbound.acceptance.alone(time.monotonic())
            ),
        )
        await asyncio.sleep(_KEY_S)


def _reread_key(key: KeyFile, *, at_once: bool = False) -> None:
    before = key.ring
    if key.reread(time.monotonic(), at_once=at_once) and key.ring != before:
        _log.info("the cluster's keys changed", extra={"fields": {"keys": ", ".join(key.ring.ids)}})


def _make_reload(
    settings: Settings, core: Core, read: Callable[[], Settings]
) -> Callable[[], Coroutine[Any, Any, None]]:
    """What SIGHUP does: read the peers, the labels and the settings again."""

    def use_filters(new: Settings) -> None:
        core.content.filtering.use(new)
        core.records.problems.found("filters", core.content.filtering.contradictions)

    changing = SettingsReload(settings, read, core.records.reloads)
    changing.on(core.content.filtering.KEYS, use_filters)
    changing.on(["log.level"], lambda new: log.set_level(new.log.level))

    async def reload() -> None:
        if core.tls is not None:
            core.tls.reread(at_once=True)
        if core.key is not None:
            _reread_key(core.key, at_once=True)
        core.members.membership.reread()
        core.members.placement.reread()
        await changing.reload()

    return reload

"""Makes every part of the agent from its settings, and connects the parts. Awaits nothing, starts nothing.

`agent.lifecycle` starts and stops the parts. Call `build` inside the event loop that will run them: some
parts bind to the running loop.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.app.background import Background, Rereading, make_background
from agent.app.core import Core, make_core
from agent.app.inbound import Inbound, make_inbound
from agent.app.outbound import Outbound, make_outbound
from agent.config import Settings
from agent.listen.sockets import ListenError, ListenErrors, inherited, open_listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All parts of the agent, connected and not started."""

    settings: Settings
    core: Core
    outbound: Outbound
    inbound: Inbound
    background: Background


def build(
    settings: Settings,
    sockets: Mapping[str, socket.socket],
    rereading: Rereading,
) -> Parts:
    """The parts of an agent with these settings.

    ``sockets``: see `open_listeners`. One more, named `HEALTH`, answers for this agent alone.
    """
    core = make_core(settings, doctor=rereading.doctor)
    outbound = make_outbound(settings, core)
    inbound = make_inbound(settings, core, outbound, sockets)
    return Parts(
        settings=settings,
        core=core,
        outbound=outbound,
        inbound=inbound,
        background=make_background(settings, core, outbound, inbound, rereading),
    )


def open_listeners(settings: Settings, given: Sequence[socket.socket] = ()) -> dict[str, socket.socket]:
    """The four listening sockets, by their names in the settings.

    ``given``: those of an older agent of this node. The ones that fit are used, the others are left alone.
    Raises `ListenErrors` if one can't be opened. Then none that was opened here stays open.
    """
    found: dict[str, socket.socket] = {}
    opened: list[socket.socket] = []
    errors: list[ListenError] = []
    for name, endpoint in settings.listen.endpoints.items():
        try:
            listener = inherited(given, endpoint)
            if listener is None:
                listener = open_listener(name, endpoint)
                opened.append(listener)
            found[name] = listener
        except ListenError as error:
            errors.append(error)
    if errors:
        for listener in opened:
            listener.close()
        raise ListenErrors(errors)
    return found

"""Who an agent says it is when somebody connects to it. Nothing proves it."""

from dataclasses import dataclass

from topology.placement import Placement

PEER_LISTENER = "peer"
"""The listener for other agents, by its name in the settings. The others are for clients and operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What an agent says of itself.

    ``name``: its node. ``instance``: a word that only its process uses. ``listener``: which of its listeners
    this is, by its name in the settings. ``placement``: where it is. None if it does not say.
    """

    name: str
    instance: str
    listener: str = PEER_LISTENER
    placement: Placement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Something answered at a peer's address.

    ``who``: what it says of itself. None: nothing, so it is no agent. ``how``: how it answered, in words.
    """

    who: Introduction | None
    how: str

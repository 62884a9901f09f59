"""Whether this node gives images to any pod that names them, without asking their registry. Pure."""

from agent.documents.registries import REGISTRY, RegistriesDocument
from agent.preflight.check import Check, good, listed, warn
from agent.preflight.gather import Unknown

NAME = "private images"
_HINT = (
    "for private ones set registries.authorize to [{match: REGISTRY/*, by: registry}], on every node; "
    "if all of them are public, say so with by: mirror"
)


def who_decides(found: RegistriesDocument | Unknown) -> tuple[Check, ...]:
    """Which registries this node leaves the decision to, and of which it gives images to everybody."""
    if isinstance(found, Unknown):
        return ()  # `agent_parts` says that the agent does not answer
    given = [each.registry for each in found.registries if each.by != REGISTRY and not each.chosen]
    if given:
        words = f"any pod of the cluster gets images of {listed(given)} from nodes that have them"
        return (warn(NAME, f"{words}, without credentials", hint=_HINT),)
    left = [each.registry for each in found.registries if each.by == REGISTRY]
    if left:
        return (good(NAME, f"who may have images of {listed(left)}, their registry decides"),)
    return (good(NAME, "registries.authorize says for all images here that the mirror decides"),) * bool(
        found.registries
    )

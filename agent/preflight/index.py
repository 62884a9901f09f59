"""Is the index's server reached with the settings of this node, and is it what the index needs?

The agent says itself whether it uses the server; what it warns of is among its parts. This look is its own
connection, with the same settings and files, so that it also says what an agent would find that does not run.
"""

import asyncio
from typing import TYPE_CHECKING

from agent.config import IndexUrl, Settings
from agent.keyring import KeysInvalid, read_keys
from agent.preflight.check import Check, good, shown, unknown, warn
from agent.preflight.gather import Unknown

if TYPE_CHECKING:
    from agent.holders.valkey.factory import Glance

NAME = "the index's server"
_AT_MOST_S = 8.0


def look_at_index(settings: Settings) -> "Glance":
    """Connect once as the agent does. Blocks for some seconds at most. Raises TimeoutError."""
    # Imported here and not at the top: a node without such a server does not need the client.
    from agent.holders.valkey.factory import glance

    async def look() -> "Glance":
        async with asyncio.timeout(_AT_MOST_S):
            return await glance(settings, _key_ids(settings))

    return asyncio.run(look())


def _key_ids(settings: Settings) -> tuple[str, ...]:
    if settings.peering.key is None:
        return ()
    try:
        return read_keys(settings.peering.key).ids
    except KeysInvalid:
        return ()  # the look at the key's file says why


def index_server(found: "Glance | Unknown | None", index: str | IndexUrl) -> tuple[Check, ...]:
    """What was found. None: there is no server."""
    if found is None:
        return ()
    if isinstance(found, Unknown):
        return (unknown(NAME, found.why),)
    where = shown(str(index))
    trouble = found.trouble
    if trouble is not None:
        said = f"{where}: {shown(trouble.words, 250)}; near peers are asked in its place"
        return (warn(NAME, said, hint=shown(trouble.hint, 250) or "shorthaul index says more"),)
    return (good(NAME, f"{where}: {', '.join(_facts(found))}"),)


def _facts(found: "Glance") -> list[str]:
    facts = found.facts
    version = shown(facts.version or "its version is not told", 40)
    latency = "" if found.latency_us is None else f" answers in {found.latency_us / 1000:.1f} ms"
    said = [f"{version}{latency}"]
    if facts.used_bytes is not None:
        most = f" of {facts.most_bytes / 1e6:.0f}" if facts.most_bytes else ""
        said.append(f"{facts.used_bytes / 1e6:.0f}{most} MB used")
    if facts.policy is not None:
        said.append(shown(facts.policy, 30))
    said.append("no agent has used it yet" if found.cluster is None else "it has this cluster's keys")
    return said

"""Where the agent of the pod's node had the bytes of a pull from, by its own word.

It is on the admin port, which a pod on the host's network reaches on loopback. Where the agent has a network
of its own, nothing is known.
"""

import asyncio
from collections import Counter

from agent.cli.adminclient import read, request_json
from agent.cli.errors import CommandError
from agent.config.settings import Settings
from agent.documents.pulls import PullEntry, PullsDocument
from benchmarks.cluster.traces import repository
from benchmarks.cluster.wire import TierBytes

_AGENT_S = 5.0
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Witness:
    """The agent's word on the pull of one image. ``image``: as a person names it."""

    def __init__(self, settings: Settings, image: str) -> None:
        admin = settings.listen.admin
        host = _LOOPBACK.get(admin.host, admin.host)
        self._url = f"http://[{host}]:{admin.port}" if ":" in host else f"http://{host}:{admin.port}"
        self._image = repository(image)
        self._before: frozenset[str] = frozenset()

    async def begin(self) -> None:
        """Remember which pulls there were before."""
        self._before = frozenset(each.id for each in await self._pulls() or ())

    async def tiers(self) -> tuple[TierBytes, ...] | None:
        """How many bytes came from nodes of each tier since. None: the agent does not say."""
        pulls = await self._pulls()
        if pulls is None:
            return None
        found: Counter[str] = Counter()
        for each in pulls:
            if each.image == self._image and each.id not in self._before:
                for tier in each.bytes_by_tier:
                    found[tier.tier] += tier.size_bytes
        return tuple(TierBytes(tier=tier, bytes=count) for tier, count in sorted(found.items()))

    async def _pulls(self) -> tuple[PullEntry, ...] | None:
        try:
            return await asyncio.to_thread(self._ask)
        except CommandError:
            return None

    def _ask(self) -> tuple[PullEntry, ...]:
        answer = request_json(self._url, PullsDocument.PATH, deadline_s=_AGENT_S)
        return read(PullsDocument, answer).pulls

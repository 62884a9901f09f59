"""The fences of claims on the index's server. What they are for: `agent.holders.fences`.

Each is one key, which scripts set and change, because a look and a change have to be one step. A number
is the server's time in milliseconds, or one more than the last one of its key.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from agent.holders.claims import ClaimKey
from agent.holders.fences import Fence, decode
from agent.holders.valkey.layout import Layout
from agent.holders.valkey.trouble import IndexDown
from agent.holders.valkey.wire import Command, Reply
from topology.placement import NodeName

_TAKE = """
local there = redis.call('GET', KEYS[1])
local over = ARGV[2]
if there and (over == '' or string.sub(there, 1, #over) ~= over) then return there end
local time = redis.call('TIME')
local number = math.max(time[1] * 1000 + math.floor(time[2] / 1000), ARGV[3] + 1)
local value = ARGV[1] .. ' ' .. string.format('%.0f', number) .. ' 0 f'
redis.call('SET', KEYS[1], value, 'PX', ARGV[4])
return value
"""

_RENEW = """
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

_DROP = """
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Calls(Protocol):
    """Answers commands. See `agent.holders.valkey.server.Server`."""

    def call(self, *commands: Command) -> Coroutine[Any, Any, Sequence[Reply]]:
        """The replies in order. Raises `IndexDown`."""
        ...


class ValkeyFences:
    """See `agent.holders.fencedclaims.Fences`. ``scope``: whose claim a key is about, see `scope_of`."""

    def __init__(self, server: Calls, layout: Layout, *, scope: Callable[[ClaimKey], str]) -> None:
        self._server = server
        self._layout = layout
        self._scope = scope

    async def take(self, key: ClaimKey, own: NodeName, *, over: Fence | None) -> Fence | None:
        """See `Fences`."""
        first = Fence(node=own, number=0 if over is None else over.number)
        owner = b"" if over is None else over.owner
        replies = await self._call([self._script(_TAKE, key, own, owner, first.number, _ms(first))])
        value = replies[0] if replies else None
        return decode(value) if isinstance(value, bytes) else None

    async def renew(self, fences: Mapping[ClaimKey, Fence]) -> Mapping[ClaimKey, bool]:
        """See `Fences`."""
        replies = await self._call(
            [
                self._script(_RENEW, key, fence.owner, fence.encode(), _ms(fence))
                for key, fence in fences.items()
            ]
        )
        return {key: reply == 1 for key, reply in zip(fences, replies, strict=False) if reply in (0, 1)}

    async def drop(self, fences: Mapping[ClaimKey, Fence]) -> None:
        """See `Fences`."""
        await self._call([self._script(_DROP, key, fence.owner) for key, fence in fences.items()])

    def _script(self, script: str, key: ClaimKey, *arguments: str | bytes | int) -> Command:
        name = self._layout.claim(self._scope(key), key.realm, key.digest)
        return ("EVAL", script, 1, name, *arguments)

    async def _call(self, commands: Sequence[Command]) -> Sequence[Reply]:
        try:
            return await self._server.call(*commands)
        except IndexDown:
            return ()


def _ms(fence: Fence) -> int:
    return round(1000 * fence.lease_s)

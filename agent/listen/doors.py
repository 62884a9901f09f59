"""Whom each listener of the pull API lets in, before anything else is done for a request.

The HostPort: by whose socket the client's is (`agent.listen.localclients`), or by the service token. The
NodePort: by the service token. What is refused costs a look at the connection and at one header.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from aiohttp import web

from agent.listen.caller import Caller, Maker
from agent.listen.http import connection_caller, error_response
from agent.listen.localclients import LocalClients
from agent.listen.tokens import token_refusal
from agent.observe.refusals import Reason
from agent.observe.requests import RequestPath
from agent.oci.errors import Denied, OciError, Unauthorized
from topology.placement import NodeName

_TOKEN_HINT = (
    "send the cluster's service token, as containerd does by its hosts.toml: `shorthaul configure` with "
    "--key-file writes it there"
)


class Doors:
    """``tokens``: the service tokens that are valid now. ``open``: the NodePort asks for no token.

    ``refused``: is told of each client that was turned away: the listener and the reason. ``is_lost``:
    whether an agent, which proves that it is one, asks what only the peer listener answers.
    """

    def __init__(
        self,
        *,
        own: NodeName,
        local: LocalClients,
        callers: str,
        tokens: Callable[[], Sequence[str]],
        is_open: bool,
        refused: Callable[[str, Reason], None],
        is_lost: Callable[[web.BaseRequest], bool] = lambda _request: False,
    ) -> None:
        self._own = own
        self._local = local
        self._callers = callers
        self._tokens = tokens
        self._is_open = is_open
        self._refused = refused
        self._is_lost = is_lost

    async def turned_away(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a client that is not let in: the last one on its connection. None: it is let in."""
        connection = connection_caller(request)
        if connection.listener is RequestPath.NODEPORT and self._is_lost(request):
            return None  # it is told that this is no listener for peers
        error = await self.refusal(connection, request.headers)
        if error is None:
            return None
        response = error_response(error)
        if connection.is_local:  # a canary proves the path to the HostPort whoever it is
            response.headers.update(connection.identity_headers(self._own))
        response.force_close()
        return response

    async def refusal(self, connection: Caller, headers: Mapping[str, str]) -> OciError | None:
        """The error for a client that is not let in. None: it is. ``headers``: of any case."""
        match connection.listener:
            case RequestPath.HOSTPORT:
                return await self._at_hostport(connection, headers)
            case RequestPath.NODEPORT:
                return self._at_nodeport(headers)
            case RequestPath.PEER:
                return None
            case _:
                assert_never(connection.listener)

    async def _at_hostport(self, connection: Caller, headers: Mapping[str, str]) -> OciError | None:
        reason = await self._local.refusal(connection.maker)
        if reason is None or token_refusal(headers, self._tokens()) is None:
            return None
        self._refused("hostport", reason)
        return _denied(reason, self._callers, connection.maker)

    def _at_nodeport(self, headers: Mapping[str, str]) -> OciError | None:
        tokens = self._tokens()
        if not tokens and self._is_open:
            return None
        reason = token_refusal(headers, tokens)
        if reason is None:
            return None
        self._refused("nodeport", reason)
        if reason is Reason.NO_PROOF:
            return Unauthorized("this listener answers this cluster's nodes only", hint=_TOKEN_HINT)
        return Unauthorized("that is not this cluster's service token", hint=_TOKEN_HINT)


def _denied(reason: Reason, callers: str, maker: Maker | Reason | None) -> OciError:
    value = f"listen.local_callers: {callers}"
    whom = "root" if callers == "root" else "this node's containerd"
    match reason:
        case Reason.USER:
            assert isinstance(maker, Maker)
            message = f"this agent answers {whom} only ({value}), and you are user {maker.uid}"
            hint = "as root: sudo curl …; or ask `shorthaul explain IMAGE` where an image would come from"
        case Reason.CGROUP:
            message = f"this agent answers {whom} only ({value}), and you are not in its cgroup"
            hint = "pull with containerd (crictl pull, ctr), or ask `shorthaul explain IMAGE`"
        case _:
            message = f"this agent answers {whom} only ({value}), and the kernel does not say who you are"
            hint = "`shorthaul doctor` and /readyz?verbose of the agent say why"
    return Denied(message, hint=hint)

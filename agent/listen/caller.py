"""Who sent a request: all that other modules may know of the client behind it.

A `Caller` is made once per connection and refined once per request. Everything that depends on who asks is
a property here. Nothing else looks at a listener, an address or a User-Agent. Pure.

The kind of a caller follows from the listener and from what the client proves: see `agent.peering.gate`. A
User-Agent proves nothing. It tells clients apart that may ask in any case.

A caller with a `refusal` is turned away before anything is done for it.

To add a kind: add it to `CallerKind`, recognise it in `Callers`, and follow mypy to each `assert_never`. Then
decide for each property that depends on the listener alone whether the new kind is different.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from multidict import MultiMapping

from agent.flows.messages import NODE_HEADER, SOCKET_HEADER
from agent.observe.refusals import Reason, Refusal
from agent.observe.requests import RequestPath
from agent.oci.errors import Overloaded, TooManyRequests
from agent.peering.certificate import Certificate
from agent.peering.gate import Admitted, Gate
from topology.placement import NodeName

_CERTIFICATE_HINT = (
    "a certificate needs its node's name, or the name that peering.tls.name says on all nodes, among its "
    "subject alternative names"
)

REQUEST_PATHS = {
    "hostport": RequestPath.HOSTPORT,
    "peer": RequestPath.PEER,
    "nodeport": RequestPath.NODEPORT,
}
"""The listeners of the pull API, by their names in the settings."""


class CallerKind(Enum):
    """Who asks."""

    OWN_CONTAINERD = "own containerd"  # this node's containerd, by the HostPort
    AGENT = "agent"  # another node's agent, by the peer listener
    OTHER_CONTAINERD = "other containerd"  # by the NodePort, or sent to the peer listener by a redirect
    STRANGER = "stranger"  # anything else, by any listener: curl, a kubelet, a canary, another client


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Who made a client's socket, by the kernel's word. ``cgroup``: its id, 0 if the kernel does not tell."""

    uid: int
    cgroup: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The client behind a request.

    ``listener``: the listener that it connected to. ``address``: its IP address, without the port.
    ``cookie``: the kernel's number of the connection (SO_COOKIE), 0 if unknown. ``connected_s``: when it
    connected, in seconds of CLOCK_MONOTONIC. ``node``: the member that it proved to be; else the one that
    has this address, if any. ``proved``: it proved that name. ``maker``: who made a local client's socket, or
    why that is not known; None: nobody asked. ``certificate``: the one that it showed; None: the connection
    has no TLS. ``refusal``: why it is turned away, if it is.
    """

    listener: RequestPath
    address: str
    cookie: int
    connected_s: float
    kind: CallerKind = CallerKind.STRANGER
    node: NodeName | None = None
    maker: Maker | Reason | None = None
    certificate: Certificate | None = None
    proved: bool = False
    refusal: Refusal | None = None

    @property
    def may_ask_peers(self) -> bool:
        """Whether its request may make this agent ask its peers.

        The loop guard: a request on the peer listener never does, whoever asks.
        """
        return self.listener is not RequestPath.PEER

    @property
    def opens_channels(self) -> bool:
        """Whether it may open the standing connections between agents: questions about holders, reports."""
        return self.listener is RequestPath.PEER

    @property
    def is_local(self) -> bool:
        """Whether it is a client of this node. Digests that it gets for tags end up in this node's store."""
        return self.listener is RequestPath.HOSTPORT

    @property
    def committed(self) -> bool:
        """Whether the bytes that it is sent go into this node's store, which verifies them."""
        match self.kind:
            case CallerKind.OWN_CONTAINERD:
                return True
            case CallerKind.AGENT | CallerKind.OTHER_CONTAINERD | CallerKind.STRANGER:
                return False
            case _:
                assert_never(self.kind)

    @property
    def verifies(self) -> bool:
        """Whether it may be given bytes that nobody has verified. An agent's containerd verifies them."""
        match self.kind:
            case CallerKind.AGENT:
                return True
            case CallerKind.OWN_CONTAINERD | CallerKind.OTHER_CONTAINERD | CallerKind.STRANGER:
                return False
            case _:
                assert_never(self.kind)

    @property
    def fetches_in_chunks(self) -> bool:
        """Whether its open-ended ranges may be chunks of one content (`agent.pull.chunks`)."""
        match self.kind:
            case CallerKind.OWN_CONTAINERD | CallerKind.OTHER_CONTAINERD:
                return True
            case CallerKind.AGENT | CallerKind.STRANGER:
                return False
            case _:
                assert_never(self.kind)

    @property
    def is_upload(self) -> bool:
        """Whether a body for it is an upload to another node: admitted, limited in rate, and a load."""
        return self.listener is RequestPath.PEER

    @property
    def admission_key(self) -> str:
        """The name under which admission counts its uploads."""
        return self.address

    @property
    def account(self) -> str | None:
        """Who it proved to be, for what it takes of this agent (`agent.bounds.accounts`). None: nobody."""
        match self.kind:
            case CallerKind.AGENT:
                return self.node or self.address
            case CallerKind.OTHER_CONTAINERD:
                return self.address
            case CallerKind.OWN_CONTAINERD | CallerKind.STRANGER:
                return None
            case _:
                assert_never(self.kind)

    @property
    def busy_error(self) -> type[TooManyRequests | Overloaded]:
        """The error that it gets when there is no room for another upload.

        An agent understands 429 and goes to another peer. containerd repeats a request at once after a 429,
        so a client that was redirected gets 503.
        """
        match self.kind:
            case CallerKind.AGENT:
                return TooManyRequests
            case CallerKind.OWN_CONTAINERD | CallerKind.OTHER_CONTAINERD | CallerKind.STRANGER:
                return Overloaded
            case _:
                assert_never(self.kind)

    @property
    def costs_count_here(self) -> bool:
        """Whether this node counts the costs of the bytes that it sends to the caller.

        An agent counts what it fetches itself. Bytes for a local client do not leave the node.
        """
        match self.kind:
            case CallerKind.AGENT | CallerKind.OWN_CONTAINERD:
                return False
            case CallerKind.OTHER_CONTAINERD | CallerKind.STRANGER:
                return not self.is_local
            case _:
                assert_never(self.kind)

    @property
    def spares_registry(self) -> bool:
        """Whether the bytes that it is sent would come from the registry if there were no mirror.

        Not an agent's: those are counted where it sends them on.
        """
        return self.kind is not CallerKind.AGENT

    @property
    def is_judged(self) -> bool:
        """Whether the probe is asked for the verdict on its connection."""
        return self.listener is not RequestPath.PEER

    def identity_headers(self, own: NodeName) -> dict[str, str]:
        """The headers of ``GET /v2/`` that tell a canary which node answered, and on which socket."""
        if self.listener is RequestPath.PEER:
            return {}
        return {NODE_HEADER: own, SOCKET_HEADER: str(self.cookie)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """Recognises callers. ``gate``: checks requests on the peer listener. ``peer_at``: the member with an
    address. ``is_certified``: whether a certificate, which one of the agents' CAs signed, is that of this
    node; of any member, if it is None.
    """

    gate: Gate
    peer_at: Callable[[str], NodeName | None]
    is_certified: Callable[[Certificate, NodeName | None], bool] = lambda _certificate, _node: True

    def of(self, connection: Caller, method: str, target: str, headers: MultiMapping[str]) -> Caller:
        """Who sent this request of a connection. ``headers``: of any case."""
        is_containerd = headers.get("User-Agent", "").startswith("containerd/")
        node: NodeName | None = None
        refusal: Refusal | None = None
        match connection.listener:
            case RequestPath.HOSTPORT:
                kind = CallerKind.OWN_CONTAINERD if is_containerd else CallerKind.STRANGER
            case RequestPath.NODEPORT:
                kind = CallerKind.OTHER_CONTAINERD if is_containerd else CallerKind.STRANGER
            case RequestPath.PEER:
                admitted = self._certified(
                    connection, self.gate.check(method, target, headers, connection.address)
                )
                if isinstance(admitted, Refusal):
                    kind, refusal, node = CallerKind.STRANGER, admitted, admitted.node
                elif admitted.is_agent:
                    kind, node = CallerKind.AGENT, admitted.node
                elif admitted.is_redirected or is_containerd:
                    kind = CallerKind.OTHER_CONTAINERD
                else:
                    kind = CallerKind.STRANGER
            case _:
                assert_never(connection.listener)
        return Caller(  # `dataclasses.replace` takes twice as long, for each request
            listener=connection.listener,
            address=connection.address,
            cookie=connection.cookie,
            connected_s=connection.connected_s,
            kind=kind,
            maker=connection.maker,
            certificate=connection.certificate,
            node=node or self.peer_at(connection.address),
            proved=node is not None,
            refusal=refusal,
        )

    def _certified(self, connection: Caller, admitted: Admitted | Refusal) -> Admitted | Refusal:
        """Who may come in, if the connection's certificate is its own. Without TLS there is none."""
        certificate = connection.certificate
        if certificate is None or isinstance(admitted, Refusal):
            return admitted
        if self.is_certified(certificate, admitted.node):
            return admitted
        whose = "no member is called so" if admitted.node is None else f"you are {admitted.node}"
        return Refusal(
            reason=Reason.CERTIFICATE,
            message=f"your certificate is {certificate}, and {whose}",
            hint=_CERTIFICATE_HINT,
            node=admitted.node,
        )

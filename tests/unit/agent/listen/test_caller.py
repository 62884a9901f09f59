"""What each kind of caller may do, and how it is treated, by its listener and its User-Agent.

The peering is open here: who proves what is in tests/unit/agent/peering/test_gate.py.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from multidict import CIMultiDict

from agent.listen.caller import Caller, CallerKind, Callers
from agent.observe.refusals import Reason, Refusal
from agent.observe.requests import RequestPath
from agent.oci.errors import Overloaded, TooManyRequests
from agent.peering.certificate import Certificate
from agent.peering.gate import Admitted, Gate
from tests.unit.agent.peering.rosters import roster_of_two
from topology.placement import NodeName

HOSTPORT, NODEPORT, PEER = RequestPath.HOSTPORT, RequestPath.NODEPORT, RequestPath.PEER
CONTAINERD, AGENT, CURL = "containerd/1.7.24", "shorthaul", "curl/8.5"
OWN = NodeName("node-1")


def connected(listener: RequestPath) -> Caller:
    return Caller(listener=listener, address="192.0.2.7", cookie=77, connected_s=1.0)


def callers(*, is_open: bool = True) -> Callers:
    gate = Gate(own=OWN, ring=lambda: None, is_open=is_open, roster=roster_of_two(OWN, "other"))
    return Callers(gate=gate, peer_at={"192.0.2.7": NodeName("node-7")}.get)


CALLERS = callers()


def refined(connection: Caller, headers: Mapping[str, str]) -> Caller:
    return CALLERS.of(connection, "GET", "/v2/", CIMultiDict(headers))


def caller(listener: RequestPath, user_agent: str) -> Caller:
    return refined(connected(listener), {"User-Agent": user_agent})


def test_member_is_known_by_its_address() -> None:
    assert connected(PEER).node is None
    assert caller(PEER, AGENT).node == "node-7"
    elsewhere = Caller(listener=PEER, address="192.0.2.8", cookie=78, connected_s=1.0)
    assert refined(elsewhere, {}).node is None


@pytest.mark.parametrize("listener", [HOSTPORT, NODEPORT, PEER])
def test_open_ended_ranges_of_a_containerd_may_be_chunks_and_those_of_others_are_not(
    listener: RequestPath,
) -> None:
    assert caller(listener, CONTAINERD).fetches_in_chunks
    assert not caller(listener, AGENT).fetches_in_chunks
    assert not caller(listener, CURL).fetches_in_chunks


@pytest.mark.parametrize(
    ("listener", "user_agent", "kind"),
    [
        (HOSTPORT, CONTAINERD, CallerKind.OWN_CONTAINERD),
        (NODEPORT, CONTAINERD, CallerKind.OTHER_CONTAINERD),
        (PEER, CONTAINERD, CallerKind.OTHER_CONTAINERD),
        (PEER, AGENT, CallerKind.AGENT),
        (HOSTPORT, AGENT, CallerKind.STRANGER),
        (HOSTPORT, "shorthaul-canary", CallerKind.STRANGER),
        (PEER, "shorthaul-canary", CallerKind.STRANGER),
        (NODEPORT, AGENT, CallerKind.STRANGER),
        (HOSTPORT, CURL, CallerKind.STRANGER),
        (NODEPORT, CURL, CallerKind.STRANGER),
        (PEER, CURL, CallerKind.STRANGER),
        (HOSTPORT, "", CallerKind.STRANGER),
        (HOSTPORT, "containerd", CallerKind.STRANGER),
    ],
)
def test_kind_is_told_by_listener_and_user_agent(
    listener: RequestPath, user_agent: str, kind: CallerKind
) -> None:
    assert caller(listener, user_agent).kind is kind


@pytest.mark.parametrize("user_agent", [CONTAINERD, AGENT, CURL])
def test_nobody_is_let_in_by_the_peer_listener_of_an_agent_without_a_key(user_agent: str) -> None:
    headers = CIMultiDict({"User-Agent": user_agent})
    asking = callers(is_open=False).of(connected(PEER), "GET", "/v2/", headers)
    assert asking.kind is CallerKind.STRANGER
    assert asking.refusal is not None
    assert not asking.proved


@pytest.mark.parametrize("listener", RequestPath)
def test_connection_without_a_request_yet_is_a_stranger_s(listener: RequestPath) -> None:
    assert connected(listener).kind is CallerKind.STRANGER
    assert refined(connected(listener), {}).kind is CallerKind.STRANGER


def test_each_request_of_a_connection_is_refined_anew() -> None:
    first = caller(HOSTPORT, CONTAINERD)
    assert refined(first, CIMultiDict({"user-agent": CURL})).kind is CallerKind.STRANGER
    assert refined(first, CIMultiDict({"user-agent": CONTAINERD})) == first


@pytest.mark.parametrize("user_agent", [CONTAINERD, AGENT, CURL])
def test_nobody_on_the_peer_listener_makes_this_agent_ask_peers(user_agent: str) -> None:
    assert not caller(PEER, user_agent).may_ask_peers
    assert caller(HOSTPORT, user_agent).may_ask_peers
    assert caller(NODEPORT, user_agent).may_ask_peers


@pytest.mark.parametrize("user_agent", [CONTAINERD, AGENT, CURL])
def test_standing_connections_are_for_the_peer_listener_only(user_agent: str) -> None:
    assert caller(PEER, user_agent).opens_channels
    assert not caller(HOSTPORT, user_agent).opens_channels
    assert not caller(NODEPORT, user_agent).opens_channels


def test_only_this_node_s_containerd_commits_what_it_is_sent() -> None:
    committing = [
        (listener, user_agent)
        for listener in RequestPath
        for user_agent in (CONTAINERD, AGENT, CURL)
        if caller(listener, user_agent).committed
    ]
    assert committing == [(HOSTPORT, CONTAINERD)]


def test_agent_is_refused_with_429_and_a_redirected_client_with_503() -> None:
    assert caller(PEER, AGENT).busy_error is TooManyRequests
    assert caller(PEER, CONTAINERD).busy_error is Overloaded
    assert caller(PEER, CURL).busy_error is Overloaded


@pytest.mark.parametrize(
    ("listener", "user_agent", "crosses"),
    [
        (HOSTPORT, CONTAINERD, False),
        (HOSTPORT, AGENT, False),
        (HOSTPORT, CURL, False),
        (NODEPORT, CONTAINERD, True),
        (NODEPORT, AGENT, True),
        (NODEPORT, CURL, True),
        (PEER, CONTAINERD, True),
        (PEER, AGENT, False),  # an agent counts what it fetches itself
        (PEER, CURL, True),
    ],
)
def test_bytes_are_accounted_for_callers_of_other_nodes_that_do_not_account_themselves(
    listener: RequestPath, user_agent: str, crosses: bool
) -> None:
    assert caller(listener, user_agent).costs_count_here is crosses


@pytest.mark.parametrize("user_agent", [CONTAINERD, AGENT, CURL])
def test_uploads_are_what_the_peer_listener_sends(user_agent: str) -> None:
    assert [path for path in RequestPath if caller(path, user_agent).is_upload] == [PEER]
    assert caller(PEER, user_agent).admission_key == "192.0.2.7"


@pytest.mark.parametrize("user_agent", [CONTAINERD, AGENT, CURL])
def test_peers_connections_are_not_judged(user_agent: str) -> None:
    assert [path for path in RequestPath if caller(path, user_agent).is_judged] == [HOSTPORT, NODEPORT]
    assert [path for path in RequestPath if caller(path, user_agent).is_local] == [HOSTPORT]


def test_clients_learn_who_answers_and_on_which_socket_and_peers_do_not() -> None:
    told = {"Shorthaul-Node": "node-1", "Shorthaul-Socket": "77"}
    assert caller(HOSTPORT, CURL).identity_headers(OWN) == told
    assert caller(NODEPORT, CURL).identity_headers(OWN) == told
    assert caller(PEER, AGENT).identity_headers(OWN) == {}


@pytest.mark.parametrize(
    ("name", "node", "said"),
    [
        ("friend", NodeName("friend"), None),
        ("other", NodeName("friend"), "your certificate is for other, and you are friend"),
        ("other", None, None),
        ("stranger", None, "your certificate is for stranger, and no member is called so"),
    ],
)
def test_a_certificate_has_to_be_that_of_who_signed_or_of_any_member_if_nobody_did(
    name: str, node: NodeName | None, said: str | None
) -> None:
    """Whoever is admitted is told what is wrong; whoever is not gets the words of the gate."""
    certificate = Certificate(
        names=frozenset({name}), addresses=frozenset(), not_before_s=0.0, not_after_s=1.0
    )
    connection = replace(connected(PEER), certificate=certificate)

    def is_certified(certificate: Certificate, node: NodeName | None) -> bool:
        members = {NodeName("friend"), NodeName("other")}
        return certificate.has_name(node) if node else any(map(certificate.has_name, members))

    class Admitting(Gate):
        def check(self, *_: object) -> Admitted | Refusal:
            return Admitted(node=node, is_agent=True)

    gate = Admitting(own=OWN, ring=lambda: None, is_open=True, roster=roster_of_two(OWN, "other"))
    made = Callers(gate=gate, peer_at=lambda _: None, is_certified=is_certified)
    caller = made.of(connection, "GET", "/v2/", CIMultiDict())
    if said is None:
        assert (caller.kind, caller.refusal) == (CallerKind.AGENT, None)
    else:
        assert caller.kind is CallerKind.STRANGER
        assert caller.refusal is not None
        assert (caller.refusal.reason, caller.refusal.message) == (Reason.CERTIFICATE, said)
        assert "peering.tls.name" in caller.refusal.hint


def test_only_an_agent_is_given_what_nobody_has_verified() -> None:
    verifying = [
        (listener, user_agent)
        for listener in RequestPath
        for user_agent in (CONTAINERD, AGENT, CURL)
        if caller(listener, user_agent).verifies
    ]
    assert verifying == [(PEER, AGENT)]

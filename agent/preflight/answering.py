"""Who answers at an address that containerd is told to use, and whose socket it is."""

import http.client
from dataclasses import dataclass

from agent.config import Endpoint
from agent.flows.messages import NODE_HEADER
from agent.preflight.check import Check, bad, good, listed, shown, unknown, warn
from agent.preflight.gather import Unknown
from agent.preflight.ports import Listener

HOSTPORT, NODEPORT = "the HostPort", "the NodePort"
_AT_MOST_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerer:
    """Who answered ``GET /v2/``. ``node``: the agent's, empty if it is no agent. ``error``: nobody did."""

    node: str = ""
    status: int = 0
    error: str = ""


def ask(endpoint: Endpoint, authorization: str = "") -> Answerer:
    """Ask who is there. ``authorization``: what containerd sends. Blocks for some seconds at most."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_AT_MOST_S)
    try:
        proof = {"Authorization": authorization} if authorization else {}
        connection.request("GET", "/v2/", headers={"User-Agent": "shorthaul-doctor", **proof})
        reply = connection.getresponse()
        return Answerer(node=shown(reply.getheader(NODE_HEADER, ""), 80), status=reply.status)
    except TimeoutError:
        return Answerer(error=f"no answer within {_AT_MOST_S:g} s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answerer(
            error=shown(getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        )
    finally:
        connection.close()


def host_port(
    endpoint: Endpoint,
    own: str | None,
    answer: Answerer | Unknown,
    listeners: tuple[Listener, ...] | Unknown | None,
) -> Check:
    """Whether this node's agent answers at its HostPort, and who does if not.

    ``own``: this node's name, if it is known.
    """
    if isinstance(answer, Unknown):
        return unknown(HOSTPORT, answer.why)
    there = _at(endpoint, listeners)
    strangers = [one for one in there if not one.is_agent]
    if answer.node and own is None:
        return good(HOSTPORT, f"{endpoint}: the agent of {answer.node} answers")
    if answer.node == own:
        return good(HOSTPORT, f"{endpoint}: this node's agent answers")
    if answer.node:
        hint = (
            "node.name is another one here, or another agent has this port: name the settings with --config"
        )
        return bad(HOSTPORT, f"{endpoint} is answered by the agent of {answer.node}, not {own}", hint=hint)
    if strangers:
        return bad(
            HOSTPORT,
            f"{endpoint} is taken by {listed(map(str, strangers), 3, width=160)}, which is not the agent",
            hint="stop that process: it gets containerd's pulls; or give listen.hostport another port",
        )
    if not answer.error:
        return bad(
            HOSTPORT,
            f"what answers at {endpoint} is no shorthaul agent (HTTP {answer.status})",
            hint="as root on the node: ss -ltnp; stop that process: it gets containerd's pulls",
        )
    hint = "start the agent; its log says why it can't listen there"
    return bad(HOSTPORT, f"{endpoint}: {answer.error}", hint=hint)


def node_port_socket(port: int, listeners: tuple[Listener, ...] | Unknown | None, *, used: bool) -> Check:
    """Whether a process has the NodePort's number, where only kube-proxy's rules should be.

    ``used``: containerd is told to use the NodePort.
    """
    if listeners is None or isinstance(listeners, Unknown):
        why = "who listens there can't be read" if listeners is None else listeners.why
        return unknown(NODEPORT, why, hint="as root on the node: ss -ltnp")
    foreign = [one for one in listeners if one.name != "kube-proxy"]  # which held the port until 1.26
    if not foreign:
        return good(NODEPORT, f"no process listens on {port}")
    who = listed(map(str, foreign), 3, width=160)
    if all(one.is_agent for one in foreign):
        hint = f"give listen.nodeport another port than {port}, so that both paths can be told apart"
        return warn(NODEPORT, f"the agent itself listens on the NodePort's number: {who}", hint=hint)
    if not used:
        hint = "give the Service another nodePort before containerd is told to use it"
        return warn(NODEPORT, f"{port} is taken by {who}; no hosts.toml names the NodePort", hint=hint)
    return bad(
        NODEPORT,
        f"{port} is taken by {who}: it gets the pulls that no rule of kube-proxy translates",
        hint="stop that process, or give the Service another nodePort",
    )


def fallback(endpoint: Endpoint, name: str, answer: Answerer) -> Check:
    """Whether an agent answers at an address that containerd tries after the HostPort."""
    what = f"by the {spelled(name)}"
    if answer.node:
        return good(what, f"{endpoint}: the agent of {answer.node} answers")
    if answer.status == 401:
        return warn(
            what,
            f"{endpoint}: what answers there refuses what hosts.toml makes containerd send (HTTP 401)",
            hint="write the token of the cluster's key of now: `shorthaul configure` with --key-file",
        )
    detail = f"{endpoint}: {answer.error or f'no agent answers (HTTP {answer.status})'}"
    hint = (
        "containerd has no way to an agent when this node's own is down: is the Service there, has it ready "
        "endpoints, and does kube-proxy run? kubectl get service,endpointslices"
    )
    return warn(what, detail, hint=hint)


def spelled(name: str) -> str:
    """The name of an address of the agents as people write it."""
    return {"hostport": "HostPort", "nodeport": "NodePort", "clusterip": "ClusterIP"}.get(name, name)


def _at(endpoint: Endpoint, listeners: tuple[Listener, ...] | Unknown | None) -> list[Listener]:
    """The sockets that take a connection to this address: those bound to it, or else to all addresses."""
    if listeners is None or isinstance(listeners, Unknown):
        return []
    exact = [one for one in listeners if one.address == endpoint.host]
    anywhere = ("::",) if ":" in endpoint.host else ("::", "0.0.0.0")
    return exact or [one for one in listeners if one.address in anywhere]

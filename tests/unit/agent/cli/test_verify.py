"""What verify concludes from the node's checks, its probe's word and its agent's. Whole: tests/e2e."""

import dataclasses
from typing import Any

import pytest

from agent.cli.verify import AgentWord, conclude, wrong_namespace
from agent.flows.messages import Canary
from agent.flows.verdicts import EndpointName, Verdict
from agent.preflight import NETWORK_NAMESPACE
from agent.preflight.check import bad, good
from agent.preflight.mirrors import NAME as MIRRORS
from agent.probe.inquiry import ProbeWord

AGENT = AgentWord(answered=True, proved=True, why="the last canary was direct")
CANARY = Canary(
    endpoint=EndpointName.HOSTPORT, address="127.0.0.1:30020", verdict=Verdict.DIRECT, reason="taken",
    went="127.0.0.1:30020", answered_by="a1", rtt_us=30, at_s=1.0,
)  # fmt: skip
CHECKS = (good(NETWORK_NAMESPACE, "net:[1], the same as containerd's"), good(MIRRORS, "told to use it"))


def word(**changes: Any) -> ProbeWord[AgentWord]:
    values: dict[str, Any] = {
        "was_running": True, "is_here": True, "canaries": (CANARY,), "alike": True, "agents": 1,
        "meanwhile": AGENT,
    }  # fmt: skip
    return ProbeWord(**values | changes)


def canary(**changes: Any) -> dict[str, tuple[Canary, ...]]:
    return {"canaries": (dataclasses.replace(CANARY, **changes),)}


def test_direct_canary_of_this_nodes_agent_that_says_so_itself_is_proof() -> None:
    proved, why = conclude(CHECKS, word(), "a1")
    assert proved
    assert why == "Proved: 127.0.0.1:30020 is direct, and a1's agent answered."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"canaries": ()}, "nothing was sent"),
        (canary(endpoint=EndpointName.NODEPORT), "nothing was sent"),
        (canary(verdict=Verdict.PROXIED), "is PROXIED"),
        (canary(verdict=Verdict.UNKNOWN) | {"agents": 0}, "probe.readers"),
        (canary(answered_by=""), "no shorthaul agent answered"),
        (canary(answered_by="b1"), "answered by b1, not by a1"),
        ({"alike": False}, "containerd's connect()"),
        ({"is_here": False}, "not the network namespace"),
        ({"meanwhile": AgentWord(answered=True, proved=False, why="HOSTPORT_NAT")}, "HOSTPORT_NAT"),
        ({"meanwhile": AgentWord(answered=False, proved=False, why="refused")}, "can't be asked"),
    ],
)
def test_anything_less_is_no_proof_and_says_what_is_missing(changes: dict[str, Any], words: str) -> None:
    proved, why = conclude(CHECKS, word(**changes), "a1")
    assert not proved
    assert words in why


def test_containerd_that_is_told_to_use_something_else_is_no_proof() -> None:
    check = bad(MIRRORS, "containerd is told to use only X", hint="write it")
    assert conclude((CHECKS[0], check), word(), "a1") == (
        False,
        "Not proved: containerd is told to use only X.",
    )


def test_wrong_namespace_is_said_with_what_to_do() -> None:
    check = bad(NETWORK_NAMESPACE, "net:[2]", hint="in a pod: hostNetwork: true")
    assert wrong_namespace(CHECKS) == ""
    assert "hostNetwork: true" in wrong_namespace((check, CHECKS[1]))

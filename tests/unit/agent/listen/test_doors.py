"""Whom the listeners of the pull API let in."""

import asyncio
from collections.abc import Mapping

import pytest
from multidict import CIMultiDict

from agent.listen.caller import Caller, Maker
from agent.listen.doors import Doors
from agent.listen.localclients import ContainerdCgroups, LocalClients
from agent.observe.refusals import Reason
from agent.observe.requests import RequestPath
from agent.oci.errors import OciError
from agent.sockdiag import SocketAsker
from topology.placement import NodeName

TOKEN = {"Authorization": "Bearer token-of-the-cluster"}


def refused(
    listener: RequestPath,
    headers: Mapping[str, str] | None = None,
    *,
    maker: Maker | Reason | None = None,
    callers: str = "root",
    tokens: tuple[str, ...] = ("token-of-the-cluster",),
    is_open: bool = False,
) -> tuple[OciError | None, list[tuple[str, str]]]:
    """The error, and what was counted."""
    counted: list[tuple[str, str]] = []
    cgroups = ContainerdCgroups(search=tuple)
    doors = Doors(
        own=NodeName("a"),
        local=LocalClients(callers, asker=SocketAsker(), cgroups=cgroups, users={0}, nobody=-1),
        callers=callers,
        tokens=lambda: tokens,
        is_open=is_open,
        refused=lambda listener, reason: counted.append((listener, reason.value)),
    )
    connection = Caller(listener=listener, address="127.0.0.1", cookie=1, connected_s=0.0, maker=maker)
    return asyncio.run(doors.refusal(connection, CIMultiDict(headers or {}))), counted


def test_root_is_let_in_at_the_hostport() -> None:
    assert refused(RequestPath.HOSTPORT, maker=Maker(uid=0)) == (None, [])


def test_a_developer_is_told_who_is_answered_who_he_is_and_what_to_do() -> None:
    error, counted = refused(RequestPath.HOSTPORT, maker=Maker(uid=1000))
    assert error is not None
    assert (error.status, error.code, counted) == (403, "DENIED", [("hostport", "user")])
    assert error.message == "this agent answers root only (listen.local_callers: root), and you are user 1000"
    assert "sudo" in error.hint
    assert "shorthaul explain" in error.hint


@pytest.mark.parametrize(
    ("maker", "reason", "words"),
    [
        (Maker(uid=1000, cgroup=5), "user", "containerd only (listen.local_callers: containerd)"),
        (Maker(uid=0, cgroup=5), "cgroup", "you are not in its cgroup"),
        (Reason.CLOSED, "closed", "the kernel does not say who you are"),
        (None, "unknown", "the kernel does not say who you are"),
    ],
)
def test_each_refusal_at_the_hostport_says_why_and_is_counted(
    maker: Maker | Reason | None, reason: str, words: str
) -> None:
    error, counted = refused(RequestPath.HOSTPORT, maker=maker, callers="containerd")
    assert error is not None
    assert words in error.message
    assert error.hint
    assert counted == [("hostport", reason)]


def test_the_token_opens_the_hostport_where_the_kernel_does_not_know() -> None:
    assert refused(RequestPath.HOSTPORT, TOKEN, maker=Reason.UNKNOWN) == (None, [])


def test_the_nodeport_opens_with_the_token_alone() -> None:
    assert refused(RequestPath.NODEPORT, TOKEN) == (None, [])
    assert refused(RequestPath.NODEPORT, TOKEN, is_open=True) == (None, [])


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    ("headers", "reason", "told"),
    [
        ({}, "no_proof", "answers this cluster's nodes only"),
        ({"Authorization": "Bearer guess"}, "wrong_proof", "not this cluster's service token"),
    ],
)
def test_a_stranger_at_the_nodeport_gets_401_without_a_challenge(
    headers: dict[str, str], reason: str, told: str, is_open: bool
) -> None:
    error, counted = refused(RequestPath.NODEPORT, headers, is_open=is_open)
    assert error is not None
    assert (error.status, error.code, error.headers) == (401, "UNAUTHORIZED", {})
    assert told in error.message
    assert "guess" not in f"{error.message}{error.hint}"
    assert counted == [("nodeport", reason)]


def test_an_agent_without_a_key_lets_nobody_in_at_the_nodeport() -> None:
    error, _ = refused(RequestPath.NODEPORT, TOKEN, tokens=())
    assert error is not None
    assert error.status == 401


def test_a_lab_without_a_key_is_open() -> None:
    assert refused(RequestPath.NODEPORT, tokens=(), is_open=True) == (None, [])

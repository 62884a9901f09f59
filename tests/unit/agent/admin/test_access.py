"""Who may ask the admin port for what."""

import os
import socket
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from agent.admin.access import Access, Way, way_of
from agent.observe.refusals import Reason

TOKEN = {"Authorization": "Bearer t0k3n"}


def transport(**extra: Any) -> Mock:
    made = Mock()
    made.get_extra_info = lambda name, default=None: extra.get(name, default)
    return made


@pytest.mark.parametrize(
    ("peer", "own", "way"),
    [
        (("127.0.0.1", 5), ("127.0.0.1", 9090), Way.LOOPBACK),
        (("127.0.0.9", 5), ("127.8.0.1", 9090), Way.LOOPBACK),
        (("::1", 5, 0, 0), ("::1", 9090, 0, 0), Way.LOOPBACK),
        (("10.0.0.7", 5), ("10.0.0.7", 9090), Way.ELSEWHERE),
        (("10.0.0.7", 5), ("127.0.0.1", 9090), Way.ELSEWHERE),  # route_localnet
        (("127.0.0.1", 5), ("10.0.0.7", 9090), Way.ELSEWHERE),
        (("fd00::7", 5, 0, 0), ("::1", 9090, 0, 0), Way.ELSEWHERE),
        (("::ffff:127.0.0.1", 5, 0, 0), ("::1", 9090, 0, 0), Way.ELSEWHERE),
        (None, ("127.0.0.1", 9090), Way.ELSEWHERE),
        ("", "", Way.ELSEWHERE),
    ],
)
def test_only_what_has_loopback_at_both_ends_is_of_this_node(peer: object, own: object, way: Way) -> None:
    request = make_mocked_request("GET", "/", transport=transport(peername=peer, sockname=own))
    assert way_of(request) is way


def test_the_socket_of_this_process_is_told_apart() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        request = make_mocked_request("GET", "/", transport=transport(socket=one))
        assert way_of(request) is Way.SOCKET
    assert os.geteuid() in (0, os.getuid())


def refusal(
    path: str, headers: dict[str, str] | None = None, *, way: Way = Way.ELSEWHERE, **made: Any
) -> Any:
    access = Access(**{"tokens": lambda: ("new-token", "t0k3n"), **made})
    return access.refusal(make_mocked_request("GET", path, headers=headers or {}), way)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_the_kubelet_and_prometheus_need_no_token(path: str) -> None:
    assert refusal(path) is None
    assert refusal(path, tokens=lambda: ()) is None


@pytest.mark.parametrize(
    "path",
    [
        "/api/topology",
        "/readyz?verbose",
        "/livez?token=t0k3n",
        "/livez/",
        "/livez/../api/topology",
        "/LIVEZ",
        "/nothing",
        "/api/explain?image=x&access_token=t0k3n",
    ],
)
def test_all_else_from_elsewhere_needs_it_in_the_header(path: str) -> None:
    counted: list[Reason] = []
    assert refusal(path, refused=counted.append) is Reason.NO_PROOF
    assert counted == [Reason.NO_PROOF]
    assert refusal(path, TOKEN) is None
    assert refusal(path, {"Authorization": "Bearer new-token"}) is None
    assert refusal(path, {"Authorization": "Bearer other"}) is Reason.WRONG_PROOF
    assert refusal(path, TOKEN, tokens=lambda: ()) is Reason.WRONG_PROOF


@pytest.mark.parametrize("way", [Way.LOOPBACK, Way.SOCKET])
def test_on_the_node_no_token_is_asked_for(way: Way) -> None:
    assert refusal("/api/topology", way=way) is None

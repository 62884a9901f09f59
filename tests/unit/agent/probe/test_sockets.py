"""What the kernel says about sockets."""

import os
import socket

from agent.probe.sockets import netns_cookie, peer_uid, socket_cookie


def test_each_socket_has_a_cookie_that_stays() -> None:
    with socket.socket() as one, socket.socket() as other:
        assert socket_cookie(one) == socket_cookie(one) != socket_cookie(other)


def test_network_namespace_of_this_process_has_one_cookie() -> None:
    assert netns_cookie() == netns_cookie() > 0


def test_user_at_the_other_end_of_a_unix_socket_is_known() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_uid(one) == os.getuid()

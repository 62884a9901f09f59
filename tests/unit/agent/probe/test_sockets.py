"""What the kernel says about sockets."""

import errno
import os
import socket
from pathlib import Path

from agent.probe.sockets import netns_cookie, options_memory, own_netns, peer_uid, socket_cookie


def test_each_socket_has_a_cookie_that_stays() -> None:
    with socket.socket() as one, socket.socket() as other:
        assert socket_cookie(one) == socket_cookie(one) != socket_cookie(other)


def test_network_namespace_of_this_process_has_one_cookie() -> None:
    assert netns_cookie() == netns_cookie() > 0


def test_user_at_the_other_end_of_a_unix_socket_is_known() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_uid(one) == os.getuid()


def test_memory_for_a_socket_s_options_is_what_sysctl_says() -> None:
    assert options_memory() == int(Path("/proc/sys/net/core/optmem_max").read_text()) > 0


def test_kernel_before_5_14_has_no_number_for_the_network_namespace() -> None:
    def refuse() -> int:
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    assert own_netns(refuse) == 0
    assert own_netns() == netns_cookie()

"""The kernel's heartbeat on a connection."""

import socket

from agent.heartbeat import Heartbeat, start_heartbeat


def test_kernel_is_told_when_to_probe_and_when_to_give_up() -> None:
    heartbeat = Heartbeat(idle_s=7, interval_s=3, lost_max=2)
    with socket.socket() as own:
        start_heartbeat(own, heartbeat)
        assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (
            socket.TCP_KEEPIDLE,
            socket.TCP_KEEPINTVL,
            socket.TCP_KEEPCNT,
            socket.TCP_USER_TIMEOUT,
        )
        told = [own.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        assert told == [7, 3, 2, heartbeat.limit_s * 1000]


def test_connection_that_is_gone_needs_no_heartbeat() -> None:
    closed = socket.socket()
    closed.close()
    for gone in (None, closed):
        start_heartbeat(gone, Heartbeat())

"""What a hosts.toml says, and why containerd would drop it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Endpoint
from agent.hosts.hostsfile import Host, read_hosts_file
from agent.hosts.merge import merge
from tests.unit.agent.hosts.texts import FIRST, HOSTPORT, MIRROR, NODEPORT, SECOND, owners_texts


def test_hosts_come_in_order_and_ours_are_known() -> None:
    text = merge('server = "https://s"\n[host."https://m"]\n  capabilities = ["pull"]\n', MIRROR).text
    found = read_hosts_file(text.encode())
    both = ("pull", "resolve")
    assert found.hosts == (
        Host(url=FIRST, capabilities=both, ours=True),
        Host(url=SECOND, capabilities=both, ours=True),
        Host(url="https://m", capabilities=("pull",)),
    )
    assert (found.server, found.problem, found.has_part) == ("https://s", "", True)
    assert [host.endpoint for host in found.hosts] == [HOSTPORT, NODEPORT, None]


@given(owners_texts())
def test_any_owners_file_is_read(text: str) -> None:
    found = read_hosts_file(text.encode())
    assert (found.problem, found.has_part) == ("", False)


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    read_hosts_file(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[host", "not TOML"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf[host]\n", "byte order mark"),
        (b"#" * (1 << 20) + b"#", "1 MiB"),
        (b"host = 3", "not a table"),
        (b'[host]\n"http://a" = 3', "not a table"),
        (b"server = 3", "server"),
        (b'[host."http://a"]\ncapabilities = ["pull", "referrers"]', "referrers"),
        (b'capabilities = ["walk"]', "walk"),
        (b'[host."http://a"]\ncapabilities = "pull"', "not a list"),
    ],
)
def test_what_makes_containerd_drop_the_file_is_said(data: bytes, words: str) -> None:
    assert words in read_hosts_file(data).problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[host."http://[::1]:1"]\n', "IPv6"),
        ('server = "https://a"\n', "no host"),
        ('[host."http://127.0.0.1:1"]\n', ""),
    ],
)
def test_what_makes_only_1x_ignore_the_file_is_told_apart(text: str, words: str) -> None:
    found = read_hosts_file(text.encode())
    assert found.problem == ""
    assert words in found.old_problem
    assert bool(words) == bool(found.old_problem)


def test_an_address_counts_in_plain_http_only() -> None:
    assert Host(url="http://127.0.0.1:30020/v2").endpoint == Endpoint(host="127.0.0.1", port=30020)
    assert Host(url="https://127.0.0.1:30020").endpoint is None


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Authorization = ["Bearer t0k3n"]', "Bearer t0k3n"),
        ('authorization = "Bearer t0k3n"', "Bearer t0k3n"),
        ('X-Other = "a"', ""),
        ('Authorization = ["Bearer a", "Bearer b"]', ""),
        ("Authorization = []", ""),
        ("Authorization = 5", ""),
        ('Authorization = "Bearer a\\r\\nHost: b"', ""),
        ('Authorization = "Bearer ü"', ""),
    ],
)
def test_what_containerd_sends_to_a_host_is_read_and_never_shown(header: str, found: str) -> None:
    text = f'[host."http://10.0.0.1:30021"]\ncapabilities = ["pull"]\n[host."http://10.0.0.1:30021".header]\n{header}\n'
    (host,) = read_hosts_file(text.encode()).hosts
    assert host.authorization == found
    assert "t0k3n" not in repr(host)

"""Real agents whose index is in a Cluster, behind Sentinels, or behind TLS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lab.certificates import Authority
from benchmarks.lab.valkey import Sentinels, ValkeyCluster, ValkeyServer

from .agents import ADMIN, Node, Site, digest_of, wait_for

PASSWORD = "pass-word-of-the-index"


def is_told_by_the_server(node: Node, content: bytes) -> bool:
    """Whether it has from the server who has this."""
    found = node.explain(digest_of(content))
    return bool(found["holders"]) and found["learnt"] == "the index's server named them"


def state(node: Node) -> dict[str, Any]:
    """What it says of the index."""
    found: dict[str, Any] = node.ask("/api/index", port=ADMIN).json()
    return found


@contextmanager
def pair(url: str, **valkey: object) -> Iterator[tuple[Node, Node]]:
    """Two agents with this index."""
    with Site() as site:
        settings = {"index": url, "valkey": {"timeout_s": 2.0, **valkey}}
        one, two = (site.add(name, zone="a", **settings) for name in ("one", "two"))
        site.start()
        wait_for(lambda: all(state(node)["number"] is not None for node in (one, two)), "both have a number")
        yield one, two


def check(one: Node, two: Node, content: bytes) -> None:
    """What the one gets, the other one is told of by the server."""
    one.put(content)
    wait_for(lambda: is_told_by_the_server(two, content), "the server tells")
    assert two.blob(content).body == content


def test_cluster_keeps_the_index(tmp_path: Path) -> None:
    cluster = ValkeyCluster(tmp_path, password=PASSWORD)
    try:
        with pair(cluster.url(f":{PASSWORD}")) as (one, two):
            for number in range(6):  # of other slots
                check(one, two, b"content %d" % number)
            assert all(int(server.cli("dbsize")) for server in cluster.servers)
            assert one.logged_errors() + two.logged_errors() == []
    finally:
        cluster.close()


def test_after_a_failover_the_agents_find_the_new_primary_and_tell_it_what_comes(tmp_path: Path) -> None:
    primary = ValkeyServer(tmp_path / "one", password=PASSWORD)
    replica = ValkeyServer(tmp_path / "two", password=PASSWORD, replica_of=primary)
    sentinels = Sentinels(tmp_path / "sentinels", primary, count=1)
    try:
        sentinels.wait_until_ready()
        with pair(sentinels.url(f":{PASSWORD}")) as (one, two):
            check(one, two, b"before")
            primary.kill()
            wait_for(lambda: state(two)["state"] == "down", "it is noticed")
            assert two.blob(b"before").body == b"before"
            wait_for(
                lambda: all(state(node)["state"] != "down" for node in (one, two)), "the new one is used"
            )
            assert replica.info()["role"] == "master"
            check(one, two, b"after")
            check(two, one, b"after, too")
    finally:
        sentinels.close()
        replica.stop()
        primary.stop()


def test_tls_with_a_users_rights_is_enough(tmp_path: Path) -> None:
    folder = Authority(tmp_path).issue(tmp_path / "tls", "DNS:valkey.example")
    rights = documented_rights()
    server = ValkeyServer(
        tmp_path / "server", certificates=folder, password="other", users={"shorthaul": rights}
    )
    files = {"ca_file": str(folder / "ca.crt"), "server_name": "valkey.example"}
    try:
        with pair(server.url(f"shorthaul:{PASSWORD}"), **files) as (one, two):
            check(one, two, b"content")
            assert state(one)["server"]
            assert one.logged_errors() + two.logged_errors() == []
            assert "NOPERM" not in server.log + one.log.read_text()
            assert server.cli("acl", "log") == ""
    finally:
        server.stop()


def documented_rights() -> str:
    """The rules in docs/large-clusters.md, with the password of these tests."""
    page = (Path(__file__).parents[2] / "docs" / "large-clusters.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("ACL SETUSER shorthaul "))
    return line.removeprefix("ACL SETUSER shorthaul ").replace(">PASSWORD", f">{PASSWORD}")

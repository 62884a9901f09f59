"""What INFO says, and what of it a person should know."""

import pytest

from agent.holders.valkey.facts import Facts, facts_of, together, warnings_of

REDIS = (
    b"# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nrole:master\r\nused_memory:1000\r\nmaxmemory:0\r\n"
)
VALKEY = b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\nrole:slave\r\nmaxmemory:5\r\n"


def test_version_is_that_of_valkey_where_there_is_one() -> None:
    assert facts_of(REDIS) == Facts(version="redis 7.0.15", run_id="abc", used_bytes=1000, most_bytes=0)
    found = facts_of(VALKEY)
    assert (found.version, found.is_replica, found.most_bytes) == ("valkey 8.1.1", True, 5)


@pytest.mark.parametrize(
    "reply", [None, 7, [], b"", b"maxmemory:-1\r\nused_memory:" + b"9" * 40, b"\xff:\xff"]
)
def test_server_that_says_nothing_of_itself_is_taken_as_it_is(reply: object) -> None:
    assert facts_of(reply) == Facts()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"])
def test_policy_that_evicts_is_a_warning_because_all_keys_have_a_time_to_live(policy: str) -> None:
    (warning,) = warnings_of(Facts(most_bytes=1, policy=policy, evicted=7))
    assert policy in warning.problem
    assert "7 keys have gone" in warning.problem
    assert "noeviction" in warning.hint


def test_server_without_a_limit_is_a_warning_and_one_with_it_is_none() -> None:
    (warning,) = warnings_of(Facts(most_bytes=0, policy="allkeys-lru"))
    assert "maxmemory" in warning.problem
    assert warnings_of(Facts(most_bytes=1, policy="noeviction")) == ()
    assert warnings_of(Facts()) == ()


def test_facts_of_a_cluster_are_those_of_all_its_primaries() -> None:
    one = Facts(version="v", run_id="b", used_bytes=1, most_bytes=10, policy="noeviction")
    other = Facts(run_id="a", used_bytes=2, most_bytes=20, policy="allkeys-lru", evicted=3)
    assert together([one, other]) == Facts(
        version="v", run_id="a,b", used_bytes=3, most_bytes=30, policy="allkeys-lru", evicted=3
    )
    assert together([]) == Facts()
    assert together([one, Facts(most_bytes=0)]).most_bytes == 0


@pytest.mark.parametrize(
    ("used", "most", "policy", "soon"),
    [
        (90, 100, "allkeys-lru", True),
        (90, 100, "volatile-ttl", True),
        (70, 100, "allkeys-lru", False),
        (90, 100, "noeviction", False),
        (90, 0, "allkeys-lru", False),
        (None, 100, "allkeys-lru", False),
        (90, 100, None, False),
    ],
)
def test_nearly_full_server_that_evicts_is_to_be_looked_at_more_often(
    used: int | None, most: int, policy: str | None, soon: bool
) -> None:
    assert Facts(used_bytes=used, most_bytes=most, policy=policy).may_evict_soon == soon

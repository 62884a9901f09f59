"""What may be given of a store, under which names."""

from collections.abc import Set

import pytest

from agent.content.audience import EVERYBODY, NOBODY
from agent.content.fetches import FETCH_S
from agent.content.references import Key, key_of
from agent.content.sharing import Sharing
from agent.oci.authority import Authorities, Authority, AuthorityRule
from agent.oci.filters import parse_filter, parse_patterns
from agent.oci.mirrors import MirrorNames
from agent.oci.patterntext import parse_pattern
from agent.oci.reference import Repository
from agent.oci.registry import Registry
from tests.unit.agent.oci.test_patterns import by_digest
from tests.unit.twins import sha256

A = sha256("a")
APP = (Registry("ghcr.io"), Repository("acme/app"))
UNDER_APP, UNDER_OPEN = by_digest("acme/app", "ghcr.io", A), by_digest("library/a", "docker.io", A)


class Clock:
    """A clock that the test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_sharing(
    *, exclusive: bool = False, exclude: tuple[str, ...] = (), private: tuple[str, ...] = ()
) -> Sharing:
    rules = [AuthorityRule(match=parse_pattern(each), by=Authority.REGISTRY) for each in private]
    return Sharing(
        exclusive=exclusive,
        registries=parse_filter(["*"], exclude),
        authorities=Authorities(rules),
        mirrors=MirrorNames(ports={30020}, hosts={"own"}),
        clock=Clock(),
    )


def test_content_of_other_users_of_the_store_is_given_to_nobody() -> None:
    sharing = make_sharing()
    assert not sharing.shares(A)
    assert not sharing.gives(UNDER_OPEN)


def test_content_that_is_being_fetched_is_given_under_the_name_that_it_is_fetched_under() -> None:
    sharing = make_sharing(private=("ghcr.io",))
    sharing.fetching(UNDER_APP)
    assert sharing.shares(A)
    assert sharing.gives(UNDER_APP)
    assert not sharing.gives(UNDER_OPEN)
    assert not sharing.gives(by_digest("evil/app", "ghcr.io", A))


def test_content_that_is_fetched_under_an_open_and_a_private_name_at_once_is_private() -> None:
    sharing = make_sharing(private=("ghcr.io",))
    sharing.fetching(UNDER_OPEN)
    assert sharing.gives(UNDER_OPEN)
    sharing.fetching(UNDER_APP)
    assert not sharing.gives(UNDER_OPEN)
    assert sharing.gives(UNDER_APP)


def test_fetch_that_takes_too_long_is_not_known_any_more() -> None:
    sharing = make_sharing()
    sharing.fetching(UNDER_APP)
    assert sharing.fetches.expire(FETCH_S) == {key_of(A)}
    assert not sharing.shares(A)


def test_fetch_under_an_excluded_name_opens_nothing() -> None:
    sharing = make_sharing(exclude=("ghcr.io/acme/*",))
    sharing.fetching(UNDER_APP)
    assert not sharing.shares(A)


def test_agent_without_the_rule_gets_nothing_private_even_under_a_private_name() -> None:
    sharing = make_sharing(private=("ghcr.io",))
    sharing.fetching(UNDER_APP)
    assert not sharing.gives(UNDER_APP, registry_decided=False)


@pytest.mark.parametrize("registry", [None, "docker.io", "quay.io"])
def test_private_content_is_given_under_no_name_of_another_registry(registry: str | None) -> None:
    sharing = make_sharing(private=("ghcr.io", "quay.io"))
    sharing.fetching(UNDER_APP)
    assert not sharing.gives(by_digest("acme/app", registry, A))


def test_name_of_the_mirror_itself_is_open_unless_it_is_excluded() -> None:
    sharing = make_sharing(exclude=("ghcr.io/acme/*",), private=("*",))
    mirror = Registry("own:30020")
    assert sharing.says((mirror, Repository("lab/app"))) == EVERYBODY
    assert sharing.says((mirror, Repository("acme/app"))) == NOBODY


def test_store_of_ones_own_gives_content_without_a_name_as_long_as_nothing_is_held_back() -> None:
    assert make_sharing(exclusive=True).gives(UNDER_OPEN)
    assert make_sharing(exclusive=True, exclude=("*:latest",)).gives(by_digest("a/b", None, A))
    assert not make_sharing(exclusive=True, exclude=("ghcr.io/acme/*",)).gives(UNDER_OPEN)
    assert not make_sharing(exclusive=True, private=("ghcr.io",)).gives(UNDER_OPEN)


def test_rules_that_change_count_for_the_next_request() -> None:
    sharing = make_sharing(exclusive=True)
    assert sharing.gives(UNDER_OPEN)
    sharing.registries.replace(parse_patterns(["ghcr.io"]), ())
    assert not sharing.gives(UNDER_OPEN)


def test_listeners_are_told_which_contents_to_judge_again() -> None:
    sharing = make_sharing()
    told: list[Set[Key] | None] = []
    sharing.on_change(told.append)
    sharing.changed({key_of(A)})
    sharing.changed(None)
    assert told == [{key_of(A)}, None]

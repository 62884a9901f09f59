"""Which files get our part, so that every registry is mirrored and says all else that it said."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.hosts.mirror import Mirror
from agent.hosts.part import Made
from agent.hosts.plan import (
    DEFAULT,
    Change,
    Entry,
    Plan,
    Tree,
    directory_of,
    plan_configure,
    plan_unconfigure,
)
from tests.unit.agent.hosts.texts import CLOSED, FIRST, HOSTPORT, MIRROR, SECOND, owners_texts

HUB = 'server = "https://registry-1.docker.io"\n'


def tree(entries: Mapping[str, str | bytes | tuple[str, ...]]) -> Tree:
    """Text: a hosts.toml. A tuple: a directory with these certificates only."""
    made = {}
    for name, content in entries.items():
        if isinstance(content, tuple):
            made[name] = Entry(certificates=content)
        else:
            made[name] = Entry(hosts=content.encode() if isinstance(content, str) else content)
    return Tree(entries=made)


def done(before: Tree, plan: Plan) -> Tree:
    """The directory after the changes, with what was made made and what goes gone."""
    entries, exists = dict(before.entries), True
    for change in plan.changes:
        old = entries.get(change.name, Entry())
        if change.after is None:
            entries[change.name] = Entry(certificates=old.certificates)
            if Made.DIRECTORY in change.made:
                del entries[change.name]
        else:
            mode = old.mode if change.mode is None else change.mode
            entries[change.name] = Entry(hosts=change.after, certificates=old.certificates, mode=mode)
    if any(change.after is None and Made.CERTS_D in change.made for change in plan.changes):
        exists = bool(entries)
    return Tree(exists=exists, entries=entries)


def configured(before: Tree, *registries: str, mirror: Mirror = MIRROR) -> Tree:
    return done(before, plan_configure(before, mirror, registries))


def hosts(found: Tree, name: str) -> list[str]:
    return list(document(found, name).get("host", {}))


def document(found: Tree, name: str) -> dict[str, Any]:
    data = found.entries[name].hosts
    assert data is not None
    return tomllib.loads(data.decode())


def change(plan: Plan, name: str) -> Change:
    return next(each for each in plan.changes if each.name == name)


CERTIFICATES = st.sampled_from([(), ("a.crt",), ("a.crt", "b.cert", "b.key")])
ENTRIES = st.one_of(
    owners_texts().map(lambda text: Entry(hosts=text.encode())),
    CERTIFICATES.map(lambda names: Entry(certificates=names)),
    st.just(Entry(hosts=b"")),
    st.just(Entry(hosts=b"\xff\xfe not TOML", certificates=("c.crt",))),
)
NAMES = st.sampled_from([DEFAULT, "docker.io", "quay.io", "registry.test:5000", "localhost:5000", "gone.io"])
TREES = st.one_of(
    st.just(Tree(exists=False)),
    st.dictionaries(NAMES, ENTRIES, max_size=4).map(lambda entries: Tree(entries=entries)),
)
few = settings(max_examples=40)  # each makes several files
REGISTRIES = st.lists(
    st.sampled_from(["docker.io", "quay.io", "registry.test:5000"]), unique=True, max_size=3
)


@few
@given(TREES, REGISTRIES, REGISTRIES)
def test_unconfigure_gives_back_what_was_there_whatever_was_configured(
    before: Tree, first: list[str], then: list[str]
) -> None:
    once = configured(before, *first)
    assert done(once, plan_unconfigure(once)) == before
    twice = configured(once, *then)
    assert done(twice, plan_unconfigure(twice)) == before


@few
@given(TREES, st.lists(st.tuples(REGISTRIES, st.sampled_from([CLOSED, MIRROR])), min_size=1, max_size=3))
def test_files_are_closed_while_a_token_is_in_them_and_then_as_they_were(
    before: Tree, turns: list[tuple[list[str], Mirror]]
) -> None:
    """Whether the key came later, changed or went again meanwhile."""
    before = Tree(
        exists=before.exists,
        entries={
            name: each if each.hosts is None else replace(each, mode=0o644)
            for name, each in before.entries.items()
        },
    )
    now = before
    for registries, mirror in turns:
        now = configured(now, *registries, mirror=mirror)
        for entry in now.entries.values():
            if b"s3cret" in (entry.hosts or b""):
                assert entry.mode == 0o600
        again = plan_configure(now, mirror, registries)
        assert not [each for each in again.changes if each.changes]
    assert done(now, plan_unconfigure(now)) == before


def test_file_that_somebody_opened_is_closed_again() -> None:
    now = configured(Tree(), mirror=CLOSED)
    opened = Tree(entries={DEFAULT: replace(now.entries[DEFAULT], mode=0o644)})
    planned = change(plan_configure(opened, CLOSED), DEFAULT)
    assert planned.changes
    assert (planned.before, planned.mode) == (planned.after, 0o600)


def test_address_that_the_owner_wrote_has_no_token_and_that_is_said() -> None:
    planned = change(plan_configure(tree({"docker.io": f'[host."{SECOND}"]\n'}), CLOSED), "docker.io")
    assert planned.with_token == frozenset()
    assert f"what it says for {SECOND} has no token of ours" in "".join(planned.remarks)
    assert b"s3cret" not in (planned.after or b"")


@few
@given(TREES, REGISTRIES)
def test_configuring_again_changes_nothing(before: Tree, registries: list[str]) -> None:
    once = configured(before, *registries)
    assert not [each for each in plan_configure(once, MIRROR, registries).changes if each.changes]


@few
@given(TREES, REGISTRIES, REGISTRIES)
def test_what_was_configured_before_leaves_no_trace(before: Tree, first: list[str], then: list[str]) -> None:
    assert configured(configured(before, *first), *then) == configured(before, *then)


@few
@given(TREES, REGISTRIES)
def test_a_file_that_is_not_toml_is_left_alone_and_the_others_are_not(
    before: Tree, registries: list[str]
) -> None:
    plan = plan_configure(before, MIRROR, registries)
    for refusal in plan.refusals:
        assert refusal.hint
        assert before.entries[refusal.name].hosts == b"\xff\xfe not TOML"
    wanted = registries or [DEFAULT]
    assert {each.name for each in plan.changes} | {each.name for each in plan.refusals} >= set(wanted)


def test_all_registries_are_mirrored_by_the_default_file() -> None:
    after = configured(Tree())
    assert list(after.entries) == [DEFAULT]
    assert hosts(after, DEFAULT) == [FIRST, SECOND]


def test_a_registry_with_a_file_of_its_own_gets_the_mirror_there_because_the_default_is_not_read() -> None:
    after = configured(tree({"docker.io": HUB, "quay.io": '[host."https://q"]\n'}))
    assert hosts(after, "docker.io") == [FIRST, SECOND]
    assert document(after, "docker.io")["server"] == "https://registry-1.docker.io"
    assert hosts(after, "quay.io") == [FIRST, SECOND, "https://q"]


@pytest.mark.parametrize(
    "name", ["localhost:5000", "localhost_5000_", "127.0.0.1:5000", "[::1]:5000", "localhost"]
)
def test_a_registry_of_this_node_alone_gets_none_unless_it_is_named(name: str) -> None:
    before = tree({name: f'server = "http://{name}"\n'})
    plan = plan_configure(before, MIRROR)
    assert [each.name for each in plan.changes] == [DEFAULT]
    assert name in plan.remarks[0]
    assert change(plan_configure(before, MIRROR, [name]), name).changes


def test_a_directory_of_certificates_is_left_alone_and_said() -> None:
    plan = plan_configure(tree({"corp.example": ("ca.crt",)}), MIRROR)
    assert [each.name for each in plan.changes] == [DEFAULT]
    assert "corp.example has certificates and no hosts.toml" in plan.remarks[0]


@pytest.mark.parametrize("content", [(), "", " \n"])
def test_a_directory_that_only_hides_the_default_is_left_alone_and_said(
    content: str | tuple[str, ...],
) -> None:
    before = tree({"a.io": content, ".git": content, "localhost:5000": content})
    plan = plan_configure(before, MIRROR)
    assert [each.name for each in plan.changes] == [DEFAULT]
    (remark,) = plan.remarks
    assert remark.startswith("a.io has ")
    assert "use no mirror" in remark
    named = configured(before, "a.io")
    assert hosts(named, "a.io") == [FIRST, SECOND]
    assert not any("a.io" in each for each in plan_configure(named, MIRROR).remarks)


def test_a_new_file_says_which_certificates_containerd_found_by_itself() -> None:
    after = configured(tree({"corp.example": ("ca.crt", "me.cert", "me.key", "you.cert")}), "corp.example")
    said = document(after, "corp.example")
    assert said["ca"] == ["ca.crt"]
    assert said["client"] == [["me.cert", "me.key"], ["you.cert", ""]]
    assert hosts(after, "corp.example") == [FIRST, SECOND]


def test_a_new_file_for_one_registry_says_what_the_default_said_for_it() -> None:
    default = (
        '# ours\nserver = "https://proxy"\nca = ["x.crt", "/y.crt"]\n'
        '[host."https://m"]\n  client = [["a.cert", "a.key"]]\n  ca = "z.crt" # why\n'
    )
    after = configured(tree({DEFAULT: default}), "docker.io")
    said = document(after, "docker.io")
    assert (said["server"], said["ca"]) == ("https://proxy", ["../_default/x.crt", "/y.crt"])
    assert hosts(after, "docker.io") == [FIRST, SECOND, "https://m"]
    assert said["host"]["https://m"] == {
        "client": [["../_default/a.cert", "../_default/a.key"]],
        "ca": "../_default/z.crt",
    }
    assert b"# why" in (after.entries["docker.io"].hosts or b"")
    assert after.entries[DEFAULT] == Entry(hosts=default.encode()), "nobody asked for the others"


def test_the_copy_follows_the_default_when_that_changes() -> None:
    before = configured(tree({DEFAULT: '[host."https://old"]\n'}), "docker.io")
    changed = Tree(entries={**before.entries, DEFAULT: Entry(hosts=b'[host."https://new"]\n')})
    assert hosts(configured(changed, "docker.io"), "docker.io") == [FIRST, SECOND, "https://new"]


def test_certificates_beside_the_default_are_found_from_a_new_file() -> None:
    after = configured(tree({DEFAULT: ("ca.crt",)}), "docker.io")
    assert document(after, "docker.io")["ca"] == ["../_default/ca.crt"]


def test_registries_that_are_no_longer_named_are_given_back() -> None:
    both = configured(tree({"quay.io": "# q\n"}), "docker.io", "quay.io")
    after = configured(both, "docker.io")
    assert after.entries["quay.io"].hosts == b"# q\n"
    assert set(configured(after).entries) == {DEFAULT, "quay.io"}


def test_another_mirror_replaces_the_first_one() -> None:
    once = configured(Tree())
    after = configured(once, mirror=Mirror(endpoints=(HOSTPORT,)))
    assert hosts(after, DEFAULT) == [FIRST]


def test_broken_marks_are_refused_with_the_way_out() -> None:
    plan = plan_configure(tree({DEFAULT: "# >>> shorthaul >>> x\n"}), MIRROR)
    assert plan.refusals[0].hint.endswith("hosts.toml.before-shorthaul in its place")
    assert not plan.changes
    assert plan_unconfigure(tree({DEFAULT: "# >>> shorthaul >>> x\n"})).refusals


def test_a_file_that_cannot_be_read_is_refused_and_noted_at_the_end() -> None:
    closed = Tree(entries={"docker.io": Entry(hosts=b"", problem="Permission denied")})
    plan = plan_configure(closed, MIRROR, ["docker.io"])
    assert "Permission denied" in plan.refusals[0].why
    assert "let root read it" in plan.refusals[0].hint
    assert [each.name for each in plan_configure(closed, MIRROR).refusals] == ["docker.io"]
    assert "can't be read" in plan_unconfigure(closed).remarks[0]
    assert not plan_unconfigure(closed).refusals


def test_what_is_tried_is_said_with_what_the_owner_should_know() -> None:
    before = tree({"docker.io": f'{HUB}[host."https://m"]\n[host."{FIRST}"]\n'})
    found = change(plan_configure(before, MIRROR), "docker.io")
    assert found.hosts == ("https://m", FIRST, SECOND)
    assert (found.server, found.owned) == ("https://registry-1.docker.io", True)
    assert any("move them" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[host."https://m"]\ncapabilities = ["pull", "referrers"]\n', "containerd ignores this file"),
        ('[host."https://[fd00::9]:5000"]\n', "1.6 and 1.7 ignore this file: it names an IPv6 address"),
    ],
)
def test_a_file_that_containerd_ignores_for_what_its_owner_wrote_is_noted(text: str, words: str) -> None:
    assert any(words in each for each in change(plan_configure(tree({"a.io": text}), MIRROR), "a.io").remarks)


@pytest.mark.parametrize(
    ("registry", "present", "expected"),
    [
        ("docker.io", [], "docker.io"),
        ("r.test:5000", [], "r.test:5000"),
        ("r.test:5000", ["r.test:5000"], "r.test:5000"),
        ("r.test:5000", ["r.test:5000", "r.test_5000_"], "r.test_5000_"),  # containerd looks there first
        ("[fd00::1]:5000", ["[fd00::1]_5000_"], "[fd00::1]_5000_"),
    ],
)
def test_the_directory_is_the_one_that_containerd_reads(
    registry: str, present: list[str], expected: str
) -> None:
    assert directory_of(registry, present) == expected


def test_what_is_made_goes_with_the_last_file() -> None:
    nothing = Tree(exists=False)
    made = configured(nothing)
    named = configured(made, "docker.io")
    assert Made.CERTS_D in change(plan_unconfigure(named), "docker.io").made
    assert done(named, plan_unconfigure(named)) == nothing


def test_registry_that_decides_is_asked_for_its_tags_by_containerd_itself() -> None:
    before = tree({DEFAULT: 'ca = "x.crt"\n', "quay.io": HUB})
    after = done(before, plan_configure(before, CLOSED, tagless=["private.example:5000", "quay.io"]))
    for name in ("private.example:5000", "quay.io"):
        assert [table["capabilities"] for table in document(after, name)["host"].values()] == [["pull"]] * 2
    assert document(after, "private.example:5000")["ca"] == "../_default/x.crt"
    assert document(after, "quay.io")["server"] == "https://registry-1.docker.io"
    assert document(after, DEFAULT)["host"][FIRST]["capabilities"] == ["pull", "resolve"]
    later = done(after, plan_configure(after, CLOSED))
    assert "private.example:5000" not in later.entries
    assert document(later, "quay.io")["host"][FIRST]["capabilities"] == ["pull", "resolve"]
    assert done(after, plan_unconfigure(after)).entries["quay.io"].hosts == before.entries["quay.io"].hosts


def test_registry_that_decides_and_is_not_mirrored_gets_no_file() -> None:
    plan = plan_configure(Tree(), MIRROR, ["docker.io"], tagless=["private.example", "docker.io"])
    assert [each.name for each in plan.changes] == ["docker.io"]
    assert b'capabilities = ["pull"]' in (change(plan, "docker.io").after or b"")

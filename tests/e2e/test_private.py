"""Private images stay private: what clients without the right to them get through the mirror.

Two real registries ask for a password (by Basic, and by the tokens of a token server), real containerds pull
over CRI, and the agents' rule for both registries is ``authorize … by: registry``. docs/private-images.md
says in a table what these tests show. `benchmarks.private` does the same a thousand times.
"""

import functools
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.keyring import parse_keys
from benchmarks.lab.accounts import NEIGHBOUR, TENANT, Account
from benchmarks.lab.cluster import ADMIN_PORT, LOCAL_PORT, REGISTRY, SERVICE_PORT, Node
from benchmarks.lab.containerd import PullFailed
from benchmarks.lab.image import build_image
from benchmarks.private.__main__ import grant, refuse
from benchmarks.private.stage import (
    AUTHORIZE,
    BASIC,
    BEARER,
    MULTI,
    PULLERS,
    SOLO,
    Private,
    Stage,
    pull,
    stage,
    wait_for,
)
from tests.e2e.privately import (
    ATTACKS,
    BORROWED,
    OPEN,
    ask,
    fake_mirror,
    index_of,
    is_no_oracle,
    make_attack,
    manifest_of,
    told,
)

pytestmark = pytest.mark.e2e

_LAYER_BYTES = 300 << 10  # more than a redirect is worth


@pytest.fixture(scope="module")
def made() -> Iterator[Stage]:
    """Three pulling nodes, and one that holds all private images."""
    with stage(layer_bytes=_LAYER_BYTES) as made:
        made.fill(made.holder)
        yield made


@pytest.fixture(autouse=True)
def _nothing_is_left(made: Stage) -> Iterator[None]:
    """Each test finds the pulling nodes without private content, also after one that failed."""
    yield
    for node in made.pullers.values():
        if made.held(node):
            made.clear(node)


@pytest.fixture
def solo(made: Stage) -> Private:
    """An image of one manifest, in the registry that asks for a password."""
    return made.private(BASIC, SOLO)


@pytest.fixture
def multi(made: Stage) -> Private:
    """An image of several platforms, in the same registry."""
    return made.private(BASIC, MULTI)


# ---------------------------------------------------------------------------------------------------------
# Real containerds


def test_pulls_without_the_right_get_nothing_while_a_peer_has_the_image(made: Stage) -> None:
    refused = refuse(made, 96)  # each way to name each image, with each kind of credentials
    assert refused.succeeded == []
    assert refused.leaked == []


def test_pulls_with_the_right_take_every_byte_from_peers(made: Stage) -> None:
    granted = grant(made, 24)  # each containerd and image, by tag and by digest
    assert granted.from_registries == 0
    assert granted.from_agents > 24 * 2 * _LAYER_BYTES
    assert granted.asked == 24 * 2, "one HEAD without a password, and one with it"


def test_pulls_without_the_right_fail_while_the_node_itself_has_the_image(made: Stage) -> None:
    for node in made.pullers.values():
        made.fill(node)
    try:
        refused = refuse(made, 24, seed=2)
        assert refused.succeeded == []
    finally:
        for node in made.pullers.values():
            made.clear(node)


@pytest.mark.parametrize("version", PULLERS)
def test_ctr_without_the_right_gets_nothing(made: Stage, solo: Private, version: str) -> None:
    node = made.pullers[version]
    assert node.containerd is not None
    for name in (f"{solo.name}:v1", f"{solo.name}@{solo.top}", f"{REGISTRY}/any/thing@{solo.top}"):
        with pytest.raises(Exception, match=r"not found|unauthorized|authorization|401"):
            node.containerd.ctr("images", "pull", "--hosts-dir", str(node.containerd.certs), name)
    assert made.held(node) == ()


# ---------------------------------------------------------------------------------------------------------
# Requests that no containerd sends, from a process that may use the HostPort


@pytest.mark.parametrize("name", ATTACKS)
def test_a_request_tells_nothing_of_a_private_image(
    made: Stage, solo: Private, multi: Private, name: str
) -> None:
    attack = ATTACKS[name]
    asking = made.pullers["2.1"]
    assert made.held(asking) == ()
    for node, private, method in itertools.product((asking, made.holder), (solo, multi), attack.methods):
        digests = {"top": private.top, "config": private.config, "layer": private.layer}
        path, reply = make_attack(node, attack, method, private, digests)
        where = f"{method} {path} at {node.name}: {reply.status} {reply.body[:300]!r}"
        assert told(reply, private, path) == [], where
        if attack.like_nobodys:
            # A node that had the image a moment ago is still tried, and named in the answer.
            wait_for(
                functools.partial(is_no_oracle, node, attack, method, private, digests),
                f"the answer that a digest of nobody's gets: {where}",
            )


def test_referrers_of_a_private_image_are_not_told(made: Stage, solo: Private) -> None:
    for node, query in itertools.product(
        (made.pullers["2.1"], made.holder), (f"?ns={BASIC}", "", f"?{OPEN}")
    ):
        reply = ask(node, f"/v2/{solo.repository}/referrers/{solo.top}{query}")
        listed = reply.json().get("manifests", []) if reply.status == 200 else []
        assert listed == []
        assert told(reply, solo, solo.top) in ([], ["status 200"])


def test_a_get_by_digest_under_its_own_name_is_served_so_that_bytes_come_from_peers(
    made: Stage, solo: Private
) -> None:
    for digest, kind in ((solo.top, "manifests"), (solo.config, "blobs"), (solo.layer, "blobs")):
        reply = ask(made.pullers["2.1"], f"/v2/{solo.repository}/{kind}/{digest}?ns={BASIC}")
        assert (reply.status, reply.body) == (200, solo.content(digest))


def test_layers_and_nothing_else_are_given_under_other_private_names_of_their_registry(
    made: Stage, solo: Private
) -> None:
    for digest, where in ((solo.top, "manifests"), (solo.top, "blobs"), (solo.config, "blobs")):
        reply = ask(made.pullers["2.1"], f"/v2/globex/thing/{where}/{digest}?ns={BASIC}")
        assert told(reply, solo, digest) == []
    layer = f"blobs/{solo.layer}"
    assert ask(made.pullers["2.1"], f"/v2/globex/thing/{layer}?ns={BASIC}").status == 200
    assert ask(made.pullers["2.1"], f"/v2/globex/thing/{layer}?ns={BEARER}").status == 404, "its own registry"


def test_refusal_of_a_head_names_the_mirror_and_says_who_decides(made: Stage, solo: Private) -> None:
    reply = ask(made.pullers["2.1"], f"/v2/{solo.repository}/manifests/v1?ns={BASIC}")
    (error,) = reply.json()["errors"]
    assert "shorthaul leaves it to the registry" in error["message"]
    assert "registries.authorize" in error["detail"]["hint"]


# ---------------------------------------------------------------------------------------------------------
# The other listeners, and the admin port


def _paths(private: Private) -> Iterator[str]:
    """All that a stranger may ask for of an image, under its own name, none, and an open one."""
    blobs = [f"blobs/{digest}" for digest in (private.top, private.config, private.layer)]
    for what in (f"manifests/{private.top}", "manifests/v1", "tags/list", *blobs):
        for query in (f"?ns={private.registry}", "", f"?{OPEN}"):
            yield f"/v2/{private.repository}/{what}{query}"


@pytest.mark.parametrize("listener", ["peer", "nodeport"])
def test_other_listeners_refuse_a_stranger(made: Stage, solo: Private, listener: str) -> None:
    holder, stranger = made.holder, made.pullers["2.1"]
    port = {"peer": holder.peer_port, "nodeport": SERVICE_PORT}[listener]
    for method, path in itertools.product(("GET", "HEAD"), _paths(solo)):
        reply = ask(stranger, path, method=method, host=holder.address, port=port)
        assert (reply.status, told(reply, solo, path)) == (401, []), f"{method} {path}"


def test_the_clusters_token_opens_no_more_at_the_nodeport_than_the_hostport_gives(
    made: Stage, solo: Private
) -> None:
    asking = made.pullers["2.1"]
    token = parse_keys(made.cluster.key.read_text()).service_tokens[0]
    headers = {"Authorization": f"Bearer {token}", "User-Agent": "containerd/2.1"}
    nodeport = functools.partial(ask, asking, host=made.holder.address, port=SERVICE_PORT, headers=headers)
    for path in _paths(solo):
        reply = nodeport(path, method="HEAD")
        assert told(reply, solo, path) == [], f"HEAD {path}: {reply.status}"
        reply = nodeport(path)
        if f"ns={BASIC}" in path and "sha256" in path:
            assert reply.status == 200, "what follows a HEAD that the registry answered"
        else:
            assert told(reply, solo, path) == [], f"GET {path}: {reply.status}"


def test_the_admin_port_tells_names_and_digests_and_no_content(made: Stage, solo: Private) -> None:
    routes = [f"/api/explain?digest={digest}" for digest in (solo.top, solo.config, solo.layer)]
    routes += [f"/api/explain?image={solo.name}:v1", "/api/requests", "/api/registries", "/api/topology"]
    for node, route in itertools.product((made.holder, made.pullers["2.1"]), routes):
        reply = ask(node, route, port=ADMIN_PORT)
        assert reply.status in (200, 400, 404), route
        assert [each for each in told(reply, solo, reply.body.decode()) if each.startswith("bytes")] == []
    metrics = ask(made.holder, "/metrics", port=ADMIN_PORT).body.decode()
    assert solo.repository not in metrics
    assert "sha256:" not in metrics


# ---------------------------------------------------------------------------------------------------------
# Images that borrow private parts


@pytest.mark.parametrize("kind", BORROWED)
@pytest.mark.parametrize("version", PULLERS)
def test_an_image_of_an_open_registry_that_borrows_private_parts_gets_none(
    made: Stage, solo: Private, version: str, kind: str
) -> None:
    node = made.pullers[version]
    reference = made.cluster.registry.plant(BORROWED[kind](solo), f"evil/{kind}", "v1")
    with pytest.raises(PullFailed):
        pull(node, reference, None)
    assert made.held(node) == ()


@pytest.mark.parametrize("version", PULLERS)
def test_another_tenants_image_that_borrows_a_private_manifest_does_not_get_it(
    made: Stage, version: str
) -> None:
    victim = made.private(BEARER, SOLO)
    registry, node = made.registries[BEARER], made.pullers[version]
    reference = registry.plant(index_of(victim), "globex/evil", "v1")
    with pytest.raises(PullFailed):
        pull(node, reference, NEIGHBOUR)
    assert made.held(node) == ()


@pytest.mark.parametrize("kind", BORROWED)
def test_borrowing_on_a_node_that_has_the_image_opens_nothing_to_other_nodes(
    made: Stage, solo: Private, kind: str
) -> None:
    # containerd itself takes what its store has, whoever brought it: no mirror is asked, and none can help.
    holder, asking = made.holder, made.pullers["1.7"]
    reference = made.cluster.registry.plant(BORROWED[kind](solo), "evil/laundry", kind)
    pull(holder, reference, None)
    try:
        wait_for(lambda: ask(holder, f"/v2/evil/laundry/manifests/{kind}?{OPEN}").status == 200, "the name")
        for node, digest in itertools.product((asking, holder), (solo.top, solo.config, solo.layer)):
            where = "manifests" if digest == solo.top else "blobs"
            reply = ask(node, f"/v2/evil/laundry/{where}/{digest}?{OPEN}")
            assert told(reply, solo, digest) == [], f"{where} {digest} at {node.name}"
        with pytest.raises(PullFailed):
            pull(asking, reference, None)
        assert made.held(asking) == ()
    finally:
        assert holder.containerd is not None
        holder.containerd.ctr("images", "rm", reference)


def test_asking_for_private_parts_before_they_come_opens_nothing(made: Stage, solo: Private) -> None:
    # What containerd asked for counts as of that name until the name is there: here it asks under two names.
    reference = made.cluster.registry.plant(manifest_of(solo), "evil/early", "v1")
    node, other = made.pullers["2.1"], made.pullers["1.7"]
    paths = [f"/v2/evil/early/blobs/{digest}?{OPEN}" for digest in (solo.top, solo.config, *solo.layers)]
    for path in paths:
        ask(node, path, headers={"User-Agent": "containerd/2.1"})
    with pytest.raises(PullFailed):
        pull(node, reference, None)
    pull(node, f"{solo.name}:v1", TENANT)
    for each, path in itertools.product((node, other), paths):
        assert told(ask(each, path), solo, path) == [], f"{path} at {each.name}"
    with pytest.raises(PullFailed):
        pull(other, reference, None)
    assert made.held(other) == ()


def test_a_layer_that_was_fetched_for_an_open_image_is_shared_although_a_private_image_has_it(
    made: Stage, solo: Private
) -> None:
    number = 1 + made.images.index(solo)
    image = build_image(made.cluster.folder / "open", layer_bytes=[_LAYER_BYTES], seed=7000 + number)
    assert solo.layer in image.blobs, "the same base layer"
    reference = made.cluster.registry.push(image, "library/base", "v1")
    first, other = made.pullers["1.6"], made.pullers["1.7"]
    path = f"/v2/library/base/blobs/{solo.layer}?{OPEN}"
    pull(first, reference, None)
    wait_for(lambda: ask(other, path).status == 200, "the open image's layer, from a peer")
    pull(first, f"{solo.name}:v1", TENANT)
    private_layer = next(each for each in solo.layers if each != solo.layer)
    wait_for(
        lambda: ask(first, f"/v2/{solo.repository}/blobs/{private_layer}?ns={BASIC}").status == 200, "it"
    )
    assert ask(first, path).status == 200, "still shared"
    for digest in (private_layer, solo.config, solo.top):
        assert ask(first, f"/v2/library/base/blobs/{digest}?{OPEN}").status == 404


# ---------------------------------------------------------------------------------------------------------
# Roll-outs: nodes whose rules differ, a rule that comes later, redirects


def _is_open(node: Node, private: Private) -> bool:
    return ask(node, f"/v2/any/thing/manifests/{private.top}?{OPEN}").status == 200


@contextmanager
def _without_the_rule(node: Node, private: Private) -> Iterator[None]:
    """A node whose mirror decides for a while."""
    node.reload(registries={})
    try:
        yield
    finally:
        node.reload(registries={"authorize": AUTHORIZE})
        wait_for(lambda: not _is_open(node, private), f"{node.name} is closed again")


def test_a_node_without_the_rule_gets_no_private_manifest_from_peers_with_it(
    made: Stage, solo: Private, multi: Private
) -> None:
    node = made.pullers["2.1"]
    with _without_the_rule(node, solo):
        for private, method in itertools.product((solo, multi), ("HEAD", "GET")):
            for name in ("v1", private.top):
                reply = ask(node, f"/v2/{private.repository}/manifests/{name}?ns={BASIC}", method=method)
                assert told(reply, private, private.top) == [], f"{method} {name}"
        for reference in (f"{solo.name}:v1", f"{solo.name}@{solo.top}", f"{multi.name}@{multi.top}"):
            with pytest.raises(PullFailed):
                pull(node, reference, None)
        assert made.held(node) == ()
        pull(node, f"{solo.name}@{solo.top}", TENANT)  # from the registry, if not from peers
        made.remove(node, solo)


def test_a_node_with_the_rule_asks_the_registry_whatever_peers_without_it_say(
    made: Stage, solo: Private
) -> None:
    node = made.pullers["2.1"]
    with _without_the_rule(made.holder, solo):
        wait_for(lambda: _is_open(made.holder, solo), "the holder is open")
        for reference in (f"{solo.name}:v1", f"{solo.name}@{solo.top}"):
            with pytest.raises(PullFailed):
                pull(node, reference, None)
        assert made.held(node) == ()


def test_a_rule_that_comes_by_sighup_closes_what_was_open(made: Stage, solo: Private) -> None:
    node, holder = made.pullers["2.1"], made.holder
    paths = [f"/v2/{solo.repository}/manifests/{name}?ns={BASIC}" for name in ("v1", solo.top)]
    paths += [
        f"/v2/any/thing/manifests/{solo.top}?{OPEN}",
        f"/v2/{solo.repository}/blobs/{solo.layer}?ns={BASIC}",
    ]
    with _without_the_rule(node, solo), _without_the_rule(holder, solo):
        for path in paths:
            wait_for(lambda path=path: ask(node, path, method="HEAD").status == 200, "open")  # type: ignore[misc]
        for each in (node, holder):
            each.reload(registries={"authorize": AUTHORIZE})
        for path in paths[:2]:
            assert ask(node, path, method="HEAD").status == 404, "at once"
        for each, path in itertools.product((node, holder), paths):
            wait_for(lambda each=each, path=path: ask(each, path, method="HEAD").status == 404, "closed")  # type: ignore[misc]
        for reference in (f"{solo.name}:v1", f"{solo.name}@{solo.top}"):
            with pytest.raises(PullFailed):
                pull(node, reference, None)
        assert made.held(node) == ()


# ---------------------------------------------------------------------------------------------------------
# What users see, and who gets their passwords


@pytest.mark.parametrize("version", PULLERS)
def test_containerd_gives_a_pods_password_to_a_mirror_only_if_that_asks_for_it(
    made: Stage, solo: Private, version: str
) -> None:
    node = made.pullers[version]
    assert node.containerd is not None
    seen = {}
    try:
        for challenge in (None, 'Basic realm="mirror"'):
            with fake_mirror(node, 31999, challenge) as heads:
                node.containerd.use_mirrors(BASIC, made.registries[BASIC].endpoint, ["127.0.0.1:31999"])
                pull(node, f"{solo.name}:v1", TENANT)
                made.remove(node, solo)
            assert heads
            seen[challenge] = [head for head in heads if "authorization:" in head.lower()]
    finally:
        node.containerd.use_mirrors(BASIC, made.registries[BASIC].endpoint, [f"127.0.0.1:{LOCAL_PORT}"])
    assert seen[None] == []
    assert seen['Basic realm="mirror"'], "so the agents never send a challenge: see `told`"


_SAYS = {
    "1.6": {"nobody": "401 Unauthorized", "wrong": "401 Unauthorized"},
    "1.7": {"nobody": "pull access denied", "wrong": "401 Unauthorized"},
    "2.1": {"nobody": "not found", "wrong": "401 Unauthorized"},
}


@pytest.mark.parametrize("version", PULLERS)
def test_what_a_user_reads_when_the_registry_refuses(made: Stage, solo: Private, version: str) -> None:
    clients: dict[str, Account | None] = {"nobody": None, "wrong": TENANT.with_password("guessed")}
    said = {}
    for who, account in clients.items():
        with pytest.raises(PullFailed) as raised:
            pull(made.pullers[version], f"{solo.name}:v1", account)
        said[who] = str(raised.value)
    for who, text in _SAYS[version].items():
        assert text in said[who]
        assert "30020" not in said[who], "the mirror is not blamed"


def test_containerds_log_says_that_the_registry_decides(made: Stage, solo: Private) -> None:
    containerd = made.pullers["2.1"].containerd  # older ones do not log the words behind a status
    assert containerd is not None
    with pytest.raises(PullFailed):
        containerd.pull(f"{solo.name}:v1")
    log = (containerd.folder / "log").read_text()
    assert re.search(r'after status: 404 Not Found, the registry decides" host="127\.0\.0\.1:30020"', log)
    assert re.search(rf'pull access denied.*host="{re.escape(made.registries[BASIC].endpoint)}"', log)


def test_a_mirror_without_resolve_lets_containerd_show_the_registrys_refusal_of_a_tag(
    made: Stage, solo: Private
) -> None:
    node, given = made.pullers["2.1"], "shorthaul_registry_saved_bytes_total"
    assert node.containerd is not None
    server, mirrors = made.registries[BASIC].endpoint, [f"127.0.0.1:{LOCAL_PORT}"]
    node.containerd.use_mirrors(BASIC, server, mirrors, resolve=False)
    try:
        with pytest.raises(PullFailed, match=r"pull access denied.* no basic auth credentials"):
            pull(node, f"{solo.name}:v1", None)
        with pytest.raises(PullFailed, match="not found"):  # by digest, the mirror is asked first as ever
            pull(node, f"{solo.name}@{solo.top}", None)
        before = node.metric(given, path="hostport")
        pull(node, f"{solo.name}:v1", TENANT)
        assert node.metric(given, path="hostport") - before == solo.image.size_bytes
    finally:
        node.containerd.use_mirrors(BASIC, server, mirrors)


def test_a_private_pull_fails_while_its_registry_is_down(made: Stage, solo: Private) -> None:
    made.registries[BASIC].stop()
    try:
        with pytest.raises(PullFailed):
            pull(made.pullers["2.1"], f"{solo.name}:v1", TENANT)
    finally:
        made.registries[BASIC].start()


def test_the_page_on_private_images_names_tests_that_there_are() -> None:
    page = Path(__file__).parents[2] / "docs/private-images.md"
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert len(named) > 10
    assert named <= globals().keys()


# ---------------------------------------------------------------------------------------------------------
# Last: a node whose agent was started again, and redirects from then on


@pytest.fixture(scope="module")
def restarted(made: Stage) -> tuple[Node, set[int]]:
    """The node, and the statuses that it gave for an open name from its first answer on."""
    node, solo = made.pullers["2.1"], made.private(BASIC, SOLO)
    path, statuses, started = f"/v2/any/thing/manifests/{solo.top}?{OPEN}", set[int](), threading.Event()

    def keep_asking() -> None:
        while not started.wait(0.02):
            with suppress(OSError):
                statuses.add(ask(node, path).status)

    pull(node, f"{solo.name}:v1", TENANT)
    node.agent.stop()
    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        node.start_agent(transfer={"mode": "redirect"})
        assert ask(node, f"/v2/{solo.repository}/manifests/{solo.top}?ns={BASIC}").status == 200, "it knows"
        statuses.add(ask(node, path).status)
    finally:
        started.set()
        asking.join()
    made.remove(node, solo)
    return node, statuses


def test_an_agent_that_starts_gives_nothing_private_before_it_knows_what_is(
    restarted: tuple[Node, set[int]],
) -> None:
    _, statuses = restarted
    assert 404 in statuses
    assert 200 not in statuses


def test_a_redirect_leads_to_private_content_only_under_its_own_name(
    made: Stage, solo: Private, restarted: tuple[Node, set[int]]
) -> None:
    node, _ = restarted
    own = ask(node, f"/v2/{solo.repository}/blobs/{solo.layer}?ns={BASIC}")
    assert own.status == 307
    for path, method in itertools.product(
        (
            f"/v2/any/thing/blobs/{solo.layer}?{OPEN}",
            f"/v2/any/thing/manifests/{solo.top}?{OPEN}",
            f"/v2/any/thing/blobs/{solo.top}?{OPEN}",
        ),
        ("GET", "HEAD"),
    ):
        assert told(ask(node, path, method=method), solo, path) == [], f"{method} {path}"
    head = ask(node, f"/v2/{solo.repository}/manifests/{solo.top}?ns={BASIC}", method="HEAD")
    assert told(head, solo, solo.top) == []
    pull(node, f"{solo.name}:v1", TENANT)

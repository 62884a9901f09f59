"""What a node's containerd is still fetching is given to agents that follow it, and to nobody else."""

import http.client
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import pytest

from agent.oci.authority import AUTHORITY_HEADER
from agent.pull.arrival import AHEAD_S

from . import secured
from .agents import ADMIN, PEER, SERVICE, Reply, Site, digest_of, make_image, wait_for
from .ingesting import CONTAINERD, Fetcher, path_of
from .proofs import OPEN, signed
from .websocket import questioning

_numbers = count(1)
PRIVATE = {"registries": {"authorize": [{"match": "private.test/*", "by": "registry"}]}}
FOLLOWERS = {"follower": "127.0.0.1", "first": "127.0.0.2", "second": "127.0.0.3", "third": "127.0.0.4"}
MIB = 1 << 20
TRIES = 20
"""How often a test tries to be in time for an agent that waits a moment only. A busy machine may be late."""

# Root without the right to pass over permissions: as an ordinary user, files of others are closed to it.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")
WITHOUT_INOTIFY = (
    *("unshare", "--user", "--map-root-user"),
    *("sh", "-c", 'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"),
)


def fresh(size_bytes: int = 3 * MIB) -> bytes:
    """Content that no other test has."""
    return Random(next(_numbers)).randbytes(size_bytes)


@pytest.fixture(scope="module")
def fetcher() -> Iterator[Fetcher]:
    """A node that fetches, and whose peer listener also strangers may ask."""
    with Site(OPEN) as site:
        made = Fetcher(site, "fetcher", **PRIVATE)
        for name, address in FOLLOWERS.items():
            site.add_member(name, address)
        made.start()
        yield made


@dataclass
class Following:
    """An answer whose body is still coming."""

    reply: http.client.HTTPResponse

    @property
    def headers(self) -> http.client.HTTPMessage:
        return self.reply.headers

    def read(self, size_bytes: int) -> bytes:
        return self.reply.read(size_bytes)

    def read_to_the_end(self) -> bytes:
        """What comes until the end, be it early."""
        try:
            return self.reply.read()
        except http.client.IncompleteRead as error:
            return error.partial


@contextmanager
def following(
    fetcher: Fetcher, content: bytes, start: int = 0, *, sender: str = "follower"
) -> Iterator[Following]:
    with fetcher.node.connection(port=PEER) as connection:
        vars(connection)["source_address"] = (FOLLOWERS[sender], 0)  # typeshed leaves it out
        connection.request("GET", path_of(content), headers=fetcher.follow(sender, content, start))
        yield Following(connection.getresponse())


def follow(fetcher: Fetcher, content: bytes, kind: str = "layer") -> Reply:
    """Follow the content, and read all that comes."""
    headers = fetcher.follow("follower", content, kind=kind)
    return fetcher.node.ask(path_of(content, kind), port=PEER, headers=headers)


@pytest.mark.parametrize("start", [0, 1, MIB + 17])
def test_follower_gets_the_whole_content_as_it_arrives_and_across_the_commit(
    fetcher: Fetcher, start: int
) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    ingest.write(2 * MIB)
    with following(fetcher, content, start) as body:
        assert body.headers["Content-Length"] == str(len(content) - start)
        assert body.headers["Shorthaul-In-Flight"] == str(2 * MIB)
        assert body.headers["Shorthaul-Origin"] == "fetcher"
        assert body.headers["Shorthaul-Depth"] == "0"
        assert "in flight, 66 %" in body.headers["Shorthaul-Source"]
        got = body.read(2 * MIB - start)
        ingest.write(2 * MIB + 5)
        got += body.read(5)
        ingest.write()
        ingest.commit()
        got += body.read_to_the_end()
    assert got == content[start:]


def test_many_followers_at_different_places_get_exact_bytes(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    ingest.write(MIB)
    with following(fetcher, content) as one, following(fetcher, content, 500_000) as two:
        for until in range(MIB, len(content), 250_000):
            ingest.write(until)
        ingest.write()
        with following(fetcher, content, 2 * MIB) as three:
            ingest.commit()
            assert three.read_to_the_end() == content[2 * MIB :]
        assert one.read_to_the_end() == content
        assert two.read_to_the_end() == content[500_000:]


def test_node_that_was_told_that_all_of_it_is_here_is_not_kept_waiting(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)

    def ask() -> Reply:
        headers = fetcher.follow("follower", content) | {"Shorthaul-Follow": "at-once"}
        return fetcher.node.ask(path_of(content), port=PEER, headers=headers)

    began_s = time.monotonic()
    for _ in range(30):
        assert ask().headers["Shorthaul-In-Flight"] == "0"
    assert time.monotonic() - began_s < 30 * AHEAD_S / 2
    ingest.write()
    assert (ask().status, ask().body == content) == (200, True)
    ingest.give_up()


def test_follower_is_told_when_this_node_is_not_ahead_of_it(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    for written in (0, MIB):
        ingest.write(written)
        headers = fetcher.follow("follower", content, MIB)
        reply = fetcher.node.ask(path_of(content), port=PEER, headers=headers)
        assert (reply.status, reply.oci_code()) == (404, "BLOB_UNKNOWN")
        assert reply.headers["Shorthaul-In-Flight"] == str(written)
    ingest.give_up()


def test_follower_that_is_as_far_waits_a_moment_for_the_next_byte(fetcher: Fetcher) -> None:
    def waited() -> bool:
        content = fresh()
        ingest = fetcher.fetch(content)
        with fetcher.node.connection(port=PEER) as connection:
            connection.request("GET", path_of(content), headers=fetcher.follow("follower", content))
            ingest.write(100)
            reply = connection.getresponse()
            got = reply.status == 200 and reply.read(100) == content[:100]
        ingest.give_up()
        return got

    assert any(waited() for _ in range(TRIES))


@pytest.mark.parametrize("how", ["own containerd", "own curl", "agent of an earlier version", "stranger"])
def test_nobody_but_agents_that_follow_is_given_what_is_not_verified(fetcher: Fetcher, how: str) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    ingest.write(2 * MIB)
    follows = {"Shorthaul-Follow": "1"}
    path = path_of(content)
    match how:
        case "own containerd":
            reply = fetcher.node.ask(path, headers=CONTAINERD | follows)
        case "own curl":
            reply = fetcher.node.ask(path, headers=follows)
        case "agent of an earlier version":
            proof = signed(path, sender="follower", receiver="fetcher")
            reply = fetcher.node.ask(path, port=PEER, headers=proof)
        case _:
            reply = fetcher.node.ask(path, port=PEER, headers=follows)
    assert (reply.status, reply.headers.get("Shorthaul-In-Flight")) == (404, None)
    assert fetcher.node.ask(path, port=SERVICE, headers=follows).status == 404
    assert fetcher.node.ask(path, port=PEER, method="HEAD", headers=follows).status == 404
    ingest.give_up()


def test_content_is_given_under_the_names_that_it_is_fetched_under_only(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content, repository="acme/secret", ns="private.test")
    ingest.write(2 * MIB)

    def asked(repository: str, ns: str, **more: str) -> int:
        path = path_of(content, "layer", repository, ns)
        headers = signed(path, sender="follower", receiver="fetcher") | {"Shorthaul-Follow": "1"} | more
        with fetcher.node.connection(port=PEER) as connection:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status

    assert asked("acme/secret", "private.test") == 404, "the asker has no such rule"
    assert asked("acme/other", "private.test", **{AUTHORITY_HEADER: "registry"}) == 404
    assert asked("library/app", "registry.test") == 404
    assert asked("acme/secret", "private.test", **{AUTHORITY_HEADER: "registry"}) == 200
    ingest.give_up()


def test_what_nobody_asked_for_here_is_not_given(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    ingest.write()
    other = fresh()
    assert follow(fetcher, other).status == 404
    ingest.give_up()


def test_body_of_an_ingest_that_ends_early_ends_with_it_and_the_next_one_is_followed(
    fetcher: Fetcher,
) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    ingest.write(MIB)
    with following(fetcher, content) as body:
        assert body.read(MIB) == content[:MIB]
        ingest.give_up()
        assert body.read_to_the_end() == b""
    assert follow(fetcher, content).status == 404
    again = fetcher.fetch(content)
    again.write(2 * MIB)
    with following(fetcher, content, MIB) as body:
        again.write()
        again.commit()
        assert body.read_to_the_end() == content[MIB:]


def test_ingest_that_outgrows_its_size_is_not_followed_to_its_end(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content, total=2 * MIB)
    ingest.write(MIB)
    with following(fetcher, content) as body:
        assert body.headers["Content-Length"] == str(2 * MIB)
        assert body.read(MIB) == content[:MIB]
        ingest.write()
        assert len(body.read_to_the_end()) <= MIB
    assert follow(fetcher, content).status == 404
    ingest.give_up()


def test_content_that_is_whole_and_wrong_is_not_given_if_it_is_small(fetcher: Fetcher) -> None:
    content = fresh(20_000)
    ingest = fetcher.fetch(content)
    ingest.content = bytes(20_000)
    ingest.write()
    assert follow(fetcher, content).status == 404
    ingest.give_up()


def test_manifest_is_given_as_soon_as_all_of_it_is_here(fetcher: Fetcher) -> None:
    manifest = make_image(fresh(10)).manifest
    ingest = fetcher.fetch(manifest, kind="manifest")
    ingest.write(20)
    reply = follow(fetcher, manifest, "manifest")
    assert (reply.status, reply.headers["Shorthaul-In-Flight"]) == (404, "20")
    ingest.write()
    reply = follow(fetcher, manifest, "manifest")
    assert (reply.status, reply.body) == (200, manifest)
    assert reply.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    ingest.give_up()


def test_manifest_is_waited_for_a_moment(fetcher: Fetcher) -> None:
    def waited() -> bool:
        manifest = make_image(fresh(10)).manifest
        ingest = fetcher.fetch(manifest, kind="manifest")
        with fetcher.node.connection(port=PEER) as connection:
            headers = fetcher.follow("follower", manifest, kind="manifest")
            connection.request("GET", path_of(manifest, "manifest"), headers=headers)
            ingest.write()
            answer = connection.getresponse()
            got = (answer.status, answer.read()) == (200, manifest)
        ingest.give_up()
        return got

    assert any(waited() for _ in range(TRIES))


def test_reply_says_how_far_what_is_arriving_is(fetcher: Fetcher) -> None:
    contents = [fresh(), fresh(), fresh()]
    digests = [digest_of(content) for content in contents]
    ingest, begun = fetcher.fetch(contents[1]), fetcher.fetch(contents[2])
    ingest.write(MIB)
    with questioning(fetcher.node.address) as questioner:
        reply: dict[str, Any] = questioner.ask(digests=digests)
        assert (reply["held"], reply["flying"]) == ([], [[1, MIB, 3 * MIB]]), "none is here of the last"
        ingest.write()
        ingest.commit()
        wait_for(lambda: questioner.ask(digests=digests)["held"] == [1], "it is complete")
        assert "flying" not in questioner.ask(digests=digests)
    begun.give_up()


def test_follower_too_many_is_told_who_is_being_given_it(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    ingest.write(MIB)
    with ExitStack() as stack:
        for name in ("first", "second"):
            body = stack.enter_context(following(fetcher, content, sender=name))
            assert body.read(MIB) == content[:MIB]
        reply = follow(fetcher, content)
        assert reply.status == 429
        assert set(reply.headers["Shorthaul-Shared"].split(",")) == {"first", "second"}
        ingest.give_up()


def test_followers_that_leave_or_freeze_leave_nothing_behind(fetcher: Fetcher) -> None:
    content = fresh()
    ingest = fetcher.fetch(content)
    ingest.write(MIB)
    for _ in range(5):
        with following(fetcher, content) as body:
            assert body.read(1000) == content[:1000]
    wait_for(fetcher.node.is_idle, "no body moves")
    ingest.give_up()
    assert fetcher.node.logged_errors() == []


def test_nothing_is_given_with_cold_start_off() -> None:
    with Site(OPEN) as site:
        fetcher = Fetcher(site, "fetcher", cold_start={"mode": "off"})
        site.add_member("follower", "127.0.0.1")
        fetcher.start()
        content = fresh()
        ingest = fetcher.fetch(content)
        ingest.write(2 * MIB)
        assert follow(fetcher, content).status == 404
        with questioning(fetcher.node.address) as questioner:
            assert "flying" not in questioner.ask(digests=[digest_of(content)])
        ingest.give_up()


@pytest.mark.parametrize("closed", ["the folder", "the file"])
def test_ingest_that_this_agent_may_not_read_is_not_spoken_of_and_costs_no_error(closed: str) -> None:
    with Site(OPEN) as site:
        fetcher = Fetcher(site, "fetcher")
        fetcher.node.before = ORDINARY
        site.add_member("follower", "127.0.0.1")
        fetcher.start()
        content = fresh()
        ingest = fetcher.fetch(content)
        ingest.write(2 * MIB)
        ingest.close_to_others("data" if closed == "the file" else "")
        with questioning(fetcher.node.address) as questioner:
            assert "flying" not in questioner.ask(digests=[digest_of(content)])
        assert follow(fetcher, content).status == 404
        ingest.write()
        ingest.give_up()
        assert fetcher.node.logged_errors() == []


def test_without_inotify_the_content_is_followed_by_looking() -> None:
    with Site(OPEN) as site:
        fetcher = Fetcher(site, "fetcher")
        fetcher.node.before = WITHOUT_INOTIFY
        site.add_member("follower", "127.0.0.1")
        fetcher.start()
        content = fresh()
        ingest = fetcher.fetch(content)
        ingest.write(MIB)
        with following(fetcher, content) as body:
            assert body.read(MIB) == content[:MIB]
            ingest.write()
            ingest.commit()
            assert body.read_to_the_end() == content[MIB:]
        assert fetcher.node.logged_errors() == []


def test_with_tls_the_content_arrives_the_same() -> None:
    content = fresh()
    tls = {"tls": secured.shared_settings()}
    with Site({**OPEN, **tls}) as site:
        fetcher = Fetcher(site, "fetcher")
        site.add_member("follower", "127.0.0.1")
        fetcher.start()
        ingest = fetcher.fetch(content)
        ingest.write(MIB)
        context = secured.client_context()
        connection = http.client.HTTPSConnection(fetcher.node.address, PEER, timeout=60, context=context)
        connection.request("GET", path_of(content), headers=fetcher.follow("follower", content))
        reply = connection.getresponse()
        assert reply.read(MIB) == content[:MIB]
        ingest.write()
        ingest.commit()
        assert reply.read() == content[MIB:]
        connection.close()
        assert fetcher.node.ask("/livez", port=ADMIN).status == 200

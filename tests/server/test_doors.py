"""Who is let in at the NodePort, and what a stranger gets: over real sockets."""

import json
from collections.abc import Iterator

import pytest

from agent.config import Endpoint
from agent.flows.messages import NODE_HEADER
from agent.keyring import new_key, parse_keys
from agent.preflight.answering import ask, fallback
from agent.preflight.check import Status
from agent.probe.canary import Answer, CanaryConnection

from .agents import LOCAL, SERVICE, Node, Site, digest_of, service_proof, wait_for
from .wire import connected, read_reply

CONTENT = b"for other nodes' containerds"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """An agent with a key."""
    with Site() as made:
        found = made.add("a")
        found.put(CONTENT)
        made.start()
        yield found


def sent(node: Node, *lines: str, target: str = "/v2/") -> tuple[int, dict[str, str], bytes]:
    """The answer at the NodePort to a head with exactly these header lines."""
    head = (f"GET {target} HTTP/1.1", "Host: localhost", *lines, "", "")
    with connected(node.address, SERVICE) as sock:
        sock.sendall("\r\n".join(head).encode("latin-1"))
        reply = read_reply(sock)
    return reply.status, dict(reply.headers), reply.body


def refused(node: Node, reason: str) -> float:
    """How many were turned away for this reason."""
    return node.metric("shorthaul_refused_total", listener="nodeport", reason=reason)


def token() -> str:
    """The valid one."""
    return service_proof()["Authorization"]


def test_the_token_opens_the_nodeport_and_says_who_answers(node: Node) -> None:
    status, headers, _ = sent(node, f"Authorization: {token()}")
    assert (status, headers[NODE_HEADER]) == (200, "a")
    assert node.blob(CONTENT, port=SERVICE).body == CONTENT


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "no_proof"),
        (["Authorization: Bearer guess"], "wrong_proof"),
        (["Authorization: Basic Z3Vlc3M6Z3Vlc3M="], "malformed"),
        (["Authorization: Bearer"], "malformed"),
        (["X-Forwarded-For: 127.0.0.1", "User-Agent: containerd/2.1.9"], "no_proof"),
    ],
)
@pytest.mark.parametrize("target", ["/v2/", "/v2/library/app/manifests/v1?ns=registry.test", "/nothing"])
def test_a_stranger_gets_401_whatever_he_asks_and_learns_nothing(
    node: Node, lines: list[str], reason: str, target: str
) -> None:
    before, recorded = refused(node, reason), len(node.requests())
    status, headers, body = sent(node, *lines, target=target)
    assert status == 401
    assert {name.lower() for name in headers} <= {
        "content-type",
        "content-length",
        "connection",
        "date",
        "server",
        "docker-distribution-api-version",
    }
    (error,) = json.loads(body)["errors"]
    assert error["code"] == "UNAUTHORIZED"
    assert "--key-file" in error["detail"]["hint"]
    assert refused(node, reason) == before + 1
    assert len(node.requests()) == recorded


def test_two_tokens_are_none(node: Node) -> None:
    status, _, _ = sent(node, f"Authorization: {token()}", f"Authorization: {token()}")
    assert status in (400, 401)


@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "Authorization", "bearer"])
def test_a_token_in_a_query_counts_for_nothing(node: Node, name: str) -> None:
    value = token().removeprefix("Bearer ")
    assert sent(node, target=f"/v2/?{name}={value}")[0] == 401
    assert sent(node, target=f"/v2/?{name}=Bearer%20{value}")[0] == 401


def test_the_head_of_a_blob_takes_the_token_as_well(node: Node) -> None:
    path = f"/v2/library/app/blobs/{digest_of(CONTENT)}"
    assert (
        node.ask(path, port=SERVICE, method="HEAD", headers={"Authorization": "Bearer guess"}).status == 401
    )
    assert (
        node.ask(path, port=SERVICE, method="POST", headers={"Authorization": "Bearer guess"}).status == 401
    )


def test_the_admin_token_is_no_service_token(node: Node, site: Site) -> None:
    other = parse_keys(site.key.read_text()).admin_tokens[0]
    assert sent(node, f"Authorization: Bearer {other}")[0] == 401


def test_the_token_opens_the_hostport_to_whoever_has_it(node: Node) -> None:
    """In a pod with a network of its own it is the only way."""
    assert node.ask("/v2/", port=LOCAL, headers={"Authorization": token()}).status == 200


def test_a_canary_with_the_token_learns_who_answers_and_one_without_learns_nothing(node: Node) -> None:
    endpoint = Endpoint(host=node.address, port=SERVICE)
    with CanaryConnection(endpoint, token()) as canary:
        answer = canary.request()
    assert (answer.node, answer.cookie > 0, answer.error) == ("a", True, "")
    with CanaryConnection(endpoint) as canary:
        assert canary.request() == Answer()


def test_the_doctor_tells_an_agent_that_refuses_it_from_none(node: Node) -> None:
    endpoint = Endpoint(host=node.address, port=SERVICE)
    assert fallback(endpoint, "nodeport", ask(endpoint, token())).status is Status.GOOD
    assert "HTTP 401" in fallback(endpoint, "nodeport", ask(endpoint)).detail


def test_tokens_of_all_keys_are_valid_while_the_keys_are_rotated(site: Site) -> None:
    old, new = site.key.read_text().strip(), new_key()
    rotated = site.add("rotated")
    site.start()

    def status(key: str) -> int:
        return sent(rotated, f"Authorization: Bearer {parse_keys(key).service_tokens[0]}")[0]

    assert (status(old), status(new)) == (200, 401)
    site.key.write_text(f"{old}\n{new}\n")
    wait_for(lambda: status(new) == 200, "the new key counts")
    assert status(old) == 200
    site.key.write_text(f"{new}\n")
    wait_for(lambda: status(old) == 401, "the old key is gone")
    assert status(new) == 200


def test_an_agent_without_a_key_lets_nobody_in(site: Site) -> None:
    alone = site.add("alone", membership={}, peering={"key": None})
    site.start()
    assert sent(alone, f"Authorization: {token()}")[0] == 401
    assert alone.ask("/v2/").status == 200


def test_a_lab_without_a_key_is_open(site: Site) -> None:
    lab = site.add("lab", peering={"key": None, "open": True})
    site.start()
    assert sent(lab)[0] == 200

"""Whose fault it is that a client was not served, as the metric says that alerts are about."""

import signal
from random import Random

from agent.keyring import new_key

from .agents import ADMIN, SERVICE, Node, Site, make_image, wait_for

_HASTY = {"stall_s": 0.5, "patience_s": 0.5, "deadline_s": 2.0, "cooloff_s": 1.0}


def outcomes(node: Node, path: str = "hostport") -> dict[str, int]:
    """How many requests of clients had which outcome. Those that none had are left out."""
    found = {
        outcome: int(node.metric("shorthaul_mirror_requests_total", path=path, outcome=outcome))
        for outcome in ("served", "missed", "failed", "left")
    }
    return {outcome: number for outcome, number in found.items() if number}


def test_what_no_node_has_and_what_is_left_to_the_registry_is_no_fault(site: Site) -> None:
    node, _ = site.add("node", registries={"exclude": ["left.test/*"]}), site.add("other")
    image = make_image(Random(1).randbytes(1000))
    node.put_image(image, "registry.test/library/app:v1")
    content = image.layers[0]
    site.start()
    assert node.blob(content).status == 200
    assert node.blob(content, port=SERVICE).status == 200
    assert node.blob(b"nobody has this").status == 404
    assert node.ask("/v2/app/manifests/v1?ns=left.test").status == 404
    assert node.ask("/v2/").status == 200  # a ping is no request for content
    assert outcomes(node) == {"served": 1, "missed": 1, "left": 1}
    assert outcomes(node, "nodeport") == {"served": 1}


def test_holder_that_gives_nothing_is_a_fault(site: Site) -> None:
    node, holder, _ = site.add("node", pull=_HASTY), site.add("holder"), site.add("other")
    content = Random(2).randbytes(1000)
    holder.put(content)
    site.start()
    node.wait_for_holders(content, {"holder"})
    holder.process.signal(signal.SIGSTOP)
    try:
        assert node.blob(content).status == 404
    finally:
        holder.process.signal(signal.SIGCONT)
    assert outcomes(node) == {"failed": 1}


def test_node_that_all_peers_refuse_is_at_fault_for_all_that_it_does_not_get(site: Site) -> None:
    """It would look as if nobody had anything."""
    key = site.folder / "other.key"
    key.write_text(new_key())
    node = site.add("node", peering={"key": str(key)})
    content = Random(3).randbytes(1000)
    for number in range(2):
        site.add(f"peer-{number}").put(content)
    site.start()
    wait_for(
        lambda: (
            "no peer accepts it" in node.ask("/readyz?verbose", port=ADMIN).body.decode()
            or node.ask("/api/reach", port=ADMIN).status != 200
        ),
        "it knows that it is refused",
    )
    assert node.blob(content).status == 404
    assert outcomes(node) == {"failed": 1}

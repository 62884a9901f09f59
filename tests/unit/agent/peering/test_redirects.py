"""Proofs in the addresses of redirects: what they are good for."""

import pytest

from agent.keyring import parse_keys
from agent.peering.redirects import redirect_proof, with_proof, without_proof
from tests.unit.twins import node

KEY = parse_keys("0123456789abcdef0123456789abcdef").signs
TARGETS = ("/v2/app/blobs/sha256:1?ns=docker.io", "/v2/app/blobs/sha256:1")


@pytest.mark.parametrize("target", TARGETS)
def test_proof_fits_its_target_its_node_and_its_key(target: str) -> None:
    proof = redirect_proof(with_proof(KEY, target, node("b"), 1000))
    assert proof is not None
    assert (proof.target, proof.time_ms, proof.key_id) == (target, 1000, KEY.id)
    assert proof.fits(KEY, node("b"))
    assert not proof.fits(KEY, node("c"))
    assert not proof.fits(parse_keys("fedcba9876543210fedcba9876543210").signs, node("b"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("app", "other"),
        ("sha256:1", "sha256:2"),
        ("docker.io", "quay.io"),
        (".1000.", ".1001."),
        ("?ns", "?n"),
    ],
)
def test_changed_address_does_not_fit(old: str, new: str) -> None:
    proof = redirect_proof(with_proof(KEY, TARGETS[0], node("b"), 1000).replace(old, new))
    assert proof is not None
    assert not proof.fits(KEY, node("b"))


@pytest.mark.parametrize(
    "target",
    [
        "/v2/",
        "/v2/?shorthaul-proof=",
        "/v2/?shorthaul-proof=x.1.y",
        "/v2/?xshorthaul-proof=" + "0" * 8 + ".1." + "0" * 64,
        "/v2/shorthaul-proof=" + "0" * 8 + ".1." + "0" * 64,
        "/v2/?shorthaul-proof=" + "0" * 8 + ".1." + "0" * 64 + "&more=1",
    ],
)
def test_other_addresses_have_no_proof(target: str) -> None:
    assert redirect_proof(target) is None


def test_proof_is_not_written_down() -> None:
    target = with_proof(KEY, TARGETS[0], node("b"), 1000)
    assert without_proof(target) == f"{TARGETS[0]}&…"
    assert without_proof(TARGETS[0]) == TARGETS[0]

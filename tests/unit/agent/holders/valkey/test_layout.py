"""The names of the keys."""

from agent.holders.valkey.layout import Layout, slot_of
from agent.oci.digest import Digest

DIGEST, LONG = Digest("sha256:" + "ab" * 32), Digest("sha512:" + "cd" * 64)
LAYOUT = Layout("shorthaul")


def test_every_key_begins_with_the_prefix_and_the_version() -> None:
    keys = (
        LAYOUT.number(3),
        LAYOUT.names,
        LAYOUT.bitmap(7, DIGEST),
        LAYOUT.flight(LONG),
        LAYOUT.claim("cluster", "", DIGEST),
        LAYOUT.claim("zone=eu/a", "", DIGEST),
        LAYOUT.claim("zone=eu/a", "0f" * 16, DIGEST),
    )
    assert all(key.startswith("shorthaul:1:") for key in keys)
    assert len({*keys}) == 7


def test_the_keys_of_a_digest_are_in_one_slot_of_a_cluster_in_every_epoch() -> None:
    for digest in (DIGEST, LONG):
        claim = LAYOUT.claim("zone=eu/a", "", digest)
        keys = (LAYOUT.bitmap(7, digest), LAYOUT.bitmap(8, digest), LAYOUT.flight(digest), claim)
        assert {key[key.index("{") + 1 : key.index("}")] for key in keys} == {slot_of(digest)}


def test_digests_of_both_algorithms_have_keys() -> None:
    assert LAYOUT.bitmap(7, LONG).endswith(LONG)
    assert slot_of(LONG) == "cd"

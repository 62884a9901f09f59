"""Whose certificate it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.peering.certificate import Certificate, certificate_of
from topology.placement import NodeName

NODE, ADDRESS = "node-1", "10.0.0.1"


def certificate(*names: tuple[str, str]) -> Certificate:
    """A certificate with these subject alternative names, as the ssl module decodes them."""
    return certificate_of(
        {
            "subject": ((("commonName", NODE),),),
            "notBefore": "Jan  1 00:00:00 2026 GMT",
            "notAfter": "Jan 31 12:30:00 2026 GMT",
            "subjectAltName": names,
        }
    )


@pytest.mark.parametrize(
    "name",
    [
        ("DNS", "node-1"),
        ("DNS", "NODE-1"),
        ("URI", "spiffe://cluster.example/node/node-1"),
        ("IP Address", "10.0.0.1"),
        ("IP Address", "::ffff:10.0.0.1"),
    ],
)
def test_a_certificate_is_of_the_node_whose_name_or_address_it_has(name: tuple[str, str]) -> None:
    assert certificate(("DNS", "other"), name).fits(NODE, ADDRESS, None)


@pytest.mark.parametrize(
    "name",
    [
        ("DNS", "node-11"),
        ("DNS", "*"),
        ("DNS", "node-*"),
        ("DNS", "node-1.example"),
        ("DNS", "agents.example"),
        ("DNS", "10.0.0.1"),
        ("URI", "spiffe://cluster.example/ns/shorthaul/sa/node-1"),
        ("URI", "spiffe://cluster.example/xnode/node-1"),
        ("URI", "/node/node-1"),
        ("IP Address", "10.0.0.11"),
        ("email", "node-1"),
    ],
)
def test_a_certificate_is_of_no_other_node(name: tuple[str, str]) -> None:
    assert not certificate(name).fits(NODE, ADDRESS, None)


def test_the_common_name_says_nothing() -> None:
    assert not certificate().fits(NODE, ADDRESS, None)
    assert str(certificate()) == "without a name"


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        (("DNS", "agents.example"), "agents.example"),
        (("DNS", "agents.example"), "Agents.Example"),
        (("URI", "spiffe://c/ns/s/sa/shorthaul"), "spiffe://c/ns/s/sa/shorthaul"),
    ],
)
def test_the_name_of_all_agents_is_as_good_as_the_node_s_own(name: tuple[str, str], shared: str) -> None:
    assert certificate(name).fits(NODE, ADDRESS, shared)
    assert certificate(name).is_of_any({}, shared)
    assert not certificate(name).fits(NODE, ADDRESS, "others.example")


def test_a_certificate_of_a_member_is_told_from_others() -> None:
    members = {NodeName("Node-1"): 1, NodeName("node-2"): 2}
    assert certificate(("DNS", "node-1")).is_of_any(members, None)
    assert certificate(("URI", "spiffe://c/node/node-2")).is_of_any(members, None)
    assert not certificate(("DNS", "node-3"), ("URI", "spiffe://c/sa/node-2")).is_of_any(members, None)


def test_a_certificate_says_when_it_is_valid() -> None:
    made = certificate(("DNS", NODE))
    assert made.time_problem(made.not_before_s - 1) == "it is not valid before 2026-01-01 00:00 UTC"
    assert made.time_problem(made.not_before_s) is None
    assert made.time_problem(made.not_after_s + 1) == "it expired on 2026-01-31 12:30 UTC"


def test_a_certificate_in_words_is_short_and_printable() -> None:
    names = [("DNS", f"name-{number}") for number in range(100)] + [("URI", "x://a\n\x1b[1m")]
    words = str(certificate(*names, ("IP Address", "10.0.0.1")))
    assert words.startswith("for name-0, name-1, name-10 and ")
    assert words.endswith(" more")
    assert words.isprintable()


@given(st.text(alphabet="abn-1.*/:", max_size=12))
def test_only_the_name_itself_is_the_name(name: str) -> None:
    assert certificate(("DNS", name)).fits(NODE, ADDRESS, None) == (name == NODE)

"""What each kind of value admits. Whatever it does not admit is refused with a hint."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import values
from agent.config.values import (
    Authorization,
    ContainerdStore,
    Endpoint,
    InvalidValue,
    Labels,
    OciLayoutStore,
    ZonePrice,
)

Parser = Callable[[object], object]

GOOD: list[tuple[Parser, object, object]] = [
    (values.parse_endpoint, "127.0.0.1:30020", Endpoint(host="127.0.0.1", port=30020)),
    (values.parse_endpoint, "[::1]:1", Endpoint(host="::1", port=1)),
    (values.parse_address, "FD00::0001", "fd00::1"),
    (values.parse_name, "node-1.example_2", "node-1.example_2"),
    (values.parse_name, 7, "7"),
    (values.parse_optional_label, "", None),
    (values.parse_optional_label, 1, "1"),
    (values.parse_store, "oci-layout:///srv/x", OciLayoutStore(directory=Path("/srv/x"))),
    (
        values.parse_store,
        "containerd:///run/c.sock?root=/c",
        ContainerdStore(socket=Path("/run/c.sock"), namespace="k8s.io", root=Path("/c")),
    ),
    (values.parse_path, None, None),
    (values.parse_endpoints, ["1.2.3.4:5"], (Endpoint(host="1.2.3.4", port=5),)),
    (values.parse_uids, [0, 65532], (0, 65532)),
    (values.parse_transfer_mode, "redirect", "redirect"),
    (values.parse_cold_start_mode, "claims", "claims"),
    (values.parse_cold_start_mode, "off", "off"),
    (values.parse_cold_start_mode, False, "off"),  # a bare off in YAML
    (values.parse_cold_start_scope, "cluster", "cluster"),
    (values.parse_patterns, ["docker.io/*"], ("docker.io/*",)),
    (values.parse_patterns, ["GHCR.io", "ghcr.io/*"], ("ghcr.io/*",)),
    (values.parse_tag_patterns, ["latest", "*:rc", "ghcr.io/*"], ("*:latest", "*:rc", "ghcr.io/*")),
    (values.parse_labels, {"a/b": 1}, Labels(items=(("a/b", "1"),))),
    (values.parse_levels, ["row", "rack"], ("row", "rack")),
    (
        values.parse_prices,
        [{"from": "a", "to": 1, "usd_per_gb": 0.02}],
        (ZonePrice(source="a", destination="1", usd_per_gb=0.02),),
    ),
    (
        values.parse_authorizations,
        [{"match": "GHCR.io/acme/", "by": "registry"}],
        (Authorization(match="ghcr.io/acme/*", by="registry"),),
    ),
    (values.parse_flag, False, False),
    (values.seconds(least=1, most=9), 9, 9.0),
    (values.amount(most=1), 0, 0.0),
    (values.whole_number(most=5), 5, 5),
    (values.limit(least=4, most=9), 0, 0),
    (values.limit(least=4, most=9), 4, 4),
]


def each(parse: Parser, *bad: object) -> list[tuple[Parser, object]]:
    """Each of these values with the parser."""
    return [(parse, value) for value in bad]


BAD: list[tuple[Parser, object]] = [
    *each(values.parse_endpoint, "x:1", "1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", ":1", 5),
    *each(values.parse_endpoint, "1.2.3.4:²", "1.2.3.4:-1", "1.2.3.4:", "1.2.3.4:1 "),
    (values.parse_address, "node-1"),
    *each(values.parse_name, "", "a b", "a/b", "x" * 254, None, True),
    *each(values.parse_optional_label, False, 'a"b', "a\nb", []),
    *each(
        values.parse_store,
        1,
        "file:///x",
        "oci-layout://host/x",
        "oci-layout:x",
        "oci-layout:///x?a=1",
        "http://[",
    ),
    (values.parse_store, "containerd:///c?nope=1"),
    *each(values.parse_path, "", 1),
    (values.parse_file, None),
    *each(values.parse_endpoints, "1.2.3.4:5", [1]),
    *each(values.parse_uids, 1, [-1], [True], ["0"]),
    (values.parse_transfer_mode, "copy"),
    *each(values.parse_cold_start_mode, True, None, "on", 0),
    *each(values.parse_cold_start_scope, "region", None),
    *each(values.parse_patterns, "*", [""], [1], ["a@b"], ["http://a"]),
    *each(values.parse_labels, [], {1: "a"}, {"": "a"}, {"a": True}, {"a": None}),
    *each(values.parse_levels, "a", [""], ["a", "a"], ["zone"], [1]),
    *each(values.parse_prices, {}, [{}], [{"from": "a", "to": "b", "usd_per_gb": -1}]),
    *each(values.parse_authorizations, {}, [{}], [{"match": "ghcr.io/*", "by": "me"}]),
    *each(values.parse_authorizations, [{"match": "nginx", "by": "mirror"}]),
    *each(values.parse_authorizations, [{"match": "a.b/c:v1", "by": "mirror"}]),
    *each(values.parse_flag, 1, "true", None),
    *each(values.seconds(least=1, most=9), 0.9, 9.1, "5", True, None, math.nan, math.inf),
    *each(values.whole_number(most=5), 1.0, -1, 6),
    *each(values.limit(least=4, most=9), 1, 3, 10, -1),
]


@pytest.mark.parametrize(("parse", "value", "parsed"), GOOD)
def test_good_value_becomes_what_the_agent_uses(parse: Parser, value: object, parsed: object) -> None:
    assert parse(value) == parsed


@pytest.mark.parametrize(("parse", "value"), BAD)
def test_bad_value_is_refused_with_a_hint(parse: Parser, value: object) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse(value)
    assert refused.value.hint
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["127.0.0.1:30020", "[fd00::1]:443"])
def test_endpoint_is_written_as_it_is_read(text: str) -> None:
    assert str(values.parse_endpoint(text)) == text


@pytest.mark.parametrize(
    "text", ["oci-layout:///srv/x", "containerd:///run/c.sock?namespace=k8s.io&root=/var/lib/containerd"]
)
def test_store_is_written_as_it_is_read(text: str) -> None:
    assert str(values.parse_store(text)) == text


def test_every_pattern_that_is_refused_is_told_at_once() -> None:
    with pytest.raises(InvalidValue) as caught:
        values.parse_patterns(["docker.io/library", "ghcr.io/*", "hub.docker.com", "nginx"])
    for refused in ("'docker.io/library'", "'hub.docker.com'", "'nginx'"):
        assert refused in str(caught.value)
    assert "ghcr" not in str(caught.value)
    assert caught.value.hint.count("write ") == 3

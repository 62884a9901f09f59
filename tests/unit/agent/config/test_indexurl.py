"""The URL of the index: what it may be, and that its password is shown nowhere."""

from collections.abc import Callable

import pytest

from agent.config import Deployment, Endpoint, IndexUrl
from agent.config.indexurl import (
    masked,
    parse_cluster_name,
    parse_index,
    parse_key_prefix,
    parse_login_name,
    parse_tls_name,
)
from agent.config.values import InvalidValue

HOST = Endpoint(host="h", port=6379)

GOOD = [
    ("valkey://h", IndexUrl(hosts=(HOST,))),
    ("redis://H/", IndexUrl(hosts=(HOST,))),
    ("valkeys://h:1/3", IndexUrl(tls=True, hosts=(Endpoint(host="h", port=1),), database=3)),
    ("valkey://[10.96.0.7]:6379", IndexUrl(hosts=(Endpoint(host="10.96.0.7", port=6379),))),
    (
        "valkey://[$(SHORTHAUL_VALKEY_SERVICE_HOST)]:6379",
        IndexUrl(hosts=(Endpoint(host="shorthaul-valkey-service-host.invalid", port=6379),)),
    ),
    ("rediss://[FD00::01]", IndexUrl(tls=True, hosts=(Endpoint(host="fd00::1", port=6379),))),
    ("valkey://u:p%40w@h", IndexUrl(hosts=(HOST,), username="u", password="p@w")),
    ("valkey://:p/w:x@y@h", IndexUrl(hosts=(HOST,), password="p/w:x@y")),
    ("valkey://u@h", IndexUrl(hosts=(HOST,), username="u")),
    (
        "redis+sentinel://a,b:1,a/my%20master/2",
        IndexUrl(
            deployment=Deployment.SENTINEL,
            hosts=(Endpoint(host="a", port=26379), Endpoint(host="b", port=1)),
            service="my master",
            database=2,
        ),
    ),
    (
        "valkeys+cluster://a,[::1]:7/",
        IndexUrl(
            deployment=Deployment.CLUSTER,
            tls=True,
            hosts=(Endpoint(host="a", port=6379), Endpoint(host="::1", port=7)),
        ),
    ),
]

BAD = [
    *(None, 1, ["valkey://h"], "", "valkey", "valkey:h", "http://h", "valkey+http://h", "redis+://h"),
    *("valkey://", "valkey://:6379", "valkey://h:", "valkey://h:0", "valkey://h:65536", "valkey://h:x"),
    *(
        "valkey://a,b",
        "valkey://a,",
        "valkey+cluster://,a",
        "valkey://[::1",
        "valkey://fd00::1",
        "valkey://[x]",
    ),
    *("valkey://h/x", "valkey://h/1/2", "valkey://h/-1", "valkey+cluster://a/1", "valkey+sentinel://a"),
    *("valkey+sentinel://a/", "valkey+sentinel://a/m/x", "valkey://h?db=1", "valkey://h#1", "valkey:// h"),
    *("valkey://h\n", "valkey://\u0663", "valkey://h*"),
]


@pytest.mark.parametrize(("text", "url"), GOOD)
def test_url_says_where_the_server_is_and_how_it_is_run(text: str, url: IndexUrl) -> None:
    assert parse_index(text) == url


@pytest.mark.parametrize("text", [text for text, url in GOOD if url.password is None])
def test_url_without_a_password_is_written_as_it_is_read(text: str) -> None:
    url = parse_index(text)
    assert parse_index(str(url)) == url


def test_without_a_server_the_peers_are_asked() -> None:
    assert parse_index("scatter") == "scatter"


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_url_of_a_server_is_refused_with_a_hint(value: object) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_index(value)
    assert "scatter" in refused.value.hint
    assert "\n" not in str(refused.value)


SECRETS = (
    *("u:%s@h/x/y/z", "u:%s@", ":%s@h?x", "u:%s@a,b", "u:%s @h", "u:'%s\"@h:0", "u:x@%s@h:x", "u:\n%s@h"),
    *("u:/%s@[::1", "%s@h#"),
)


@pytest.mark.parametrize("scheme", ["valkey://", "https://", "valkey+sentinel://", ""])
@pytest.mark.parametrize("rest", SECRETS)
def test_no_password_is_in_what_is_said_of_a_wrong_url(scheme: str, rest: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_index(scheme + rest % "hunter2")
    assert "hunter2" not in str(refused.value) + refused.value.hint


@pytest.mark.parametrize("scheme", ["valkey", "valkeys+cluster", "rediss"])
def test_no_password_is_in_any_text_of_a_good_url(scheme: str) -> None:
    url = parse_index(f"{scheme}://u:hunter2@h")
    assert isinstance(url, IndexUrl)
    assert url.password == "hunter2"
    assert "hunter2" not in f"{url} {url!r} {(url,)}"
    assert "u:***@h" in str(url)


def test_password_is_masked_wherever_it_stands_in_a_text() -> None:
    assert masked("connecting to 'valkey://u:p@w@h:1' failed") == "connecting to 'valkey://***@h:1' failed"
    assert masked("nothing here") == "nothing here"


NAMES: list[tuple[Callable[[object], object], list[object], list[object]]] = [
    (parse_key_prefix, ["shorthaul", "a:b-1_.", "x" * 64], ["", "{a}", "a b", "x" * 65, None, 1]),
    (parse_cluster_name, ["", "prod/eu-1", "x" * 128], ["a b", "x" * 129, "a\n", None, 1]),
    (parse_login_name, [None, "shorthaul"], ["", "a b", 1, "a\n"]),
    (parse_tls_name, [None, "valkey.svc", "10.0.0.1", "fd00::1"], ["", "a:1", "*.a", "a b", 1]),
]


@pytest.mark.parametrize(("parse", "good", "bad"), NAMES)
def test_names_are_taken_as_they_are_and_others_are_refused_with_a_hint(
    parse: Callable[[object], object], good: list[object], bad: list[object]
) -> None:
    assert [parse(value) for value in good] == good
    for value in bad:
        with pytest.raises(InvalidValue) as refused:
            parse(value)
        assert refused.value.hint

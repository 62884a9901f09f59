"""What a web page of another site can make a browser ask is refused; what tools and clients ask is not."""

import pytest

from agent.oci.browser import BrowserGuard


def code(method: str = "GET", host: str | None = "127.0.0.1:9090", **headers: str) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    refused = BrowserGuard(["Node-1", "mirror.corp.example"]).refusal(
        method, named if host is None else {"Host": host, **named}
    )
    if refused is not None:
        assert refused.message
        assert refused.hint
    return None if refused is None else refused.code


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:30020",
        "127.0.0.1",
        "10.9.1.1:30022",
        "[::1]:9090",
        "[::1]",
        "[fd00::1]:30020",
        "localhost",
        "LocalHost.:9090",
        "agent.localhost:9090",
        "node-1:9090",
        "NODE-1.",
        "mirror.corp.example:30022",
        None,
    ],
)
def test_name_or_address_that_leads_here_rightly_is_answered(host: str | None) -> None:
    assert code(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "node-1.evil.example",
        "corp.example",
        "2130706433",
        "0x7f.1",
        "127.1",
        "127.0.0.1:90x",
        "[::1",
        "[127.0.0.1]",
        "[::1]evil.example",
        "127.0.0.1@evil.example",
        "evil.example\x00localhost",
        "é" * 5000,
    ],
)
def test_page_whose_own_name_leads_here_is_refused(host: str) -> None:
    assert code(host=host) == "HOST_UNKNOWN"


def test_request_to_a_good_host_stays_good_and_a_bad_one_bad() -> None:
    guard = BrowserGuard([])
    for _ in range(2):
        assert guard.refusal("GET", {"Host": "127.0.0.1"}) is None
        assert guard.refusal("GET", {"Host": "evil.example"}) is not None


def test_number_of_hosts_that_are_remembered_is_bounded() -> None:
    guard = BrowserGuard([])
    for port in range(1, 5000):
        assert guard.refusal("GET", {"Host": f"127.0.0.1:{port}"}) is None
    assert len(guard._known) <= 256


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1", "null", "", "http://[::1]:9090"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_origin_of_another_site_is_refused_for_every_method(method: str, origin: str) -> None:
    assert code(method, Origin=origin) == "CROSS_SITE"


def test_origin_of_this_agent_itself_is_answered() -> None:
    assert code("POST", Origin="http://127.0.0.1:9090", Sec_Fetch_Site="same-origin") is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "dest"),
    [
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("cors", "empty"),
        ("navigate", "iframe"),
        ("websocket", ""),
    ],
)
def test_what_a_page_of_another_site_loads_is_refused(site: str, mode: str, dest: str) -> None:
    assert code(Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=dest) == "CROSS_SITE"


def test_link_that_a_person_follows_is_answered_but_a_form_is_not() -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert code("GET", **link) is None
    assert code("POST", **link) == "CROSS_SITE"


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_address_that_a_person_types_is_answered(site: str) -> None:
    assert code(Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document") is None

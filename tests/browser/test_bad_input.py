"""The page when what it hears, or the browser that it runs in, is not as it should be. An agent is played."""

import itertools
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from benchmarks.lab.browser import Chromium, View
from tests.browser.conftest import OpenPage
from tests.browser.played import PlayedAgent, sample
from tests.server.agents import wait_for

HOSTILE = (
    '<img src=x onerror="window.hacked = true"><script>window.hacked = true</script>'
    "\u202e\u2066\u200f\u0000\u0007\u001b[31m\u2028'\"&amp;javascript:window.hacked=true "
)
LONG = HOSTILE + "x" * 10_000
_UNSEEN = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_WRONG = re.compile(r"\bNaN\b|\bundefined\b|\[object|\bInfinity\b|\bInvalid Date\b")

_QUIET = ("pulls", "requests", "proof", "index", "claims", "transfers")


def is_live(page: Page) -> None:
    """Wait until the page hears the agent by its stream."""
    expect(page.locator("#connection")).to_have_attribute("data-phase", "live")


def heard(played: PlayedAgent, page: Page, transfers: Any = None) -> None:
    """Wait until the page shows all that was said so far, and these transfers last."""
    mark = next(_marks)
    played.say("transfers", {**(transfers or sample("transfers")), "uploads_refused": mark})
    expect(page.locator("#panel-transfers")).to_contain_text(f"{mark}\u00a0uploads refused")


_marks = itertools.count(100)


@pytest.fixture(scope="module")
def tab(chromium: Chromium) -> Iterator[tuple[PlayedAgent, View]]:
    """One tab for what leaves it alive."""
    with PlayedAgent() as agent, chromium.open(agent.url) as view:
        is_live(view.page)
        yield agent, view


@pytest.fixture
def said(tab: tuple[PlayedAgent, View]) -> Iterator[tuple[PlayedAgent, Page]]:
    """The agent and its page, which must be well again, and without a problem, when the test ends."""
    agent, view = tab
    view.problems.clear()
    agent.begin_anew()
    yield agent, view.page
    agent.begin_anew()
    for name in _QUIET:
        expect(view.page.locator(f"#panel-{name}")).to_have_attribute("data-look", "live")
    view.check()


Said = tuple[PlayedAgent, Page]


def texts(value: Any, replace: Any) -> Any:
    """The document with each text replaced."""
    if isinstance(value, dict):
        return {key: texts(each, replace) for key, each in value.items()}
    if isinstance(value, list):
        return [texts(each, replace) for each in value]
    return replace(value) if isinstance(value, str) else value


def shown(page: Page) -> str:
    """All that a person reads on the page now."""
    return str(page.locator("body").inner_text())


def unfold_all(page: Page) -> None:
    """Show what is folded as well: first the pulls, then their requests."""
    for _ in range(2):
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        page.evaluate("() => new Promise(requestAnimationFrame)")


@pytest.mark.parametrize("name", [HOSTILE, LONG], ids=["markup", "10 kB"])
def test_hostile_names_are_text_and_nothing_else(said: Said, name: str) -> None:
    played, page = said
    for event, document in played.documents.items():
        # What tells entries apart and places them stays, so that there is something to show.
        played.say(event, _with_names(document, name))
    heard(played, page, _with_names(sample("transfers"), name))
    unfold_all(page)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, script:not([src]), iframe, object").count() == 0
    text = shown(page)
    assert "<img src=x" in text
    assert not _UNSEEN.search(text)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


_KEPT_KEYS = {"id", "time", "started_at", "sent_at", "judged_at", "since", "requests", "mode"}


def _with_names(value: Any, name: str, key: str = "") -> Any:
    if key in _KEPT_KEYS:
        return value
    if isinstance(value, dict):
        return {inner: _with_names(each, name, inner) for inner, each in value.items()}
    if isinstance(value, list):
        return [_with_names(each, f"{name}{number}", key) for number, each in enumerate(value)]
    return name if isinstance(value, str) else value


def test_a_text_where_a_number_is_expected_and_the_like_break_nothing(said: Said) -> None:
    played, page = said
    for event, document in played.documents.items():
        for broken in _broken(document):
            played.say(event, broken)
    heard(played, page)
    unfold_all(page)
    assert not _WRONG.search(shown(page))


def _broken(document: Any) -> Iterator[Any]:
    """The document with a key missing, another one too many, or a value of another type; and no document."""
    yield from (None, [], {}, "text", 7, [None], [[]], {"pulls": None}, [{}])
    other: Any
    one = document[0] if isinstance(document, list) else document
    for key, value in one.items():
        for other in (None, "x", -1, [], {}, [None, 3], 1e300):
            changed = deepcopy(document)
            (changed[0] if isinstance(changed, list) else changed)[key] = other
            yield changed
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for inner in value[0]:
                for other in (None, "x", {}, 1e300):
                    changed = deepcopy(document)
                    (changed[0] if isinstance(changed, list) else changed)[key][0][inner] = other
                    yield changed
        changed = deepcopy(document)
        (changed[0] if isinstance(changed, list) else changed)["a_key_of_a_newer_agent"] = {"x": [1]}
        yield changed


def test_document_that_is_none_is_said_to_be_none_until_the_next_one(said: Said) -> None:
    played, page = said
    claims = page.locator("#panel-claims")
    played.say("claims", ["no", "document"])
    expect(claims).to_contain_text("said something that this page does not understand")
    expect(claims).to_contain_text("This node fetches 1 content")  # what it said last
    played.say("claims", sample("claims"))
    expect(claims).to_have_attribute("data-look", "live")


def test_what_is_no_json_is_left_out(said: Said, tab: tuple[PlayedAgent, View]) -> None:
    played, page = said
    tab[1].allow("*not valid JSON*", "*Unexpected*", "*JSON*")
    played.say_raw(b"event: claims\ndata: {not json\n\n")
    played.say_raw(b"event: no_such_event\ndata: {}\n\n")
    played.say_raw(b"data: no event at all\n\n")
    heard(played, page)


@pytest.mark.parametrize("years", [-30, 30])
def test_a_clock_of_the_agent_that_jumps_is_no_harm(said: Said, years: int) -> None:
    played, page = said

    def jumped(text: str) -> str:
        return re.sub(r"^(\d{4})(?=-\d\d-\d\dT)", lambda year: str(int(year[1]) + years), text)

    for event, document in played.documents.items():
        played.say(event, texts(document, jumped))
        half = deepcopy(document)  # and only some of the moments, as if it jumped in the middle of a pull
        if isinstance(half, list):
            half = [texts(each, jumped) if number % 2 else each for number, each in enumerate(half)]
        played.say(event, half)
    heard(played, page)
    unfold_all(page)
    text = shown(page)
    assert not _WRONG.search(text)
    assert not re.search(r"(?<!\S)[-−]\d", re.sub(r"\d{4}-\d\d-\d\dT\S*", "", text)), "a time below zero"


def test_a_clock_of_the_browser_that_jumps_is_no_harm(played: PlayedAgent, open_page: OpenPage) -> None:
    page = open_page(played.url).page
    is_live(page)
    before = shown(page)
    page.evaluate("""() => { const now = Date.now; Date.now = () => now() + 3 * 86400e3; }""")
    played.say("claims", sample("claims"))
    heard(played, page)
    is_live(page)
    assert ("last heard" in shown(page)) == ("last heard" in before)


def test_browser_without_eventsource_asks_every_few_seconds_and_says_so(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    view = open_page(played.url, script="delete window.EventSource")
    view.allow("*404*")
    page = view.page
    for name in _QUIET:
        expect(page.locator(f"#panel-{name}")).to_have_attribute("data-look", "live")
    expect(page.locator("#connection")).to_have_attribute("data-phase", "polling")
    expect(page.locator("#status")).to_contain_text("no EventSource")
    assert played.tabs == 0
    changed = sample("transfers")
    changed["downloads"] = changed["uploads"] = []
    played.documents["transfers"] = changed
    expect(page.locator("#panel-transfers")).to_contain_text("Nothing moves now.")


def test_agent_that_has_too_many_streams_is_asked_instead(played: PlayedAgent, open_page: OpenPage) -> None:
    played.streams = False
    view = open_page("about:blank")
    view.allow("*/api/events: 503*", "*status of 503*", "*404*")
    view.page.goto(played.url)
    expect(view.page.locator("#connection")).to_have_attribute("data-phase", "polling")
    expect(view.page.locator("#status")).to_contain_text("64 tabs are open")
    expect(view.page.locator("#panel-claims")).to_have_attribute("data-look", "live")


def test_page_says_that_the_agent_is_gone_and_starts_anew_with_the_next_one(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    view = open_page(played.url)
    page = view.page
    is_live(page)
    expect(page.locator(".panel[data-look=loading]")).to_have_count(0)  # every module is loaded
    view.allow(
        "*ERR_CONNECTION*", "*ERR_INCOMPLETE*", "*ERR_EMPTY_RESPONSE*", "*ERR_SOCKET*", "*ERR_NETWORK*"
    )
    expect(page.locator("#panel-pulls .p-pull")).to_have_count(2)
    played.stop()
    expect(page.locator("#connection")).to_have_attribute("data-phase", "reconnecting")
    expect(page.locator("#banner")).to_be_visible()
    expect(page.locator("#panel-pulls .p-pull")).to_have_count(2)  # old, and shown as that
    played.documents["pulls"] = {**sample("pulls"), "pulls": []}
    played.documents["requests"] = []
    played.be_another()
    played.start()
    is_live(page)
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#panel-pulls")).to_have_attribute("data-look", "empty")


def test_page_of_an_agent_that_is_upgraded_is_loaded_again(played: PlayedAgent, open_page: OpenPage) -> None:
    view = open_page(played.url)
    is_live(view.page)
    view.allow("*net::ERR_*")
    played.stop()
    played.version = "0.2.0"
    played.be_another()
    with view.page.expect_event("load"):
        played.start()
    is_live(view.page)


def test_node_alone_without_a_probe_and_without_traffic_is_told_what_to_do(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    nothing = {
        "requests": [],
        "pulls": {"time": "", "node": "a1", "pulls": []},
        "flows": {**sample("flows"), "probe": False, "proved": False, "canaries": [], "flows": []},
        "index": {"time": "", "node": "a1", "index": "scatter", "state": "peers"},
        "claims": {**sample("claims"), "held": [], "awaited": [], "decided": [], "followers": 0},
        "transfers": {"time": "", "downloads": [], "uploads": [], "uploads_refused": 0},
    }
    played.documents.update(nothing)
    played.be_another()
    page = open_page(played.url).page
    for name, words in {
        "pulls": "Pull an image on this node",
        "requests": "No request yet",
        "proof": "The probe is not running",
        "index": "The peers are asked",
        "claims": "No claim now",
        "transfers": "Nothing moves now",
    }.items():
        expect(page.locator(f"#panel-{name}")).to_contain_text(words)


def test_a_tab_that_is_open_for_a_day_grows_by_nothing(said: Said) -> None:
    played, page = said
    measure = page.context.new_cdp_session(page)
    measure.send("Performance.enable")

    def size() -> tuple[int, int]:
        measure.send("HeapProfiler.collectGarbage")
        found = {each["name"]: each["value"] for each in measure.send("Performance.getMetrics")["metrics"]}
        return int(found["Nodes"]), int(found["JSHeapUsedSize"])

    unfold_all(page)
    for part in range(2):  # the first fills what is bounded
        _live_through(played, part)
        heard(played, page)
        unfold_all(page)
        if part == 0:
            nodes, heap_bytes = size()
    later_nodes, later_heap_bytes = size()
    assert later_nodes < nodes * 1.2
    assert later_heap_bytes < heap_bytes * 1.2 + 1e6


def _live_through(played: PlayedAgent, part: int, pulls: int = 150) -> None:
    """So many pulls, each of them new, with their requests, and all else that an agent says meanwhile."""
    request, pull = sample("requests")[1], sample("pulls")["pulls"][0]
    for number in range(pulls):
        minute, second = divmod(part * pulls + number, 60)
        started_at = f"2026-11-28T{minute // 60:02}:{minute % 60:02}:{second:02}.000Z"
        ids = [f"{part:04x}{number:08x}{each:04x}" for each in range(4)]
        played.say("requests", [{**request, "id": each, "started_at": started_at} for each in ids])
        played.say("pulls", {**pull, "id": ids[0], "requests": ids, "started_at": started_at})
        for name in ("claims", "transfers", "flows"):
            played.say(name, _with_digests(sample(name), f"{part:x}{number:04x}"))


def _with_digests(document: Any, seed: str) -> Any:
    text = (
        json.dumps(document)
        .replace("sha256:", f"sha256:{seed}")
        .replace('"cookie": 4711', f'"cookie": 1{int(seed, 16)}')
    )
    return json.loads(text)


def test_a_hidden_tab_costs_the_agent_no_stream(played: PlayedAgent, open_page: OpenPage) -> None:
    page = open_page(played.url).page
    is_live(page)
    page.evaluate("""() => {
      Object.defineProperty(document, "hidden", { configurable: true, value: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }""")
    wait_for(lambda: played.tabs == 0, "the stream is closed")
    page.evaluate("""() => {
      Object.defineProperty(document, "hidden", { configurable: true, value: false });
      document.dispatchEvent(new Event("visibilitychange"));
    }""")
    wait_for(lambda: played.tabs == 1, "the stream is opened again")
    is_live(page)

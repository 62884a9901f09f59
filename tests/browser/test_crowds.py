"""Many tabs on one agent, one tab on many nodes, and one on an agent that is alone."""

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from benchmarks.lab.browser import Look
from tests.browser import worlds
from tests.browser.conftest import OpenPage
from tests.browser.played import PlayedAgent
from tests.server.agents import ADMIN, Node, Site, make_image, wait_for

TABS_MAX = 64


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A real agent with an image."""
    with Site() as site:
        made = site.add("a1", doctor={"interval_s": 0})
        image = make_image(b"layer" * 1000)
        made.put_image(image, "registry.test/library/app:v1")
        site.start()
        yield made


@contextlib.contextmanager
def streams(node: Node, count: int) -> Iterator[list[http.client.HTTPResponse]]:
    """So many streams of events, each as a browser has it open."""
    with contextlib.ExitStack() as opened:
        found = []
        for _ in range(count):
            connection = opened.enter_context(node.connection(port=ADMIN))
            connection.request("GET", "/api/events")
            found.append(connection.getresponse())
            assert found[-1].status == 200
        yield found


def test_agent_that_is_alone_and_new_is_shown_in_words(node: Node, open_page: OpenPage) -> None:
    view = open_page(f"http://{node.address}:{ADMIN}/")
    panels = view.page.locator("main section")
    wait_for(lambda: "loading" not in looks(panels), "every panel has something to say")
    assert set(looks(panels)) <= {"live", "empty", "off"}
    expect(view.page.locator("#panel-proof")).to_contain_text("The probe is not running")
    view.check_accessibility()


def looks(panels: Locator) -> list[str | None]:
    """How each panel is."""
    return [panel.get_attribute("data-look") for panel in panels.all()]


def test_page_is_live_beside_dozens_of_tabs_and_asks_if_there_is_one_too_many(
    node: Node, open_page: OpenPage
) -> None:
    page_url = f"http://{node.address}:{ADMIN}/"
    with streams(node, TABS_MAX - 1):
        first = open_page(page_url).page
        expect(first.locator("#connection")).to_have_attribute("data-phase", "live")
        asked = node.ask("/v2/library/app/manifests/v1?ns=registry.test")
        assert asked.status == 200
        expect(first.locator("#panel-pulls .p-pull")).to_contain_text("registry.test/library/app:v1")
        second = open_page("about:blank")
        second.allow("*/api/events: 503*", "*status of 503*")
        second.page.goto(page_url)
        expect(second.page.locator("#connection")).to_have_attribute("data-phase", "polling")
        expect(second.page.locator("#status")).to_contain_text(f"{TABS_MAX} streams are open")
        expect(second.page.locator("#panel-pulls .p-pull")).to_contain_text("registry.test/library/app:v1")
        first.close()
        second.page.close()
    wait_for(lambda: node.ask("/api/overview", port=ADMIN).json()["tabs"] == 0, "all tabs are gone")


def test_five_thousand_nodes_are_a_few_thousand_elements_and_stay_live(
    played: PlayedAgent, open_page: OpenPage, record_property: Any, screenshots: Path
) -> None:
    played.documents.update(worlds.documents(5_000, 40))
    played.be_another()
    view = open_page(played.url, Look(width=1440, height=900))
    page = view.page
    expect(page.locator("#panel-map")).to_have_attribute("data-look", "live")
    page.locator("#panel-map .zone-button").first.click()
    view.shoot(screenshots / "5000-nodes.png")
    page.evaluate(_COUNT_FRAMES)
    document = played.documents["map"]
    every = list(range(1, 5_000, 10))
    for turn in range(20):
        states = ["silent" if turn % 2 else "ok"] * len(every)
        rtt_us = [100.0 + turn] * len(every)
        change = {"time": document["time"], "map": document["map"], "own_trouble": "", "indexes": every}
        played.say("nodes", {**change, "states": states, "rtt_us": rtt_us})
    played.say("map", {**document, "node": "the-end", "names": ["the-end", *document["names"][1:]], "map": 2})
    page.get_by_role("searchbox", name="Find a node").fill("the-end")
    expect(page.locator("#panel-map")).to_contain_text("the-end")
    frames, longest_ms = page.evaluate("[window.frames_seen, window.longest_ms]")
    record_property("longest_frame_ms", longest_ms)
    print(f"{frames} frames, the longest {longest_ms:.0f} ms")
    assert page.evaluate("document.querySelectorAll('*').length") < 4_000


_COUNT_FRAMES = """() => {
  window.frames_seen = 0;
  window.longest_ms = 0;
  let before = performance.now();
  const look = (now) => {
    window.frames_seen += 1;
    window.longest_ms = Math.max(window.longest_ms, now - before);
    before = now;
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""

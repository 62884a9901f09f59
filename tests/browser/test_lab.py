"""The dashboard of an agent in a real cluster: containerds pull, the probe proves, nodes die.

The page is that of the node a1. Its tab stays open throughout, as somebody's does who watches a rollout.
"""

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from benchmarks.lab.browser import PHONE, Chromium, View
from benchmarks.lab.cluster import ADMIN_PORT, Cluster, Place
from benchmarks.lab.forward import Forward
from benchmarks.lab.image import build_image
from tests.server.agents import AT_MOST_S, PATIENT, SLOWNESS, wait_for

PLACES = [
    Place(name="a1", region="r1", zone="a", rack="a-1"),
    Place(name="a2", region="r1", zone="a", rack="a-1"),
    Place(name="b1", region="r1", zone="b", rack="b-1"),
    Place(name="c1", region="r2", zone="c", rack="c-1"),
]
_SETTINGS: dict[str, Any] = {**PATIENT, "scrub": {"bytes_per_s": 0}, "doctor": {"interval_s": 0}}
_SLOW_MBIT_S = 4.0
_PANELS = (
    *("now", "pulls", "bytes", "money", "map", "heat", "proof"),
    *("peers", "claims", "index", "transfers", "requests"),
)
_RED_S = 5.0
_WELL = re.compile("ok|idle")  # it answers, or was not measured yet

Push = Callable[..., str]
Begin = Callable[[str, str], Future[None]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Four nodes in three zones, all agents running, and the probe on a1."""
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with Cluster(PLACES, versions=("2.1",), settings=_SETTINGS) as made:
        began_s = time.monotonic()
        made.start_agents()
        SLOWNESS.took(time.monotonic() - began_s, len(PLACES))
        made.node("a1").start_probe()
        yield made


@pytest.fixture(scope="module")
def push(cluster: Cluster) -> Push:
    """Pushes an image of layers of these sizes that nobody has yet; its reference."""
    numbers = itertools.count(1)

    def build_and_push(*layer_bytes: int) -> str:
        number = next(numbers)
        image = build_image(cluster.folder / f"image-{number}", layer_bytes=layer_bytes, seed=number)
        return cluster.registry.push(image, f"shop/app{number}", "v1")

    return build_and_push


@pytest.fixture(scope="module")
def begin(cluster: Cluster) -> Iterator[Begin]:
    """Begins a pull on a node. In another thread: the loop of this one is Playwright's."""
    with ThreadPoolExecutor(len(PLACES)) as pool:
        yield lambda name, reference: pool.submit(cluster.node(name).pull, reference)


@pytest.fixture(scope="module")
def view(cluster: Cluster, chromium: Chromium) -> Iterator[View]:
    """The one tab."""
    with Forward(cluster.node("a1").netns, ADMIN_PORT) as way, chromium.open(way.url) as opened:
        yield opened


@pytest.fixture
def page(view: View) -> Iterator[Page]:
    """The page in the tab. The test fails if the page had a problem."""
    yield view.page
    view.check()


def panel(page: Page, name: str) -> Locator:
    """The section of a panel."""
    return page.locator(f"#panel-{name}")


def pull_of(page: Page, reference: str) -> Locator:
    """The entry of an image's pull."""
    image = reference.rpartition(":")[0]
    return panel(page, "pulls").locator(".p-pull").filter(has_text=image)


def test_every_panel_fills_from_a_running_lab(push: Push, begin: Begin, page: Page) -> None:
    reference = push(300_000, 300_000, 50_000)
    begin("b1", reference).result()
    begin("a1", reference).result()
    for name in _PANELS:
        expect(panel(page, name)).to_have_attribute("data-look", "live")
    expect(page.locator("#node")).to_contain_text("a1")
    pull = pull_of(page, reference)
    expect(pull).not_to_contain_text("under way")
    expect(pull).to_contain_text("same region")
    expect(panel(page, "proof")).to_contain_text("DIRECT")
    expect(panel(page, "index")).to_contain_text("There is no server")


def test_a_pull_is_seen_as_it_happens_with_all_its_steps(push: Push, begin: Begin, page: Page) -> None:
    reference = push(400_000, 200_000)
    begin("a2", reference).result()
    expect(pull_of(page, reference)).to_have_count(0)
    begin("a1", reference).result()
    pull = pull_of(page, reference)
    expect(pull).not_to_contain_text("under way")
    expect(pull.locator("> details > summary")).to_contain_text("direct")
    pull.locator("> details > summary").press("Enter")
    requests = pull.locator(".p-requests > li")
    blobs = requests.filter(has_text="blob").filter(has_text="a2 · same rack")
    expect(blobs).to_have_count(3)
    layer = blobs.first
    layer.locator("summary").press("Enter")
    steps = layer.get_by_role("table")
    expect(steps.get_by_role("row").filter(has_text="headers from a2")).to_have_count(1)
    expect(steps.get_by_role("row").filter(has_text="bytes from a2")).to_have_count(1)


_RECORD = """() => {
  window.filled = [];
  const look = () => {
    const bar = document.querySelector('#panel-claims progress[aria-label="Arrived from the registry"]');
    if (bar && bar.hasAttribute("value") && bar.value !== window.filled.at(-1)) window.filled.push(bar.value);
  };
  const every = {subtree: true, childList: true, attributes: true};
  new MutationObserver(look).observe(document.querySelector("#panel-claims"), every);
}"""


def test_a_claim_is_seen_to_fill(cluster: Cluster, push: Push, begin: Begin, page: Page) -> None:
    reference = push(16_000_000)
    page.evaluate(_RECORD)
    cluster.shape("registry", _SLOW_MBIT_S)  # until it was seen, however slow this machine is
    try:
        pulling = begin("a1", reference)
        wait_for(lambda: len(filled_parts(page)) >= 3, "it fills", at_most_s=3 * AT_MOST_S)
        expect(panel(page, "claims")).to_contain_text("This node fetches")
    finally:
        cluster.shape("registry", None)
    pulling.result()
    expect(page.get_by_role("progressbar", name="Arrived from the registry")).to_have_count(0)
    assert filled_parts(page) == sorted(filled_parts(page))


def filled_parts(page: Page) -> list[float]:
    """How full the claim was seen to be, each time that it changed."""
    return [part for part in page.evaluate("window.filled") if 0 < part < 1]


def test_a_node_that_is_killed_turns_red_within_five_seconds(
    cluster: Cluster, page: Page, record_property: Callable[[str, object], None]
) -> None:
    page.get_by_role("searchbox", name="Find a node").fill("c1")
    on_the_map = panel(page, "map").locator(".node-row").filter(has_text="c1").locator(".chip")
    expect(on_the_map).to_have_attribute("data-look", _WELL)
    cluster.node("c1").agent.kill()
    began_s = time.monotonic()
    expect(on_the_map).to_have_attribute("data-look", "bad")
    took_s = time.monotonic() - began_s
    record_property("red_s", round(took_s, 2))
    print(f"red after {took_s:.2f} s")
    assert took_s < _RED_S * SLOWNESS.factor
    peer = panel(page, "peers").locator(".node-row").filter(has_text="c1").locator('.chip[data-look="bad"]')
    expect(peer).to_be_visible()
    expect(panel(page, "problems")).to_contain_text("1 peer does not answer")
    cluster.node("c1").start_agent()
    expect(on_the_map).to_have_attribute("data-look", _WELL)
    expect(peer).to_have_count(0)
    page.get_by_role("searchbox", name="Find a node").fill("")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_of_a_running_lab_is_usable_without_eyes(
    view: View, page: Page, scheme: Any, screenshots: Path
) -> None:
    page.emulate_media(color_scheme=scheme)
    view.check_accessibility()
    view.shoot(screenshots / f"lab-{scheme}.png")


def test_page_of_a_running_lab_fits_a_phone(view: View, page: Page, screenshots: Path) -> None:
    before = page.viewport_size
    assert before is not None
    page.set_viewport_size({"width": PHONE.width, "height": PHONE.height})
    try:
        wait_for(lambda: page.evaluate("document.documentElement.scrollWidth") <= PHONE.width, "it fits")
        view.shoot(screenshots / "lab-phone.png")
    finally:
        page.set_viewport_size(before)


def test_page_is_there_at_once(page: Page, record_property: Callable[[str, object], None]) -> None:
    page.reload()
    expect(panel(page, "now")).to_have_attribute("data-look", "live")
    paints = page.evaluate("performance.getEntriesByType('paint').map(each => [each.name, each.startTime])")
    first_ms = round(dict(paints)["first-contentful-paint"])
    record_property("first_paint_ms", first_ms)
    print(f"first contentful paint after {first_ms} ms")
    files = page.evaluate(
        "performance.getEntriesByType('resource').map(each => [each.name, each.decodedBodySize])"
    )
    assert 0 < sum(size for name, size in files if "/api/" not in name) < 300_000


def test_agent_that_is_restarted_while_its_page_is_open_is_heard_again(
    cluster: Cluster, view: View, page: Page
) -> None:
    view.allow("*net::ERR_*")
    cluster.node("a1").agent.kill()
    expect(page.locator("#connection")).to_have_attribute("data-phase", "reconnecting")
    cluster.node("a1").start_agent()
    expect(page.locator("#connection")).to_have_attribute("data-phase", "live")
    expect(panel(page, "pulls")).to_have_attribute("data-look", "empty")

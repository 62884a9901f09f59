"""The page as a whole: what it shows first, for everybody, at every size; its map, tables and charts."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from benchmarks.lab.browser import PHONE, WALL, Chromium, Look, View
from tests.browser import worlds
from tests.browser.conftest import OpenPage
from tests.browser.played import PlayedAgent

PANELS = (
    *("now", "problems", "pulls", "bytes", "speed", "money", "map", "heat", "proof", "index", "claims"),
    *("transfers", "peers", "requests"),
)
_LARGE = 5000


def live(view: View) -> Page:
    """The page, once every panel has something to show."""
    for name in PANELS:
        expect(view.page.locator(f"#panel-{name}")).to_have_attribute("data-look", "live")
    return view.page


def plain(text: str) -> str:
    """With ordinary spaces."""
    return text.replace("\u00a0", " ").replace("\u202f", " ")


@pytest.fixture(scope="module")
def tab(chromium: Chromium) -> Iterator[tuple[PlayedAgent, View]]:
    """One tab for the tests that need none of their own."""
    with PlayedAgent() as agent, chromium.open(agent.url) as view:
        live(view)
        yield agent, view


@pytest.fixture
def page(tab: tuple[PlayedAgent, View]) -> Iterator[Page]:
    """That tab, which has forgotten what the tests before had the agent say."""
    agent, view = tab
    agent.begin_anew()
    yield live(view)
    view.check()


@pytest.mark.parametrize(
    "look",
    [
        PHONE,
        replace(PHONE, scheme="dark"),
        Look(),
        Look(scheme="dark"),
        WALL,
    ],
    ids=["phone", "phone, dark", "desk", "desk, dark", "wall"],
)
def test_everybody_can_use_it_at_every_size_in_light_and_dark(
    played: PlayedAgent, open_page: OpenPage, look: Look
) -> None:
    view = open_page(played.url, look)
    page = live(view)
    view.check_accessibility()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_first_paint_waits_for_four_small_files_only(played: PlayedAgent, open_page: OpenPage) -> None:
    page = live(open_page(played.url))
    waits = page.evaluate("""performance.getEntriesByType("resource")
      .filter((each) => each.renderBlockingStatus === "blocking")
      .map((each) => [new URL(each.name).pathname, each.decodedBodySize])""")
    assert {path for path, _ in waits} == {
        "/static/app.css",
        "/static/panels.css",
        "/static/early.js",
        "/static/vendor/uPlot.min.css",
    }
    assert sum(size for _, size in waits) < 50_000


def test_before_the_first_document_every_panel_says_that_it_loads(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    played.greeting = played.greeting[:1]
    page = open_page(played.url).page
    expect(page.locator("#connection")).to_have_attribute("data-phase", "live")
    for name in PANELS:
        expect(page.locator(f"#panel-{name}")).to_have_attribute("aria-busy", "")


def test_every_figure_of_a_tile_says_over_which_time_it_counts(page: Page) -> None:
    tiles = page.locator("#panel-now .tile")
    expect(tiles).to_have_count(8)
    for tile in tiles.all():
        words = plain(tile.locator(".tile-of").inner_text())
        assert any(span in words for span in ("last 15 min", "now", "since the start", "canaries")), words
        assert tile.locator(".chip").inner_text() != ""


def test_a_problem_comes_with_what_to_do_and_none_is_one_line(
    tab: tuple[PlayedAgent, View], page: Page
) -> None:
    problems = page.locator("#panel-problems")
    expect(problems).to_contain_text("it did not answer within 1 s")
    expect(problems).to_contain_text("look whether its pod runs")
    tab[0].say("overview", {**worlds.overview_document(), "problems": []})
    expect(problems).to_contain_text("Nothing, as far as this node knows.")


def test_a_node_that_lost_its_network_says_so_and_does_not_only_paint_others_dead(
    tab: tuple[PlayedAgent, View], page: Page
) -> None:
    trouble = "no peer of any zone answered for 3 s"
    states = ["self", *["doubtful"] * 23]
    tab[0].say("map", {**worlds.map_document(), "own_trouble": trouble, "states": states})
    expect(page.locator("#banner")).to_contain_text(trouble)
    expect(page.locator("#banner")).to_contain_text("they may be well")
    expect(page.locator("#panel-map .map-legend")).to_contain_text("doubtful 23")


def test_the_banner_has_the_words_that_the_node_said_last(tab: tuple[PlayedAgent, View], page: Page) -> None:
    agent, banner = tab[0], page.locator("#banner")
    change = {"map": 1, "indexes": [], "states": [], "rtt_us": []}
    agent.say("nodes", {**change, "own_trouble": "no answer within 5 s"})
    expect(banner).to_contain_text("no answer within 5 s")
    agent.say("overview", {**worlds.overview_document(), "own_trouble": "connection refused"})
    expect(banner).to_contain_text("connection refused")
    agent.say("nodes", {**change, "own_trouble": "no route"})
    expect(banner).to_contain_text("no route")
    agent.say("overview", worlds.overview_document())
    expect(banner).to_be_hidden()


def test_a_node_that_falls_silent_is_seen_in_the_map_and_in_its_list(
    tab: tuple[PlayedAgent, View], page: Page
) -> None:
    drawn = worlds.map_document()
    index = drawn["states"].index("ok")
    zone = worlds.zones_of(5)[drawn["zone_index"][index]]
    tab[0].say(
        "nodes", {"map": 1, "own_trouble": "", "indexes": [index], "states": ["silent"], "rtt_us": [None]}
    )
    expect(page.locator("#panel-map .map-legend")).to_contain_text("silent 1")
    row = page.get_by_role("button", name=f"{zone[0]}/{zone[1]}")
    expect(row).to_contain_text("1 not answering")
    row.focus()
    page.keyboard.press("Enter")
    expect(row).to_have_attribute("aria-expanded", "true")
    first = page.locator("#panel-map .zone-rows .node-row").first
    expect(first).to_contain_text(drawn["names"][index])
    expect(first).to_contain_text("silent")
    page.keyboard.press("Enter")
    expect(row).to_have_attribute("aria-expanded", "false")


def test_the_unfolded_zone_stays_the_same_one_when_zones_come_and_go(
    tab: tuple[PlayedAgent, View], page: Page
) -> None:
    drawn = worlds.map_document()
    at = 2
    region, zone = worlds.zones_of(5)[at]
    row = page.get_by_role("button", name=f"{region}/{zone}")
    unfolded = page.locator("#panel-map .zone-button[aria-expanded=true] .zone-title")
    row.focus()
    page.keyboard.press("Enter")
    expect(unfolded).to_have_text(f"{region}/{zone}")
    place = {number: (number + 1) % 5 for number in range(5)}
    back = {new: old for old, new in place.items()}
    turned = [drawn["zones"][back[number]] for number in range(5)]
    matrix = [[drawn["matrix_us"][back[one]][back[two]] for two in range(5)] for one in range(5)]
    index = [place[number] for number in drawn["zone_index"]]
    first = {"zones": turned, "zone_index": index, "matrix_us": matrix, "map": 2}
    tab[0].say("map", {**drawn, **first, "own_trouble": "moved"})
    expect(page.locator("#banner")).to_contain_text("moved")
    expect(unfolded).to_have_text(f"{region}/{zone}")
    expect(row).to_be_focused()
    expect(page.get_by_role("button", name="All zones")).to_be_visible()
    page.keyboard.press("Enter")
    expect(unfolded).to_have_count(0)
    expect(page.get_by_role("button", name="All zones")).to_be_hidden()


def test_who_would_be_asked_first_is_said_in_words(page: Page) -> None:
    drawn = worlds.map_document()
    page.get_by_role("searchbox", name="Find a node").fill(drawn["chosen"][0]["node"].upper())
    found = page.locator("#panel-map .node-row").filter(has_text=drawn["chosen"][0]["node"])
    expect(found).to_contain_text("asked 1.")
    page.get_by_role("searchbox", name="Find a node").fill("")


def test_a_click_into_the_map_unfolds_a_zone_and_escape_leaves_it(page: Page) -> None:
    canvas = page.locator("#panel-map canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    unfolded = page.locator("#panel-map .zone-button[aria-expanded=true]")
    back = page.get_by_role("button", name="All zones")
    for at in range(8, 92, 4):  # somewhere in this line there is a zone
        canvas.click(position={"x": box["width"] * at / 100, "y": box["height"] / 3})
        if unfolded.count():
            break
    expect(unfolded).to_have_count(1)
    back.focus()
    page.keyboard.press("Escape")
    expect(unfolded).to_have_count(0)
    expect(back).to_be_hidden()


def test_the_latencies_are_a_table_with_numbers_and_heads(page: Page) -> None:
    table = page.get_by_role("table", name="Round trip between zones, in milliseconds")
    expect(table.get_by_role("columnheader")).to_have_text([zone for _, zone in _by_nearness()])
    expect(table.get_by_role("rowheader")).to_have_text([zone for _, zone in _by_nearness()])
    assert table.locator("td.inferred").count() > 0
    own = table.locator("tbody tr").first.locator("td").first
    assert "measured by this node" in (own.get_attribute("title") or "")


def _by_nearness() -> list[tuple[str, str]]:
    row = worlds.map_document()["matrix_us"][0]
    zones = worlds.zones_of(5)
    return [zones[0], *sorted(zones[1:], key=lambda zone: row[zones.index(zone)])]


def test_nodes_without_a_zone_are_on_the_map_and_the_table_says_what_it_needs(
    tab: tuple[PlayedAgent, View], page: Page
) -> None:
    drawn = worlds.map_document(3, 1)
    drawn["zones"] = [{**drawn["zones"][0], "region": None, "zone": None}]
    tab[0].say("map", {**drawn, "matrix_us": [[None]], "matrix_source": [[None]]})
    expect(page.locator("#panel-map .zone-rows")).to_contain_text("no zone")
    expect(page.locator("#panel-heat")).to_contain_text("Label the nodes with topology.kubernetes.io/zone")


def test_a_chart_has_its_figures_as_a_table_and_the_arrow_keys_read_them(page: Page) -> None:
    panel = page.locator("#panel-bytes")
    plot = panel.get_by_role("img")
    expect(panel.locator(".legend")).to_contain_text("same zone 0 B/s")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    at = panel.locator(".chart-at").inner_text()
    assert not at.startswith("last step")
    page.keyboard.press("ArrowLeft")
    expect(panel.locator(".chart-at")).not_to_have_text(at)
    panel.locator("details > summary").click()
    table = panel.get_by_role("table").first
    expect(table.locator("tbody tr")).to_have_count(23)
    expect(table.get_by_role("columnheader")).to_have_count(6)
    panel.locator("details > summary").click()


def test_one_switch_changes_the_time_of_all_charts(page: Page) -> None:
    page.locator("#panel-bytes").get_by_role("button", name="24 h").click()
    # The played agent told of 5 s steps only: what there is stays, and says what it is.
    for name in ("bytes", "speed", "money"):
        panel = page.locator(f"#panel-{name}")
        expect(panel.get_by_role("button", name="24 h")).to_have_attribute("aria-pressed", "true")
        expect(panel.locator(".panel-note")).to_have_text("steps of 5\u00a0s")
    page.locator("#panel-money").get_by_role("button", name="15 min").click()


def test_the_colours_are_those_that_were_chosen_also_after_the_page_is_loaded_anew(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    page = live(open_page(played.url))
    page.get_by_label("Colours").select_option("dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    expect(page.get_by_label("Colours")).to_have_value("dark")


def test_an_upgraded_agent_brings_its_own_page_and_a_restarted_one_does_not(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    view = open_page(played.url)
    page = live(view)
    page.evaluate("window.isOld = true")
    page.locator("#panel-bytes").get_by_role("button", name="24 h").click()
    hello = {"node": "a1", "version": "0.1.0", "instance": "second"}
    played.say("hello", hello)
    for event, document in played.documents.items():
        played.say(event, document)
    live(view)
    assert page.evaluate("window.isOld")
    pressed = page.locator("#panel-bytes [aria-pressed=true]")
    expect(pressed).to_have_text("24 h")  # what a person chose stays
    with page.expect_navigation():
        played.say("hello", {**hello, "version": "0.2.0", "instance": "third"})
    live(view)
    assert not page.evaluate("window.isOld")


def test_from_elsewhere_it_asks_for_the_token_and_shows_nothing_else(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    played.status, played.streams = 401, False
    view = open_page("about:blank")
    view.allow("*status of 401*", "*status of 503*", "*: 401*", "*: 503*")
    page = view.page
    page.add_init_script("delete window.EventSource")
    page.goto(played.url)
    expect(page.get_by_role("heading", name="needs the cluster's admin token")).to_be_visible()
    expect(page.locator("main")).to_be_hidden()
    view.check_accessibility()
    page.get_by_label("Admin token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not the admin token")
    played.status = 200
    page.get_by_label("Admin token").fill("right")
    page.keyboard.press("Enter")
    expect(page.locator("#panel-now")).to_have_attribute("data-look", "live")
    assert page.url == played.url
    requests = page.locator("#panel-requests")
    requests.get_by_role("searchbox").fill("f" * 16)
    expect(requests.get_by_role("status")).to_contain_text("(with the token)")
    expect(requests.get_by_role("status").get_by_role("link")).to_have_count(0)  # a link sends no token
    assert not any("right" in path for path in played.asked)


def test_the_first_stop_of_the_keyboard_skips_the_head(played: PlayedAgent, open_page: OpenPage) -> None:
    page = live(open_page(played.url))
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the figures")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_five_thousand_nodes_are_drawn_with_few_elements_and_one_of_them_is_found(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    played.documents.update(worlds.documents(_LARGE, 16))
    played.be_another()
    page = open_page(played.url).page
    for name in ("now", "map", "heat", "peers"):
        expect(page.locator(f"#panel-{name}")).to_have_attribute("data-look", "live")
    assert page.evaluate("document.querySelectorAll('*').length") < 4000
    drawn = played.documents["map"]
    last = len(drawn["names"]) - 1
    change = {"map": 1, "own_trouble": "", "states": ["silent"], "rtt_us": [None]}
    for index in range(_LARGE - 20, _LARGE):
        played.say("nodes", {**change, "indexes": [index]})
    page.get_by_role("searchbox", name="Find a node").fill(drawn["names"][last])
    row = page.locator("#panel-map .node-row").filter(has_text=drawn["names"][last])
    expect(row).to_contain_text("silent")
    page.get_by_role("searchbox", name="Find a node").fill("")
    page.locator("#panel-map .zone-button").first.click()
    expect(page.locator("#panel-map .zone-rows .node-row")).to_have_count(60)
    expect(page.locator("#panel-map")).to_contain_text("more nodes")
    expect(page.locator("#panel-peers")).to_contain_text("a sample of")


def test_what_the_page_cannot_draw_is_said_and_the_last_picture_stays(
    tab: tuple[PlayedAgent, View], page: Page
) -> None:
    for absurd in ({"states": "none"}, {**worlds.map_document(), "zone_index": [99] * 24}):
        tab[0].say("map", absurd)
    tab[0].say("overview", {**worlds.overview_document(), "ready": False, "why_not_ready": "a test"})
    expect(page.locator("#panel-now")).to_contain_text("serves no pulls: a test")
    expect(page.locator("#panel-map")).to_contain_text("this page does not understand")
    expect(page.locator("#panel-map .panel-note")).to_contain_text("24")
    expect(page.locator("#panel-map canvas")).to_be_visible()
    tab[0].say("map", worlds.map_document())
    expect(page.locator("#panel-map")).to_have_attribute("data-look", "live")


def test_a_module_that_does_not_arrive_costs_its_own_panel_and_no_other(
    played: PlayedAgent, open_page: OpenPage
) -> None:
    view = open_page("about:blank")
    view.allow("*map.js*", "*ERR_FAILED*")
    view.page.route("**/static/map.js", lambda route: route.abort())
    view.page.goto(played.url)
    expect(view.page.locator("#panel-map")).to_contain_text("This panel could not be loaded.")
    for name in PANELS:
        if name != "map":
            expect(view.page.locator(f"#panel-{name}")).to_have_attribute("data-look", "live")

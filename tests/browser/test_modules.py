"""The modules of the page that only decide: figures as text, what is kept, where the map draws what."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from benchmarks.lab.browser import Chromium
from tests.browser import worlds
from tests.browser.played import PlayedAgent


@pytest.fixture(scope="module")
def page(chromium: Chromium) -> Iterator[Page]:
    """A page whose modules are asked."""
    with PlayedAgent() as agent, chromium.open(agent.url) as view:
        yield view.page


def ask(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """What a module's function answers."""
    script = "async ([module, name, given]) => (await import(`/static/${module}.js`))[name](...given)"
    return page.evaluate(script, [module, function, list(arguments)])


def plain(text: str) -> str:
    """With ordinary spaces."""
    return text.replace("\u00a0", " ").replace("\u202f", " ")


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        ("bytes", 0, "0 B"),
        ("bytes", 999, "999 B"),
        ("bytes", 1000, "1.0 kB"),
        ("bytes", 999_960, "1.0 MB"),  # and not 1000.0 kB
        ("bytes", 1.5e12, "1.5 TB"),
        ("bytes", None, "–"),
        ("bytes", "12", "–"),
        ("rate", 2.5e8, "250.0 MB/s"),
        ("seconds", 0, "0 s"),
        ("seconds", 0.00042, "420 µs"),
        ("seconds", 0.0011, "1.10 ms"),
        ("seconds", 0.9999, "1.00 s"),
        ("seconds", 5, "5 s"),
        ("seconds", 900, "15 min"),
        ("seconds", 187_200, "2 d"),
        ("seconds", None, "–"),
        ("microseconds", 71_350, "71.3 ms"),
        ("money", 0, "$0"),
        ("money", 0.038, "$0.0380"),
        ("money", 0.00001, "<$0.0001"),
        ("money", -12.5, "−$12.50"),
        ("money", 82_089, "$82 089"),
        ("money", None, "–"),
        ("share", 1, "100 %"),
        ("share", 0.99999, ">99.9 %"),  # what is not all is not written as all
        ("share", 0.00001, "<0.1 %"),
        ("share", 0, "0 %"),
        ("share", None, "–"),
        ("count", 1234567, "1 234 567"),
        ("ago", 0.2, "now"),
        ("ago", 12.4, "12 s ago"),
        ("shortDigest", "sha256:" + "a" * 64, "sha256:aaaaaaaaaaaa…"),
        ("trimmed", "80.0 MB/s", "80 MB/s"),
        ("trimmed", "1.50 ms", "1.5 ms"),
        ("trimmed", "100 s", "100 s"),
    ],
)
def test_a_figure_has_its_unit_and_what_is_not_known_is_no_zero(
    page: Page, function: str, value: Any, text: str
) -> None:
    assert plain(ask(page, "format", function, value)) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\u202etxt.exe", "a·txt.exe"),  # it would turn the direction of writing
        ("a\u200bb\u0000c\n", "a·b·c·"),
        ("", "–"),
        ("x" * 500, "x" * 119 + "…"),
        ("<img src=x>", "<img src=x>"),  # text, as it goes in as text
    ],
)
def test_a_name_shows_what_cannot_be_seen_and_is_never_longer_than_its_place(
    page: Page, name: str, shown: str
) -> None:
    assert ask(page, "format", "name", name) == shown


def test_every_text_of_a_document_can_be_seen(page: Page) -> None:
    said = '{"why": "a\\u202eb", "of": ["\\u200b", 7, null], "long": "' + "x" * 9000 + '"}'
    found = ask(page, "documents", "parsed", said)
    assert (found["why"], found["of"], len(found["long"])) == ("a·b", ["·", 7, None], 2000)


@pytest.mark.parametrize(
    ("key", "value"),
    [("points", 3), ("node_bytes", [1.5]), ("usd", None), ("ended_at", 7), ("step_s", 0), ("failed", ["x"])],
)
def test_a_document_that_does_not_fit_is_left_out_whole(page: Page, key: str, value: Any) -> None:
    whole = worlds.history_document()
    assert ask(page, "shapes", "isDrawable", "history", whole)
    assert not ask(page, "shapes", "isDrawable", "history", {**whole, key: value})
    assert ask(page, "shapes", "isDrawable", "history", {**whole, "a_newer_key": value})


@pytest.mark.parametrize("name", ["overview", "map", "cluster", "history"])
def test_every_document_of_a_cluster_of_any_size_can_be_drawn(page: Page, name: str) -> None:
    for nodes, zones in ((1, 1), (24, 5), (300, 12)):
        assert ask(page, "shapes", "isDrawable", name, worlds.documents(nodes, zones)[name])
    assert not ask(page, "shapes", "isDrawable", name, None)
    assert not ask(page, "shapes", "isDrawable", name, [])


def test_a_point_of_the_history_takes_the_place_of_the_oldest_one(page: Page) -> None:
    whole = worlds.history_document()
    point = {key: [7] if isinstance(column, list) else column for key, column in whole.items()} | {
        "points": 1,
        "ended_at": "2026-11-27T09:00:05.000Z",
    }
    known = ask(page, "merge", "merge", "history", None, whole)
    assert known == {"5": whole}
    joined = ask(page, "merge", "merge", "history", known, point)["5"]
    assert joined["node_bytes"] == [*whole["node_bytes"][1:], 7]
    assert (joined["points"], joined["ended_at"]) == (180, point["ended_at"])
    assert ask(page, "merge", "merge", "history", {"5": joined}, point)["5"] == joined  # told twice
    day = worlds.history_document(1440, 60)
    assert sorted(ask(page, "merge", "merge", "history", known, day)) == ["5", "60"]


def test_a_young_history_grows_until_it_is_full(page: Page) -> None:
    young = worlds.history_document(2)
    point = {key: [7] if isinstance(value, list) else value for key, value in young.items()}
    point |= {"points": 1, "ended_at": "2026-11-27T09:00:05.000Z"}
    joined = ask(page, "merge", "merge", "history", {"5": young}, point)["5"]
    assert (joined["points"], len(joined["usd"])) == (3, 3)


def test_requests_and_pulls_have_a_bound_and_the_last_word_on_each_counts(
    page: Page,
) -> None:
    requests = [
        {"id": f"{number:016x}", "started_at": f"{number:08}", "verdict": None} for number in range(500)
    ]
    kept = ask(page, "merge", "merge", "requests", None, requests)
    assert [kept[0]["started_at"], len(kept)] == ["00000499", 200]
    judged = ask(page, "merge", "merge", "requests", kept, [{**kept[5], "verdict": "DIRECT"}])
    assert (judged[5]["verdict"], len(judged)) == ("DIRECT", 200)
    pulls = [{"id": str(number), "started_at": f"{number:08}"} for number in range(100)]
    assert len(ask(page, "merge", "merge", "pulls", None, {"node": "a", "pulls": pulls})["pulls"]) == 60


def test_a_change_of_nodes_is_for_the_map_that_it_names(page: Page) -> None:
    drawn = worlds.map_document()
    change = {"map": 1, "own_trouble": "cut off", "indexes": [3], "states": ["silent"], "rtt_us": [None]}
    changed = ask(page, "merge", "merge", "nodes", drawn, change)
    assert (changed["states"][3], changed["rtt_us"][3], changed["own_trouble"]) == ("silent", None, "cut off")
    assert ask(page, "merge", "merge", "nodes", drawn, {**change, "map": 2}) == drawn


@pytest.mark.parametrize(("nodes", "zones"), [(1, 1), (2, 1), (24, 5), (5000, 16)])
def test_the_map_fits_its_room_and_every_node_is_in_its_own_zone(page: Page, nodes: int, zones: int) -> None:
    found = page.evaluate(
        """async ([map, width, height]) => {
          const { layoutOf } = await import("/static/layout.js");
          const layout = layoutOf(map, width, height);
          return {
            zones: layout.zones.filter(Boolean).map(({ x, y, r, index }) => ({ x, y, r, index })),
            x: [...layout.x], y: [...layout.y], r: [...layout.r],
          };
        }""",
        [worlds.map_document(nodes, zones), 800, 440],
    )
    zone_of = {zone["index"]: zone for zone in found["zones"]}
    for zone in found["zones"]:
        assert zone["r"] - 1 <= zone["x"] <= 801 - zone["r"]
        assert zone["r"] - 1 <= zone["y"] <= 441 - zone["r"]
    for at, index in enumerate(worlds.map_document(nodes, zones)["zone_index"]):
        zone = zone_of[index]
        away = ((found["x"][at] - zone["x"]) ** 2 + (found["y"][at] - zone["y"]) ** 2) ** 0.5
        assert away + found["r"][at] <= zone["r"] + 0.01
    for one in found["zones"]:
        for other in found["zones"]:
            apart = ((one["x"] - other["x"]) ** 2 + (one["y"] - other["y"]) ** 2) ** 0.5
            assert one is other or apart >= one["r"] + other["r"] - 0.01
    assert max(zone["r"] for zone in found["zones"]) > 40


def test_the_table_of_latencies_begins_with_this_nodes_zone_and_then_the_nearest(page: Page) -> None:
    drawn = worlds.map_document(24, 5)
    drawn["matrix_us"][2] = [5000.0, 900.0, 200.0, None, 70_000.0]
    assert ask(page, "heat", "orderOf", drawn, 2) == [2, 1, 0, 4, 3]


@pytest.mark.parametrize(
    ("changes", "look", "says"),
    [
        ({}, "warn", "some peers are silent"),
        ({"peers_silent": 0}, "ok", "proved direct; no peer is silent"),
        (
            {"ready": False, "why_not_ready": "containerd does not answer"},
            "bad",
            "containerd does not answer",
        ),
        ({"own_trouble": "no route"}, "warn", "cannot reach others"),
        ({"members": 1, "peers_silent": 0}, "ok", "knows no other node"),
        ({"proof": {"probe": False, "proved": False, "why": ""}}, "warn", "no probe looks"),
        ({"proof": {"probe": True, "proved": False, "why": ""}}, "warn", "not proved"),
        ({"problems": [{"grave": True, "problem": "the disk is full"}]}, "bad", "the disk is full"),
    ],
)
def test_the_first_sentence_says_whether_it_works(
    page: Page, changes: dict[str, Any], look: str, says: str
) -> None:
    verdict = ask(page, "tiles", "verdictOf", {**worlds.overview_document(), **changes})
    assert verdict["look"] == look
    assert says in verdict["words"]


def test_every_tile_of_a_node_that_did_nothing_yet_says_so(page: Page) -> None:
    none = {**worlds.sums(0.0), "seconds": 3.0}
    overview = {
        **worlds.overview_document(1),
        "window": none,
        "total": none,
        "success": [],
        "first_byte": [],
        "lookup": {"source": "all", "tier": None, "count": 0, "p50_s": None, "p95_s": None, "p99_s": None},
        "peers_reachable": 0,
        "peers_silent": 0,
        "peers_cooling": 0,
        "transfers": {"downloads": 0, "uploads": 0, "uploads_refused": 0},
        "proof": {"probe": False, "proved": False, "why": "no probe is connected", "canaries": []},
    }
    tiles = {tile["title"]: tile for tile in ask(page, "tiles", "tilesOf", overview)}
    idle = [title for title, tile in tiles.items() if tile["look"] == "idle"]
    assert idle == ["Working", "Near", "Local", "Saved", "First byte", "Peers", "Under way"]
    assert [tiles[title]["figure"]["value"] for title in ("Working", "Near", "First byte")] == ["–"] * 3
    assert "NaN" not in str(tiles)


@pytest.mark.parametrize(
    ("served", "missed", "failed", "value", "look"),
    [
        (1, 30, 0, "100", "ok"),  # the cluster is new to an image, and not broken
        (0, 30, 0, "–", "idle"),
        (999, 0, 1, "99.9", "warn"),
        (90, 0, 10, "90.0", "bad"),
    ],
)
def test_what_no_node_has_is_nobodys_fault(
    page: Page, served: int, missed: int, failed: int, value: str, look: str
) -> None:
    path = {"path": "hostport", "served": served, "missed": missed, "failed": failed}
    overview = {**worlds.overview_document(), "success": [{**path, "asked": served + missed + failed}]}
    working = ask(page, "tiles", "tilesOf", overview)[0]
    assert (working["title"], working["figure"]["value"], working["look"]) == ("Working", value, look)
    assert f"{missed} requests for what no node has" in plain(working["more"])


def test_map_is_laid_out_anew_if_a_node_moved_and_the_numbers_are_the_same(page: Page) -> None:
    """A page that polls gets maps without a number of their own."""
    before = worlds.map_document(24, 5) | {"map": 0}
    shape = ask(page, "layout", "shapeOf", before, 800, 600)
    moved = before | {"zone_index": [*before["zone_index"][:-1], 0]}
    assert ask(page, "layout", "shapeOf", moved, 800, 600) != shape
    assert ask(page, "layout", "shapeOf", before, 800, 500) != shape
    changed = before | {"rtt_us": [None] * 24, "states": ["self", *["silent"] * 23]}
    assert ask(page, "layout", "shapeOf", changed, 800, 600) == shape


def test_token_lasts_as_long_as_the_page_in_a_browser_that_keeps_nothing(page: Page) -> None:
    script = """async () => {
        const { browser } = await import("/static/stream.js");
        const own = Object.getOwnPropertyDescriptor(window, "sessionStorage");
        const refused = { configurable: true, get() { throw new DOMException("refused", "SecurityError"); } };
        Object.defineProperty(window, "sessionStorage", refused);
        try {
            const { token } = browser();
            const found = [token.get()];
            token.set("secret");
            found.push(token.get());
            token.forget();
            return [...found, token.get()];
        } finally {
            Object.defineProperty(window, "sessionStorage", own);
        }
    }"""
    assert page.evaluate(script) == [None, "secret", None]


def test_page_is_live_in_a_browser_that_refuses_its_locks(page: Page) -> None:
    script = """async () => {
        const { browser } = await import("/static/stream.js");
        const request = navigator.locks.request;
        navigator.locks.request = async () => { throw new DOMException("refused", "SecurityError"); };
        try {
            const waited = new Promise((resolve) => setTimeout(() => resolve("waits for ever"), 5000));
            return typeof (await Promise.race([browser().claim(), waited]));
        } finally {
            navigator.locks.request = request;
        }
    }"""
    assert page.evaluate(script) == "function"


def texts_of_axis(page: Page, module: str, picture: str, values: list[float]) -> list[str]:
    """What the y axis of a chart says at these values."""
    script = """async ([module, picture, values, history]) => {
        const { ticks } = await import("/static/chart.js");
        const drawn = (await import(`/static/${module}.js`))[picture](history);
        return ticks(values, drawn.axis);
    }"""
    found = page.evaluate(script, [module, picture, values, worlds.history_document()])
    return [plain(text) for text in found]


@pytest.mark.parametrize(
    ("module", "picture", "values", "texts"),
    [
        ("bytes", "bytesPicture", [0, 0.2, 0.4, 0.6, 0.8, 1], ["0 B/s", *[""] * 5]),  # nothing yet
        ("bytes", "bytesPicture", [0, 5e7, 1e8], ["0 B/s", "50 MB/s", "100 MB/s"]),
        ("money", "moneyPicture", [0, 2e-5, 4e-5], ["$0", "", ""]),
        ("money", "moneyPicture", [-4e-5, -2e-5, 0, 2], ["", "", "$0", "$2.00"]),
        ("speed", "speedPicture", [0, 135, 150, 240], ["0 s", "2 min", "3 min", "4 min"]),
        ("speed", "speedPicture", [0, 120, 140, 180], ["0 s", "", "", "3 min"]),
    ],
)
def test_an_axis_never_says_the_same_at_two_heights(
    page: Page, module: str, picture: str, values: list[float], texts: list[str]
) -> None:
    assert texts_of_axis(page, module, picture, values) == texts


def test_bytes_to_clients_are_the_whole_of_which_the_share_beside_them_is_a_part(page: Page) -> None:
    tiers = [{"tier": "node", "bytes": 30_000_000}, {"tier": "remote", "bytes": 10_000_000}]
    some = {**worlds.sums(0.0), "bytes_by_tier": tiers, "saved_bytes": 1_000_000}
    cluster = worlds.documents(24, 5)["cluster"]
    facts = {fact[0]: plain(fact[1]) for fact in ask(page, "peers", "factsOf", {**cluster, "window": some})}
    assert (facts["To clients"], facts["From the own zone"]) == ("40.0 MB", "75.0 %")
    cells = ask(page, "peers", "cellsOf", {**cluster["zones"][0], "window": some})
    assert [plain(cell) for cell in cells[3:5]] == ["40.0 MB", "75.0 %"]


def test_a_zone_is_the_same_one_in_a_newer_map_wherever_it_stands_in_it(page: Page) -> None:
    before = {"zones": [{"region": "r", "zone": "a"}, {"region": "r", "zone": "b"}]}
    after = {"zones": [{"region": "q", "zone": "b"}, *before["zones"]]}
    assert [ask(page, "maplist", "zoneIn", zone, before, after) for zone in (0, 1, None)] == [1, 2, None]
    assert [ask(page, "maplist", "zoneIn", zone, after, before) for zone in (0, 2)] == [None, 1]
    assert ask(page, "maplist", "zoneIn", None, None, after) is None

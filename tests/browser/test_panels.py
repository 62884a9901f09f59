"""The panels of pulls, requests, proof, index, claims and transfers, with an agent that is played."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from benchmarks.lab.browser import PHONE, Chromium, Look, View
from tests.browser.conftest import OpenPage
from tests.browser.played import PlayedAgent, sample

PANELS = ("pulls", "requests", "proof", "index", "claims", "transfers")


def panel(page: Page, name: str) -> Locator:
    """The section of a panel."""
    return page.locator(f"#panel-{name}")


def ready(view: View) -> Page:
    """The page, once all its panels show what the agent said first: what is said from now on, they hear."""
    for name in PANELS:
        expect(panel(view.page, name)).to_have_attribute("data-look", "live")
    return view.page


@pytest.fixture(scope="module")
def tab(chromium: Chromium) -> Iterator[tuple[PlayedAgent, View]]:
    """One tab for all tests here: a page is loaded once."""
    with PlayedAgent() as agent, chromium.open(agent.url) as view:
        ready(view)
        yield agent, view


@pytest.fixture
def said(tab: tuple[PlayedAgent, View]) -> Iterator[tuple[PlayedAgent, Page]]:
    """The agent and its page, which forgot what other tests had the agent say."""
    agent, view = tab
    agent.begin_anew()
    ready(view).evaluate("document.querySelectorAll('details[open]').forEach(each => each.open = false)")
    yield agent, view.page
    view.check()


Said = tuple[PlayedAgent, Page]


def unfold(fold: Locator) -> None:
    """Unfold by the keyboard, as somebody without a mouse does."""
    fold.locator("> summary").focus()
    fold.page.keyboard.press("Enter")


def test_pull_says_what_it_took_from_where_and_what_was_slowest(said: Said) -> None:
    _, page = said
    pull = panel(page, "pulls").locator(".p-pull").first
    for words in (
        "registry.example/team/app:v7",
        "under way",
        "direct",
        "79.0 MB",
        "54 % same region",
        "5 requests by this node's containerd",
        "slowest: wait for a claim of b1, 1.22 s: b1 fetches it from the registry",
    ):
        expect(pull).to_contain_text(words)
    shares = pull.get_by_role("img").first
    expect(shares).to_have_accessible_name(
        "Bytes by locality: 1.2 kB this node, 12.0 MB same rack, 24.0 MB same zone, 43.0 MB same region"
    )


def test_waterfall_is_unfolded_by_keyboard_and_said_in_words(said: Said) -> None:
    _, page = said
    pull = panel(page, "pulls").locator(".p-pull > details").first
    unfold(pull)
    requests = pull.locator(".p-requests > li")
    expect(requests).to_have_count(5)
    hedged = requests.nth(3)
    expect(hedged.locator(".p-track")).to_have_accessible_name(
        "look-up 3.10 ms; headers from a3 21.4 ms, lost to a faster peer; hedge: headers from a2 5.90 ms; "
        "bytes from a2 210 ms, 12.0 MB, failed; resumed: headers from b1 4.00 ms; "
        "resumed: bytes from b1 330 ms, 12.0 MB"
    )
    unfold(hedged.locator("> details"))
    table = hedged.get_by_role("table")
    expect(table.get_by_role("row")).to_have_count(7)
    expect(table.get_by_role("row").nth(4)).to_contain_text("stall: went on at 12 MB")


def test_what_is_unfolded_and_has_the_focus_stays_when_the_pull_goes_on(said: Said) -> None:
    played, page = said
    fold = panel(page, "pulls").locator(".p-pull > details").first
    unfold(fold)
    pull = deepcopy(sample("pulls")["pulls"][0])
    pull.update(seconds=9.5, bytes=99_000_000, under_way=False)
    played.say("pulls", pull)
    expect(fold).to_contain_text("99.0 MB")
    expect(fold.locator("> summary .chip").first).to_have_text("done")
    expect(fold).to_have_attribute("open", "")
    expect(fold.locator("> summary")).to_be_focused()


def test_hedge_has_a_lane_of_its_own(said: Said) -> None:
    _, page = said
    fold = panel(page, "pulls").locator(".p-pull > details").first
    unfold(fold)
    bars = fold.locator(".p-requests > li").nth(3).locator(".p-bar")
    expect(bars).to_have_count(6)
    lanes = [bar.evaluate("bar => bar.style.getPropertyValue('--lane')") for bar in bars.all()]
    assert lanes == ["0", "0", "1", "1", "0", "0"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ["DIRECT", "agent on a1", "left the node", "kube-proxy sent it to another node"]),
        ({"probe": False, "proved": False}, ["The probe is not running", "probe.enabled"]),
        ({"proved": False, "why": "no canary yet", "canaries": [], "flows": []}, ["not proved yet"]),
        (
            {"proved": False, "why": "the canary was PROXIED", "verdict": "PROXIED"},
            ["PROXIED", "another process of this node took it", "shorthaul verify"],
        ),
        ({"proved": False, "verdict": "NEW_ONE"}, ["NEW_ONE", "this page does not know that verdict"]),
    ],
    ids=["direct", "no probe", "no canary", "proxied", "of a newer agent"],
)
def test_proof_says_what_the_local_path_is(said: Said, changes: dict[str, Any], says: list[str]) -> None:
    played, page = said
    flows = sample("flows")
    verdict = changes.pop("verdict", None)
    flows.update(changes)
    if verdict:
        flows["canaries"][0]["verdict"] = verdict
    proof = panel(page, "proof")
    played.say("flows", flows)
    for words in says:
        expect(proof).to_contain_text(words)


def test_claim_is_seen_to_fill(said: Said) -> None:
    played, page = said
    claims = panel(page, "claims")
    bar = claims.get_by_role("progressbar", name="Arrived from the registry")
    expect(bar).to_have_js_property("value", 0.5806)
    document = sample("claims")
    document["held"][0]["bytes"] = 31_000_000
    played.say("claims", document)
    expect(bar).to_have_js_property("value", 1)
    expect(claims).to_contain_text("31.0 MB of 31.0 MB, 100 %")
    document.update(held=[], awaited=[], decided=[])
    played.say("claims", document)
    expect(claims).to_contain_text("No claim now")


def test_index_says_who_is_asked_and_what_to_do(said: Said) -> None:
    played, page = said
    index = panel(page, "index")
    for words in (
        "warming up",
        "the server was reset 12 s ago",
        "set noeviction",
        "1 204 digests".replace(" ", "\u202f", 1),
    ):
        expect(index).to_contain_text(words)
    played.say("index", {**sample("index"), "state": "down", "problem": "refused", "hint": "start it"})
    for words in ("down", "refused", "start it", "Pulls work"):
        expect(index).to_contain_text(words)
    played.say("index", {"time": "", "node": "a1", "index": "scatter", "state": "peers"})
    expect(index).to_contain_text("There is no server")


def test_transfers_say_how_far_each_body_is(said: Said) -> None:
    played, page = said
    transfers = panel(page, "transfers")
    for words in (
        "12.0 MB of 24.0 MB, 50.0 %",
        "looks for a peer",
        "9.0 MB of 12.0 MB",
        "stalled: 12 s without a byte",
    ):
        expect(transfers).to_contain_text(words)
    played.say("transfers", {**sample("transfers"), "downloads": [], "uploads": []})
    expect(transfers).to_contain_text("Nothing moves now.")


def test_request_is_found_by_the_id_of_a_log_line(said: Said) -> None:
    _, page = said
    requests = panel(page, "requests")
    items = requests.locator(".p-requests > li")
    expect(items).to_have_count(6)
    requests.get_by_role("searchbox").fill("0005")
    expect(items).to_have_count(1)
    requests.get_by_role("searchbox").fill("f" * 16)
    link = requests.get_by_role("status").get_by_role("link")
    expect(link).to_have_attribute("href", f"/api/requests?id={'f' * 16}")
    requests.get_by_role("searchbox").fill("")
    requests.get_by_role("combobox").select_option("failed")
    expect(items).to_have_count(0)


@pytest.mark.parametrize(
    "look", [Look(), Look(scheme="dark", width=PHONE.width, height=PHONE.height)], ids=["light", "dark phone"]
)
def test_panels_are_usable_without_eyes_and_fit_their_window(
    played: PlayedAgent, open_page: OpenPage, look: Look
) -> None:
    view = open_page(played.url, look)
    ready(view)
    for fold in view.page.locator("#panel-pulls .p-pull > details").all():
        unfold(fold)
    unfold(view.page.locator("#panel-pulls .p-requests > li > details").nth(3))
    view.check_accessibility(*(f"#panel-{name}" for name in PANELS))
    for name in PANELS:
        overflow = panel(view.page, name).evaluate("it => it.scrollWidth - it.clientWidth")
        assert overflow <= 0, name

"""How the page hears from the agent: its stream, with a browser that is played, on a clock of its own."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from benchmarks.lab.browser import Chromium
from tests.browser import worlds
from tests.browser.played import PlayedAgent

# A world whose time passes when a test says so. `answers`: status and body of the next questions, by path.
_WORLD = """
async () => {
  const { Store } = await import("/static/state.js");
  const { Stream } = await import("/static/stream.js");
  const world = {
    now_ms: 0, timers: new Map(), next: 1, sources: [], asked: [], answers: {},
    stored: null, free: 4, held: 0,
    now: () => world.now_ms,
    random: () => 0.5,
    later: (run, delay_ms) => {
      world.timers.set(world.next, [world.now_ms + delay_ms, run]);
      return world.next++;
    },
    cancel: (timer) => world.timers.delete(timer),
    open: (path) => {
      const source = new EventTarget();
      source.path = path;
      source.close = () => { source.isClosed = true; };
      world.sources.push(source);
      return source;
    },
    fetch: async (path, options) => {
      world.asked.push([path, options.headers.Authorization ?? null]);
      const [status, body] = world.answers[path.split("?")[0]] ?? world.answers["*"] ?? [200, {}];
      if (status === 0) throw new TypeError("refused");
      return { ok: status === 200, status, text: async () => JSON.stringify(body) };
    },
    claim: async () => {
      if (world.held >= world.free) return null;
      world.held += 1;
      return () => { world.held -= 1; };
    },
    token: {
      get: () => world.stored,
      set: (token) => { world.stored = token; },
      forget: () => { world.stored = null; },
    },
  };
  const settle = async () => { for (let turn = 0; turn < 20; turn += 1) await Promise.resolve(); };
  world.pass = async (seconds) => {
    const end_ms = world.now_ms + 1000 * seconds;
    for (;;) {
      const waiting = [...world.timers].filter(([, [at]]) => at <= end_ms);
      const due = waiting.sort((one, other) => one[1][0] - other[1][0])[0];
      if (!due) break;
      world.timers.delete(due[0]);
      world.now_ms = Math.max(world.now_ms, due[1][0]);
      due[1][1]();
      await settle();
    }
    world.now_ms = end_ms;
  };
  world.say = async (event, data) => {
    const last = world.sources.at(-1);
    last.dispatchEvent(Object.assign(new Event(event), { data: JSON.stringify(data) }));
    await settle();
  };
  world.break = async () => { world.sources.at(-1).onerror(); await settle(); };
  const store = new Store({ schedule: (run) => run(), now: () => world.now_ms });
  const stream = new Stream(store, world);
  const open = () => world.sources.filter((source) => !source.isClosed).length;
  SCRIPT
}
"""


@pytest.fixture(scope="module")
def page(chromium: Chromium) -> Iterator[Page]:
    """A page whose module is driven."""
    with PlayedAgent() as agent, chromium.open(agent.url) as view:
        yield view.page


def live_through(page: Page, script: str) -> Any:
    """What a script in that world returns."""
    return page.evaluate(_WORLD.replace("SCRIPT", script))


def test_the_first_event_makes_the_page_live_and_documents_reach_the_store(page: Page) -> None:
    found = live_through(
        page,
        """
        stream.start(); await settle();
        const before = store.connection.phase;
        await world.say("hello", { instance: "a" });
        await world.say("claims", { held: [1] });
        return [before, store.connection.phase, store.get("claims"), world.sources[0].path, world.asked];
        """,
    )
    assert found == ["connecting", "live", {"held": [1]}, "/api/events", []]


def test_silence_is_said_after_8_s_and_a_dead_stream_is_opened_anew_after_15_s(page: Page) -> None:
    found = live_through(
        page,
        """
        stream.start(); await settle();
        await world.say("hello", { instance: "a" });
        const seen = [];
        await world.pass(7); seen.push(store.connection.silent_s);
        await world.pass(3); seen.push(store.connection.silent_s);
        await world.say("beat", {}); seen.push(store.connection.silent_s);
        await world.pass(16); seen.push(store.connection.phase, open());
        await world.pass(1); seen.push(world.sources.length, open());
        await world.say("hello", { instance: "a" }); seen.push(store.connection.phase);
        return seen;
        """,
    )
    assert found == [None, 10, None, "reconnecting", 0, 2, 1, "live"]


def test_an_agent_that_started_anew_makes_the_page_forget_and_the_same_one_does_not(page: Page) -> None:
    found = live_through(
        page,
        """
        stream.start(); await settle();
        await world.say("hello", { instance: "a" }); await world.say("claims", { n: 1 });
        await world.say("hello", { instance: "a" }); const same = store.get("claims");
        await world.say("hello", { instance: "b" });
        return [same, store.get("claims") ?? null];
        """,
    )
    assert found == [{"n": 1}, None]


def test_pauses_between_attempts_grow_to_ten_seconds_and_end_with_an_answer(page: Page) -> None:
    found = live_through(
        page,
        """
        world.answers["*"] = [0, null];
        stream.start(); await settle();
        const opened = [];
        for (let turn = 0; turn < 8; turn += 1) {
          await world.break();
          const before = world.now_ms;
          while (open() === 0) await world.pass(0.25);
          opened.push((world.now_ms - before) / 1000);
        }
        const phase = store.connection.phase;
        await world.say("hello", { instance: "a" });
        return [opened, phase, store.connection.phase, store.connection.why, world.held];
        """,
    )
    pauses, phase, then, why, held = found
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10]
    assert (phase, then, why, held) == ("reconnecting", "live", "", 1)


def test_a_stream_that_is_refused_is_polled_for_in_the_agents_own_words_and_tried_again(page: Page) -> None:
    found = live_through(
        page,
        """
        world.answers["/api/events"] = [503, { message: "64 tabs are open", hint: "close one" }];
        world.answers["/api/claims"] = [200, { held: [] }];
        stream.start(); await settle();
        await world.break();
        const seen = [store.connection.phase, store.connection.why, store.get("claims"), world.held];
        await world.pass(29); seen.push(world.sources.length);
        await world.pass(2); seen.push(world.sources.length);
        return seen;
        """,
    )
    assert found[0] == "polling"
    assert "64 tabs are open" in found[1]
    assert found[2:] == [{"held": []}, 0, 1, 2]


def test_from_elsewhere_a_token_is_asked_for_sent_as_a_header_and_forgotten_if_wrong(
    page: Page,
) -> None:
    found = live_through(
        page,
        """
        world.answers["*"] = [401, { message: "who are you" }];
        stream.start(); await settle();
        await world.break();
        const seen = [store.connection.phase, store.connection.why];
        stream.useToken("guess"); await settle();
        seen.push(store.connection.phase, store.connection.why !== "", world.stored);
        world.answers["*"] = [200, { held: "a" }];
        world.asked.length = 0;
        stream.useToken("right"); await settle();
        seen.push(store.connection.phase, store.get("claims"));
        seen.push(new Set(world.asked.map(([, token]) => token)).size, world.asked[0][1]);
        seen.push(world.asked.some(([path]) => path.includes("right")), world.sources.length, open());
        return seen;
        """,
    )
    assert found[:5] == ["token", "", "token", True, None]
    assert found[5:] == ["polling", {"held": "a"}, 1, "Bearer right", False, 1, 0]


def test_polling_asks_at_its_own_pace_and_never_twice_at_once(page: Page) -> None:
    found = live_through(
        page,
        """
        world.open = null;
        let hanging = 0, most = 0;
        const answer = world.fetch;
        world.fetch = async (path, options) => {
          if (path !== "/api/overview") return answer(path, options);
          hanging += 1; most = Math.max(most, hanging);
          await new Promise((resolve) => world.later(resolve, 7000));
          hanging -= 1;
          return answer(path, options);
        };
        stream.start(); await settle();
        await world.pass(60);
        const times = (path) => world.asked.filter(([asked]) => asked === path).length;
        const day = times("/api/history?step=60");
        return [most, times("/api/overview"), times("/api/claims"), day, store.connection.phase];
        """,
    )
    assert found == [1, 5, 13, 2, "polling"]


def test_while_polling_what_an_agent_said_before_it_was_started_anew_is_forgotten(page: Page) -> None:
    found = live_through(
        page,
        f"""
        const overview = {json.dumps(worlds.overview_document())};
        """
        """
        const pulls = (id) => [200, { pulls: [{ id, started_at: "2026-11-27", under_way: true }] }];
        const ids = () => store.get("pulls")?.pulls.map((pull) => pull.id) ?? [];
        world.open = null;
        world.answers["/api/overview"] = [200, overview];
        world.answers["/api/pulls"] = pulls("old");
        stream.start(); await settle();
        const before = ids();
        world.answers["/api/overview"] = [200, { ...overview, instance: "second" }];
        world.answers["/api/pulls"] = pulls("new");
        await world.pass(12);
        return [before, ids(), store.get("overview").instance];
        """,
    )
    assert found == [["old"], ["new"], "second"]


_PULL_BEYOND = """
        const pull = (number, under_way) => ({ id: `${number}`, started_at: `0${number}`, under_way });
        const said = ({ id, under_way }) => `${id}${under_way ? " moves" : ""}`;
        const ids = () => store.get("pulls").pulls.map(said);
"""


def test_while_polling_a_pull_that_the_agent_names_no_more_is_not_under_way_for_ever(page: Page) -> None:
    found = live_through(
        page,
        f"""{_PULL_BEYOND}
        world.open = null;
        world.answers["/api/pulls"] = [200, {{ node: "a", pulls: [pull(1, true)] }}];
        stream.start(); await settle();
        const before = ids();
        world.answers["/api/pulls"] = [200, {{ node: "a", pulls: [pull(3, false), pull(2, false)] }}];
        await world.pass(6);
        return [before, ids()];
        """,
    )
    assert found == [["1 moves"], ["3", "2"]]


def test_a_whole_picture_takes_the_place_of_the_pulls_and_a_change_goes_into_them(page: Page) -> None:
    found = live_through(
        page,
        f"""{_PULL_BEYOND}
        const seen = [];
        const hear = async (event, data) => {{ await world.say(event, data); seen.push(ids()); }};
        stream.start(); await settle();
        await world.say("hello", {{ instance: "a" }});
        await hear("pulls", {{ node: "a", pulls: [pull(1, true)] }});
        await hear("pulls", {{ node: "a", pulls: [pull(2, true)] }});
        await world.say("hello", {{ instance: "a" }});
        await hear("pulls", {{ node: "a", pulls: [pull(3, false)] }});
        await hear("pulls", {{ node: "a", pulls: [pull(2, false)] }});
        return seen;
        """,
    )
    assert found == [["1 moves"], ["2 moves", "1 moves"], ["3"], ["3", "2"]]


def test_while_polling_a_failure_of_one_page_is_that_panels_and_the_last_value_stays(page: Page) -> None:
    found = live_through(
        page,
        """
        world.open = null;
        world.answers["/api/claims"] = [200, { held: [1] }];
        stream.start(); await settle();
        world.answers["/api/claims"] = [404, { message: "no such page", hint: "upgrade" }];
        await world.pass(6);
        const { value, problem } = store.entry("claims");
        return [value, problem, store.entry("index").problem];
        """,
    )
    assert found == [{"held": [1]}, {"words": "no such page", "hint": "upgrade"}, None]


def test_a_browser_with_enough_streams_polls_and_takes_one_that_becomes_free(page: Page) -> None:
    found = live_through(
        page,
        """
        world.held = 4;
        stream.start(); await settle();
        const seen = [store.connection.phase, open()];
        world.held = 3;
        await world.pass(31);
        await world.say("hello", { instance: "a" });
        return [...seen, store.connection.phase, open(), world.held];
        """,
    )
    assert found == ["polling", 0, "live", 1, 4]


def test_a_tab_that_nobody_sees_asks_nothing_and_keeps_what_it_knows(page: Page) -> None:
    found = live_through(
        page,
        """
        stream.start(); await settle();
        await world.say("hello", { instance: "a" }); await world.say("claims", { n: 1 });
        stream.pause();
        const seen = [open(), world.held, world.timers.size, store.get("claims"), store.connection.phase];
        await world.pass(600);
        seen.push(world.asked.length, world.sources.length);
        stream.start(); await settle();
        seen.push(open());
        return seen;
        """,
    )
    assert found == [0, 0, 0, {"n": 1}, "paused", 0, 1, 1]


def test_an_answer_that_comes_after_the_tab_was_hidden_changes_nothing(page: Page) -> None:
    found = live_through(
        page,
        """
        world.open = null;
        let answer;
        const late = { ok: true, status: 200, text: async () => '{"late": true}' };
        world.fetch = () => new Promise((resolve) => { answer = () => resolve(late); });
        stream.start(); await settle();
        stream.pause();
        answer(); await settle();
        return [store.get("claims") ?? null, store.connection.phase, world.timers.size];
        """,
    )
    assert found[:2] == [None, "paused"]


def test_what_is_no_json_is_left_out_and_the_stream_goes_on(page: Page) -> None:
    found = live_through(
        page,
        """
        const said = console.error; console.error = () => {};
        stream.start(); await settle();
        await world.say("hello", { instance: "a" });
        world.sources[0].dispatchEvent(Object.assign(new Event("claims"), { data: "{" }));
        console.error = said;
        await world.say("claims", { n: 2 });
        return [store.get("claims"), store.connection.phase];
        """,
    )
    assert found == [{"n": 2}, "live"]

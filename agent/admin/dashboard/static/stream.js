/**
 * Keeps the store up to date: by the agent's stream of events, or by asking every few seconds where that can't be.
 *
 * The stream is closed while nobody sees the tab. It is opened anew, after longer and longer pauses, when it
 * breaks or falls silent; the agent then sends a whole picture, so nothing that was missed is missed for good.
 */

import { isDocument, parsed } from "./documents.js";
import { merge } from "./merge.js";

/** @typedef {import("./state.js").Store} Store */

const EVENTS = ["overview", "map", "requests", "pulls", "claims", "transfers", "flows", "index", "history", "cluster"];
const STREAM = "/api/events";
const SILENT_S = 8; // the agent says something at least each 5 s
const DEAD_S = 15;
const RETRY_S = [0.5, 1, 2, 4, 8, 10];
const ASK_TIMEOUT_S = 20;
const FULL_S = 30; // after so long a tab that polls because the agent has too many streams tries again
const STREAMS_MAX = 4; // a browser makes 6 connections to one address; the rest is for what is asked

/** What is asked while there is no stream: path, and how many seconds later again. @type {Record<string, [string, number]>} */
const POLLS = {
  overview: ["/api/overview", 5],
  requests: ["/api/requests?limit=50", 5],
  pulls: ["/api/pulls?limit=30", 5],
  claims: ["/api/claims", 5],
  transfers: ["/api/transfers", 5],
  flows: ["/api/flows?limit=50", 10],
  index: ["/api/index", 10],
  cluster: ["/api/cluster", 20],
  history: ["/api/history?step=5", 15],
  day: ["/api/history?step=60", 60],
  map: ["/api/map", 15],
};

/** Of a document that is none, or another one. */
const UNREADABLE = { words: "The agent said something that this page does not understand.", hint: "Load the page again: agent and page may be of different releases." };

/**
 * @typedef {object} World what the stream needs of the browser; tests bring their own
 * @property {(path: string, options: RequestInit) => Promise<Response>} fetch
 * @property {((path: string) => EventSource) | null} open null: this browser has no EventSource
 * @property {(run: () => void, delay_ms: number) => any} later
 * @property {(timer: any) => void} cancel
 * @property {() => number} now milliseconds of a clock that never jumps
 * @property {() => number} random from 0 to 1
 * @property {() => void} reload loads the page again
 * @property {() => Promise<(() => void) | null>} claim the right to one of the browser's streams, as what gives it back; null: none is free
 * @property {{get: () => string | null, set: (token: string) => void, forget: () => void}} token
 */

export class Stream {
  #store;
  #world;
  /** @type {EventSource | null} */ #source = null;
  /** @type {(() => void) | null} */ #release = null;
  /** @type {any} */ #timer = null;
  /** @type {Map<string, any>} */ #polls = new Map();
  /** @type {string | null} */ #instance = null;
  /** @type {string | null} */ #version = null;
  #isWhole = false; // all pulls come next, and not those that changed
  #failures = 0;
  #heard_ms = 0;
  #generation = 0; // an answer to a question of an earlier one is nobody's any more

  /** @param {Store} store @param {World} world */
  constructor(store, world) {
    this.#store = store;
    this.#world = world;
  }

  /** Begins, or begins again at once. */
  start() {
    this.#stop();
    this.#failures = 0;
    this.#begin();
  }

  /** Nobody looks: ends everything, and keeps what is known. */
  pause() {
    this.#stop();
    this.#store.connect({ phase: "paused", why: "", silent_s: null });
  }

  /** From elsewhere than the node: asks with this token from now on. @param {string} token */
  useToken(token) {
    this.#world.token.set(token);
    this.start();
  }

  async #begin() {
    const generation = this.#generation;
    this.#store.connect({ hasToken: this.#world.token.get() !== null });
    if (this.#world.open === null) return this.#poll("This browser has no EventSource, so the page asks every 5 seconds.");
    if (this.#world.token.get() !== null) return this.#poll("With a token the page asks every 5 seconds.");
    const release = await this.#world.claim();
    if (generation !== this.#generation) return release?.();
    if (release === null) {
      return this.#pollForNow("This browser shows enough live tabs of this agent, so this one asks every 5 seconds.");
    }
    this.#release = release;
    this.#open();
  }

  #open() {
    const source = /** @type {EventSource} */ (this.#world.open?.(STREAM));
    this.#source = source;
    this.#heard_ms = this.#world.now();
    source.onerror = () => this.#lost();
    source.addEventListener("hello", (event) => this.#hello(read(event)));
    source.addEventListener("beat", () => this.#heard());
    source.addEventListener("nodes", (event) => this.#take("map", event, "nodes"));
    for (const key of EVENTS) source.addEventListener(key, (event) => this.#take(key, event));
    this.#watch();
  }

  #hello(hello) {
    if (!isDocument("hello", hello)) return;
    if (this.#version !== null && hello.version !== this.#version) return this.#world.reload(); // its page is another one
    this.#version = hello.version;
    this.#isWhole = true;
    this.#meet(hello);
    this.#store.set("hello", hello);
    this.#heard();
  }

  /** What an agent said before it was started anew is forgotten. @param {any} who */
  #meet({ instance }) {
    if (this.#instance !== null && instance !== this.#instance) this.#store.clear();
    this.#instance = instance;
  }

  /** @param {string} key @param {Event} event @param {string} [as] the merge that it is for */
  #take(key, event, as = key) {
    this.#heard();
    const data = read(event);
    if (!isDocument(as, data)) return this.#store.fail(key, UNREADABLE);
    const before = this.#store.get(key);
    const after = merge(as, key === "pulls" && this.#isWhole ? undefined : before, data);
    if (key === "pulls") this.#isWhole = false;
    if (after !== before) this.#store.set(key, after);
  }

  #heard() {
    this.#failures = 0;
    this.#heard_ms = this.#world.now();
    this.#store.connect({ phase: "live", why: "", heard_ms: this.#heard_ms, silent_s: null });
  }

  /** Looks once a second whether the stream fell silent. */
  #watch() {
    this.#timer = this.#world.later(() => {
      const silent_s = (this.#world.now() - this.#heard_ms) / 1000;
      if (silent_s > DEAD_S) return this.#again("The agent says nothing any more.");
      if (silent_s > SILENT_S) this.#store.connect({ silent_s: Math.floor(silent_s) });
      this.#watch();
    }, 1000);
  }

  /** The stream broke, or could not be opened. EventSource does not say why; an ordinary question does. */
  async #lost() {
    const generation = this.#closeStream();
    const answer = await this.#ask(STREAM, { headOnly: true });
    if (generation !== this.#generation) return;
    if (answer.status === 401) return this.#wantToken();
    if (answer.status > 401) return this.#pollForNow(`${answer.problem?.words} The page asks every 5 seconds meanwhile.`);
    this.#again(answer.problem?.words ?? "The stream of events broke off.");
  }

  /** @param {string} why */
  #again(why) {
    this.#stop();
    const pause_s = RETRY_S[Math.min(this.#failures, RETRY_S.length - 1)];
    this.#failures += 1;
    this.#store.connect({ phase: "reconnecting", why, silent_s: this.#silence() });
    // Many tabs lose the same agent at the same moment: they come back one by one.
    this.#timer = this.#world.later(() => this.#begin(), 1000 * pause_s * (0.5 + this.#world.random()));
  }

  #silence() {
    const { heard_ms } = this.#store.connection;
    return heard_ms === null ? null : Math.floor((this.#world.now() - heard_ms) / 1000);
  }

  #wantToken() {
    this.#stop();
    const was = this.#world.token.get() !== null;
    this.#world.token.forget();
    this.#store.connect({ phase: "token", why: was ? "That is not the admin token of this cluster now." : "", silent_s: null });
  }

  /** @param {string} why */
  #pollForNow(why) {
    this.#poll(why);
    this.#timer = this.#world.later(() => this.start(), 1000 * FULL_S);
  }

  /** @param {string} why */
  #poll(why) {
    this.#stop();
    this.#store.connect({ phase: "polling", why });
    for (const key of Object.keys(POLLS)) this.#pollOne(key);
  }

  /** @param {string} key */
  async #pollOne(key) {
    const generation = this.#generation;
    const [path, interval_s] = POLLS[key];
    const answer = await this.#ask(path);
    if (generation !== this.#generation) return;
    if (answer.status === 401) return this.#wantToken();
    if (answer.status === 200 && isDocument(key === "day" ? "history" : key, answer.data)) this.#learn(key, answer.data);
    else this.#failed(key, answer.status === 200 ? { ...answer, problem: UNREADABLE } : answer);
    this.#polls.set(key, this.#world.later(() => this.#pollOne(key), 1000 * interval_s));
  }

  /** @param {string} key @param {any} data */
  #learn(key, data) {
    const of = key === "day" ? "history" : key;
    if (key === "overview") this.#meet(data);
    this.#store.set(of, merge(of, key === "pulls" ? undefined : this.#store.get(of), data));
    this.#store.connect({ heard_ms: this.#world.now(), silent_s: null });
  }

  /** @param {string} key @param {Answer} answer */
  #failed(key, answer) {
    if (answer.problem) this.#store.fail(key === "day" ? "history" : key, answer.problem);
    if (answer.status === 0) this.#store.connect({ silent_s: this.#silence() });
  }

  /** @typedef {{status: number, data?: any, problem?: import("./state.js").Problem}} Answer status 0: there is none */
  /** @param {string} path @param {{headOnly?: boolean}} [how] @returns {Promise<Answer>} */
  async #ask(path, { headOnly = false } = {}) {
    const token = this.#world.token.get();
    const end = new AbortController();
    const timer = this.#world.later(() => end.abort(), 1000 * ASK_TIMEOUT_S);
    try {
      const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
      const response = await this.#world.fetch(path, { headers, signal: end.signal, cache: "no-store", credentials: "omit" });
      if (response.ok && headOnly) return { status: 200 };
      const data = parsed(await response.text());
      return response.ok ? { status: 200, data } : { status: response.status, problem: spoken(data, response.status) };
    } catch {
      return { status: 0, problem: { words: "The agent does not answer.", hint: "It may be restarting, or the way to it is gone: look at the pod, or at the port-forward." } };
    } finally {
      if (headOnly) end.abort();
      this.#world.cancel(timer);
    }
  }

  /** @returns {number} the generation that begins */
  #closeStream() {
    this.#source?.close();
    this.#source = null;
    this.#release?.();
    this.#release = null;
    this.#world.cancel(this.#timer);
    this.#generation += 1;
    return this.#generation;
  }

  #stop() {
    this.#closeStream();
    for (const timer of this.#polls.values()) this.#world.cancel(timer);
    this.#polls.clear();
  }
}

/** An event's data; undefined if it is no JSON. @param {Event} event */
function read(event) {
  try {
    return parsed(/** @type {MessageEvent} */ (event).data);
  } catch (error) {
    console.error(error);
    return undefined;
  }
}

/** An ErrorDocument in words. @param {any} data @param {number} status */
function spoken(data, status) {
  return { words: data?.message ?? `The agent answers with status ${status}.`, hint: data?.hint ?? "" };
}

/** The browser itself. @returns {World} */
export function browser() {
  return {
    fetch: (path, options) => fetch(path, options),
    open: typeof EventSource === "undefined" ? null : (path) => new EventSource(path),
    later: (run, delay_ms) => setTimeout(run, delay_ms),
    cancel: (timer) => clearTimeout(timer),
    now: () => performance.now(),
    random: Math.random,
    reload: () => location.reload(),
    claim: claimStream,
    token: tabToken("shorthaul-token"),
  };
}

/** One of the streams that the tabs of this browser share out; a tab that ends gives its own back. */
async function claimStream() {
  if (!navigator.locks) return () => {}; // only pages by https and on loopback have it
  for (let number = 0; number < STREAMS_MAX; number += 1) {
    const release = await heldLock(`shorthaul-stream-${number}`);
    if (release !== null) return release;
  }
  return null;
}

/** @param {string} name @returns {Promise<(() => void) | null>} */
function heldLock(name) {
  return new Promise((resolve) => {
    const asked = navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (lock === null) return resolve(null);
      return new Promise((release) => resolve(() => release(undefined)));
    });
    asked.catch(() => resolve(() => {})); // a browser that keeps nothing has no locks either
  });
}

/** The token lives as long as the tab, and in no address. @param {string} key */
function tabToken(key) {
  /** @type {string | null} */ let here = null; // for a browser that keeps nothing
  const kept = (/** @type {any} */ use) => {
    try {
      return use(sessionStorage);
    } catch {
      return null;
    }
  };
  return {
    get: () => here ?? kept((tab) => tab.getItem(key)),
    set: (token) => {
      here = token;
      kept((tab) => tab.setItem(key, token));
    },
    forget: () => {
      here = null;
      kept((tab) => tab.removeItem(key));
    },
  };
}

/**
 * What the page knows: one value for each kind of document, and who wants to hear when it changes.
 * Keys are the names of the stream's events (`overview`, `map`, `requests`, …), and `connection`.
 */

/** @typedef {{words: string, hint: string}} Problem */
/** @typedef {{value: any, at_ms: number | null, problem: Problem | null}} Entry */

/**
 * @typedef {object} Connection how the page hears from the agent
 * @property {"connecting" | "live" | "polling" | "reconnecting" | "paused" | "token"} phase
 * @property {string} why in words, for whoever looks; may be empty
 * @property {number | null} heard_ms when the agent was heard last, on the page's clock; null: never
 * @property {number | null} silent_s since when nothing was heard, in seconds, if that is worth a word; else null
 * @property {boolean} [hasToken] with a token, which a link does not send
 */

/** @type {Connection} */
const UNCONNECTED = { phase: "connecting", why: "", heard_ms: null, silent_s: null };

export const CONNECTION = "connection";
export const RANGE = "range"; // of the charts: the seconds of a step
const OWN = new Set([CONNECTION, RANGE]); // the page's, and no documents

export class Store {
  /** @type {Map<string, Entry>} */ #entries = new Map();
  /** @type {Map<string, Set<() => void>>} */ #listeners = new Map();
  /** @type {Set<() => void>} */ #due = new Set();
  #isScheduled = false;
  #schedule;
  #now;

  /**
   * @param {object} [parts]
   * @param {(run: () => void) => void} [parts.schedule] when listeners are told: several changes at once are told once
   * @param {() => number} [parts.now] milliseconds of a clock that never jumps
   */
  constructor({ schedule = soon, now = () => performance.now() } = {}) {
    this.#schedule = schedule;
    this.#now = now;
  }

  /** The value, or undefined before the first. @param {string} key @returns {any} */
  get(key) {
    return this.#entries.get(key)?.value;
  }

  /** The value with its age and what is wrong with it. @param {string} key @returns {Entry} */
  entry(key) {
    return this.#entries.get(key) ?? { value: undefined, at_ms: null, problem: null };
  }

  /** How the agent is heard. @returns {Connection} */
  get connection() {
    return this.get(CONNECTION) ?? UNCONNECTED;
  }

  /** @param {string} key @param {any} value */
  set(key, value) {
    this.#entries.set(key, { value, at_ms: this.#now(), problem: null });
    this.#tell(key);
  }

  /** The last value stays, and is shown with the problem. @param {string} key @param {Problem} problem */
  fail(key, problem) {
    this.#entries.set(key, { ...this.entry(key), problem });
    this.#tell(key);
  }

  /** @param {Partial<Connection>} change */
  connect(change) {
    const before = this.connection;
    const now = { ...before, ...change };
    if (Object.keys(now).some((key) => now[key] !== before[key])) this.set(CONNECTION, now);
  }

  /** Forgets all documents: the agent started anew. */
  clear() {
    for (const key of [...this.#entries.keys()]) {
      if (OWN.has(key)) continue;
      this.#entries.delete(key);
      this.#tell(key);
    }
  }

  /**
   * Calls back when one of the keys changed, and once at the start.
   * @param {string | string[]} keys
   * @param {() => void} listener
   * @returns {() => void} ends the subscription
   */
  subscribe(keys, listener) {
    const wanted = [keys].flat();
    for (const key of wanted) this.#of(key).add(listener);
    this.#call(listener);
    return () => wanted.forEach((key) => this.#of(key).delete(listener));
  }

  /** @param {string} key */
  #of(key) {
    const found = this.#listeners.get(key) ?? new Set();
    this.#listeners.set(key, found);
    return found;
  }

  /** @param {string} key */
  #tell(key) {
    for (const listener of this.#of(key)) this.#due.add(listener);
    if (this.#isScheduled || this.#due.size === 0) return;
    this.#isScheduled = true;
    this.#schedule(() => this.#flush());
  }

  #flush() {
    const due = [...this.#due];
    this.#due.clear();
    this.#isScheduled = false;
    due.forEach((listener) => this.#call(listener));
  }

  /** One panel that fails leaves the others alone. @param {() => void} listener */
  #call(listener) {
    try {
      listener();
    } catch (error) {
      console.error(error);
    }
  }
}

/** The next frame; a hidden tab has none, so there is a time limit. @param {() => void} run */
function soon(run) {
  let isDone = false;
  const once = () => {
    if (isDone) return;
    isDone = true;
    run();
  };
  requestAnimationFrame(once);
  setTimeout(once, 250);
}

/**
 * What several panels are made of: words with a level, bars of progress, lists of facts, tables that become cards
 * on a phone. Each keeps its elements while its values change.
 */

import { h, fill, keep, setAll, setText } from "./dom.js";
import { UNKNOWN, bytes, isKnown, name, share } from "./format.js";
import { TIERS } from "./tiers.js";

/** @typedef {"ok" | "warn" | "bad" | "plain"} Level */

const TIER_WORDS = Object.fromEntries(TIERS.map(({ tier, words }) => [tier, words]));

/** @param {string | null | undefined} tier */
export const tierWords = (tier) => (tier && tier !== "none" ? wordOf(TIER_WORDS, tier) : UNKNOWN);

/**
 * A word that says how good something is. The level has a sign of its own, so that it does not depend on colour.
 * @returns {{element: HTMLElement, set: (level: Level, text: string, title?: string) => void}}
 */
export function chip() {
  const element = h("span", { class: "chip" });
  return {
    element,
    set: (level, text, title = "") => {
      setAll(element, { "data-look": level, title: title || null });
      setText(element, text);
    },
  };
}

/** A chip that does not change. @param {Level} level @param {string} text @param {string} [title] */
export function chipOf(level, text, title) {
  const made = chip();
  made.set(level, text, title);
  return made.element;
}

/**
 * How far something is. Without a length it is a bar that only says that something happens.
 * @param {string} what for screen readers
 */
export function progress(what) {
  const bar = h("progress", { class: "p-progress", max: "1", "aria-label": what });
  const words = h("span", { class: "p-progress-words" });
  const element = h("span", { class: "p-fill" }, bar, words);
  return {
    element,
    /** @param {number} done_bytes @param {number | null | undefined} length_bytes @param {string} [more] further words */
    set: (done_bytes, length_bytes, more = "") => {
      const known = isKnown(length_bytes) && length_bytes > 0;
      const part = known ? Math.min(1, Math.max(0, done_bytes / length_bytes)) : null;
      setAll(bar, { value: part === null ? null : part.toFixed(4) });
      const so_far = part === null ? `${bytes(done_bytes)} so far` : `${bytes(done_bytes)} of ${bytes(length_bytes)}, ${share(part)}`;
      setText(words, more ? `${so_far} · ${more}` : so_far);
    },
  };
}

/**
 * How fast something grows: bytes per second between the last two times when it was told.
 * Bounded: what is not told any more is forgotten with the next `keepOnly`.
 */
export class Rates {
  /** @type {Map<string, {bytes: number, at_ms: number, rate: number | null}>} */ #seen = new Map();

  /** @param {string} key @param {number} size_bytes @param {number} now_ms @returns {number | null} */
  of(key, size_bytes, now_ms) {
    const before = this.#seen.get(key);
    if (before === undefined || size_bytes < before.bytes) {
      this.#seen.set(key, { bytes: size_bytes, at_ms: now_ms, rate: null });
      return null;
    }
    const passed_s = (now_ms - before.at_ms) / 1000;
    if (passed_s < 0.4) return before.rate;
    const rate = (size_bytes - before.bytes) / passed_s;
    this.#seen.set(key, { bytes: size_bytes, at_ms: now_ms, rate });
    return rate;
  }

  /** @param {Iterable<string>} keys */
  keepOnly(keys) {
    const wanted = new Set(keys);
    for (const key of this.#seen.keys()) if (!wanted.has(key)) this.#seen.delete(key);
  }
}

/**
 * Names and values: `facts([["server", "Valkey 8"], …])`. Values are text or elements; null leaves a line out.
 * @returns {{element: HTMLElement, set: (pairs: [string, any][]) => void}}
 */
export function facts() {
  const element = h("dl", { class: "p-facts" });
  return {
    element,
    set: (pairs) => {
      const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
      keep(element, known, ([term]) => term, ([term]) => {
        const value = h("dd");
        return {
          element: h("div", {}, h("dt", {}, term), value),
          update: ([, now]) => (now instanceof Node ? now.parentNode !== value && fill(value, now) : setText(value, now)),
        };
      });
    },
  };
}

/**
 * @template Item
 * @typedef {object} Column
 * @property {string} title
 * @property {boolean} [numeric]
 * @property {boolean} [main] what the row is about: its heading for screen readers
 * @property {(item: Item) => string} [text]
 * @property {() => {element: Element, update: (item: Item) => void}} [make] in place of text
 */

/**
 * A table with a caption and one row for each item.
 * @template Item
 * @param {string} caption
 * @param {Column<Item>[]} columns
 * @param {(item: Item) => string} keyOf
 */
export function table(caption, columns, keyOf) {
  const body = h("tbody");
  const title = h("caption", {}, caption);
  const heads = columns.map((column) => h("th", { scope: "col", class: column.numeric ? "num" : null }, column.title));
  // A table of a few columns is one even on a phone; each row of a wider one becomes a card there.
  const grid = h("table", { class: columns.length > 3 ? "data p-table p-wide" : "data p-table" }, title, h("thead", {}, h("tr", {}, heads)), body);
  const element = h("div", { class: "p-grid" }, grid);
  return {
    element,
    /** @param {Item[]} items @param {string} [words] the caption of now */
    set: (items, words = caption) => {
      element.hidden = items.length === 0;
      setText(title, words);
      keep(body, items, keyOf, () => row(columns));
    },
  };
}

/** @template Item @param {Column<Item>[]} columns */
function row(columns) {
  const cells = columns.map((column) => {
    const made = column.make?.();
    const attributes = { "data-title": column.title, class: column.numeric ? "num" : null };
    const element = h(column.main ? "th" : "td", column.main ? { ...attributes, scope: "row" } : attributes, made?.element);
    return { element, update: (/** @type {Item} */ item) => (made ? made.update(item) : setText(element, column.text?.(item) ?? "")) };
  });
  return {
    element: h("tr", {}, cells.map((cell) => cell.element)),
    update: (/** @type {Item} */ item) => cells.forEach((cell) => cell.update(item)),
  };
}

/**
 * Something unfolded by its heading, as the browser does it: keyboard and screen readers know it.
 * @param {Element[]} heading
 * @param {() => Element[]} contents made when it is first unfolded
 */
export function fold(heading, contents) {
  const summary = h("summary", {}, heading);
  const inside = h("div", { class: "p-inside" });
  const element = /** @type {HTMLDetailsElement} */ (h("details", { class: "p-fold" }, summary, inside));
  let made = false;
  const unfold = () => {
    if (element.open && !made) {
      made = true;
      inside.append(...contents());
    }
  };
  element.addEventListener("toggle", unfold);
  return { element, inside, unfold, summary };
}

/** A list from a document that may lack it, cut at so many. @param {any} list @param {number} [most] @returns {any[]} */
export const listOf = (list, most = 500) => (Array.isArray(list) ? list.filter((each) => each !== null && typeof each === "object").slice(0, most) : []);

/** A text from a document that may lack it. @param {any} text */
export const textOf = (text) => (typeof text === "string" ? text : "");

/** The word for one of the API's, or that one itself if it is of a newer agent. @param {Record<string, string>} words @param {any} key */
export const wordOf = (words, key) => (typeof key === "string" && Object.hasOwn(words, key) ? words[key] : name(textOf(key), 30));

/** A text that may be missing, as a name: nothing is nothing here, not a dash. @param {any} text @param {number} most characters */
export const said = (text, most) => (textOf(text) === "" ? "" : name(text, most));

/** A number from a document that may lack it. @param {any} number */
export const numberOf = (number) => (isKnown(number) ? number : 0);

/** Over which time the charts go, for all of them at once; and the columns of a history, as a chart takes them. */

import { h, setText } from "./dom.js";
import { chart } from "./chart.js";
import { seconds, unixSeconds } from "./format.js";
import { POINTS_KEPT } from "./merge.js";
import { attempt, follow, frame } from "./panel.js";
import { RANGE } from "./state.js";

/** @typedef {import("./state.js").Store} Store */

const RANGES = [
  { step_s: 5, words: "15 min" },
  { step_s: 60, words: "24 h" },
];

/**
 * A panel with one chart of the history.
 * @param {HTMLElement} section
 * @param {Store} store
 * @param {(history: any) => import("./chart.js").Picture} pictureOf
 * @param {(history: any) => string} summary a sentence above the chart
 */
export function mountChart(section, store, pictureOf, summary) {
  const framed = frame(section);
  const line = h("p", { class: "chart-summary" });
  const drawn = chart();
  framed.body.append(line, drawn.element);
  section.querySelector(".panel-head")?.append(rangeButtons(store));
  const render = () => {
    const histories = store.get("history");
    if (histories === undefined) return;
    const step_s = store.get(RANGE) ?? RANGES[0].step_s;
    const history = histories[step_s] ?? Object.values(histories)[0];
    framed.note(`steps of ${seconds(history.step_s)}`);
    setText(line, summary(history));
    attempt(framed, () => drawn.show(pictureOf(history)));
  };
  follow(framed, store, "history", render);
  store.subscribe(RANGE, render);
}

/** A table below the chart. @param {HTMLElement} section @param {string} label */
export function sumsTable(section, label) {
  const table = h("table", { class: "data tight" });
  section.querySelector(".panel-body")?.append(h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, table));
  return table;
}

/** When each step began, in unix seconds. @param {any} history @returns {number[]} */
export function timesOf({ ended_at, step_s, points }) {
  const end = unixSeconds(ended_at) ?? 0;
  return Array.from({ length: points }, (_, at) => end - (points - at) * step_s);
}

/** How long a history is when it is full. @param {any} history */
export const fullSpan = ({ step_s, points }) => step_s * Math.max(POINTS_KEPT[step_s] ?? 0, points);

/** How long the steps of a history are together, in words. @param {any} history */
export const spanOf = ({ points, step_s }) => `last ${seconds(points * step_s)}`;

/** @param {(number | null)[]} column @returns {number} */
export function sum(column) {
  let total = 0;
  for (const value of column) total += value ?? 0;
  return total;
}

/** @param {Store} store */
function rangeButtons(store) {
  const buttons = RANGES.map(({ step_s, words }) => h("button", { type: "button", onclick: () => store.set(RANGE, step_s) }, words));
  store.subscribe(RANGE, () => {
    const shown = store.get(RANGE) ?? RANGES[0].step_s;
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(RANGES[at].step_s === shown)));
  });
  return h("div", { class: "segments", role: "group", "aria-label": "Over which time" }, buttons);
}

/**
 * A chart over time: uPlot draws it; this adds what it lacks: colours of the page's theme, a legend that is text, the arrow
 * keys, and the same figures as a table.
 */

import { h, fill, setText } from "./dom.js";
import { clockTime } from "./format.js";
import { colour } from "./theme.js";

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {string} colour a token of app.css, such as `--tier-node`
 * @property {(number | null)[]} values
 * @property {(value: number | null) => string} write with its unit
 */

/**
 * @typedef {object} Picture
 * @property {string} label what it shows, for who does not see it
 * @property {number[]} times unix seconds
 * @property {number} span_s what the chart shows, from its left edge to the last time: a young agent fills it from the right
 * @property {Series[]} series
 * @property {boolean} stacked
 * @property {(value: number) => string} axis writes a value of the y axis
 */

const HEIGHT_PX = 200;
const TABLE_ROWS = 24;

/** @returns {{element: HTMLElement, show: (picture: Picture) => void}} */
export function chart() {
  const plot = h("div", { class: "chart-plot", tabindex: "0", role: "img" });
  const at = h("span", { class: "chart-at muted" });
  const legend = h("ul", { class: "legend" });
  const table = h("table", { class: "data" });
  const scroll = h("div", { class: "scroll", role: "region", tabindex: "0" }, table);
  /** @type {any} */ const details = h("details", { class: "more" }, h("summary", {}, "As a table"), scroll);
  const element = h("figure", { class: "chart" }, plot, h("figcaption", { class: "chart-legend" }, legend, at), details);
  /** @type {any} */ let drawn = null;
  /** @type {Picture | null} */ let picture = null;

  const showLegend = () => picture && legendOf(legend, at, picture, drawn?.cursor?.idx ?? null);
  const showTable = () => picture && details.open && tableOf(table, picture);
  const redraw = () => {
    if (picture === null || plot.clientWidth === 0) return;
    const data = plotData(picture);
    if (drawn === null) {
      drawn = new globalThis.uPlot(options(picture, plot.clientWidth, showLegend, () => picture), data, plot);
    } else {
      drawn.setData(data);
    }
  };
  const again = () => {
    drawn?.destroy();
    drawn = null;
    redraw();
  };

  details.addEventListener("toggle", showTable);
  plot.addEventListener("keydown", (event) => moveCursor(event, drawn));
  document.addEventListener("themechange", again);
  new ResizeObserver(() => {
    if (drawn === null) redraw();
    else if (plot.clientWidth > 0) drawn.setSize({ width: plot.clientWidth, height: HEIGHT_PX });
  }).observe(plot);

  return {
    element,
    show: (next) => {
      const isOther = picture !== null && picture.series.length !== next.series.length;
      picture = next;
      plot.setAttribute("aria-label", `${next.label}. The arrow keys read the values; the table below has them too.`);
      scroll.setAttribute("aria-label", `${next.label}, as a table`);
      if (isOther) again();
      else redraw();
      showLegend();
      showTable();
    },
  };
}

/**
 * What uPlot draws: in a stack each line is the sum of its own values and of all before it, the highest line first.
 * @param {Picture} picture
 * @returns {(number | null)[][]}
 */
export function plotData({ times, series, stacked }) {
  if (!stacked) return [times, ...series.map(({ values }) => values)];
  const sums = times.map(() => 0);
  const lines = series.map(({ values }) => values.map((value, at) => (sums[at] += value ?? 0)));
  return [times, ...lines.reverse()];
}

/** @param {Picture} picture @param {number} width @param {() => void} moved @param {() => Picture} current */
function options(picture, width, moved, current) {
  const order = picture.stacked ? [...picture.series].reverse() : picture.series;
  const axis = { stroke: colour("--text-3"), font: "11px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: colour("--line"), width: 1 } };
  return {
    width,
    height: HEIGHT_PX,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { range: (_, __, last) => [last - current().span_s, last] }, y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 24, values: (_, splits) => splits.map((at) => clockTime(at).slice(0, 5)) },
      { ...axis, size: 68, values: (_, splits) => ticks(splits, current().axis) },
    ],
    series: [{}, ...order.map((each) => line(colour(each.colour), picture.stacked, colour("--surface")))],
    hooks: { setCursor: [moved] },
  };
}

/** What an axis says at its values: nothing where rounding would say the same of two. @param {number[]} values @param {(value: number) => string} write */
export function ticks(values, write) {
  const texts = values.map(write);
  return texts.map((text, at) => (values[at] === 0 || texts.indexOf(text) === texts.lastIndexOf(text) ? text : ""));
}

/** @param {string} ink @param {boolean} stacked @param {string} gap */
function line(ink, stacked, gap) {
  return stacked
    ? { stroke: gap, width: 1, fill: ink, points: { show: false }, spanGaps: true }
    : { stroke: ink, width: 2, points: { show: true, size: 5, fill: ink, filter: alone }, spanGaps: false };
}

/** The values without a neighbour: no line leads to them. @param {any} drawn @param {number} at @returns {number[]} */
function alone(drawn, at) {
  const values = drawn.data[at];
  const isKnown = (index) => (values[index] ?? null) !== null;
  return values.flatMap((_, index) => (isKnown(index) && !isKnown(index - 1) && !isKnown(index + 1) ? [index] : []));
}

/** @param {KeyboardEvent} event @param {any} drawn */
function moveCursor(event, drawn) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step === undefined || drawn === null) return;
  event.preventDefault();
  const times = drawn.data[0];
  const from = drawn.cursor.idx ?? (step > 0 ? -1 : times.length);
  const index = Math.max(0, Math.min(times.length - 1, from + step));
  drawn.setCursor({ left: drawn.valToPos(times[index], "x"), top: 0 });
}

/** @param {HTMLElement} legend @param {HTMLElement} at @param {Picture} picture @param {number | null} index where the cursor is; null: nowhere, so the last */
function legendOf(legend, at, { times, series }, index) {
  const shown = index ?? times.length - 1;
  fill(legend, series.map((each) => h("li", {}, swatch(each.colour), `${each.label} `, h("span", { class: "figure" }, each.write(each.values[shown] ?? null)))));
  setText(at, times.length === 0 ? "" : `${index === null ? "last step, " : ""}${clockTime(times[shown])}`);
}

/** @param {string} token */
function swatch(token) {
  const element = h("span", { class: "swatch" });
  element.style.background = `var(${token})`;
  return element;
}

/** @param {HTMLElement} table @param {Picture} picture */
function tableOf(table, { label, times, series }) {
  const every = Math.max(1, Math.ceil(times.length / TABLE_ROWS));
  const rows = times.map((_, at) => at).filter((at) => at % every === (times.length - 1) % every).reverse();
  fill(
    table,
    h("caption", {}, every > 1 ? `${label}: every ${every}th step, the newest first` : `${label}, the newest first`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "from"), series.map((each) => h("th", { scope: "col", class: "num" }, each.label)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, clockTime(times[row])), series.map((each) => h("td", { class: "num" }, each.write(each.values[row])))))),
  );
}

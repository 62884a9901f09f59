/** What the mirror saves against no mirror at all, and what bytes between zones cost. */

import { fill, h } from "./dom.js";
import { age, bytes, lastWindow, money } from "./format.js";
import { fullSpan, mountChart, spanOf, sum, sumsTable, timesOf } from "./history.js";

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  mountChart(section, store, moneyPicture, summaryOf);
  const table = sumsTable(section, "Money, as sums");
  store.subscribe("overview", () => {
    const overview = store.get("overview");
    if (overview) showSums(table, overview);
  });
}

/** @param {HTMLElement} table @param {any} overview */
function showSums(table, { window, total, window_s, uptime_s }) {
  const rows = [
    ["not from the registry", bytes(window.saved_bytes), bytes(total.saved_bytes)],
    ["across zones", bytes(window.crossing_bytes), bytes(total.crossing_bytes)],
    ["saved", money(window.usd_saved), money(total.usd_saved)],
    ["spent", money(window.usd), money(total.usd)],
    ["net", money(window.net_usd_saved), money(total.net_usd_saved)],
  ];
  fill(
    table,
    h("caption", {}, "Of this node; prices are those of the setting costs"),
    h("thead", {}, h("tr", {}, h("td", {}), [lastWindow(window_s), `since the start, ${age(uptime_s)}`].map((column) => h("th", { scope: "col", class: "num" }, column)))),
    h("tbody", {}, rows.map(([title, ...cells]) => h("tr", {}, h("th", { scope: "row" }, title), cells.map((cell) => h("td", { class: "num" }, cell))))),
  );
}

/** @returns {import("./chart.js").Picture} */
export function moneyPicture(history) {
  return {
    label: "US dollars since the left edge: saved against no mirror, and spent on bytes between zones",
    times: timesOf(history),
    span_s: fullSpan(history),
    stacked: false,
    axis: money,
    series: [
      { label: "saved", colour: "--ok", values: running(history.usd_saved), write: money },
      { label: "spent between zones", colour: "--tier-remote", values: running(history.usd), write: money },
    ],
  };
}

/** The sum of all values so far, at each. @param {(number | null)[]} column */
export function running(column) {
  let total = 0;
  return column.map((value) => (total += value ?? 0));
}

function summaryOf(history) {
  const net = sum(history.usd_saved) - sum(history.usd);
  return `${money(net)} net in the ${spanOf(history)}: ${bytes(sum(history.saved_bytes))} not from the registry, ${bytes(sum(history.crossing_bytes))} across zones.`;
}

/** Which pulls are slow: the time until the first byte, over time, and by the source of the bytes. */

import { h, fill } from "./dom.js";
import { count, lastWindow, seconds, trimmed } from "./format.js";
import { fullSpan, mountChart, spanOf, sum, sumsTable, timesOf } from "./history.js";
import { bySource } from "./tiers.js";

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  mountChart(section, store, speedPicture, summaryOf);
  const table = sumsTable(section, "First byte by source");
  store.subscribe("overview", () => {
    const overview = store.get("overview");
    if (overview) showQuantiles(table, overview);
  });
}

/** @returns {import("./chart.js").Picture} */
export function speedPicture(history) {
  const write = (value) => seconds(value);
  return {
    label: "Time until the first byte of clients' requests: the median, and what 95 % stay below",
    times: timesOf(history),
    span_s: fullSpan(history),
    stacked: false,
    axis: (value) => trimmed(seconds(value)),
    series: [
      { label: "median", colour: "--tier-zone", values: history.first_byte_p50_s, write },
      { label: "95 %", colour: "--tier-remote", values: history.first_byte_p95_s, write },
    ],
  };
}

function summaryOf(history) {
  const asked = sum(history.requests);
  return asked === 0 ? `No requests in the ${spanOf(history)}.` : `${count(asked)} requests in the ${spanOf(history)}, ${count(sum(history.failed))} of them failed.`;
}

/** @param {HTMLElement} table @param {any} overview */
function showQuantiles(table, { first_byte, lookup, window_s }) {
  const rows = [...bySource(first_byte), { ...lookup, tier: null, words: "who has it (look-up)" }];
  fill(
    table,
    h("caption", {}, `Until the first byte, by where it came from, ${lastWindow(window_s)}`),
    h("thead", {}, h("tr", {}, ["from", "requests", "median", "95 %", "99 %"].map((title, at) => h("th", { scope: "col", class: at > 0 && "num" }, title)))),
    h("tbody", {}, rows.map((entry) => h("tr", {}, h("th", { scope: "row" }, entry.tier && h("span", { class: "swatch", "data-tier": entry.tier }), entry.words), [count(entry.count), seconds(entry.p50_s), seconds(entry.p95_s), seconds(entry.p99_s)].map((text) => h("td", { class: "num" }, text))))),
  );
}

/** Bytes by locality over time: how near what clients got came from. */

import { age, bytes, lastWindow, rate, share, trimmed } from "./format.js";
import { fill, h } from "./dom.js";
import { fullSpan, mountChart, spanOf, sum, sumsTable, timesOf } from "./history.js";
import { TIERS, partsOf } from "./tiers.js";

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  mountChart(section, store, bytesPicture, summaryOf);
  const table = sumsTable(section, "Bytes by locality, as sums");
  store.subscribe("overview", () => {
    const overview = store.get("overview");
    if (overview) showSums(table, overview);
  });
}

/** @param {HTMLElement} table @param {any} overview */
function showSums(table, { window, total, window_s, uptime_s }) {
  const [now, all] = [partsOf(window.bytes_by_tier), partsOf(total.bytes_by_tier)];
  const columns = ["from", lastWindow(window_s), "", `since the start, ${age(uptime_s)}`, ""];
  const rows = [...now.parts.map((part, at) => ({ part, whole: all.parts[at] })), { part: { tier: "", words: "all", bytes: now.total, share: null }, whole: { bytes: all.total, share: null } }];
  fill(
    table,
    h("caption", {}, "Bytes that clients of this node got, by where they came from"),
    h("thead", {}, h("tr", {}, columns.map((column, at) => (column ? h("th", { scope: "col", class: at > 0 && "num" }, column) : h("td", {}))))),
    h("tbody", {}, rows.map(({ part, whole }) => h("tr", {}, h("th", { scope: "row" }, part.tier && h("span", { class: "swatch", "data-tier": part.tier }), part.words), [bytes(part.bytes), part.share === null ? "" : share(part.share), bytes(whole.bytes), whole.share === null ? "" : share(whole.share)].map((text) => h("td", { class: "num" }, text))))),
  );
}

/** @returns {import("./chart.js").Picture} */
export function bytesPicture(history) {
  return {
    label: "Bytes per second that clients of this node got, by the tier that they came from",
    times: timesOf(history),
    span_s: fullSpan(history),
    stacked: true,
    axis: (value) => trimmed(rate(value)),
    series: TIERS.map(({ tier, words }) => ({
      label: words,
      colour: `--tier-${tier}`,
      values: history[`${tier}_bytes`].map((size) => size / history.step_s),
      write: rate,
    })),
  };
}

function summaryOf(history) {
  const { total, near } = partsOf(TIERS.map(({ tier }) => ({ tier, bytes: sum(history[`${tier}_bytes`]) })));
  if (total === 0) return `No bytes in the ${spanOf(history)}.`;
  return `${bytes(total)} in the ${spanOf(history)}, ${share(near)} of them from this zone.`;
}

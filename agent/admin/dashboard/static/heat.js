/** The latency between zones as a table: every cell has its number, and the colour is only a help. */

import { fill, h } from "./dom.js";
import { counted, name, zoneName } from "./format.js";
import { follow, frame } from "./panel.js";

const ZONES_SHOWN = 24;
const MANY = 7; // more names than that stand upright
const STEPS = 8;
const FROM_US = 100; // of the scale of colours, which is logarithmic
const TO_US = 200_000;

/** How a latency is known; see `matrix_source` in docs/api.md. What is not measured is in italics. */
const MEASURED = Object.freeze({ self: "measured by this node", measured: "measured by this node", told: "measured by other nodes" });
const INFERRED = Object.freeze({ path: "added up over other zones", prior: "the usual value for such zones, not measured", says_slower: "as its nodes say" });

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const table = h("table", { class: "heat" });
  const scroll = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-labelledby": "title-heat" }, table);
  const scale = h("div", { class: "heat-scale muted" }, "near ", Array.from({ length: STEPS }, (_, step) => h("i", { class: `heat-${step}` })), " far. Italic: inferred, not measured.");
  framed.body.append(scroll, scale);
  let shown = "";
  follow(framed, store, "map", (map) => {
    framed.note("round trip in milliseconds, now");
    const zones = map.zones.filter((zone) => zone.zone !== null).length;
    if (zones === 0) return framed.show("empty", "No node has a zone.", "Label the nodes with topology.kubernetes.io/zone, or set placement.zone.");
    const now = JSON.stringify([map.zones, map.matrix_us, map.matrix_source]);
    if (now === shown) return; // changes of nodes come each second, and change nothing here
    shown = now;
    fillTable(table, map);
    framed.show("live", zones > ZONES_SHOWN ? `The ${ZONES_SHOWN} nearest of ${counted(zones, "zone")}; /api/map has all of them.` : zones === 1 ? "All nodes are in one zone, so there is nothing to compare." : "");
  });
}

/** @param {HTMLElement} table @param {any} map */
function fillTable(table, map) {
  const own = map.zone_index[map.states.indexOf("self")] ?? 0;
  const order = orderOf(map, own).slice(0, ZONES_SHOWN);
  const titles = order.map((zone) => zoneName(map.zones[zone].region, map.zones[zone].zone));
  const shortName = ({ region, zone }) => (map.zones.filter((each) => each.zone === zone).length > 1 ? zoneName(region, zone) : name(zone ?? "no zone", 16));
  table.classList.toggle("many", order.length > MANY);
  const head = h("tr", {}, h("td", { class: "corner" }, "from \\ to"), order.map((zone, at) => h("th", { scope: "col", title: titles[at], class: zone === own && "own" }, shortName(map.zones[zone]))));
  const rows = order.map((zone, at) => h("tr", {}, h("th", { scope: "row", title: titles[at], class: zone === own && "own" }, shortName(map.zones[zone])), order.map((other, column) => cell(map, zone, other, `${titles[at]} to ${titles[column]}`))));
  fill(table, h("caption", { class: "unseen" }, "Round trip between zones, in milliseconds"), h("thead", {}, head), h("tbody", {}, rows));
}

/** @param {any} map @param {number} from @param {number} to @param {string} title */
function cell(map, from, to, title) {
  const cost_us = map.matrix_us[from]?.[to] ?? null;
  const source = map.matrix_source[from]?.[to] ?? null;
  if (cost_us === null) return h("td", { class: "heat-none", title: `${title}: not known` }, "–");
  const how = MEASURED[/** @type {keyof typeof MEASURED} */ (source)];
  const words = `${title}: ${milliseconds(cost_us)} ms, ${how ?? INFERRED[/** @type {keyof typeof INFERRED} */ (source)] ?? source}`;
  return h("td", { class: `heat-${stepOf(cost_us)}${how ? "" : " inferred"}`, title: words }, milliseconds(cost_us));
}

/** This node's zone first, then the nearest to it; what is not known comes last. @param {any} map @param {number} own @returns {number[]} */
export function orderOf(map, own) {
  const row = map.matrix_us[own] ?? [];
  const far = (zone) => (zone === own ? -1 : row[zone] ?? Infinity);
  const isThere = (zone) => map.zones[zone].nodes > 0 && map.zones[zone].zone !== null;
  return map.zones.map((_, zone) => zone).filter(isThere).sort((one, other) => far(one) - far(other) || one - other);
}

/** Which of the colours a latency has. @param {number} cost_us */
export function stepOf(cost_us) {
  const part = Math.log(Math.max(cost_us, FROM_US) / FROM_US) / Math.log(TO_US / FROM_US);
  return Math.min(STEPS - 1, Math.floor(part * STEPS));
}

/** @param {number} cost_us */
export function milliseconds(cost_us) {
  const cost_ms = cost_us / 1000;
  return cost_us > 0 && cost_us < 10 ? cost_ms.toFixed(3) : cost_ms < 100 ? cost_ms.toFixed(2) : cost_ms.toFixed(0);
}

/** The cluster as its nodes tell it: sums of each zone, and the nodes that a person should look at. */

import { fill, h, keep, setAll, setText } from "./dom.js";
import { ago, bytes, count, counted, lastWindow, money, name, seconds, share, zoneName } from "./format.js";
import { follow, frame } from "./panel.js";
import { partsOf } from "./tiers.js";

const ZONES_SHOWN = 60;
const NODES_SHOWN = 40;

const SAYS = Object.freeze({
  silent: { word: "silent", look: "bad" },
  absurd: { word: "tells what can't be true", look: "warn" },
  nothing: { word: "an older release, tells nothing", look: "idle" },
  waiting: { word: "not asked yet", look: "idle" },
});

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const facts = h("dl", { class: "facts" });
  const zones = h("table", { class: "data" });
  const scroll = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Zones of the cluster" }, zones);
  const title = h("h3", { class: "sub" }, "Nodes to look at");
  const nodes = h("ul", { class: "peer-rows" });
  framed.body.append(facts, scroll, title, nodes);
  follow(framed, store, "cluster", (cluster) => {
    framed.note(`${cluster.scope}; each asked at least every ${seconds(cluster.round_s)}`);
    if (cluster.told === 0) return framed.show("empty", "No node was asked yet.", "The nodes are asked while somebody looks: the first answers come within seconds.");
    fill(facts, factsOf(cluster).map(([term, value, of]) => h("div", {}, h("dt", {}, term), h("dd", {}, h("span", { class: "figure" }, value), h("small", {}, of)))));
    fillZones(zones, cluster);
    const odd = oddNodes(cluster);
    title.hidden = nodes.hidden = odd.length === 0;
    keep(nodes, odd.slice(0, NODES_SHOWN), (row) => row.node, makeNode);
  });
}

/** @returns {[string, string, string][]} */
export function factsOf({ members, told, window, total, window_s, sampled }) {
  const { near, total: given } = partsOf(window.bytes_by_tier);
  const of = sampled ? `, of ${counted(told, "node")} that told` : "";
  return [
    ["Nodes", count(members), `${count(told)} told, now`],
    ["To clients", bytes(given), `${lastWindow(window_s)}${of}`],
    ["From the own zone", share(near), lastWindow(window_s)],
    ["Failed", count(window.failed), `of ${count(window.requests)} requests, ${lastWindow(window_s)}`],
    ["Across zones", bytes(window.crossing_bytes), lastWindow(window_s)],
    ["Saved", money(total.net_usd_saved), `net, since the nodes started${of}`],
  ];
}

const COLUMNS = ["zone", "told", "ready", "path proved", "bytes", "from own zone", "across zones", "failed", "net saved", "release"];

/** @param {HTMLElement} table @param {any} cluster */
function fillZones(table, cluster) {
  const rows = cluster.zones.filter((zone) => zone.nodes > 0).slice(0, ZONES_SHOWN);
  fill(
    table,
    h("caption", {}, `By zone: bytes and requests of the ${lastWindow(cluster.window_s)}, money since the nodes started`),
    h("thead", {}, h("tr", {}, COLUMNS.map((column, at) => h("th", { scope: "col", class: at > 0 && at < 9 && "num" }, column)))),
    h("tbody", {}, rows.map((zone) => h("tr", {}, h("th", { scope: "row" }, zoneName(zone.region, zone.zone)), cellsOf(zone).map((text, at) => h("td", { class: at < 8 && "num" }, text))))),
  );
}

/** @param {any} zone a ClusterZoneEntry @returns {string[]} */
export function cellsOf(zone) {
  const { near, total } = partsOf(zone.window.bytes_by_tier);
  const probes = zone.told - zone.no_probe;
  return [
    zone.asked < zone.nodes ? `${count(zone.told)} of ${count(zone.nodes)} (${count(zone.asked)} asked)` : `${count(zone.told)} of ${count(zone.nodes)}`,
    count(zone.ready),
    probes > 0 ? `${count(zone.proved)} of ${count(probes)}` : "no probe",
    bytes(total),
    share(near),
    bytes(zone.window.crossing_bytes),
    count(zone.window.failed),
    money(zone.total.net_usd_saved),
    zone.versions.map((version) => name(version, 20)).slice(0, 3).join(", "),
  ];
}

/** The nodes with something to look at, the gravest first. @param {any} cluster @returns {any[]} */
export function oddNodes({ nodes }) {
  return nodes
    .map((node) => ({ ...node, ...oddity(node) }))
    .filter((node) => node.word)
    .sort((one, other) => GRAVITY.indexOf(one.look) - GRAVITY.indexOf(other.look));
}

const GRAVITY = ["bad", "warn", "idle"];

/** @param {any} node a ClusterNodeEntry */
function oddity(node) {
  if (node.says !== "told") return SAYS[/** @type {keyof typeof SAYS} */ (node.says)] ?? { word: node.says, look: "idle" };
  if (node.ready === false) return { word: "not ready", look: "bad" };
  if (node.window_failed > 0 && node.window_failed >= 5) return { word: `${count(node.window_failed)} requests failed`, look: "warn" };
  if (node.proved === false) return { word: "local path not proved", look: "warn" };
  return { word: "" };
}

function makeNode() {
  const title = h("span", { class: "node-title" });
  const chip = h("span", { class: "chip" });
  const why = h("span", { class: "muted" });
  return {
    element: h("li", { class: "node-row" }, title, chip, why),
    update: (row) => {
      setText(title, name(row.node, 60));
      setAll(chip, { "data-look": row.look });
      setText(chip, row.word);
      setText(why, row.why_not_ready ? name(row.why_not_ready, 200) : row.age_s === null ? "" : `told ${ago(row.age_s)}`);
    },
  };
}

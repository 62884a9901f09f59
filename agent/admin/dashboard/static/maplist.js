/** The map as a list: zones, nearest first; one of them unfolded into its nodes; and a field that finds a node by its name. */

import { h, keep, setAll, setText } from "./dom.js";
import { UNKNOWN, count, counted, microseconds, name, zoneName } from "./format.js";
import { NOT_ANSWERING, stateLook } from "./states.js";

const NODES_SHOWN = 60;
const ZONES_SHOWN = 100;
const FOUND_SHOWN = 20;

/** @typedef {{node: string, state: string, rtt_us: number | null, rack: string | null, rank: number, zone: number}} NodeRow */
/** @typedef {{index: number, key: string, title: string, nodes: number, away: number, cost_us: number | null, isOwn: boolean}} ZoneRow */

/**
 * @param {(zone: number | null) => void} onUnfold a person unfolds a zone, or folds it up
 * @param {(zone: number | null) => void} onPoint a person looks at a zone
 */
export function zoneList(onUnfold, onPoint) {
  const search = /** @type {HTMLInputElement} */ (h("input", { type: "search", placeholder: "Find a node", "aria-label": "Find a node by its name", spellcheck: "false", maxlength: "253" }));
  const found = h("ul", { class: "node-rows", hidden: true, "aria-label": "Nodes found" });
  const list = h("ul", { class: "zone-rows", "aria-label": "Zones, nearest first" });
  /** @type {any} */ let map = null;
  /** @type {number | null} */ let unfolded = null;

  const show = () => {
    if (map === null) return;
    const text = search.value.trim().toLowerCase();
    found.hidden = text === "";
    list.hidden = text !== "";
    if (text) keep(found, findNodes(map, text), (row) => row.node, makeNode);
    else keep(list, zonesOf(map).slice(0, ZONES_SHOWN), (row) => row.key, makeZone);
  };
  const unfold = (zone) => {
    unfolded = zone;
    search.value = "";
    show();
  };

  /** @param {ZoneRow} first */
  const makeZone = ({ index }) => {
    const title = h("span", { class: "zone-title" });
    const cost = h("span", { class: "figure zone-cost" });
    const state = h("span", { class: "zone-state" });
    const button = h("button", { type: "button", class: "zone-button", "aria-expanded": "false" }, title, cost, state);
    const nodes = h("ul", { class: "node-rows", hidden: true });
    const rest = h("p", { class: "muted", hidden: true });
    button.addEventListener("click", () => {
      unfold(unfolded === index ? null : index);
      onUnfold(unfolded);
    });
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => onPoint(index));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => onPoint(null));
    return {
      element: h("li", {}, button, nodes, rest),
      update: (row) => {
        index = row.index; // of the map as it is now
        const isOpen = unfolded === index;
        setText(title, row.title);
        setText(cost, row.isOwn ? "own zone" : microseconds(row.cost_us));
        setText(state, row.away > 0 ? `${counted(row.nodes, "node")}, ${count(row.away)} not answering` : counted(row.nodes, "node"));
        setAll(button, { "aria-expanded": String(isOpen) });
        nodes.hidden = !isOpen;
        const rows = isOpen ? nodesOf(map, index) : [];
        keep(nodes, rows.slice(0, NODES_SHOWN), (each) => each.node, makeNode);
        rest.hidden = rows.length <= NODES_SHOWN;
        setText(rest, rest.hidden ? "" : `${counted(rows.length - NODES_SHOWN, "more node")}: find one by its name, or ask /api/map.`);
      },
    };
  };

  search.addEventListener("input", show);
  return {
    element: h("div", { class: "map-list" }, search, found, list),
    unfold,
    show: (next) => {
      unfolded = zoneIn(unfolded, map, next);
      map = next;
      show();
    },
  };
}

/** A zone is known by its names: its place is another one when zones come or go. @param {any} zone */
const keyOf = ({ region, zone }) => JSON.stringify([region, zone]);

/** The place in a newer map of a zone of an older one. @param {number | null} zone @param {any} before @param {any} after @returns {number | null} */
export function zoneIn(zone, before, after) {
  const at = zone === null ? -1 : after.zones.findIndex((each) => keyOf(each) === keyOf(before.zones[zone]));
  return at < 0 ? null : at;
}

/** The zones, nearest first; what is not known comes last. @param {any} map @returns {ZoneRow[]} */
export function zonesOf(map) {
  const own = map.zone_index[map.states.indexOf("self")];
  const row = map.matrix_us[own] ?? [];
  const counts = map.zones.map(() => ({ nodes: 0, away: 0 }));
  map.zone_index.forEach((zone, node) => {
    counts[zone].nodes += 1;
    if (NOT_ANSWERING.has(map.states[node])) counts[zone].away += 1;
  });
  const far = (each) => (each.isOwn ? -1 : each.cost_us ?? Infinity);
  return map.zones
    .map((zone, index) => ({ index, key: keyOf(zone), title: zoneName(zone.region, zone.zone), ...counts[index], cost_us: row[index] ?? null, isOwn: index === own }))
    .filter(({ nodes }) => nodes > 0)
    .sort((one, other) => far(one) - far(other) || one.index - other.index);
}

/** The nodes of a zone: what is grave first, then those that are asked first, then the nearest. @param {any} map @param {number} zone @returns {NodeRow[]} */
export function nodesOf(map, zone) {
  const rows = map.names.flatMap((_, node) => (map.zone_index[node] === zone ? [nodeRow(map, node)] : []));
  const place = (row) => [isGrave(row.state) ? stateLook(row.state).gravity : 50, row.rank < 0 ? 99 : row.rank, row.rtt_us ?? 1e12];
  return rows.sort((one, other) => compareAll(place(one), place(other)));
}

/** @param {any} map @param {string} text in lower case @returns {NodeRow[]} */
function findNodes(map, text) {
  const found = [];
  for (let node = 0; node < map.names.length && found.length < FOUND_SHOWN; node += 1) {
    if (map.names[node].toLowerCase().includes(text)) found.push(nodeRow(map, node));
  }
  return found;
}

/** @param {any} map @param {number} node @returns {NodeRow} */
function nodeRow(map, node) {
  const own = map.names[node];
  return { node: own, state: map.states[node], rtt_us: map.rtt_us[node], rack: map.racks[node], rank: map.chosen.findIndex((each) => each.node === own), zone: map.zone_index[node] };
}

/** @param {string} state */
const isGrave = (state) => NOT_ANSWERING.has(state) || state === "suspect";

/** @param {number[]} one @param {number[]} other */
function compareAll(one, other) {
  const at = one.findIndex((value, place) => value !== other[place]);
  return at < 0 ? 0 : one[at] - other[at];
}

function makeNode() {
  const title = h("span", { class: "node-title" });
  const rank = h("span", { class: "rank", hidden: true });
  const rtt = h("span", { class: "figure" });
  const chip = h("span", { class: "chip" });
  return {
    element: h("li", { class: "node-row" }, title, rank, rtt, chip),
    update: (row) => {
      const look = stateLook(row.state);
      setText(title, name(row.node, 60));
      setAll(title, { title: row.rack ? `rack ${name(row.rack, 60)}` : null });
      rank.hidden = row.rank < 0;
      setText(rank, row.rank < 0 ? "" : `asked ${row.rank + 1}.`);
      setText(rtt, row.rtt_us === null ? UNKNOWN : microseconds(row.rtt_us));
      setAll(chip, { "data-look": look.look, title: look.means });
      setText(chip, look.word);
    },
  };
}

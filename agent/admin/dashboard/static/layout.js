/**
 * Where everything of the map is drawn: regions around zones around nodes, packed by d3-hierarchy; the nodes of a zone in the
 * order of a sunflower's seeds, which costs nothing at thousands and puts each one at the same place every time. Pure.
 */

import { hierarchy, pack } from "./vendor/d3-hierarchy.min.mjs";

const GOLDEN_ANGLE = Math.PI * (3 - Math.sqrt(5));
const NODE_MOST = 13;
const LEAST_PART = 0.16; // a small zone is drawn at least as large as this part of the largest one, so that it can be hit
const UNEVEN = 0.75; // the power of a zone's nodes that its area has: the largest zone does not take all the room
const SIZE = 100; // of the largest zone: its radius is 10
const PADDING = 1.8;
const GAP = 2;
const NAME_HEIGHT = 7;
const NODE_PART = 0.74; // of the distance between two seeds
const ZONE_INNER = 0.86; // of a zone's radius is for its nodes; the rest is its border and name

/** @typedef {{x: number, y: number, r: number}} Circle */
/** @typedef {Circle & {index: number, nodes: number[]}} ZoneCircle `nodes`: their numbers in the MapDocument, as they are placed */
/** @typedef {Circle & {name: string}} RegionCircle */
/**
 * @typedef {object} Layout
 * @property {RegionCircle[]} regions
 * @property {(ZoneCircle | undefined)[]} zones by their number in the MapDocument; undefined: it has no node
 * @property {Float64Array} x of each node
 * @property {Float64Array} y
 * @property {Float64Array} r
 */

/**
 * @param {any} map a MapDocument
 * @param {number} width
 * @param {number} height
 * @returns {Layout}
 */
export function layoutOf(map, width, height) {
  const members = membersOf(map);
  const packed = regionsOf(map, members).map(packRegion);
  const isOne = packed.length === 1; // one region needs no circle around its zones
  const places = shelve(packed.map(({ root }) => ({ width: 2 * root.r + GAP, height: 2 * root.r + (isOne ? 0 : NAME_HEIGHT) + GAP })), width, height);
  const zones = new Array(map.zones.length);
  const regions = packed.map(({ name, root }, at) => {
    const { x, y, scale } = places[at];
    const [left, top] = [x, y + (isOne ? 0 : (NAME_HEIGHT / 2) * scale)];
    for (const { x: zone_x, y: zone_y, r, data } of root.leaves()) {
      zones[data.index] = { x: left + (zone_x - root.x) * scale, y: top + (zone_y - root.y) * scale, r: r * scale, index: data.index, nodes: members[data.index] };
    }
    return { x: left, y: top, r: root.r * scale, name };
  });
  return { regions: isOne ? [] : regions, zones, ...placesOf(zones, map.names.length) };
}

/** Maps of one shape have one layout. @param {any} map @param {number} width @param {number} height */
export const shapeOf = ({ zones, zone_index }, width, height) => `${[zones.map(({ region, zone }) => [region, zone]), zone_index, width, height]}`;

/** @param {{name: string, children: {index: number, size: number}[]}} region */
function packRegion({ name, children }) {
  const root = hierarchy({ children }, (each) => each.children).sum((each) => each.size ?? 0);
  pack().radius((leaf) => Math.sqrt(leaf.value)).padding(() => PADDING)(root);
  return { name, root };
}

/**
 * Puts boxes into rows so that all of them are as large as they can be in the room that there is.
 * @param {{width: number, height: number}[]} boxes
 * @param {number} width @param {number} height
 * @returns {{x: number, y: number, scale: number}[]} the middle of each, and by how much all are scaled
 */
export function shelve(boxes, width, height) {
  const tries = boxes.map((_, at) => rowsOf(boxes, at + 1)).map((rows) => ({ rows, scale: Math.min(width / Math.max(...rows.map(wide)), height / rows.map(tall).reduce(add, 0)) }));
  const { rows, scale } = tries.reduce((best, each) => (each.scale > best.scale ? each : best), { rows: [], scale: 0 });
  let y = (height - rows.map(tall).reduce(add, 0) * scale) / 2;
  return rows.flatMap((row) => {
    let x = (width - wide(row) * scale) / 2;
    const middle = y + (tall(row) * scale) / 2;
    y += tall(row) * scale;
    return row.map((box) => {
      x += box.width * scale;
      return { x: x - (box.width * scale) / 2, y: middle, scale };
    });
  });
}

/** @typedef {{width: number, height: number}} Box */
/** @param {Box[]} boxes @param {number} count */
function rowsOf(boxes, count) {
  const full = boxes.map((box) => box.width).reduce(add, 0) / count;
  const rows = Array.from({ length: count }, () => /** @type {Box[]} */ ([]));
  let so_far = 0;
  for (const box of boxes) {
    rows[Math.min(count - 1, Math.floor((so_far + box.width / 2) / full))].push(box);
    so_far += box.width;
  }
  return rows.filter((row) => row.length > 0);
}

/** @param {number} one @param {number} other */
const add = (one, other) => one + other;
/** @param {Box[]} row */
const wide = (row) => row.map((box) => box.width).reduce(add, 0);
/** @param {Box[]} row */
const tall = (row) => Math.max(...row.map((box) => box.height));

/** The nodes of each zone; the asked node is the first of its own. @param {any} map @returns {number[][]} */
function membersOf({ zones, zone_index, racks, states }) {
  const members = zones.map(() => /** @type {number[]} */ ([]));
  zone_index.forEach((zone, node) => members[zone]?.push(node));
  const first = states.indexOf("self");
  const rackOf = (node) => (node === first ? "" : `1${racks[node] ?? ""}`);
  for (const own of members) own.sort((one, other) => compare(rackOf(one), rackOf(other)) || one - other);
  return members;
}

/** @param {any} map @param {number[][]} members */
function regionsOf({ zones }, members) {
  const most = Math.max(...members.map((own) => own.length));
  const regions = new Map();
  zones.forEach((zone, index) => {
    if (members[index].length === 0) return;
    const name = zone.region ?? "";
    const region = regions.get(name) ?? { name, children: [] };
    region.children.push({ index, size: SIZE * Math.max(LEAST_PART, members[index].length / most) ** UNEVEN });
    regions.set(name, region);
  });
  return [...regions.values()];
}

/** @param {(ZoneCircle | undefined)[]} zones @param {number} count */
function placesOf(zones, count) {
  const [x, y, r] = [new Float64Array(count), new Float64Array(count), new Float64Array(count)];
  for (const zone of zones) {
    if (zone === undefined) continue;
    const inner = zone.r * ZONE_INNER;
    const radius = Math.min(NODE_MOST, (NODE_PART * inner) / Math.sqrt(zone.nodes.length));
    const outermost = Math.max(0, inner - radius);
    zone.nodes.forEach((node, at) => {
      const away = zone.nodes.length === 1 ? 0 : outermost * Math.sqrt(at / (zone.nodes.length - 0.5));
      x[node] = zone.x + away * Math.cos(at * GOLDEN_ANGLE);
      y[node] = zone.y + away * Math.sin(at * GOLDEN_ANGLE);
      r[node] = radius;
    });
  }
  return { x, y, r };
}

/**
 * What is at a point: a node, or else a zone. The nodes of one zone are looked at, not all.
 * @param {Layout} layout @param {number} x @param {number} y @param {number} slack how far beside a node still counts
 * @returns {{zone: number | null, node: number | null}}
 */
export function hit(layout, x, y, slack) {
  const zone = layout.zones.find((each) => each && Math.hypot(each.x - x, each.y - y) <= each.r);
  if (!zone) return { zone: null, node: null };
  let node = null;
  let nearest = Infinity;
  for (const each of zone.nodes) {
    const away = Math.hypot(layout.x[each] - x, layout.y[each] - y);
    if (away < nearest && away <= layout.r[each] + slack) [node, nearest] = [each, away];
  }
  return { zone: zone.index, node };
}

/** @param {string} one @param {string} other */
const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

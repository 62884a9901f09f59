/** Draws the map on a canvas. At 5,000 nodes it is one path for each state, some milliseconds in all. */

import { count, counted, microseconds, name, zoneName } from "./format.js";
import { STATES, stateLook } from "./states.js";

/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {{x: number, y: number, scale: number}} View the world's point in the middle, and pixels for each of its units */
/**
 * @typedef {object} Scene
 * @property {any} map a MapDocument
 * @property {Layout} layout
 * @property {View} view
 * @property {number} width in CSS pixels
 * @property {number} height
 * @property {number | null} zone that is unfolded or pointed at
 * @property {number | null} node that is pointed at
 */

const GRAVE_LEAST_PX = 3.5; // one red dot among thousands is seen
const NAMED_LEAST_PX = 12; // nodes that large have their names below them
const FULL = 2 * Math.PI;
const BEND = 0.12; // of an edge's length

/** @param {CanvasRenderingContext2D} context @param {Scene} scene @param {(token: string) => string} token the colour of the theme now */
export function drawMap(context, scene, token) {
  const { width, height, view } = scene;
  const ratio = globalThis.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textAlign = "center";
  context.textBaseline = "middle";
  const at = (x, y) => [width / 2 + (x - view.x) * view.scale, height / 2 + (y - view.y) * view.scale];
  const pen = { context, scene, token, at, scale: view.scale };
  drawRegions(pen);
  drawEdges(pen);
  drawZones(pen);
  drawChoice(pen);
  drawNodes(pen);
  drawZoneNames(pen);
  drawEdgeNames(pen);
}

/** @typedef {{context: CanvasRenderingContext2D, scene: Scene, token: (name: string) => string, at: (x: number, y: number) => number[], scale: number}} Pen */

/** @param {Pen} pen */
function drawRegions({ context, scene, token, at, scale }) {
  for (const region of scene.layout.regions) {
    const [x, y] = at(region.x, region.y);
    circle(context, x, y, region.r * scale);
    context.fillStyle = token("--map-region");
    context.fill();
    if (!region.name) continue;
    context.fillStyle = token("--text-3");
    context.font = "600 11px system-ui, sans-serif";
    context.fillText(name(region.name, 30), x, y - region.r * scale - 10);
  }
}

/** The zone that edges go from: the one that is pointed at, or else this node's own. @param {Scene} scene */
function centre({ map, zone }) {
  return zone ?? map.zone_index[map.states.indexOf("self")] ?? null;
}

/** @param {Scene} scene @returns {{to: number, cost_us: number}[]} */
function edgesOf(scene) {
  const from = centre(scene);
  if (from === null) return [];
  const row = scene.map.matrix_us[from] ?? [];
  return row.flatMap((cost_us, to) => (to === from || cost_us === null || !scene.layout.zones[to] ? [] : [{ to, cost_us }]));
}

/** @param {Pen} pen */
function drawEdges({ context, scene, token, at }) {
  const from = scene.layout.zones[centre(scene) ?? -1];
  if (!from) return;
  for (const { to, cost_us } of edgesOf(scene)) {
    const other = /** @type {import("./layout.js").ZoneCircle} */ (scene.layout.zones[to]);
    context.beginPath();
    context.moveTo(...pair(at(from.x, from.y)));
    context.quadraticCurveTo(...pair(at(...bend(from, other, 2))), ...pair(at(other.x, other.y)));
    context.strokeStyle = token("--map-edge");
    context.lineWidth = Math.min(4, Math.max(1, 6 - 1.6 * Math.log10(Math.max(1, cost_us / 30)))); // near is thick
    context.stroke();
  }
}

/** A point beside the middle of a line: edges are bows, so that those to zones in one row are told apart. @param {any} from @param {any} to @param {number} much @returns {[number, number]} */
function bend(from, to, much) {
  const [x, y] = [to.x - from.x, to.y - from.y];
  const sign = x < 0 ? -1 : 1; // upwards, whichever way it goes
  return [from.x + x / 2 + sign * y * BEND * much, from.y + y / 2 - sign * x * BEND * much];
}

/** The latency of each edge, where it has room. @param {Pen} pen */
function drawEdgeNames({ context, scene, token, at }) {
  const edges = edgesOf(scene);
  const from = scene.layout.zones[centre(scene) ?? -1];
  if (!from || edges.length > (scene.zone === null ? 6 : 40)) return;
  context.font = "11px system-ui, sans-serif";
  for (const { to, cost_us } of edges) {
    const other = /** @type {import("./layout.js").ZoneCircle} */ (scene.layout.zones[to]);
    const [x, y] = at(...bend(from, other, 1));
    label(context, token, microseconds(cost_us), x, y, token("--text-2"));
  }
}

/** @param {Pen} pen */
function drawZones({ context, scene, token, at, scale }) {
  const own = scene.map.zone_index[scene.map.states.indexOf("self")];
  for (const zone of scene.layout.zones) {
    if (!zone) continue;
    const [x, y] = at(zone.x, zone.y);
    circle(context, x, y, zone.r * scale);
    context.fillStyle = token(zone.index === own ? "--accent-soft" : "--surface");
    context.fill();
    const isPointed = zone.index === scene.zone;
    context.strokeStyle = token(isPointed || zone.index === own ? "--accent" : "--edge");
    context.lineWidth = isPointed ? 2.5 : zone.index === own ? 1.75 : 1;
    context.stroke();
  }
}

/** @param {Pen} pen */
function drawZoneNames({ context, scene, token, at, scale }) {
  for (const zone of scene.layout.zones) {
    if (!zone) continue;
    const { zone: own } = scene.map.zones[zone.index];
    const text = `${name(own ?? "no zone", 24)} · ${count(zone.nodes.length)}`;
    const [x, y] = at(zone.x, zone.y - zone.r);
    context.font = "600 11px system-ui, sans-serif";
    const hasRoom = context.measureText(text).width < 2.3 * zone.r * scale;
    if (hasRoom || zone.index === scene.zone) label(context, token, text, x, y, token("--text"));
  }
}

/** From this node to those that it would ask first. @param {Pen} pen */
function drawChoice({ context, scene, token, at }) {
  const { map, layout } = scene;
  const self = map.states.indexOf("self");
  if (self < 0) return;
  context.strokeStyle = token("--accent");
  chosenOf(map).forEach((node, rank) => {
    context.beginPath();
    context.moveTo(...pair(at(layout.x[self], layout.y[self])));
    context.lineTo(...pair(at(layout.x[node], layout.y[node])));
    context.lineWidth = rank === 0 ? 2 : 1;
    context.stroke();
  });
}

/** @param {Pen} pen */
function drawNodes(pen) {
  const { scene } = pen;
  const groups = new Map(STATES.map(({ state }) => [state, /** @type {number[]} */ ([])]));
  scene.map.states.forEach((state, node) => groups.get(state)?.push(node));
  for (const [state, nodes] of [...groups].reverse()) drawGroup(pen, stateLook(state), nodes);
  drawRings(pen);
}

/** Grave ones last, above the others. @param {Pen} pen @param {ReturnType<typeof stateLook>} look @param {number[]} nodes */
function drawGroup({ context, scene, token, at, scale }, look, nodes) {
  const { x, y, r } = scene.layout;
  const least = look.shape === "dot" ? 0 : GRAVE_LEAST_PX;
  context.beginPath();
  for (const node of nodes) {
    const [left, top] = at(x[node], y[node]);
    const radius = Math.max(least, r[node] * scale * (look.state === "self" ? 1 : 0.92));
    if (left < -radius || top < -radius || left > scene.width + radius || top > scene.height + radius) continue;
    SHAPES[look.shape](context, left, top, radius);
  }
  context.fillStyle = context.strokeStyle = token(look.colour);
  context.lineWidth = 2;
  if (look.shape === "ring" || look.shape === "cross") context.stroke();
  else context.fill();
}

/** This node, those that it would ask first with their places, and the one that is pointed at; names where there is room. @param {Pen} pen */
function drawRings(pen) {
  const { context, scene, token } = pen;
  const { map, node } = scene;
  context.strokeStyle = token("--accent");
  context.lineWidth = 2;
  chosenOf(map).forEach((each, rank) => ring(pen, each, String(rank + 1)));
  const self = map.states.indexOf("self");
  if (self >= 0) ring(pen, self, "");
  context.strokeStyle = token("--text");
  if (node !== null) ring(pen, node, "");
  drawNodeNames(pen);
}

/** @param {Pen} pen @param {number} node @param {string} inside */
function ring({ context, scene, token, at, scale }, node, inside) {
  const [x, y] = at(scene.layout.x[node], scene.layout.y[node]);
  const radius = Math.max(4, scene.layout.r[node] * scale + 2);
  circle(context, x, y, radius);
  context.stroke();
  if (!inside || radius < 8) return;
  context.font = "700 10px system-ui, sans-serif";
  context.fillStyle = token("--surface");
  context.fillText(inside, x, y + 0.5);
}

/** @param {Pen} pen */
function drawNodeNames({ context, scene, token, at, scale }) {
  const zone = scene.layout.zones[scene.zone ?? -1];
  if (!zone || scene.layout.r[zone.nodes[0]] * scale < NAMED_LEAST_PX) return;
  context.font = "10px system-ui, sans-serif";
  context.fillStyle = token("--text-2");
  for (const node of zone.nodes) {
    const [x, y] = at(scene.layout.x[node], scene.layout.y[node]);
    context.fillText(name(scene.map.names[node], 22), x, y + scene.layout.r[node] * scale + 8);
  }
}

/** The numbers of the nodes that this one would ask first. @param {any} map @returns {number[]} */
export function chosenOf(map) {
  return map.chosen.map((each) => map.names.indexOf(each.node)).filter((node) => node >= 0);
}

/** @type {Record<string, (context: CanvasRenderingContext2D, x: number, y: number, r: number) => void>} */
const SHAPES = {
  dot: (context, x, y, r) => {
    context.moveTo(x + r, y);
    context.arc(x, y, r, 0, FULL);
  },
  ring: (context, x, y, r) => SHAPES.dot(context, x, y, r),
  cross: (context, x, y, r) => {
    const arm = r * 0.8;
    context.moveTo(x - arm, y - arm);
    context.lineTo(x + arm, y + arm);
    context.moveTo(x + arm, y - arm);
    context.lineTo(x - arm, y + arm);
  },
  triangle: (context, x, y, r) => polygon(context, [[x, y - r], [x + r, y + r * 0.8], [x - r, y + r * 0.8]]),
  diamond: (context, x, y, r) => polygon(context, [[x, y - r], [x + r, y], [x, y + r], [x - r, y]]),
};

/** @param {CanvasRenderingContext2D} context @param {number[][]} corners */
function polygon(context, corners) {
  corners.forEach(([x, y], at) => (at === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
  context.closePath();
}

/** @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {number} r */
function circle(context, x, y, r) {
  context.beginPath();
  context.arc(x, y, r, 0, FULL);
}

/** Text on a little plate, so that lines below it do not cross it. @param {CanvasRenderingContext2D} context @param {(name: string) => string} token @param {string} text @param {number} x @param {number} y @param {string} ink */
function label(context, token, text, x, y, ink) {
  const width = context.measureText(text).width + 10;
  context.beginPath();
  context.roundRect(x - width / 2, y - 8, width, 16, 4);
  context.fillStyle = token("--map-plate");
  context.fill();
  context.fillStyle = ink;
  context.fillText(text, x, y + 0.5);
}

/** @param {number[]} point @returns {[number, number]} */
const pair = ([x, y]) => [x, y];

/** What the pointer is told of a place. @param {any} map @param {{zone: number | null, node: number | null}} place @returns {string[]} */
export function tipOf(map, { zone, node }) {
  if (node !== null) {
    const { word, means } = stateLook(map.states[node]);
    const rank = map.chosen.findIndex((each) => each.node === map.names[node]);
    return [
      name(map.names[node], 60),
      `${word}: ${means}`,
      map.rtt_us[node] === null ? "" : `round trip ${microseconds(map.rtt_us[node])}, measured here`,
      map.racks[node] ? `rack ${name(map.racks[node], 40)}` : "",
      rank < 0 ? "" : `asked ${["first", "second", "third"][rank] ?? `${rank + 1}th`}: ${name(map.chosen[rank].reason, 120)}`,
    ].filter(Boolean);
  }
  if (zone === null) return [];
  const each = map.zones[zone];
  return [zoneName(each.region, each.zone), `${counted(each.nodes, "node")}; a click unfolds it`];
}

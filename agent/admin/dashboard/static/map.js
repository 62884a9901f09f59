/**
 * The map: regions, zones and nodes as circles, edges by latency, this node's choice; and beside it the same as a list, for the
 * keyboard, for screen readers, and for who looks for one node of thousands.
 */

import { fill, h } from "./dom.js";
import { count, counted } from "./format.js";
import { hit, layoutOf, shapeOf } from "./layout.js";
import { drawMap, tipOf } from "./mapdraw.js";
import { zoneIn, zoneList } from "./maplist.js";
import { follow, frame } from "./panel.js";
import { countsOf } from "./states.js";
import { colour } from "./theme.js";

/** @typedef {import("./mapdraw.js").View} View */

const ZOOM_MS = 260;
const SLACK_PX = 4;

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const drawing = new Drawing();
  const list = zoneList((zone) => drawing.unfold(zone), (zone) => drawing.point(zone));
  drawing.onUnfold = (zone) => list.unfold(zone);
  const legend = h("ul", { class: "legend map-legend" });
  framed.body.append(h("div", { class: "map" }, h("div", { class: "map-left" }, drawing.element, legend), list.element));
  follow(framed, store, "map", (map) => {
    const counts = countsOf(map.states);
    framed.note(`${counted(map.names.length, "node")} in ${counted(map.zones.filter((zone) => zone.nodes > 0).length, "zone")}, as this node sees them now`);
    fill(legend, counts.map(({ state, word, means, number }) => h("li", { title: means }, h("span", { class: "sign", "data-state": state }), `${word} `, h("span", { class: "figure" }, count(number)))));
    drawing.show(map, `${counted(map.names.length, "node")}: ${counts.map(({ word, number }) => `${number} ${word}`).join(", ")}. The list beside it has all of them.`);
    list.show(map);
    if (map.names.length <= 1) framed.show("live", "This node knows no other one.", "A second node of the cluster appears here as soon as its agent is ready.");
  });
}

/** The canvas with its view, and what the pointer does to it. */
class Drawing {
  /** @type {(zone: number | null) => void} */ onUnfold = () => {};
  #canvas = /** @type {HTMLCanvasElement} */ (h("canvas", { role: "img" }));
  #tip = h("div", { class: "map-tip", hidden: true, "aria-hidden": "true" });
  #back = h("button", { type: "button", class: "map-back", hidden: true, onclick: () => this.#choose(null) }, "All zones");
  /** @type {any} */ #map = null;
  /** @type {import("./layout.js").Layout | null} */ #layout = null;
  #shape = ""; // what the layout is made from
  /** @type {View | null} */ #view = null;
  /** @type {number | null} */ #zone = null;
  /** @type {{zone: number | null, node: number | null}} */ #pointed = { zone: null, node: null };
  #isDue = false;
  #zooming = 0;
  #width = 0;
  #height = 0;

  constructor() {
    this.element = h("div", { class: "map-canvas" }, this.#canvas, this.#back, this.#tip);
    new ResizeObserver(() => this.#resize()).observe(this.element);
    this.#canvas.addEventListener("pointermove", (event) => this.#move(event));
    this.#canvas.addEventListener("pointerleave", () => this.#leave());
    this.#canvas.addEventListener("click", (event) => this.#click(event));
    this.element.addEventListener("keydown", (event) => event.key === "Escape" && this.#choose(null));
    document.addEventListener("themechange", () => this.#redraw());
  }

  /** @param {any} map @param {string} label */
  show(map, label) {
    const [zone, pointed] = [this.#zone, this.#pointed.zone].map((each) => zoneIn(each, this.#map, map));
    if (pointed !== this.#pointed.zone) this.#leave();
    this.#map = map;
    this.#zone = zone;
    this.#back.hidden = zone === null;
    this.#canvas.setAttribute("aria-label", label);
    this.#arrange();
    this.#redraw();
  }

  /** @param {number | null} zone */
  unfold(zone) {
    this.#zone = zone;
    this.#back.hidden = zone === null;
    this.#zoom();
  }

  /** @param {number | null} zone */
  point(zone) {
    this.#pointed = { zone, node: null };
    this.#redraw();
  }

  /** The layout changes only with the members, the zones and the room that there is. */
  #arrange() {
    if (this.#map === null || this.#width === 0) return;
    const shape = shapeOf(this.#map, this.#width, this.#height);
    if (shape === this.#shape) return;
    this.#shape = shape;
    this.#layout = layoutOf(this.#map, this.#width, this.#height);
    if (this.#zone !== null && !this.#layout.zones[this.#zone]) this.#choose(null);
    cancelAnimationFrame(this.#zooming); // it leads to a place of the layout before
    this.#view = this.#target();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.element;
    if (clientWidth === this.#width && clientHeight === this.#height) return;
    [this.#width, this.#height] = [clientWidth, clientHeight];
    const ratio = globalThis.devicePixelRatio || 1;
    [this.#canvas.width, this.#canvas.height] = [clientWidth * ratio, clientHeight * ratio];
    this.#arrange();
    this.#redraw();
  }

  /** @returns {View} */
  #target() {
    const zone = this.#zone === null ? undefined : this.#layout?.zones[this.#zone];
    if (!zone) return { x: this.#width / 2, y: this.#height / 2, scale: 1 };
    return { x: zone.x, y: zone.y, scale: (0.44 * Math.min(this.#width, this.#height)) / zone.r };
  }

  #zoom() {
    const [from, to] = [this.#view, this.#target()];
    if (from === null) return;
    cancelAnimationFrame(this.#zooming);
    const began_ms = performance.now();
    const lasts_ms = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : ZOOM_MS;
    const step = () => {
      const part = lasts_ms === 0 ? 1 : Math.min(1, (performance.now() - began_ms) / lasts_ms);
      const eased = 1 - (1 - part) ** 3;
      this.#view = { x: mix(from.x, to.x, eased), y: mix(from.y, to.y, eased), scale: from.scale * (to.scale / from.scale) ** eased };
      this.#paint();
      if (part < 1) this.#zooming = requestAnimationFrame(step);
    };
    step();
  }

  #choose(zone) {
    this.unfold(zone);
    this.onUnfold(zone);
  }

  /** @param {MouseEvent} event */
  #placeOf(event) {
    if (this.#layout === null || this.#view === null) return { zone: null, node: null };
    const x = this.#view.x + (event.offsetX - this.#width / 2) / this.#view.scale;
    const y = this.#view.y + (event.offsetY - this.#height / 2) / this.#view.scale;
    return hit(this.#layout, x, y, SLACK_PX / this.#view.scale);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    this.#pointed = this.#placeOf(event);
    const lines = tipOf(this.#map, this.#pointed);
    this.#tip.hidden = lines.length === 0;
    if (lines.length > 0) {
      fill(this.#tip, lines.map((line, at) => h(at === 0 ? "strong" : "span", {}, line)));
      const left = Math.min(event.offsetX + 14, this.#width - this.#tip.offsetWidth - 4);
      const top = event.offsetY + 18 + this.#tip.offsetHeight > this.#height ? event.offsetY - this.#tip.offsetHeight - 10 : event.offsetY + 18;
      this.#tip.style.transform = `translate(${Math.max(0, left)}px, ${Math.max(0, top)}px)`;
    }
    this.#canvas.classList.toggle("pointed", this.#pointed.zone !== null);
    this.#redraw();
  }

  #leave() {
    this.#pointed = { zone: null, node: null };
    this.#tip.hidden = true;
    this.#redraw();
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const { zone } = this.#placeOf(event);
    this.#choose(zone === this.#zone ? null : zone);
  }

  #redraw() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#paint();
    });
  }

  #paint() {
    const context = this.#canvas.getContext("2d");
    if (context === null || this.#map === null || this.#layout === null || this.#view === null) return;
    const scene = { map: this.#map, layout: this.#layout, view: this.#view, width: this.#width, height: this.#height, zone: this.#pointed.zone ?? this.#zone, node: this.#pointed.node };
    drawMap(context, scene, colour);
  }
}

/** @param {number} from @param {number} to @param {number} part */
const mix = (from, to, part) => from + (to - from) * part;

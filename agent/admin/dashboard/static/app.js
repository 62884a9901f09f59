/** Puts the page together: the store, the stream, and one module for each panel. */

import { mountConnection } from "./connection.js";
import { frame } from "./panel.js";
import { Store } from "./state.js";
import { Stream, browser } from "./stream.js";
import { mountTheme } from "./theme.js";

/** @typedef {(section: HTMLElement, store: Store) => void} Mount */

/** Which module fills which panel. A module that can't be loaded costs one panel. @type {[string, () => Promise<{mount: Mount}>][]} */
const PANELS = [
  ["now", () => import("./tiles.js")],
  ["problems", () => import("./problems.js")],
  ["pulls", () => import("./pulls.js")],
  ["bytes", () => import("./bytes.js")],
  ["speed", () => import("./speed.js")],
  ["money", () => import("./money.js")],
  ["map", () => import("./map.js")],
  ["heat", () => import("./heat.js")],
  ["proof", () => import("./proof.js")],
  ["peers", () => import("./peers.js")],
  ["claims", () => import("./claims.js")],
  ["index", () => import("./index.js")],
  ["transfers", () => import("./transfers.js")],
  ["requests", () => import("./requests.js")],
];

/** @param {string} id @returns {HTMLElement} */
function element(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`there is no #${id}`);
  return found;
}

/** @param {Store} store */
async function mountPanels(store) {
  await Promise.all(PANELS.map(([name, load]) => mountPanel(element(`panel-${name}`), load, store)));
}

/** @param {HTMLElement} section @param {() => Promise<{mount: Mount}>} load @param {Store} store */
async function mountPanel(section, load, store) {
  try {
    (await load()).mount(section, store);
  } catch (error) {
    console.error(error);
    frame(section).show("error", "This panel could not be loaded.", "Load the page again.");
  }
}

/** A tab that nobody sees costs the agent nothing. @param {Stream} stream */
function followVisibility(stream) {
  document.addEventListener("visibilitychange", () => (document.hidden ? stream.pause() : stream.start()));
  addEventListener("pagehide", () => stream.pause());
  addEventListener("pageshow", (event) => event.persisted && stream.start());
  addEventListener("online", () => document.hidden || stream.start());
}

function begin() {
  const store = new Store();
  const stream = new Stream(store, browser());
  mountTheme(/** @type {HTMLSelectElement} */ (element("theme")));
  mountConnection(store, (token) => stream.useToken(token));
  followVisibility(stream);
  if (!document.hidden) stream.start();
  mountPanels(store);
}

begin();

/** The last requests of all listeners, agents' among them, and the search for one by the id that logs and exemplars name. */

import { h, fill, keep, setAll, setText } from "./dom.js";
import { UNKNOWN, bytes, clockTime, count, isKnown, name, seconds, unixSeconds } from "./format.js";
import { frame, follow } from "./panel.js";
import { chip, fold, listOf, numberOf, textOf } from "./parts.js";
import { fromOf, requestInside, whatOf } from "./pulls.js";
import { track } from "./waterfall.js";

const SHOWN = 30;
const GOOD = new Set(["ok", "redirected"]);
const CONTENT = new Set(["manifest", "blob"]);
const FILTERS = Object.freeze({
  content: (/** @type {any} */ request) => CONTENT.has(request.kind),
  all: () => true,
  clients: (/** @type {any} */ request) => CONTENT.has(request.kind) && request.path !== "peer",
  peers: (/** @type {any} */ request) => request.path === "peer",
  failed: (/** @type {any} */ request) => !GOOD.has(request.result) && request.result !== "not_found",
});

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const list = h("ol", { class: "p-requests" });
  const nothing = h("p", { class: "p-left-out", role: "status" });
  const wanted = h("input", { type: "search", maxlength: "32", size: "18", spellcheck: "false", autocomplete: "off", placeholder: "id" });
  const filter = h(
    "select",
    {},
    h("option", { value: "content" }, "for content"),
    h("option", { value: "all" }, "all, canaries too"),
    h("option", { value: "clients" }, "of clients"),
    h("option", { value: "peers" }, "of other agents"),
    h("option", { value: "failed" }, "that failed"),
  );
  const controls = h("div", { class: "p-controls" }, h("label", {}, "Requests ", filter), h("label", {}, "with the id ", wanted));
  const head = h("div", { class: "p-columns", "aria-hidden": "true" }, ["Request", "Each on a line of its own length", "First byte", "Took", "Bytes", "From"].map((title) => h("span", {}, title)));
  fill(framed.body, controls, head, list, nothing);
  const render = () => {
    const requests = listOf(store.get("requests"));
    const sought = wanted.value.trim().toLowerCase();
    const passes = FILTERS[filter.value] ?? FILTERS.content;
    const fitting = requests.filter((request) => passes(request) && (sought === "" || textOf(request.id).includes(sought)));
    keep(list, fitting.slice(0, SHOWN), (request) => request.id ?? `${request.started_at} ${request.target}`, requestItem);
    framed.note(requests.length === 0 ? "" : `${Math.min(SHOWN, fitting.length)} of the last ${requests.length}`);
    fill(nothing, requests.length > 0 && fitting.length === 0 ? wordsOfNothing(sought, store.connection.hasToken) : []);
    if (requests.length === 0) framed.show("empty", "No request yet.", "Requests of this node's containerd and of other agents show here, as they end.");
  };
  filter.addEventListener("change", render);
  wanted.addEventListener("input", render);
  follow(framed, store, "requests", render);
}

/** @param {string} sought @param {boolean} [hasToken] @returns {(Node | string)[]} */
function wordsOfNothing(sought, hasToken) {
  if (sought === "") return ["No request of that kind among the last ones."];
  const words = "No request with that id among those that this page has.";
  if (!/^[0-9a-f]{16}$/.test(sought)) return [`${words} An id has 16 hexadecimal digits.`];
  const path = `/api/requests?id=${sought}`;
  return [`${words} The agent may still know it: `, hasToken ? h("code", {}, `${path} (with the token)`) : h("a", { href: path }, path)];
}

function requestItem() {
  const line = track();
  const state = chip();
  const what = h("span", { class: "p-what" });
  const when = h("span", { class: "p-when" });
  const first = h("span", { class: "p-num", "data-title": "first byte" });
  const took = h("span", { class: "p-num", "data-title": "took" });
  const size = h("span", { class: "p-num", "data-title": "bytes" });
  const from = h("span", { class: "p-from" });
  const inside = requestInside();
  /** @type {any} */ let request = null;
  const folded = fold([h("span", { class: "p-what-when" }, when, what, state.element), line.element, first, took, size, from], () => {
    inside.update(request);
    return inside.elements;
  });
  folded.summary.classList.add("p-row");
  const element = h("li", {}, folded.element);
  return {
    element,
    update: (/** @type {any} */ now) => {
      request = now;
      setText(when, clockTime(unixSeconds(request.started_at)));
      setText(what, `${whatOf(request)}${request.path === "peer" ? " for a peer" : ""}`);
      setAll(what, { title: name(textOf(request.target), 300) });
      setState(state, request);
      setText(first, isKnown(request.first_byte_s) ? seconds(request.first_byte_s) : UNKNOWN);
      setText(took, seconds(request.seconds));
      setText(size, bytes(numberOf(request.bytes)));
      setText(from, fromOf(request));
      line.set(request, 0, Math.max(1e-4, numberOf(request.seconds)));
      if (folded.element.open) inside.update(request);
    },
  };
}

/** @param {ReturnType<typeof chip>} state @param {any} request */
function setState(state, request) {
  const words = name(textOf(request.result), 30).replaceAll("_", " ");
  state.element.hidden = request.result === "ok";
  state.set(GOOD.has(request.result) ? "plain" : request.result === "not_found" ? "warn" : "bad", `${count(numberOf(request.status))} ${words}`);
}

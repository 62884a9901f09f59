/** Recent pulls of images: each with its bytes by locality, its verdict, and its requests as a waterfall. */

import { h, fill, keep, setAll, setText } from "./dom.js";
import { UNKNOWN, ago, bytes, clockTime, count, counted, isKnown, name, seconds, shortDigest, unixSeconds } from "./format.js";
import { frame, follow } from "./panel.js";
import { chip, fold, listOf, numberOf, textOf, tierWords } from "./parts.js";
import { legend, stepTable, stepTitle, track } from "./waterfall.js";
import { verdictOf } from "./verdicts.js";

/** @typedef {import("./state.js").Store} Store */

const PULLS_SHOWN = 8;
const PULLS_MOST = 60;
const REQUESTS_SHOWN = 40;
const EMPTY = "No pull in the agent's memory.";
const EMPTY_HINT =
  "Pull an image on this node, for example by starting a pod. If pulls happen and none shows here, containerd does not ask this agent: `shorthaul doctor` says why.";

/** @param {HTMLElement} section @param {Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const list = h("ol", { class: "p-pulls" });
  const more = h("button", { type: "button", class: "p-all" });
  fill(framed.body, legend(), list, more);
  let isWhole = false;
  more.addEventListener("click", () => {
    isWhole = !isWhole;
    render();
  });
  const render = () => {
    const all = listOf(store.get("pulls")?.pulls, PULLS_MOST);
    const pulls = all.slice(0, isWhole ? PULLS_MOST : PULLS_SHOWN);
    const known = byId(store.get("requests"));
    keep(list, pulls.map((pull) => ({ pull, known })), ({ pull }) => `${pull.id}`, pullItem);
    framed.note(noteOf(pulls, all.length));
    more.hidden = all.length <= PULLS_SHOWN;
    setText(more, isWhole ? `Only the last ${PULLS_SHOWN}` : `All ${all.length}`);
    if (pulls.length === 0) framed.show("empty", EMPTY, EMPTY_HINT);
  };
  follow(framed, store, "pulls", render);
  store.subscribe("requests", () => store.get("pulls") && render());
}

/** @param {any[]} pulls @param {number} kept */
function noteOf(pulls, kept) {
  if (pulls.length === 0) return "";
  const running = pulls.filter((pull) => pull.under_way).length;
  const shown = kept > pulls.length ? `the last ${pulls.length} of ${kept}` : `the last ${pulls.length}`;
  return running > 0 ? `${shown}, ${running} under way` : shown;
}

/** The requests that the page knows, by their ids. @param {any} requests @returns {Map<string, any>} */
const byId = (requests) => new Map(listOf(requests).map((request) => [request.id, request]));

function pullItem() {
  /** @type {{pull: any, known: Map<string, any>}} */ let now;
  const heading = pullHeading();
  const inside = pullInside();
  const folded = fold(heading.elements, () => {
    inside.update(now.pull, now.known);
    return [inside.element];
  });
  return {
    element: h("li", { class: "p-pull" }, folded.element),
    update: (/** @type {{pull: any, known: Map<string, any>}} */ item) => {
      now = item;
      heading.update(now.pull);
      if (folded.element.open) inside.update(now.pull, now.known);
    },
  };
}

/** What is seen of a pull that is folded. */
function pullHeading() {
  const state = chip();
  const verdict = chip();
  const image = h("span", { class: "p-image" });
  const tag = h("span", { class: "p-tag" });
  const when = h("span", { class: "p-when" });
  const took = h("span", { class: "p-took" });
  const size = h("span", { class: "p-size" });
  const shares = tierBar();
  const slowest = h("span", { class: "p-slowest" });
  return {
    elements: [
      h("span", { class: "p-title" }, image, tag),
      h("span", { class: "p-chips" }, state.element, verdict.element),
      took,
      size,
      shares.element,
      h("span", { class: "p-more" }, when, slowest),
    ],
    update: (/** @type {any} */ pull) => {
      setText(image, name(textOf(pull.image), 160));
      setAll(image, { title: name(textOf(pull.image), 500) });
      setText(tag, referencesOf(pull));
      const { level, words } = stateOf(pull);
      state.set(level, words);
      const { level: grave, brief, words: meaning } = verdictOf(pull.verdict, pull.path);
      verdict.set(grave, brief, `${pull.verdict ?? "no verdict"}: ${meaning}`);
      setText(when, `${clockTime(unixSeconds(pull.started_at))} · ${listenerWords(pull)}`);
      setText(took, pull.under_way ? `${seconds(pull.seconds)} so far` : seconds(pull.seconds));
      setText(size, bytes(numberOf(pull.bytes)));
      shares.set(pull.bytes_by_tier, numberOf(pull.bytes));
      setText(slowest, slowestWords(pull.slowest));
    },
  };
}

function referencesOf(pull) {
  const references = (Array.isArray(pull.references) ? pull.references : []).filter((each) => typeof each === "string");
  const shown = references.slice(0, 3).map((each) => (each.includes(":") ? `@${shortDigest(each)}` : `:${name(each, 60)}`));
  return references.length > 3 ? `${shown.join(" ")} and ${references.length - 3} more` : shown.join(" ");
}

/** @returns {{level: import("./parts.js").Level, words: string}} */
function stateOf(pull) {
  const failed = numberOf(pull.failed);
  const missing = numberOf(pull.not_found);
  const asked = numberOf(pull.request_count);
  if (pull.under_way) return { level: "plain", words: "under way" };
  if (failed > 0) return { level: "bad", words: `${failed} of ${counted(asked, "request")} failed` };
  if (missing > 0 && missing === asked) return { level: "warn", words: "left to the registry" };
  if (missing > 0) return { level: "warn", words: `${missing} of ${asked} left to the registry` };
  return { level: "ok", words: "done" };
}

function listenerWords(pull) {
  const client = pull.path === "nodeport" ? `over the NodePort by ${name(textOf(pull.client), 60)}` : "by this node's containerd";
  return `${counted(numberOf(pull.request_count), "request")} ${client}`;
}

function slowestWords(slowest) {
  const step = slowest?.step;
  if (!step || typeof step !== "object") return "";
  const why = step.why ? `: ${name(textOf(step.why), 120)}` : "";
  return `slowest: ${stepTitle(step)}, ${seconds(numberOf(step.seconds))}${why}`;
}

/** The shares of the tiers in a pull's bytes, as one bar and in words. */
function tierBar() {
  const bar = h("span", { class: "p-tiers", role: "img" });
  const words = h("span", { class: "p-tier-words" });
  return {
    element: h("span", { class: "p-locality" }, bar, words),
    /** @param {any} entries @param {number} all_bytes */
    set: (entries, all_bytes) => {
      const parts = listOf(entries).filter((entry) => numberOf(entry.bytes) > 0);
      fill(bar, parts.map((entry) => tierPart(entry, all_bytes)));
      const text = parts.map((entry) => `${bytes(entry.bytes)} ${tierWords(entry.tier)}`).join(", ");
      setAll(bar, { "aria-label": `Bytes by locality: ${text || "none"}`, title: text || null, hidden: parts.length === 0 });
      setText(words, nearestWords(parts, all_bytes));
    },
  };
}

/** @param {any} entry @param {number} all_bytes */
function tierPart(entry, all_bytes) {
  const part = h("span", { "data-tier": entry.tier });
  part.style.flexGrow = String(numberOf(entry.bytes) / Math.max(1, all_bytes));
  return part;
}

/** Where most of it came from. @param {any[]} parts @param {number} all_bytes */
function nearestWords(parts, all_bytes) {
  const most = parts.reduce((best, entry) => (numberOf(entry.bytes) > numberOf(best?.bytes) ? entry : best), null);
  if (most === null || all_bytes === 0) return "";
  const percent = Math.floor((100 * numberOf(most.bytes)) / all_bytes);
  return `${percent} % ${tierWords(most.tier)}`;
}

/** What is seen of a pull that is unfolded: its requests on one line of time. */
function pullInside() {
  const ticks = h("div", { class: "p-ticks", "aria-hidden": "true" });
  const list = h("ol", { class: "p-requests" });
  const left_out = h("p", { class: "p-left-out" });
  const head = h("div", { class: "p-columns", "aria-hidden": "true" }, ["Request", "", "First byte", "Took", "Bytes", "From"].map((title, column) => (column === 1 ? ticks : h("span", {}, title))));
  return {
    element: h("div", {}, head, list, left_out),
    /** @param {any} pull @param {Map<string, any>} known */
    update: (pull, known) => {
      const { requests, missing } = requestsOf(pull, known);
      const began_s = unixSeconds(pull.started_at) ?? 0;
      const span_s = spanOf(pull, requests, began_s);
      fill(ticks, [0, 0.25, 0.5, 0.75].map((part) => h("span", {}, part === 0 ? "0" : seconds(span_s * part))));
      const placed = requests.map((request) => ({ request, offset_s: offsetOf(request, began_s), span_s }));
      keep(list, placed, ({ request }) => `${request.id}`, requestItem);
      setText(left_out, missing > 0 ? `${counted(missing, "more request")} ${missing === 1 ? "is" : "are"} not shown: /api/requests has the last 512.` : "");
    },
  };
}

/** @param {any} pull @param {Map<string, any>} known */
function requestsOf(pull, known) {
  const running = new Map(listOf(pull.running).map((request) => [request.id, request]));
  const ids = [...new Set([...(Array.isArray(pull.requests) ? pull.requests : []), ...running.keys()])];
  const found = ids.map((id) => known.get(id) ?? running.get(id)).filter((request) => request !== undefined);
  found.sort((one, other) => (one.started_at < other.started_at ? -1 : one.started_at > other.started_at ? 1 : 0));
  const requests = found.slice(0, REQUESTS_SHOWN);
  return { requests, missing: Math.max(numberOf(pull.request_count), ids.length) - requests.length };
}

/** How many seconds the line of time has. @param {any} pull @param {any[]} requests @param {number} began_s */
function spanOf(pull, requests, began_s) {
  const ends = requests.map((request) => offsetOf(request, began_s) + numberOf(request.seconds));
  return Math.max(1e-4, ...(requests.length > 0 ? ends : [numberOf(pull.seconds)]));
}

/** When a request began on its pull's line of time. A clock that was set in between puts it at the start. @param {any} request @param {number} began_s */
function offsetOf(request, began_s) {
  const at_s = unixSeconds(request.started_at);
  const offset_s = at_s === null ? 0 : at_s - began_s;
  return offset_s > 0 && offset_s < 3600 ? offset_s : 0;
}

/** A request, and where it lies on the line of time that all requests of the pull share. @typedef {{request: any, offset_s: number, span_s: number}} Placed */

/** One request: a line of the waterfall, unfolded to the table of its steps. */
function requestItem() {
  const line = track();
  const what = h("span", { class: "p-what" });
  const from = h("span", { class: "p-from" });
  const first = h("span", { class: "p-num", "data-title": "first byte" });
  const took = h("span", { class: "p-num", "data-title": "took" });
  const size = h("span", { class: "p-num", "data-title": "bytes" });
  const inside = requestInside();
  /** @type {any} */ let now = null;
  const folded = fold([what, line.element, first, took, size, from], () => {
    inside.update(now);
    return inside.elements;
  });
  folded.summary.classList.add("p-row");
  return {
    element: h("li", {}, folded.element),
    update: (/** @type {Placed} */ { request, offset_s, span_s }) => {
      now = request;
      setText(what, whatOf(request));
      setAll(what, { title: name(textOf(request.target), 300) });
      setText(first, isKnown(request.first_byte_s) ? seconds(request.first_byte_s) : UNKNOWN);
      setText(took, request.under_way ? `${seconds(request.seconds)}…` : seconds(request.seconds));
      setText(size, bytes(numberOf(request.bytes)));
      setText(from, fromOf(request));
      line.set(request, offset_s, span_s);
      if (folded.element.open) inside.update(request);
    },
  };
}

/** What is asked for. @param {any} request */
export function whatOf(request) {
  const kind = request.method === "HEAD" ? `${name(textOf(request.kind), 20)} (HEAD)` : name(textOf(request.kind), 20);
  return request.digest ? `${kind} ${shortDigest(textOf(request.digest)).replace("sha256:", "")}` : kind;
}

/** Where it came from. @param {any} request */
export function fromOf(request) {
  if (request.result === "not_found") return "the registry, by containerd";
  if (request.source === "local") return "this node";
  const others = listOf(request.sources).length - 1;
  const more = others > 0 ? ` +${others}` : "";
  return request.node ? `${name(request.node, 40)}${more} · ${tierWords(request.tier)}` : UNKNOWN;
}

/** A request in words, and its steps. */
export function requestInside() {
  const about = h("p", { class: "p-about" });
  const steps = stepTable();
  return {
    elements: [about, steps.element],
    /** @param {any} request */
    update: (request) => {
      setText(about, aboutOf(request));
      steps.set(request);
    },
  };
}

function aboutOf(request) {
  const { brief, words } = verdictOf(request.verdict, request.path);
  const parts = [
    `${name(textOf(request.method), 10)} ${name(textOf(request.target), 300)}`,
    request.digest ? name(textOf(request.digest), 100) : null,
    request.under_way ? "under way" : `answered ${count(numberOf(request.status))}, ${name(textOf(request.result), 30).replaceAll("_", " ")}`,
    request.reason ? name(textOf(request.reason), 300) : null,
    tagWords(request.tag),
    numberOf(request.resumes) > 0 ? `resumed ${counted(request.resumes, "time")}` : null,
    request.way ? `sent by ${name(textOf(request.way), 30)}` : null,
    request.path === "hostport" ? `connection: ${brief} (${words})` : `listener: ${name(textOf(request.path), 20)}`,
    request.id ? `request ${name(textOf(request.id), 32)}` : null,
  ];
  return parts.filter((part) => part).join(" · ");
}

function tagWords(tag) {
  if (!tag || typeof tag !== "object") return null;
  const seen = tag.imported ? "imported" : "seen at the registry";
  return `tag vouched for by ${name(textOf(tag.vouched_by), 60)}, ${seen} ${ago(tag.age_s)}`;
}

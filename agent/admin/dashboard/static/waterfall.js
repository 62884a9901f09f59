/**
 * The steps of a request as bars on a line of time. What the bars show is also in words: a label for the whole line,
 * and a table of the steps.
 */

import { h, fill, setAll } from "./dom.js";
import { bytes, name, seconds } from "./format.js";
import { listOf, numberOf, said, table, textOf, tierWords, wordOf } from "./parts.js";

const KINDS = Object.freeze({
  resolve: "tag",
  lookup: "look-up",
  claim: "wait for a claim",
  headers: "headers",
  bytes: "bytes",
  local: "this node's store",
  wait: "wait",
});

// How the node belongs to the step; what happens here has none.
const FROM = Object.freeze({ resolve: " by ", lookup: " at ", claim: " of ", headers: " from ", bytes: " from ", wait: " for " });

const OUTCOMES = Object.freeze({
  ok: "done",
  none: "nobody has it",
  granted: "this node fetches it from the registry",
  lost: "lost to a faster peer",
  failed: "failed",
  timeout: "timed out",
  left: "ended without it",
  under_way: "under way",
});

const LANES_MAX = 4;
const STEPS_MAX = 32;

/** The steps of a request from a document that may lack them. @param {any} request @returns {any[]} */
export const stepsOf = (request) => listOf(request?.steps, STEPS_MAX);

export function stepTitle(step) {
  const kind = wordOf(KINDS, step.kind);
  const joined = Object.hasOwn(FROM, step.kind) ? FROM[step.kind] : null;
  const from = step.node && joined ? `${joined}${name(step.node, 60)}` : "";
  if (step.hedge) return `hedge: ${kind}${from}`;
  return step.resume ? `resumed: ${kind}${from}` : `${kind}${from}`;
}

export const outcomeWords = (step) => wordOf(OUTCOMES, step.outcome);

/** One step in a sentence. @param {any} step */
function stepWords(step) {
  const size = step.bytes ? `, ${bytes(step.bytes)}` : "";
  const came = step.outcome === "ok" ? "" : `, ${outcomeWords(step)}`;
  return `${stepTitle(step)} ${seconds(numberOf(step.seconds))}${size}${came}`;
}

/**
 * Which of a few lanes each step is drawn in, so that steps which overlap, such as hedges, are both seen. Pure.
 * @param {any[]} steps in the order in which they began
 * @returns {number[]}
 */
export function lanesOf(steps) {
  /** @type {number[]} */
  const ends = [];
  return steps.map((step) => {
    const start_s = numberOf(step.start_s);
    const end_s = start_s + numberOf(step.seconds);
    let lane = ends.findIndex((until_s) => until_s <= start_s + 1e-6);
    if (lane < 0) lane = ends.length < LANES_MAX ? ends.length : LANES_MAX - 1;
    ends[lane] = Math.max(ends[lane] ?? 0, end_s);
    return lane;
  });
}

/** A line of bars. `set` draws the request's steps on a line of `span_s` seconds, on which it began at `offset_s`. */
export function track() {
  const element = h("span", { class: "p-track", role: "img" });
  return {
    element,
    /** @param {any} request @param {number} offset_s @param {number} span_s */
    set: (request, offset_s, span_s) => {
      const steps = stepsOf(request);
      const lanes = lanesOf(steps);
      const at = (/** @type {number} */ time_s) => Math.min(100, Math.max(0, (100 * (offset_s + time_s)) / span_s));
      const drawn = steps.length > 0 ? steps : [whole(request)];
      fill(element, drawn.map((step, number) => bar(step, lanes[number] ?? 0, at)));
      element.style.setProperty("--lanes", String(1 + Math.max(0, ...lanes)));
      const label = steps.length > 0 ? steps.map(stepWords).join("; ") : `${seconds(numberOf(request.seconds))} in all; its steps are not known`;
      setAll(element, { "aria-label": label });
    },
  };
}

/** A request of an agent that tells no steps. @param {any} request */
const whole = (request) => ({ kind: "unknown", start_s: 0, seconds: request.seconds, tier: request.tier, outcome: "ok" });

/** @param {any} step @param {number} lane @param {(time_s: number) => number} at */
function bar(step, lane, at) {
  const start_s = numberOf(step.start_s);
  const from = at(start_s);
  const drawn = h("span", {
    class: "p-bar",
    "data-kind": Object.hasOwn(KINDS, step.kind) ? step.kind : "unknown",
    "data-tier": step.tier ?? null,
    "data-outcome": step.outcome ?? null,
    "data-hedge": step.hedge === true,
    "data-resume": step.resume === true,
    title: stepWords(step) + (step.why ? `: ${name(textOf(step.why), 200)}` : ""),
  });
  drawn.style.setProperty("--from", `${from.toFixed(3)}%`);
  drawn.style.setProperty("--long", `${Math.max(0, at(start_s + numberOf(step.seconds)) - from).toFixed(3)}%`);
  drawn.style.setProperty("--lane", String(lane));
  return drawn;
}

/** The steps as a table, with the reasons. */
export function stepTable() {
  const made = table(
    "Steps",
    [
      { title: "Step", main: true, text: stepTitle },
      { title: "Began after", numeric: true, text: (step) => seconds(numberOf(step.start_s)) },
      { title: "Took", numeric: true, text: (step) => seconds(numberOf(step.seconds)) },
      { title: "Bytes", numeric: true, text: (step) => (step.bytes === null || step.bytes === undefined ? "" : bytes(step.bytes)) },
      { title: "How near", text: (step) => (step.tier ? tierWords(step.tier) : "") },
      { title: "Outcome", text: outcomeWords },
      { title: "Why", text: (step) => said(step.why, 300) },
    ],
    (step) => `${step.number}`,
  );
  return {
    element: made.element,
    /** @param {any} request */
    set: (request) => {
      const steps = stepsOf(request).map((step, number) => ({ ...step, number }));
      const more = numberOf(request.steps_left_out);
      made.set(steps, more > 0 ? `Steps; ${more} more are not kept` : "Steps, in the order in which they began");
    },
  };
}

/** What the colours mean. */
export function legend() {
  const entry = (/** @type {Record<string, any>} */ how, /** @type {string} */ words) =>
    h("li", {}, h("span", { class: "p-bar p-swatch", "aria-hidden": "true", ...how }), words);
  return h(
    "ul",
    { class: "p-legend", "aria-label": "What the bars mean" },
    entry({ "data-kind": "lookup" }, "look-up"),
    entry({ "data-kind": "claim" }, "wait"),
    entry({ "data-kind": "headers" }, "headers"),
    entry({ "data-kind": "bytes", "data-tier": "node" }, "bytes: this node"),
    entry({ "data-kind": "bytes", "data-tier": "rack" }, "rack"),
    entry({ "data-kind": "bytes", "data-tier": "zone" }, "zone"),
    entry({ "data-kind": "bytes", "data-tier": "region" }, "region"),
    entry({ "data-kind": "bytes", "data-tier": "remote" }, "another region"),
    entry({ "data-kind": "headers", "data-hedge": true }, "hedge"),
    entry({ "data-kind": "bytes", "data-outcome": "failed" }, "failed or lost"),
  );
}

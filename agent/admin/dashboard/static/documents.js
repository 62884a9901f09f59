/**
 * The page's door: what arrives from the agent becomes documents here, and nowhere else. Pure.
 *
 * Names in them may be hostile: what can't be seen, or turns the direction of writing, does not come in. An agent of
 * another version may say something else: a document without what the page builds on is not taken, and the last one stays.
 */

import { visible } from "./format.js";

const TEXT_MOST = 2000; // characters; a reason or a hint has a few hundred

/** What the page builds on without looking again. @type {Record<string, Record<string, (value: any) => boolean>>} */
const SHAPES = {
  map: { names: isList, zone_index: isList, states: isList, rtt_us: isList, zones: isList, matrix_us: isListOfLists },
  nodes: { indexes: isList, states: isList, rtt_us: isList },
  cluster: { zones: isList, total: isObject },
  overview: { window: isObject, total: isObject },
};

const STEPS_S = new Set([5, 60]);
const COLUMNS = [
  ...["node_bytes", "rack_bytes", "zone_bytes", "region_bytes", "remote_bytes", "saved_bytes", "crossing_bytes", "usd", "usd_saved"],
  ...["requests", "served", "failed", "first_byte_p50_s", "first_byte_p95_s"],
];

/** A document from its JSON. Throws SyntaxError. @param {string} text @returns {any} */
export const parsed = (text) => JSON.parse(text, (_, value) => (typeof value === "string" ? visible(value.slice(0, TEXT_MOST)) : value));

/** Whether this can be the document, or the event, of that name. @param {string} key @param {any} data */
export function isDocument(key, data) {
  if (key === "requests" || key === "pulls") return isObject(data) || (isList(data) && data.every(isObject));
  if (!isObject(data)) return false;
  if (key === "history") return isHistory(data);
  return Object.entries(SHAPES[key] ?? {}).every(([part, fits]) => fits(data[part]));
}

/** @param {any} data */
function isHistory(data) {
  return STEPS_S.has(data.step_s) && COLUMNS.every((column) => isColumn(data[column], data.points));
}

/** @param {any} value @param {number} points */
const isColumn = (value, points) => isList(value) && value.length === points && value.every((each) => each === null || typeof each === "number");

/** @param {any} value */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {any} value */
function isList(value) {
  return Array.isArray(value);
}

/** @param {any} value */
function isListOfLists(value) {
  return isList(value) && value.every(isList);
}

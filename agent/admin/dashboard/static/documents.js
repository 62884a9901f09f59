/**
 * The page's door: what arrives from the agent becomes documents here, and nowhere else. Pure.
 *
 * Names in them may be hostile: what can't be seen, or turns the direction of writing, does not come in. An agent of
 * another version may say something else: a document without what the page builds on is not taken, and the last one stays.
 */

import { visible } from "./format.js";
import { isDrawable } from "./shapes.js";

const TEXT_MOST = 2000; // characters; a reason or a hint has a few hundred

/** A document from its JSON. Throws SyntaxError. @param {string} text @returns {any} */
export const parsed = (text) => JSON.parse(text, (_, value) => (typeof value === "string" ? visible(value.slice(0, TEXT_MOST)) : value));

/** Whether this can be the document, or the event, of that name. @param {string} key @param {any} data */
export function isDocument(key, data) {
  if (key === "requests" || key === "pulls") return isObject(data) || (isList(data) && data.every(isObject));
  if (!isObject(data)) return false;
  return isDrawable(key, data);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isList(value) {
  return Array.isArray(value);
}

/**
 * How an event of the stream changes what the page knows. Pure: each function makes the new value from the old one.
 * Whatever arrives, what is kept has a bound: a tab may stay open for a day.
 */

export const REQUESTS_KEPT = 200;
export const PULLS_KEPT = 60;
export const POINTS_KEPT = 180;

/** @type {Record<string, (before: any, data: any) => any>} */
const MERGES = {
  requests: mergeRequests,
  pulls: mergePulls,
  history: mergeHistory,
};

/**
 * The new value of a key.
 * @param {string} key
 * @param {any} before undefined: there is none yet
 * @param {any} data of the event
 */
export function merge(key, before, data) {
  return (MERGES[key] ?? ((_, whole) => whole))(before, data);
}

/** New requests, the newest first. @param {any[] | undefined} before @param {any} data @returns {any[]} */
export function mergeRequests(before, data) {
  const found = new Map();
  const news = [data].flat().filter(isObject);
  for (const request of [...newestFirst(news), ...(before ?? [])]) {
    const key = request.id ?? `${request.started_at} ${request.target} ${request.method}`;
    if (!found.has(key)) found.set(key, request);
  }
  return newestFirst([...found.values()]).slice(0, REQUESTS_KEPT);
}

/**
 * Pulls that changed take the place of what was known of them.
 * @param {any} before a PullsDocument @param {any} data a PullsDocument, one pull, or a list of them
 */
export function mergePulls(before, data) {
  const whole = isObject(data) && Array.isArray(data.pulls);
  const news = (whole ? data.pulls : [data].flat()).filter(isObject);
  const found = new Map((before?.pulls ?? []).map((pull) => [pullKey(pull), pull]));
  for (const pull of news) found.set(pullKey(pull), pull);
  const pulls = newestFirst([...found.values()]).slice(0, PULLS_KEPT);
  return { ...(before ?? {}), ...(whole ? data : {}), pulls };
}

/**
 * A whole HistoryDocument, or one point of it: the same document with lists of one.
 * @param {any} before @param {any} data
 */
export function mergeHistory(before, data) {
  const added = length(data);
  if (!before || added !== 1 || data.step_s !== before.step_s) return data;
  const steps = Math.round((data.started_at - before.started_at) / before.step_s);
  const isNext = steps === length(before);
  if (!isNext) return before; // told twice, or after a jump: the whole document follows
  const joined = {};
  for (const [key, value] of Object.entries(data)) joined[key] = joinColumns(before[key], value);
  const dropped = Math.max(0, length(before) + 1 - POINTS_KEPT);
  return { ...before, ...joined, started_at: before.started_at + dropped * before.step_s };
}

/** @param {any} before @param {any} added */
function joinColumns(before, added) {
  if (Array.isArray(before) && Array.isArray(added)) return [...before, ...added].slice(-POINTS_KEPT);
  if (isObject(before) && isObject(added)) {
    return Object.fromEntries(Object.keys(added).map((key) => [key, joinColumns(before[key], added[key])]));
  }
  return added;
}

/** How many points a history has. @param {any} history @returns {number} */
function length(history) {
  const column = Object.values(history ?? {}).find(Array.isArray);
  return column ? column.length : 0;
}

/** @param {any} pull */
const pullKey = (pull) => pull.id ?? `${pull.started_at} ${pull.image}`;

/** @param {any[]} items */
const newestFirst = (items) => [...items].sort((one, other) => (one.started_at < other.started_at ? 1 : one.started_at > other.started_at ? -1 : 0));

/** @param {any} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

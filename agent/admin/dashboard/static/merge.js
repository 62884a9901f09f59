/**
 * How an event of the stream changes what the page knows. Pure: each function makes the new value from the old one.
 * Whatever arrives, what is kept has a bound: a tab may stay open for a day.
 */

export const REQUESTS_KEPT = 200;
export const PULLS_KEPT = 60;
/** By the seconds of a step: a quarter of an hour, and a day. @type {Record<number, number>} */
export const POINTS_KEPT = { 5: 180, 60: 1440 };

/** @type {Record<string, (before: any, data: any) => any>} */
const MERGES = {
  requests: mergeRequests,
  pulls: mergePulls,
  history: mergeHistory,
  nodes: mergeNodes,
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
 * Histories by the seconds of their steps. A document of one point goes on where the last one ended; any other one is whole.
 * @param {Record<number, any> | undefined} before @param {any} data
 */
export function mergeHistory(before, data) {
  const known = before?.[data.step_s];
  const isPoint = data.points === 1 && known !== undefined;
  return { ...before, [data.step_s]: isPoint ? goOn(known, data) : data };
}

/** @param {any} known @param {any} point */
function goOn(known, point) {
  if (point.ended_at === known.ended_at) return known; // told twice
  const points = Math.min(known.points + 1, POINTS_KEPT[point.step_s] ?? known.points);
  const joined = { ...known, ended_at: point.ended_at, points };
  for (const [key, column] of Object.entries(known)) {
    if (Array.isArray(column)) joined[key] = [...column, ...(point[key] ?? [null])].slice(-points);
  }
  return joined;
}

/**
 * What changed in a map, put into it. A change of another map than this one waits for its own map.
 * @param {any} before a MapDocument @param {any} data a NodesDocument
 */
export function mergeNodes(before, data) {
  if (before === undefined || before.map !== data.map) return before;
  const states = [...before.states];
  const rtt_us = [...before.rtt_us];
  data.indexes.forEach((index, at) => {
    states[index] = data.states[at];
    rtt_us[index] = data.rtt_us[at];
  });
  return { ...before, own_trouble: data.own_trouble, states, rtt_us };
}

const pullKey = (pull) => pull.id ?? `${pull.started_at} ${pull.image}`;

/** @param {any[]} items */
const newestFirst = (items) => [...items].sort((one, other) => (one.started_at < other.started_at ? 1 : one.started_at > other.started_at ? -1 : 0));

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

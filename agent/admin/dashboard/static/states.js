/** How a node is, as the asked node sees it: the word, what it means, how it looks. The order is that of gravity. Pure. */

/** @typedef {{state: string, word: string, means: string, look: "ok" | "warn" | "bad" | "idle", colour: string, shape: "dot" | "ring" | "cross" | "triangle" | "diamond"}} StateLook */

/** @type {readonly StateLook[]} */
export const STATES = Object.freeze([
  { state: "silent", word: "silent", means: "no sign of life since it failed", look: "bad", colour: "--bad", shape: "cross" },
  { state: "doubtful", word: "doubtful", means: "silent, but perhaps this node's own network is down", look: "warn", colour: "--warn", shape: "ring" },
  { state: "cooling", word: "cooling off", means: "it failed a moment ago; others are asked first", look: "warn", colour: "--warn", shape: "triangle" },
  { state: "unready", word: "not ready", means: "it says itself that it is not ready", look: "warn", colour: "--warn", shape: "diamond" },
  { state: "draining", word: "stopping", means: "it says itself that it stops", look: "idle", colour: "--idle", shape: "diamond" },
  { state: "suspect", word: "suspect", means: "its latency contradicts its labels", look: "warn", colour: "--tier-region", shape: "diamond" },
  { state: "unmeasured", word: "not measured", means: "nothing speaks against it; this node did not measure the way to it", look: "idle", colour: "--map-unmeasured", shape: "dot" },
  { state: "ok", word: "ok", means: "it answers", look: "ok", colour: "--map-ok", shape: "dot" },
  { state: "self", word: "this node", means: "the node whose page this is", look: "ok", colour: "--accent", shape: "dot" },
]);

const BY_NAME = new Map(STATES.map((each, gravity) => [each.state, { ...each, gravity }]));
const OTHER = { state: "", word: "", means: "", look: /** @type {const} */ ("idle"), colour: "--idle", shape: /** @type {const} */ ("dot"), gravity: STATES.length };

/** @param {string} state @returns {StateLook & {gravity: number}} */
export const stateLook = (state) => BY_NAME.get(state) ?? { ...OTHER, state, word: state };

/** States in which a node gives nothing. */
export const NOT_ANSWERING = new Set(["silent", "doubtful", "cooling", "unready", "draining"]);

/** How many nodes are in each state, the gravest first; states without a node are left out. @param {string[]} states */
export function countsOf(states) {
  const counts = new Map();
  for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].map(([state, number]) => ({ ...stateLook(state), number })).sort((one, other) => one.gravity - other.gravity);
}

/** What a document must have so that the page can draw it. What it has beyond that is ignored. Pure. */

/** @typedef {"number" | "number?" | "text" | "text?" | "flag" | "flag?"} Kind `?`: or null */
/** @typedef {Kind | [any] | {[key: string]: any}} Shape a list is written as its one kind of item */

const SUMS = {
  seconds: "number", requests: "number", served: "number", failed: "number", bytes_by_tier: [{ tier: "text", bytes: "number" }],
  saved_bytes: "number", crossing_bytes: "number", usd: "number", usd_saved: "number", net_usd_saved: "number",
};
const QUANTILES = { source: "text", tier: "text?", count: "number", p50_s: "number?", p95_s: "number?", p99_s: "number?" };
const HISTORY_NUMBERS = ["node_bytes", "rack_bytes", "zone_bytes", "region_bytes", "remote_bytes", "saved_bytes", "crossing_bytes", "usd", "usd_saved", "requests", "served", "failed"];
const STEPS_S = new Set([5, 60]);
const HISTORY_PERHAPS = ["first_byte_p50_s", "first_byte_p95_s"];
const MAP_COLUMNS = ["zone_index", "racks", "states", "rtt_us"];

/** @type {Record<string, Shape>} */
const SHAPES = {
  overview: {
    node: "text", version: "text", uptime_s: "number", ready: "flag", why_not_ready: "text?", phase: "text", own_trouble: "text",
    problems: [{ grave: "flag", what: "text", node: "text?", problem: "text", hint: "text" }],
    members: "number", peers_reachable: "number", peers_cooling: "number", peers_silent: "number", window_s: "number", window: SUMS, total: SUMS,
    success: [{ path: "text", asked: "number", served: "number", missed: "number", failed: "number" }], first_byte: [QUANTILES], lookup: QUANTILES,
    proof: { probe: "flag", proved: "flag", why: "text", canaries: [{ endpoint: "text", verdict: "text" }] },
    claims: { held: "number", awaited: "number", decided: "number" }, transfers: { downloads: "number", uploads: "number", uploads_refused: "number" },
    content: { blobs: "number", bytes: "number", unreadable: "number", corrupt: "number", scrub: "text" }, tabs: "number",
  },
  history: {
    step_s: "number", points: "number", ended_at: "text",
    ...Object.fromEntries(HISTORY_NUMBERS.map((key) => [key, ["number"]])), ...Object.fromEntries(HISTORY_PERHAPS.map((key) => [key, ["number?"]])),
  },
  map: {
    map: "number", node: "text", own_trouble: "text", zones: [{ region: "text?", zone: "text?", nodes: "number" }], names: ["text"], zone_index: ["number"], racks: ["text?"],
    states: ["text"], rtt_us: ["number?"], matrix_us: [["number?"]], matrix_source: [["text?"]], chosen: [{ node: "text", tier: "text", reason: "text" }],
  },
  nodes: { map: "number", own_trouble: "text", indexes: ["number"], states: ["text"], rtt_us: ["number?"] },
  cluster: {
    members: "number", told: "number", sampled: "flag", scope: "text", round_s: "number", window_s: "number", window: SUMS, total: SUMS,
    zones: [{ region: "text?", zone: "text?", nodes: "number", asked: "number", told: "number", ready: "number", proved: "number", no_probe: "number", versions: ["text"], window: SUMS, total: SUMS }],
    nodes: [{ node: "text", says: "text", age_s: "number?", ready: "flag?", why_not_ready: "text?", proved: "flag?", window_failed: "number?" }],
  },
};

/** What has to agree within a document besides. @type {Record<string, (document: any) => boolean>} */
const AGREEMENTS = {
  history: ({ points, ...columns }) => [...HISTORY_NUMBERS, ...HISTORY_PERHAPS].every((key) => columns[key].length === points) && STEPS_S.has(columns.step_s),
  map: ({ names, zones, ...columns }) => MAP_COLUMNS.every((key) => columns[key].length === names.length) && columns.zone_index.every((zone) => zones[zone] !== undefined),
  nodes: ({ indexes, states, rtt_us }) => states.length === indexes.length && rtt_us.length === indexes.length,
};

/** Whether the page can draw the document of an event. One that has no shape here is its panel's to look at. @param {string} event @param {any} document */
export function isDrawable(event, document) {
  const shape = SHAPES[event];
  return shape === undefined || (fits(shape, document) && (AGREEMENTS[event]?.(document) ?? true));
}

/** @param {Shape} shape @param {any} value @returns {boolean} */
function fits(shape, value) {
  if (Array.isArray(shape)) return Array.isArray(value) && value.every((item) => fits(shape[0], item));
  if (typeof shape === "string") return KINDS[shape](value);
  return typeof value === "object" && value !== null && Object.entries(shape).every(([key, inner]) => fits(inner, value[key]));
}

const isNone = (value) => value === null || value === undefined;
const isNumber = (value) => typeof value === "number";
const isText = (value) => typeof value === "string";
const isFlag = (value) => typeof value === "boolean";

/** @type {Record<string, (value: any) => boolean>} */
const KINDS = {
  number: isNumber,
  text: isText,
  flag: isFlag,
  "number?": (value) => isNone(value) || isNumber(value),
  "text?": (value) => isNone(value) || isText(value),
  "flag?": (value) => isNone(value) || isFlag(value),
};

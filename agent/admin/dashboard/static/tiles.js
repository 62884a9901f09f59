/** The five questions in one sentence and eight figures: is it working, near, local, what does it save, what is slow? */

import { h, fill, keep, setAll, setText } from "./dom.js";
import {
  age, ago, bytes, bytesQuantity, count, counted, isKnown, lastWindow, money, name, seconds, secondsQuantity, share, shareQuantity,
} from "./format.js";
import { follow, frame } from "./panel.js";
import { bySource, partsOf } from "./tiers.js";

/** @typedef {"ok" | "warn" | "bad" | "idle"} Look */
/**
 * @typedef {object} Tile
 * @property {string} title the question that it answers, in one or two words
 * @property {Look} look
 * @property {string} word says what `look` says, without colour
 * @property {import("./format.js").Quantity} figure
 * @property {string} of what the figure is, and over which time
 * @property {string} more
 * @property {import("./tiers.js").Part[]} [parts] of a whole, for a bar
 */

const FAILED_BAD = 0.01; // what ShorthaulMirrorSuccessLow allows
const SLOW_S = 0.1; // a person does not notice less
const FAR_WARN = 0.5; // as ShorthaulCrossZoneShareHigh

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const sentence = h("p", { class: "verdict" });
  const list = h("ul", { class: "tiles" });
  fill(framed.body, sentence, list);
  follow(framed, store, "overview", (overview) => {
    const { look, words } = verdictOf(overview);
    sentence.dataset.look = look;
    setText(sentence, words);
    framed.note(`shorthaul ${name(overview.version, 40)}, up ${age(overview.uptime_s)}`);
    keep(list, tilesOf(overview), (tile) => tile.title, makeTile);
  });
}

/**
 * Is it working? One sentence, without a figure that changes all the time: it is read aloud when it changes.
 * @param {any} overview
 * @returns {{look: Look, words: string}}
 */
export function verdictOf(overview) {
  if (!overview.ready) return { look: "bad", words: `This node serves no pulls: ${overview.why_not_ready ?? overview.phase}.` };
  const grave = (overview.problems ?? []).filter((problem) => problem.grave);
  if (grave.length > 0) return { look: "bad", words: `This node serves pulls, and they suffer: ${name(grave[0].problem, 200)}.` };
  const proof = overview.proof.proved ? "over a local path that is proved direct" : overview.proof.probe ? "over a local path that is not proved" : "and no probe looks at its local path";
  const peers = peersInWords(overview);
  const isWell = overview.proof.proved && overview.peers_silent === 0 && !overview.own_trouble;
  return { look: isWell ? "ok" : "warn", words: `This node serves pulls ${proof}; ${peers}.` };
}

function peersInWords({ own_trouble, peers_silent, members }) {
  if (own_trouble) return "it cannot reach others at the moment";
  if (members <= 1) return "it knows no other node";
  return peers_silent === 0 ? "no peer is silent" : "some peers are silent";
}

/** @returns {Tile[]} */
export function tilesOf(overview) {
  return [working(overview), near(overview), local(overview), saved(overview), fast(overview), peers(overview), content(overview), underWay(overview)];
}

/** What no node has is nobody's fault: a cluster that is new to an image is not broken. @param {any} overview @returns {Tile} */
function working({ success, window_s }) {
  const [served, failed, missed] = ["served", "failed", "missed"].map((key) => success.reduce((sum, path) => sum + path[key], 0));
  const part = served + failed > 0 ? served / (served + failed) : null;
  const each = success.filter((path) => path.asked > 0).map((path) => `${pathName(path.path)} ${count(path.served)} of ${count(path.served + path.failed)}`);
  return {
    title: "Working",
    ...(part === null ? judged("idle", missed > 0 ? "nothing held" : "nobody asked") : 1 - part > FAILED_BAD ? judged("bad", "many fail") : failed > 0 ? judged("warn", "some fail") : judged("ok", "none failed")),
    figure: shareQuantity(part),
    of: `answered of what some node has, ${lastWindow(window_s)}`,
    more: [...each, `${counted(missed, "request")} for what no node has`].join(", "),
  };
}

/** @returns {Tile} */
function near({ window, window_s }) {
  const { parts, total, near: part } = partsOf(window.bytes_by_tier);
  const far = part === null ? 0 : 1 - part;
  return {
    title: "Near",
    ...(part === null ? judged("idle", "no bytes") : far > FAR_WARN ? judged("warn", "mostly far") : judged("ok", "mostly near")),
    figure: shareQuantity(part),
    of: `of bytes from this zone, ${lastWindow(window_s)}`,
    more: `${bytes(total)} in all, ${bytes(window.crossing_bytes)} across zones`,
    parts,
  };
}

/** @returns {Tile} */
function local({ proof }) {
  const canaries = (proof.canaries ?? []).map((canary) => `${pathName(canary.endpoint)} ${canary.verdict.toLowerCase().replaceAll("_", " ")}`);
  const [look, word] = proof.proved ? ["ok", "proved"] : proof.probe ? ["bad", "not proved"] : ["idle", "no probe"];
  return {
    title: "Local",
    ...judged(/** @type {Look} */ (look), word),
    figure: { value: proof.proved ? "direct" : proof.probe ? "doubtful" : "unknown", unit: "" },
    of: canaries.length > 0 ? `by the last canaries: ${canaries.join(", ")}` : "no canary was sent yet",
    more: proof.why,
  };
}

/** @returns {Tile} */
function saved({ window, total, window_s, uptime_s }) {
  return {
    title: "Saved",
    ...(total.saved_bytes === 0 ? judged("idle", "nothing yet") : total.net_usd_saved < 0 ? judged("warn", "costs more") : judged("ok", "net gain")),
    figure: { value: money(total.net_usd_saved), unit: "" },
    of: `net against no mirror, since the start ${ago(uptime_s)}`,
    more: `${bytes(window.saved_bytes)} not from the registry, ${lastWindow(window_s)}; ${money(window.usd)} for bytes between zones`,
  };
}

/** @returns {Tile} */
function fast({ first_byte, lookup, window_s }) {
  const all = (first_byte ?? []).find((entry) => entry.source === "all") ?? {};
  const some = bySource(first_byte).filter((entry) => isKnown(entry.p95_s));
  const slowest = some.sort((one, other) => other.p95_s - one.p95_s)[0];
  return {
    title: "First byte",
    ...(isKnown(all.p50_s) ? all.p95_s > SLOW_S ? judged("warn", "some wait long") : judged("ok", "quick") : judged("idle", "nobody asked")),
    figure: secondsQuantity(all.p50_s),
    of: `median until the first byte, ${lastWindow(window_s)}`,
    more: isKnown(all.p50_s)
      ? `95 %: ${seconds(all.p95_s)}, 99 %: ${seconds(all.p99_s)}; slowest: ${slowest ? `${slowest.words}, 95 % ${seconds(slowest.p95_s)}` : "–"}; look-up ${seconds(lookup.p50_s)}`
      : "pull an image on this node",
  };
}

/** @returns {Tile} */
function peers({ members, peers_reachable, peers_cooling, peers_silent, own_trouble }) {
  const others = Math.max(0, members - 1);
  const [look, word] = own_trouble ? ["bad", "this node is cut off"] : others === 0 ? ["idle", "alone"] : peers_silent > 0 ? ["warn", `${count(peers_silent)} silent`] : ["ok", "all answer"];
  return {
    title: "Peers",
    ...judged(/** @type {Look} */ (look), word),
    figure: { value: count(peers_reachable), unit: `of ${count(others)}` },
    of: "peers reachable, now",
    more: own_trouble || `${count(peers_silent)} silent, ${count(peers_cooling)} cooling off after a failure`,
  };
}

/** @returns {Tile} */
function content({ content: { blobs, bytes: size, corrupt, unreadable, scrub } }) {
  const wrong = corrupt + unreadable;
  return {
    title: "Content",
    ...(wrong > 0 ? judged("bad", `${count(wrong)} damaged`) : judged("ok", "none damaged")),
    figure: bytesQuantity(size),
    of: `in ${counted(blobs, "blob")} of this node, now`,
    more: `${count(corrupt)} corrupt, ${count(unreadable)} unreadable; the scrub is ${scrub}`,
  };
}

/** @returns {Tile} */
function underWay({ transfers, claims, tabs }) {
  const bodies = transfers.downloads + transfers.uploads;
  return {
    title: "Under way",
    ...(transfers.uploads_refused > 0 ? judged("warn", `${count(transfers.uploads_refused)} refused`) : judged(bodies > 0 ? "ok" : "idle", bodies > 0 ? "busy" : "quiet")),
    figure: { value: count(bodies), unit: bodies === 1 ? "transfer" : "transfers" },
    of: `${count(transfers.downloads)} to this node, ${count(transfers.uploads)} from it, now`,
    more: `claims: ${count(claims.held)} held, ${count(claims.awaited)} awaited, ${count(claims.decided)} decided; ${counted(tabs, "tab")} open`,
  };
}

/** @param {Look} look @param {string} word */
const judged = (look, word) => ({ look, word });

/** @param {string} path */
const pathName = (path) => ({ hostport: "HostPort", nodeport: "NodePort" })[path] ?? path;

function makeTile() {
  const title = h("h3", {});
  const chip = h("span", { class: "chip" });
  const figure = h("p", { class: "tile-figure figure" });
  const bar = h("span", { class: "bar", "aria-hidden": "true", hidden: true });
  const of = h("p", { class: "tile-of" });
  const more = h("p", { class: "tile-more" });
  const element = h("li", { class: "tile" }, h("div", { class: "tile-head" }, title, chip), figure, bar, of, more);
  return {
    element,
    update: (tile) => {
      setText(title, tile.title);
      setAll(chip, { "data-look": tile.look });
      setText(chip, tile.word);
      const { value, unit } = tile.figure;
      if (figure.dataset.shown !== `${value} ${unit}`) fill(figure, value, unit && h("small", {}, ` ${unit}`));
      figure.dataset.shown = `${value} ${unit}`;
      showBar(bar, tile.parts);
      setText(of, tile.of);
      setText(more, tile.more);
    },
  };
}

/** @param {HTMLElement} bar @param {import("./tiers.js").Part[]} [parts] */
function showBar(bar, parts = []) {
  const some = parts.filter((part) => part.share);
  bar.hidden = some.length === 0;
  keep(bar, some, (part) => part.tier, (part) => {
    const element = h("i", { "data-tier": part.tier });
    return { element, update: ({ share: of }) => (element.style.width = `${100 * (of ?? 0)}%`) };
  });
}

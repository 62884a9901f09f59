/** Bodies under way in both directions, and the peers that pulls go around. */

import { h, fill, setText } from "./dom.js";
import { bytes, count, counted, isKnown, name, rate, seconds, shortDigest } from "./format.js";
import { frame, follow } from "./panel.js";
import { Rates, listOf, numberOf, progress, table, textOf } from "./parts.js";

const SHOWN = 20;

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const rates = new Rates();
  const idle = h("p", { class: "p-why" }, "Nothing moves now.");
  const downloads = downloadTable(rates);
  const uploads = uploadTable();
  const cooling = coolingTable();
  const distrusted = distrustTable();
  const refused = h("p", { class: "p-left-out" });
  fill(framed.body, idle, downloads.element, uploads.element, cooling.element, distrusted.element, refused);
  follow(framed, store, "transfers", (document_) => {
    const now = { in: listOf(document_.downloads), out: listOf(document_.uploads), cooling: listOf(document_.cooling) };
    downloads.set(now.in.slice(0, SHOWN).map(numbered), `Fetched by this node: ${counted(now.in.length, "body", "bodies")}${cut(now.in)}`);
    uploads.set(now.out.slice(0, SHOWN), `Sent to other nodes: ${counted(now.out.length, "body", "bodies")}${cut(now.out)}`);
    cooling.set(now.cooling.slice(0, SHOWN), `Peers that failed and are asked last for now: ${count(now.cooling.length)}${cut(now.cooling)}`);
    const not_trusted = [...listOf(document_.not_asked).map((entry) => ({ ...entry, how: "not asked" })), ...listOf(document_.asked_last).map((entry) => ({ ...entry, how: "asked last" }))];
    distrusted.set(not_trusted.slice(0, SHOWN), `Peers that are not trusted with a content: ${count(not_trusted.length)}${cut(not_trusted)}`);
    rates.keepOnly(now.in.map((body) => body.digest));
    idle.hidden = now.in.length + now.out.length > 0;
    const turned_away = numberOf(document_.uploads_refused);
    setText(refused, turned_away > 0 ? `${counted(turned_away, "upload")} refused since the agent started, because there was no room: peers asked another node.` : "");
    framed.note(now.in.length + now.out.length > 0 ? `${count(now.in.length)} in, ${count(now.out.length)} out` : "");
  });
}

/** @param {any[]} list */
const cut = (list) => (list.length > SHOWN ? `; ${SHOWN} are shown` : "");

/** Two clients may pull the same content at once. @param {any} body @param {number} number */
const numbered = (body, number) => ({ ...body, number });

/** @param {Rates} rates */
function downloadTable(rates) {
  return table(
    "Fetched by this node",
    [
      { title: "Content", main: true, text: (body) => shortDigest(textOf(body.digest)) },
      { title: "Arrived", make: () => arrivedCell(rates) },
      { title: "From", text: sourceOf },
    ],
    (body) => `${body.digest} ${body.number}`,
  );
}

/** Who gives it now; how much that one had itself; how often another one went on. @param {any} body */
function sourceOf(body) {
  const from = body.node ? name(body.node, 60) : "looks for a peer";
  const flying = isKnown(body.in_flight) ? `, which had ${count(body.in_flight)} % itself` : "";
  return numberOf(body.resumes) > 0 ? `${from}${flying}, resumed ${counted(body.resumes, "time")}` : `${from}${flying}`;
}

/** @param {Rates} rates */
function arrivedCell(rates) {
  const bar = progress("Arrived");
  return {
    element: bar.element,
    update: (/** @type {any} */ body) => {
      const per_s = rates.of(body.digest, numberOf(body.bytes), performance.now());
      bar.set(numberOf(body.bytes), numberOf(body.length) || null, isKnown(per_s) && per_s > 0 ? rate(per_s) : "");
    },
  };
}

function uploadTable() {
  return table(
    "Sent to other nodes",
    [
      { title: "To", main: true, text: (body) => name(textOf(body.to), 60) },
      { title: "Sent", make: sentCell },
      { title: "For", numeric: true, text: (body) => seconds(body.age_s) },
    ],
    (body) => `${body.to} ${body.started_at}`,
  );
}

function sentCell() {
  const bar = progress("Sent");
  return {
    element: bar.element,
    update: (/** @type {any} */ body) => {
      const average = numberOf(body.age_s) > 0 ? `${rate(numberOf(body.bytes) / body.age_s)} on average` : "";
      bar.set(numberOf(body.bytes), numberOf(body.bytes) + numberOf(body.left_bytes), average);
    },
  };
}

function coolingTable() {
  return table(
    "Peers that failed",
    [
      { title: "Peer", main: true, text: (peer) => name(textOf(peer.node), 60) },
      { title: "How it failed", text: (peer) => name(textOf(peer.reason), 300) },
      { title: "Asked last for", numeric: true, text: (peer) => `${seconds(peer.left_s)} more` },
    ],
    (peer) => textOf(peer.node),
  );
}

function distrustTable() {
  return table(
    "Peers that are not trusted with a content",
    [
      { title: "Peer", main: true, text: (entry) => name(textOf(entry.node), 60) },
      { title: "Content", text: (entry) => shortDigest(textOf(entry.digest)) },
      { title: "Why", text: (entry) => `${name(textOf(entry.reason), 300)}: ${entry.how} for ${seconds(entry.left_s)} more` },
    ],
    (entry) => `${entry.digest} ${entry.node}`,
  );
}

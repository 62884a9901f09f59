/** Claims: who fetches from the registry what nobody has, how far that is, and who waits for it. */

import { h, fill, setText } from "./dom.js";
import { counted, isKnown, name, rate, seconds, shortDigest } from "./format.js";
import { frame, follow } from "./panel.js";
import { Rates, chip, listOf, numberOf, progress, table, textOf } from "./parts.js";

const SHOWN = 20;
const OFF = "Claims are off: each node that finds no copy goes to the registry itself.";
const OFF_HINT = "Set cold_start.mode to claims on all nodes, and a zone asks the registry once.";

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const rates = new Rates();
  const idle = h("p", { class: "p-why" });
  const held = heldTable(rates);
  const awaited = awaitedTable();
  const decided = decidedTable(store);
  fill(framed.body, idle, held.element, awaited.element, decided.element);
  const render = (/** @type {any} */ document_) => {
    const now = { held: listOf(document_.held), awaited: listOf(document_.awaited), decided: listOf(document_.decided) };
    held.set(now.held.slice(0, SHOWN), `This node fetches ${counted(now.held.length, "content")} from the registry for others${cut(now.held)}`);
    awaited.set(now.awaited.slice(0, SHOWN), `Requests here wait for ${counted(now.awaited.length, "content")} that another node fetches${cut(now.awaited)}`);
    decided.set(now.decided.slice(0, SHOWN), `This node decides who fetches ${counted(now.decided.length, "content")}${cut(now.decided)}`);
    rates.keepOnly(now.held.map((claim) => claim.digest));
    const all = now.held.length + now.awaited.length + now.decided.length;
    setText(idle, all === 0 ? `No claim now: nothing that is new to this ${scopeOf(document_)} is being fetched from a registry.` : "");
    idle.hidden = all > 0;
    framed.note(noteOf(document_));
    if (document_.mode !== undefined && document_.mode !== "claims") framed.show("off", OFF, OFF_HINT);
  };
  follow(framed, store, "claims", render);
}

/** @param {any[]} list */
const cut = (list) => (list.length > SHOWN ? `; ${SHOWN} of them are shown` : "");

const scopeOf = (document_) => (document_.scope === "cluster" ? "cluster" : "zone");

function noteOf(document_) {
  const followers = numberOf(document_.followers);
  const scope = `the registry is asked once per ${scopeOf(document_)}`;
  return followers > 0 ? `${scope} · ${counted(followers, "body", "bodies")} passed on while arriving` : scope;
}

/** @param {Rates} rates */
function heldTable(rates) {
  return table(
    "What this node fetches for others",
    [
      { title: "Content", main: true, text: (claim) => shortDigest(textOf(claim.digest)) },
      { title: "Arrived", make: () => fillCell(rates) },
      { title: "Since", numeric: true, text: (claim) => seconds(claim.age_s) },
    ],
    (claim) => `${claim.digest} ${claim.scope}`,
  );
}

/** How full a claim is. @param {Rates} rates */
function fillCell(rates) {
  const bar = progress("Arrived from the registry");
  return {
    element: bar.element,
    update: (/** @type {any} */ claim) => {
      const per_s = rates.of(claim.digest, numberOf(claim.bytes), performance.now());
      const waits = numberOf(claim.bytes) === 0 ? "waits for the registry's first byte" : "";
      bar.set(numberOf(claim.bytes), claim.size, isKnown(per_s) && per_s > 0 ? rate(per_s) : waits);
    },
  };
}

function awaitedTable() {
  return table(
    "What requests here wait for",
    [
      { title: "Content", main: true, text: (claim) => shortDigest(textOf(claim.digest)) },
      { title: "Decided by", text: (claim) => name(textOf(claim.arbiter), 60) },
      { title: "Waits for", numeric: true, text: (claim) => seconds(claim.age_s) },
    ],
    (claim) => `${claim.digest} ${claim.scope}`,
  );
}

/** @param {import("./state.js").Store} store */
function decidedTable(store) {
  return table(
    "What this node decides",
    [
      { title: "Content", main: true, text: (claim) => shortDigest(textOf(claim.digest)) },
      { title: "Fetched by", text: (claim) => name(textOf(claim.node), 60) },
      { title: "Arrived there", make: () => decidedCell(store) },
    ],
    (claim) => `${claim.digest} ${claim.scope} ${claim.node}`,
  );
}

/** @param {import("./state.js").Store} store */
function decidedCell(store) {
  const bar = progress("Arrived at the node that fetches it");
  const done = chip();
  done.set("ok", "complete");
  const more = h("span", { class: "p-progress-words" });
  const element = h("span", { class: "p-fill" }, bar.element, h("span", {}, done.element, " ", more));
  return {
    element,
    update: (/** @type {any} */ claim) => {
      done.element.hidden = claim.complete !== true;
      bar.element.hidden = claim.complete === true;
      bar.set(numberOf(claim.bytes), lengthOf(store, claim.digest));
      setText(more, [waitingWords(numberOf(claim.waiting)), waysOf(claim)].filter((words) => words).join(" · "));
    },
  };
}

/** How large a content is, if this node fetches it as well. @param {import("./state.js").Store} store @param {string} digest */
function lengthOf(store, digest) {
  const own = listOf(store.get("claims")?.held).find((claim) => claim.digest === digest);
  const pulled = listOf(store.get("transfers")?.downloads).find((download) => download.digest === digest);
  return own?.size ?? (numberOf(pulled?.length) > 0 ? pulled.length : null);
}

/** @param {number} waiting */
const waitingWords = (waiting) => (waiting > 0 ? `${counted(waiting, "request")} ${waiting === 1 ? "waits" : "wait"} for it` : "");

/** From which zone to which it travels. @param {any} claim */
function waysOf(claim) {
  const ways = listOf(claim.ways, 12).map((way) => `${name(textOf(way.source_zone), 60)} → ${name(textOf(way.destination_zone), 60)}`);
  return ways.join(", ");
}

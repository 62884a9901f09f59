/** How the page hears from the agent, in the header; whose page it is; and the form for the token. */

import { setText } from "./dom.js";
import { ago, name, zoneName } from "./format.js";
import { CONNECTION } from "./state.js";

/** @typedef {import("./state.js").Store} Store */
/** @typedef {import("./state.js").Connection} Connection */

/** @typedef {{look: string, words: string, banner: string, hint: string}} Words */

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

/** @param {Store} store @param {(token: string) => void} useToken */
export function mountConnection(store, useToken) {
  store.subscribe([CONNECTION, "overview", "map"], () => showConnection(store.connection, ownTrouble(store)));
  store.subscribe(["overview", "hello"], () => showNode(store.get("overview") ?? store.get("hello")));
  byId("token").addEventListener("submit", (event) => {
    event.preventDefault(); // nothing is ever sent by the form itself
    const token = byId("token-field").value.trim();
    byId("token-field").value = "";
    if (token) useToken(token);
  });
}

/**
 * What the header says. Pure.
 * @param {Connection} connection
 * @returns {Words}
 */
export function wordsOf({ phase, why, silent_s }) {
  const last = silent_s === null ? "" : `Last heard ${ago(silent_s)}.`;
  if (phase === "reconnecting") {
    const banner = last ? `${last} The figures below are old.` : "No answer yet.";
    return { look: "bad", words: "reconnecting", banner: `${why} ${banner}`.trim(), hint: "The page tries again by itself." };
  }
  if (silent_s !== null) return { look: "warn", words: `last heard ${ago(silent_s)}`, banner: "", hint: "" };
  if (phase === "polling") return { look: "ok", words: "every 5 s", banner: "", hint: why };
  if (phase === "live") return { look: "ok", words: "live", banner: "", hint: "" };
  return { look: "idle", words: { connecting: "connecting", paused: "paused", token: "token needed" }[phase], banner: "", hint: "" };
}

/** One banner: that the page hears nothing goes before what this node cannot do. @param {Words} said @param {string} trouble @returns {Words} */
function bannerOf(said, trouble) {
  if (said.banner || !trouble) return said;
  return { ...said, banner: `This node's own way to the others is in doubt: ${name(trouble, 200)}.`, hint: "What it says of other nodes may be wrong: they may be well." };
}

/** Why this node could not ask others, as it said last. @param {Store} store @returns {string} */
function ownTrouble(store) {
  const [map, overview] = [store.entry("map"), store.entry("overview")];
  return (map.at_ms > overview.at_ms ? map : overview).value?.own_trouble ?? "";
}

/** @param {Connection} connection @param {string} trouble */
function showConnection(connection, trouble) {
  const { look, words, banner, hint } = bannerOf(wordsOf(connection), trouble);
  const pill = byId("connection");
  pill.dataset.phase = connection.phase;
  pill.dataset.look = look;
  pill.title = hint;
  setText(byId("connection-words"), words);
  setText(byId("status"), spokenOf(connection));
  byId("banner").hidden = banner === "";
  setText(byId("banner-words"), banner);
  setText(byId("banner-hint"), banner ? hint : "");
  byId("token").hidden = connection.phase !== "token";
  byId("main").hidden = connection.phase === "token";
  setText(byId("token-why"), connection.phase === "token" ? connection.why : "");
  document.documentElement.toggleAttribute("data-stale", connection.silent_s !== null);
}

/** What a screen reader is told: that the way of hearing changed, and not each second how long ago. @param {Connection} connection */
function spokenOf({ phase, why, silent_s }) {
  if (phase === "reconnecting") return `${why} The figures on this page are old.`;
  if (silent_s !== null) return "The agent says nothing at the moment.";
  return { live: "The figures are live.", polling: why, token: "The admin token is needed.", connecting: "", paused: "" }[phase];
}

/** @param {any} said a document that says whose it is */
function showNode(said) {
  if (!said?.node) return;
  const place = said.zone ? ` ${zoneName(said.region, said.zone)}` : "";
  setText(byId("node"), `${name(said.node, 60)}${place}`);
  document.title = `${name(said.node, 40)} · shorthaul`;
}

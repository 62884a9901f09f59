/** The proof of the local path: whether containerd's connections reach this node's agent, and what they met if not. */

import { h, fill, keep, setAll, setText } from "./dom.js";
import { UNKNOWN, clockTime, counted, microseconds, name, unixSeconds } from "./format.js";
import { frame, follow } from "./panel.js";
import { chip, listOf, numberOf, said, table, textOf, wordOf } from "./parts.js";
import { verdictOf } from "./verdicts.js";

const FLOWS_SHOWN = 12;
const NO_PROBE = "The probe is not running, so nothing is proved. Pulls work all the same.";
const NO_PROBE_HINT =
  "Set probe.enabled in the chart, or start `shorthaul probe` as root on this node; its log says why if it ends. Then `shorthaul verify` shows each connection.";
const ENDPOINTS = Object.freeze({ hostport: "HostPort", nodeport: "NodePort", clusterip: "ClusterIP" });
const MAKERS = Object.freeze({ containerd: "containerd", canary: "the probe's canary", other: "another process" });

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const verdict = chip();
  const why = h("p", { class: "p-why" });
  const advice = h("p", { class: "p-advice" });
  const ways = h("ul", { class: "p-ways" });
  const flows = flowTable();
  const foreign = h("p", { class: "p-left-out" });
  fill(framed.body, h("div", { class: "p-verdict" }, verdict.element, why), advice, ways, flows.element, foreign);
  follow(framed, store, "flows", (document_) => {
    const { level, word, hint } = stateOf(document_);
    verdict.set(level, word);
    setText(why, name(textOf(document_.why), 400));
    setText(advice, hint);
    const sent = listOf(document_.canaries, 16);
    keep(ways, sent, canaryKey, wayItem);
    const told = listOf(document_.flows, FLOWS_SHOWN);
    flows.set(told, `The last ${counted(told.length, "verdict")} on connections`);
    setText(foreign, foreignWords(numberOf(document_.foreign)));
    framed.note(document_.probe ? "a canary tries it every few seconds" : "");
    if (document_.probe === false) framed.show("off", NO_PROBE, NO_PROBE_HINT);
  });
}

const canaryKey = (canary) => `${canary.endpoint} ${canary.address}`;

/** @returns {{level: import("./parts.js").Level, word: string, hint: string}} */
function stateOf(document_) {
  if (document_.proved === true) return { level: "ok", word: "DIRECT", hint: "" };
  const sent = listOf(document_.canaries).filter((canary) => canary.endpoint === "hostport");
  if (sent.length === 0) return { level: "plain", word: "not proved yet", hint: "The first canary is sent within a few seconds." };
  const wrong = sent.find((canary) => canary.verdict !== "DIRECT");
  const { level } = verdictOf(wrong?.verdict ?? "UNKNOWN", "hostport");
  const word = wrong ? name(textOf(wrong.verdict), 40) : "not proved";
  return { level: level === "ok" ? "warn" : level, word, hint: "What each verdict means, and what to do: docs/operations.md. `shorthaul verify` on the node shows each connection." };
}

/** The way of a canary, from containerd's place to whoever took it. */
function wayItem() {
  const asked = h("span", { class: "p-stop" });
  const went = h("span", { class: "p-stop" });
  const taken = h("span", { class: "p-stop" });
  const words = h("span", { class: "p-way-words" });
  const verdict = chip();
  const arrow = () => h("span", { class: "p-arrow", "aria-hidden": "true" }, "→");
  const second = arrow();
  const element = h(
    "li",
    { class: "p-way" },
    h("span", { class: "p-route" }, h("span", { class: "p-stop" }, "containerd"), arrow(), asked, second, went, arrow(), taken),
    verdict.element,
    words,
  );
  return {
    element,
    update: (/** @type {any} */ canary) => {
      const { level, brief, words: meaning } = verdictOf(canary.verdict, canary.endpoint);
      const changed = textOf(canary.went) !== "" && canary.went !== canary.address;
      setText(asked, `${wordOf(ENDPOINTS, canary.endpoint)} ${name(textOf(canary.address), 60)}`);
      setText(went, changed ? name(canary.went, 60) : "");
      went.hidden = second.hidden = !changed;
      setText(taken, canary.answered_by ? `agent on ${name(canary.answered_by, 60)}` : "nobody that says who it is");
      verdict.set(level, brief);
      setText(words, wayWords(canary, meaning));
      setAll(element, { "data-level": level });
    },
  };
}

/** What a canary met, how long its handshake took, and when. @param {any} canary @param {string} meaning */
function wayWords(canary, meaning) {
  const why = canary.reason && canary.verdict !== "DIRECT" ? `${meaning}: ${name(textOf(canary.reason), 300)}` : meaning;
  const handshake = numberOf(canary.rtt_us) > 0 ? `handshake ${microseconds(canary.rtt_us)}` : "no handshake";
  return `${why} · ${handshake} · sent ${clockTime(unixSeconds(canary.sent_at))}`;
}

function flowTable() {
  return table(
    "The last verdicts on connections",
    [
      { title: "When", text: (flow) => clockTime(unixSeconds(flow.judged_at)) },
      { title: "Made by", main: true, text: makerOf },
      { title: "To", text: routeOf },
      { title: "Verdict", make: verdictCell },
      { title: "Round trip", numeric: true, text: (flow) => (numberOf(flow.rtt_us) > 0 ? microseconds(flow.rtt_us) : UNKNOWN) },
    ],
    (flow) => `${flow.cookie} ${flow.judged_at} ${flow.verdict} ${flow.client}`,
  );
}

function makerOf(flow) {
  const maker = wordOf(MAKERS, flow.made_by);
  return flow.process ? `${maker}: ${name(textOf(flow.process), 40)} (${numberOf(flow.pid)})` : maker;
}

/** Where it was to go, and where it went if that is another place. @param {any} flow */
function routeOf(flow) {
  const asked = name(textOf(flow.asked), 60);
  return flow.went && flow.went !== flow.asked ? `${asked} → ${name(flow.went, 60)}` : asked;
}

function verdictCell() {
  const verdict = chip();
  const why = h("span", { class: "p-reason" });
  return {
    element: h("span", {}, verdict.element, " ", why),
    update: (/** @type {any} */ flow) => {
      const { level, brief, words } = verdictOf(flow.verdict, flow.endpoint);
      verdict.set(level, brief, `${name(textOf(flow.verdict), 40)}: ${words}`);
      setText(why, flow.verdict === "DIRECT" ? "" : said(flow.reason, 300));
    },
  };
}

/** @param {number} foreign */
const foreignWords = (foreign) =>
  foreign === 0 ? "" : `${counted(foreign, "connection")} of pods to these ports since the probe started; nothing else is known of them.`;
